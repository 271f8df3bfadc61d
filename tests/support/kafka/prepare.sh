#!/usr/bin/env bash
# prepare.sh   Fetch and build what the live tests need, once, into the cache; later calls find it and return at once.
#
#   CACHE/kafka-VERSION/   lib/*.jar (the broker and its Java client), testkit.jar (java/*.java), classes.jsa (start-up)
#   CACHE/librdkafka-V/    a Python environment with librdkafka
#
# CACHE is what tests/support/prepare.sh says. Installs a JDK, Maven and Python's venv
# from the system's packages where they are absent (root, or sudo without a password).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/prepare.sh disable=SC1091
source "$here/../prepare.sh"
# shellcheck source=tests/support/kafka/versions.env disable=SC1091
source "$here/versions.env"

main() {
    take_cache
    install_missing
    fetch_kafka "$KAFKA_OLD"
    fetch_kafka "$KAFKA_NEW"
    python_environment "$cache/librdkafka-$CONFLUENT_KAFKA" "confluent-kafka==$CONFLUENT_KAFKA" confluent_kafka
}

install_missing() {
    local wanted=()
    command -v javac > /dev/null || wanted+=(default-jdk-headless)
    command -v mvn > /dev/null || wanted+=(maven)
    python3 -c 'import venv, ensurepip' 2> /dev/null || wanted+=(python3-venv)
    install_packages "${wanted[@]}"
}

# A finished folder is moved into place whole, so a run that was cut short leaves nothing that looks finished.
fetch_kafka() {
    local version=$1 recipe home work
    recipe=$(cat "$here/pom.xml" "$here"/../java/*.java "$here/prepare.sh" | sha256sum | cut -c1-16)
    home=$cache/kafka-$version
    [ "$(cat "$home/recipe" 2> /dev/null)" != "$recipe" ] || return 0
    say "fetching Kafka $version"
    work=$(mktemp -d "$cache/kafka-$version.XXXXXX")
    retried mvn -B -q -f "$here/pom.xml" "-Dkafka.version=$version" \
        org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DincludeScope=runtime "-DoutputDirectory=$work/lib" >&2
    javac -nowarn -cp "$work/lib/*" -d "$work/classes" "$here"/../java/*.java >&2
    jar --create --file "$work/testkit.jar" -C "$work/classes" .
    rm -rf "$work/classes" "$home"
    mv "$work" "$home"
    share_classes "$home"
    echo "$recipe" > "$home/recipe"
}

# One short run of the broker leaves an archive of its loaded classes: later starts take half the processor time.
# The archive knows its class path by name, so it is made where it will be used.
share_classes() {
    local home=$1 scratch
    scratch=$(mktemp -d)
    timeout 120 java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-XX:ArchiveClassesAtExit=$home/classes.jsa" \
        -cp "$home/testkit.jar:$home/lib/*" Broker --warm-up "$scratch/kafka" > "$home/warm-up.log" 2>&1 \
        || { tail -20 "$home/warm-up.log" >&2; rm -rf "$scratch"; return 1; }
    rm -rf "$scratch"
}

main
