#!/usr/bin/env bash
# prepare.sh   Install the browser that the status page is tested in, and a font, where they are absent.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

main() {
    take_cache
    local wanted=()
    command -v chromium > /dev/null || wanted+=(chromium)
    [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || wanted+=(fonts-dejavu-core)
    install_packages "${wanted[@]}"
}

main "$@"
