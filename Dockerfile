# syntax=docker/dockerfile:1
# Konekt with the ODBC driver of one database.
#
#   docker build --build-arg ODBC_DRIVER=postgresql -t konekt .
#
# ODBC_DRIVER is microsoft (which needs --build-arg ACCEPT_EULA=Y once you have read its licence), freetds, postgresql,
# mariadb or none: SQLite, Kafka and MongoDB need no driver.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches are no part of the layer, so the binary is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin konekt \
    && install -D target/release/konekt /out/konekt

FROM debian:bookworm-slim
ARG ODBC_DRIVER=none
ARG ACCEPT_EULA
COPY setup_sqlserver_driver.sh /setup/
RUN set -eu; \
    apt-get update; \
    case "$ODBC_DRIVER" in \
        microsoft) packages='' ;; \
        freetds) packages=tdsodbc ;; \
        postgresql) packages=odbc-postgresql ;; \
        mariadb) packages=odbc-mariadb ;; \
        none) packages='' ;; \
        *) echo "ODBC_DRIVER=$ODBC_DRIVER: choose microsoft, freetds, postgresql, mariadb or none" >&2; exit 2 ;; \
    esac; \
    apt-get install -y --no-install-recommends ca-certificates $packages; \
    if [ "$ODBC_DRIVER" = microsoft ]; then ACCEPT_EULA="${ACCEPT_EULA:-}" /setup/setup_sqlserver_driver.sh; fi; \
    rm -rf /setup /var/lib/apt/lists/*; \
    useradd --system --uid 10001 --create-home --home-dir /var/lib/konekt konekt
COPY --from=build /out/konekt /usr/local/bin/konekt
USER 10001
WORKDIR /var/lib/konekt
ENTRYPOINT ["konekt"]
CMD ["--help"]
