#!/bin/sh
# Installs Microsoft's ODBC Driver 18 for SQL Server: Debian, Ubuntu, RHEL, Fedora and their kin, Alpine, macOS.
# Running it again changes nothing. It needs root, or sudo, but on macOS, where Homebrew does the work.
# Source: "Install the Microsoft ODBC driver for SQL Server (Linux)" and "… (macOS)" of Microsoft's documentation.
set -eu

usage() {
    cat <<'TEXT'
usage: ./setup_sqlserver_driver.sh [--check | --dry-run] [--accept-eula]

  --check        say whether the driver is there, and change nothing; exit code 0: it is, 3: it is not
  --dry-run      say what would be done, and do nothing
  --accept-eula  accept Microsoft's licence (or set ACCEPT_EULA=Y); without it you are asked
  --help         this text

exit codes: 0 the driver is there, 1 a step failed, 2 wrong usage or an unknown system, 3 the driver is not there
TEXT
}

licence=https://aka.ms/odbc18eula
packages=https://packages.microsoft.com
# Alpine has no repository of Microsoft's; each version has an address of its own.
alpine_version=18.5.1.1-1
alpine_folder=https://download.microsoft.com/download/fae28b9a-d880-42fd-9b98-d779f0fdd77f

# What the tests put in place of the machine's.
os_release=${KONEKT_OS_RELEASE:-/etc/os-release}
kernel=${KONEKT_KERNEL:-$(uname -s)}
machine=${KONEKT_MACHINE:-$(uname -m)}
apt_sources=${KONEKT_APT_SOURCES:-/etc/apt}

main() {
    mode=install accepted=${ACCEPT_EULA:-}
    for argument in "$@"; do
        case $argument in
            --check) mode=check ;;
            --dry-run) mode=dry-run ;;
            --accept-eula) accepted=Y ;;
            --help | -h) usage; exit 0 ;;
            *) usage >&2; fail 2 "$argument is not an option" ;;
        esac
    done
    [ "$mode" != check ] || check
    if [ "$mode" = install ] && installed | grep -q '^ODBC Driver 18 '; then
        echo "there is nothing to do: $(installed | head -n 1)"
        exit 0
    fi
    find_system
    echo "this installs Microsoft's ODBC Driver 18 for SQL Server on $system ($architecture), with the tools of that system;"
    echo "its licence: $licence"
    [ "$mode" = dry-run ] || agree
    "install_$family"
    [ "$mode" = dry-run ] || conclude
}

fail() {
    code=$1
    shift
    echo "setup_sqlserver_driver.sh: $*" >&2
    exit "$code"
}

# ---- what is there

# A line "NAME: FILE" for each of Microsoft's drivers whose file exists, the newest first.
installed() {
    for folder in "${ODBCSYSINI:-/etc}" ${ODBCSYSINI:+-} /usr/local/etc /opt/homebrew/etc; do
        # a chosen folder stands for all others
        [ "$folder" != - ] || break
        [ -r "$folder/odbcinst.ini" ] || continue
        awk -F= '
            /^[[:space:]]*\[/ { sub(/^[[:space:]]*\[/, ""); sub(/\].*/, ""); name = $0; next }
            name ~ /^ODBC Driver [0-9]+ for SQL Server$/ && tolower($1) ~ /^[[:space:]]*driver(64)?[[:space:]]*$/ {
                sub(/^[^=]*=[[:space:]]*/, ""); sub(/[[:space:]]*$/, ""); print name ": " $0
            }' "$folder/odbcinst.ini"
    done | sort -r | while IFS= read -r line; do
        [ ! -f "${line#*: }" ] || echo "$line"
    done
}

check() {
    found=$(installed)
    if [ -z "$found" ]; then
        echo "no Microsoft ODBC driver for SQL Server is installed; ./setup_sqlserver_driver.sh installs one"
        exit 3
    fi
    echo "$found"
    exit 0
}

# ---- which system this is

find_system() {
    case $machine in
        x86_64 | amd64) architecture=amd64 ;;
        aarch64 | arm64) architecture=arm64 ;;
        *) fail 2 "Microsoft has no driver for $machine" ;;
    esac
    case $kernel in
        Darwin) family=macos system=macOS ;;
        Linux) find_distribution ;;
        *) unknown "$kernel" ;;
    esac
}

