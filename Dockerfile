# The worker's image: one binary, certificates, the SQL it validates with. No sandbox inside.
#   docker build -t strongroom .
#   docker run --rm -v "$PWD/examples:/etc/strongroom:ro" strongroom --config /etc/strongroom/ai-usage-analytics.toml list

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# --no-default-features leaves out the sandbox and with it the SQL engine and SQLite.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features --bin strongroom \
    && install -D target/release/strongroom /out/strongroom

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin strongroom
COPY --from=build /out/strongroom /usr/local/bin/strongroom
COPY sql /opt/strongroom/sql
# Relative paths of a config (`queries = "sql/validation"`) are found here.
WORKDIR /opt/strongroom
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/strongroom"]
CMD ["--help"]
