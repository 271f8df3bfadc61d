#!/usr/bin/env bash
# prepare.sh   Fetch and register the ODBC drivers that tests load, once; later calls find them and return at once.
#
#   CACHE/mssql-odbc-VERSION/   a Python environment with the wheel that carries Microsoft's driver
#   CACHE/odbc/odbcinst.ini     names every driver with its absolute path; tests use it as ODBCSYSINI's, or take the
#                               paths from it (tests/support/odbc/mod.rs)
#
# The other drivers are the system's packages, installed where they are absent. Microsoft's licence allows copies to
# develop and test with, not to pass on: it is fetched, never committed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

microsoft_version=18.6.2.2
microsoft_home=$cache/mssql-odbc-$microsoft_version

# What Debian calls each driver, its file, and the package it comes in.
drivers=(
    'FreeTDS|libtdsodbc.so|tdsodbc'
    'PostgreSQL Unicode|psqlodbcw.so|odbc-postgresql'
    'MariaDB Unicode|libmaodbc.so|odbc-mariadb'
    'SQLite3|libsqlite3odbc.so|libsqliteodbc'
)

main() {
    take_cache
    install_missing
    python_environment "$microsoft_home" "mssql-python-odbc==$microsoft_version" mssql_python_odbc
    mkdir -p "$cache/odbc"
    registrations > "$cache/odbc/odbcinst.ini.new"
    mv "$cache/odbc/odbcinst.ini.new" "$cache/odbc/odbcinst.ini"
}

# Besides the drivers: what Microsoft's is linked with, and what makes the environment.
install_missing() {
    local wanted=() driver name file package
    for driver in "${drivers[@]}"; do
        IFS='|' read -r name file package <<< "$driver"
        library "$file" > /dev/null || wanted+=("$package")
    done
    library libgssapi_krb5.so.2 > /dev/null || wanted+=(libgssapi-krb5-2)
    library libltdl.so.7 > /dev/null || wanted+=(libltdl7)
    python3 -c 'import venv, ensurepip' 2> /dev/null || wanted+=(python3-venv)
    install_packages "${wanted[@]}"
}

registrations() {
    local driver name file package
    register 'ODBC Driver 18 for SQL Server' "$(microsoft_driver)"
    for driver in "${drivers[@]}"; do
        IFS='|' read -r name file package <<< "$driver"
        register "$name" "$(library "$file")"
    done
}

# register NAME FILE   one section, when the file loads with all that it is linked with
register() {
    local missing
    missing=$(ldd "$2" | awk '/not found/ { printf "%s ", $1 }')
    [ -z "$missing" ] || { say "$1 ($2) lacks $missing"; return 1; }
    printf '[%s]\nDriver=%s\n\n' "$1" "$2"
}

microsoft_driver() {
    local file
    for file in "$microsoft_home"/lib/python3*/site-packages/mssql_python_odbc/libs/linux/debian_ubuntu/*/lib/libmsodbcsql-*.so.*; do
        [ -f "$file" ] && { echo "$file"; return; }
    done
    say "the wheel of Microsoft's driver has none for this system"
    return 1
}

# library FILE   where the system's packages put it
library() {
    local folder
    for folder in "/usr/lib/$(uname -m)-linux-gnu"{/odbc,} "/lib/$(uname -m)-linux-gnu" /usr/lib64 /usr/lib{/odbc,}; do
        [ -f "$folder/$1" ] && { echo "$folder/$1"; return; }
    done
    return 1
}

main
