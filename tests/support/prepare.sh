# shellcheck shell=bash
# prepare.sh   What the scripts that fetch the tests' needs share; they source it.
#
# The cache is $KONEKT_CHECK_CACHE, or konekt-check in the user's cache folder.
cache=${KONEKT_CHECK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/konekt-check}

say() { echo "prepare: $*" >&2; }

# Two checks at once: the second waits here and then finds everything.
take_cache() {
    mkdir -p "$cache"
    exec 9> "$cache/lock"
    flock 9
}

# install_packages PACKAGE...   from the system's packages (root, or sudo without a password)
install_packages() {
    [ $# -gt 0 ] || return 0
    say "installing $*"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    # without the cache's lock (9): a server that a package starts would keep it
    retried "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=300 update -qq >&2 9>&-
    retried "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >&2 9>&-
}

# python_environment HOME PACKAGE==VERSION MODULE   a Python environment with this package, whole when MODULE is found
python_environment() {
    local home=$1 package=$2 module=$3
    ! "$home/bin/python" -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$module'))" 2> /dev/null || return 0
    say "fetching $package"
    rm -rf "$home"
    python3 -m venv "$home"
    retried "$home/bin/pip" install --quiet "$package" >&2
}

# Registries stumble: three tries, a few seconds apart.
retried() {
    "$@" && return
    sleep 5
    "$@" && return
    sleep 15
    "$@"
}
