#!/usr/bin/env bash
# prepare.sh   Install the database servers of the tests, PostgreSQL and MariaDB with their clients, where they are absent.
#
# Only the programs are wanted: tests start servers of their own, on free ports, in folders of their own. So the
# packages are kept from starting the system's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

main() {
    local wanted=()
    compgen -G '/usr/lib/postgresql/*/bin/postgres' > /dev/null || wanted+=(postgresql)
    command -v psql > /dev/null || wanted+=(postgresql-client)
    [ -x /usr/sbin/mariadbd ] || wanted+=(mariadb-server)
    command -v mariadb > /dev/null || wanted+=(mariadb-client)
    [ ${#wanted[@]} -gt 0 ] || return 0
    take_cache
    without_services install_packages "${wanted[@]}"
}

# Debian's packages ask policy-rc.d before they start a service. One that is there already is the machine's own.
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0 as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    [ ! -e "$policy" ] || { "$@"; return; }
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" > /dev/null
    "${as_root[@]}" chmod +x "$policy"
    "$@" || status=$?
    "${as_root[@]}" rm -f "$policy"
    return "$status"
}

main
