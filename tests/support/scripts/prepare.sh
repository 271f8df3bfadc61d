#!/usr/bin/env bash
# prepare.sh   Install what the tests of deploy/ look at scripts with, where it is absent: shellcheck, and node for JavaScript.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

missing=()
command -v shellcheck > /dev/null || missing+=(shellcheck)
command -v node > /dev/null || missing+=(nodejs)
take_cache
install_packages "${missing[@]}"