find_distribution() {
    ID='' ID_LIKE='' VERSION_ID='' UBUNTU_CODENAME=''
    if [ -r "$os_release" ]; then
        # shellcheck source=/dev/null
        . "$os_release"
    fi
    system="${ID:-a Linux without a name}${VERSION_ID:+ $VERSION_ID}"
    case $ID in
        debian | raspbian) family=debian repository=debian/$VERSION_ID ;;
        ubuntu) family=debian repository=ubuntu/$VERSION_ID ;;
        rhel | centos | rocky | almalinux | ol) family=redhat repository=rhel/${VERSION_ID%%.*} ;;
        fedora | amzn) family=redhat repository=rhel/9 ;;
        alpine) family=alpine ;;
        *) find_relative ;;
    esac
}

# A distribution that is made of another one.
find_relative() {
    case " $ID_LIKE " in
        *" ubuntu "*)
            family=debian
            case $UBUNTU_CODENAME in
                focal) repository=ubuntu/20.04 ;;
                jammy) repository=ubuntu/22.04 ;;
                noble) repository=ubuntu/24.04 ;;
                *) unknown "$system" ;;
            esac
            ;;
        *" rhel "*) family=redhat repository=rhel/${VERSION_ID%%.*} ;;
        *) unknown "$system" ;;
    esac
}

unknown() {
    fail 2 "this script does not know $1: see Microsoft's \"Install the Microsoft ODBC driver for SQL Server\"," \
        "or use FreeTDS, which most systems have as a package"
}

# ---- the licence

agree() {
    case $accepted in
        [Yy]*) return ;;
    esac
    if [ ! -t 0 ]; then
        fail 2 "Microsoft's licence must be accepted: read $licence, then add --accept-eula or set ACCEPT_EULA=Y"
    fi
    printf 'Do you accept the licence? [y/N] '
    read -r answer
    case $answer in
        [Yy]*) ;;
        *) fail 2 "nothing was done, for the licence was not accepted" ;;
    esac
}

# ---- doing it

# Says a step, and does it unless this is a dry run.
step() {
    if [ "$mode" = dry-run ]; then
        echo "would run: $*"
        return
    fi
    echo "running: $*"
    "$@" || fail 1 "this step failed: $*"
}

# The same as root.
root_step() {
    if [ "$(id -u)" = 0 ]; then
        step "$@"
    else
        step sudo "$@"
    fi
}

scratch() {
    folder=/tmp/msodbcsql18
    if [ "$mode" != dry-run ]; then
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
    fi
}

install_debian() {
    export DEBIAN_FRONTEND=noninteractive
    # A second entry for the same repository, with another key, would stop apt altogether.
    if ! grep -qsr "$packages/" "$apt_sources"; then
        scratch
        root_step apt-get update
        root_step apt-get install -y ca-certificates curl
        step curl -fsSL --retry 3 -o "$folder/prod.deb" "$packages/config/$repository/packages-microsoft-prod.deb"
        root_step dpkg -i "$folder/prod.deb"
    fi
    root_step apt-get update
    root_step env ACCEPT_EULA=Y apt-get install -y msodbcsql18
}

install_redhat() {
    tool=dnf
    [ "$mode" = dry-run ] || command -v dnf > /dev/null || tool=yum
    root_step curl -fsSL --retry 3 -o /etc/yum.repos.d/mssql-release.repo "$packages/config/$repository/prod.repo"
    root_step env ACCEPT_EULA=Y "$tool" install -y msodbcsql18
}

install_alpine() {
    file=msodbcsql18_${alpine_version}_$architecture
    scratch
    root_step apk add --no-cache curl gnupg
    step curl -fsSL --retry 3 -o "$folder/$file.apk" "$alpine_folder/$file.apk"
    step curl -fsSL --retry 3 -o "$folder/$file.sig" "$alpine_folder/$file.sig"
    step curl -fsSL --retry 3 -o "$folder/microsoft.asc" "$packages/keys/microsoft.asc"
    # a key ring of its own: yours stays as it is
    step gpg --homedir "$folder" --batch --import "$folder/microsoft.asc"
    step gpg --homedir "$folder" --batch --verify "$folder/$file.sig" "$folder/$file.apk"
    # Alpine does not know Microsoft's key; the signature was checked just now.
    root_step env ACCEPT_EULA=Y apk add --allow-untrusted "$folder/$file.apk"
}

install_macos() {
    [ "$mode" = dry-run ] || command -v brew > /dev/null || fail 2 "Homebrew is needed: https://brew.sh"
    step brew tap microsoft/mssql-release https://github.com/Microsoft/homebrew-mssql-release
    step env HOMEBREW_ACCEPT_EULA=Y brew install msodbcsql18
}

conclude() {
    found=$(installed)
    [ -n "$found" ] || fail 1 "all steps were done, and the driver is in no odbcinst.ini"
    echo "the driver is there: $(echo "$found" | head -n 1)"
    echo "next: konekt check-drivers --connect"
}

main "$@"
