# Ringhouse beside a ClickHouse of its own container; see docker-compose.yml.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin ringhouse

FROM debian:bookworm-slim
# curl is the health check's, ca-certificates whom `tcps://` trusts.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/ringhouse ringhouse
COPY --from=build /src/target/release/ringhouse /usr/local/bin/ringhouse
USER ringhouse
VOLUME /var/lib/ringhouse
EXPOSE 8080 8081
# The admin pages are the container's own until there is a key for them: see docs/SECURITY.md.
ENTRYPOINT ["ringhouse"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--admin", "127.0.0.1:8081", "--data-dir", "/var/lib/ringhouse"]
