#!/usr/bin/env bash
# Sets up the containers: passwords in .env, the replica set's keyfile, the replica set itself with its user and data;
# with --all also Kafka, SQL Server, Konekt and the MongoDB source connector.
# What is there already is left as it is, so it may be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat << 'TEXT'
usage: deploy/setup.sh [--all] [--dry-run]

  --all      start docker-compose.yml too, and register deploy/mongo-source-connector.json
  --dry-run  say what would be done, and do nothing
  --help     this text

exit codes: 0 done, 1 a step failed, 2 wrong usage, 3 docker compose is not there
TEXT
}

# What the tests put in place of the project's.
settings=${KONEKT_ENV_FILE:-.env}
keyfile=${KONEKT_KEYFILE:-deploy/mongo-keyfile}
connector=deploy/mongo-source-connector.json

main() {
    dry_run=false everything=false
    local argument
    for argument in "$@"; do
        case $argument in
            --all) everything=true ;;
            --dry-run) dry_run=true ;;
            --help | -h) usage; exit 0 ;;
            *) usage >&2; fail 2 "$argument is not an option" ;;
        esac
    done
    $dry_run || docker compose version > /dev/null 2>&1 || fail 3 "docker compose is needed: https://docs.docker.com/compose/install/"
    make_settings
    make_keyfile
    start_mongo
    if $everything; then start_everything; fi
    conclude
}

fail() {
    local code=$1
    shift
    echo "deploy/setup.sh: $*" >&2
    exit "$code"
}

# Says a step, and does it unless this is a dry run.
step() {
    if $dry_run; then
        echo "would run: $*"
        return
    fi
    echo "running: $*"
    "$@" || fail 1 "this step failed: $*"
}

# ---- secrets

make_settings() {
    [ -e "$settings" ] || step install -m 600 .env.example "$settings"
    make_secret MSSQL_SA_PASSWORD "$(password)"
    make_secret SQLSERVER_PASSWORD "$(password)"
    make_secret MONGO_INITDB_ROOT_PASSWORD "$(password)"
    local hosts=mongo1:27017,mongo2:27018,mongo3:27019
    make_secret MONGODB_URI "mongodb://konekt:$(password)@$hosts/store?replicaSet=rs0&authSource=admin"
}

# Puts a value into .env where that has none. The value is never shown.
make_secret() {
    local name=$1 value=$2
    ! grep -qs "^$name=." "$settings" || return 0
    if $dry_run; then
        echo "would put a new $name into $settings"
        return
    fi
    printf '%s=%s\n' "$name" "$value" >> "$settings"
    echo "$settings has a new $name"
}

# Letters and digits, so that no address and no script has to quote it; the beginning satisfies SQL Server's rules.
password() {
    printf 'Ko1%s' "$(random_base64 48 | tr -d '+/=\n' | cut -c 1-29)"
}

random_base64() {
    head -c "$1" /dev/urandom | base64
}

make_keyfile() {
    [ ! -s "$keyfile" ] || return 0
    if $dry_run; then
        echo "would make $keyfile"
        return
    fi
    (umask 077 && random_base64 756 > "$keyfile")
    chmod 400 "$keyfile"
    echo "$keyfile is made"
}

# ---- containers

compose() {
    local file=$1
    shift
    step docker compose --env-file "$settings" -f "$file" "$@"
}

start_mongo() {
    local file=deploy/docker-compose-mongo.yaml
    compose "$file" up -d --wait mongo1 mongo2 mongo3
    # It finds out itself what is there already.
    compose "$file" run --rm mongo-init
}

start_everything() {
    compose docker-compose.yml up -d --build
    compose docker-compose.yml up -d --wait kafka-connect
    # PUT makes a connector or changes it. The file's "config" is what it wants; MONGODB_URI is resolved by Connect.
    local configuration
    configuration=$(sed -n '/"config": {/,/^  }/p' "$connector" | sed 's/^ *"config": //')
    compose docker-compose.yml exec -T kafka-connect curl -fsS -o /dev/null -X PUT -H 'Content-Type: application/json' \
        --data "$configuration" http://localhost:8083/connectors/mongo-source/config
}

conclude() {
    if $dry_run; then
        echo "nothing was done"
        return
    fi
    cat << 'TEXT'
done. For programs on this machine, /etc/hosts needs the line
  127.0.0.1 mongo1 mongo2 mongo3
TEXT
}

main "$@"
