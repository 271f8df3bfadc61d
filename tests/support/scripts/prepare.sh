#!/usr/bin/env bash
# prepare.sh   Install what the tests of deploy/ look at files with, where it is absent: shellcheck, node for JavaScript, systemd
#              for its unit, groff for the manual.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

missing=()
command -v shellcheck > /dev/null || missing+=(shellcheck)
command -v node > /dev/null || missing+=(nodejs)
command -v systemd-analyze > /dev/null || missing+=(systemd)
command -v groff > /dev/null || missing+=(groff-base)
take_cache
install_packages "${missing[@]}"
