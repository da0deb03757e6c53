//! `strongroom-sandbox`: a local Google for tests, drills and demonstrations. This file starts and stops it.

mod admin;
mod bigquery;
mod core;
mod discovery;
mod identity;
mod kms;
mod metadata;
mod page;
mod pubsub;
mod run;
mod scheduler;
mod secrets;
mod seed;
mod sheets;
mod storage;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use clap::Parser;

use crate::core::{ApiError, Options, Sandbox};

/// A local Google: BigQuery, Cloud Storage, Sheets, Cloud Scheduler, Secret Manager, KMS, Pub/Sub and Cloud Run on one port.
#[derive(Debug, Parser)]
#[command(name = "strongroom-sandbox", version, after_long_help = HELP)]
struct Args {
    /// Where all state is kept; created when absent. It survives restarts and kills.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The address to listen on. Nothing is authenticated here: anything but loopback opens the data to others.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Sets the sandbox's clock, RFC 3339; it runs on from there. Without it the clock goes on as it was left.
    #[arg(long, value_name = "RFC3339")]
    clock: Option<jiff::Timestamp>,
    /// The project that is assumed where a request names none.
    #[arg(long, default_value = "demo-project")]
    project: String,
    /// Lets Cloud Scheduler jobs call other machines than this one.
    #[arg(long)]
    allow_external_targets: bool,
    /// How long rows of insertAll stay in BigQuery's streaming buffer, in seconds of the sandbox's clock.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    streaming_buffer_seconds: i64,
    /// An extract job begins a new file after so many logical bytes; Google's are about 1 GB.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1..))]
    extract_shard_bytes: u64,
    /// Keeps every BigQuery job PENDING so long, and then RUNNING.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    job_delay_ms: u64,
    /// Refuses loads and extracts between a dataset and a bucket in another location, as Google does.
    #[arg(long)]
    check_locations: bool,
    /// Who may do what: a TOML file of principals with token, email and grants. Others may do everything.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Faults to inject from the moment it is ready: a TOML file of [[fault]] tables; docs/sandbox.md shows one.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Appends every exchange to a file as a line of JSON: the request and the answer, without bulk data and secrets.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// Fills the sandbox with sample data through its own API before it says that it is ready; what is there stays.
    #[arg(long, value_name = "PROFILE", value_parser = ["ai-usage-analytics"])]
    seed: Option<String>,
    /// Begins the names of the backup buckets that --seed makes [default: PROJECT-backup].
    #[arg(long, value_name = "PREFIX", requires = "seed")]
    seed_bucket_prefix: Option<String>,
}

const HELP: &str = "\
Emulated: BigQuery v2 REST (datasets, tables, jobs, queries, load, extract, copy, snapshots), Cloud Storage (JSON API, \
uploads of all kinds, batches, the common XML-style calls, lifecycle, holds, retention, soft delete), Sheets v4 values, \
Cloud Scheduler v1 (jobs fire by the sandbox's clock), Secret Manager v1, Cloud KMS v1 (symmetric keys), Pub/Sub v1 (gRPC and REST), Cloud Run v2 services (no image is run: \
a stand-in answers at their addresses).

Not emulated: authentication (a token is who it says; every request is let in unless --tokens says otherwise), quotas, prices, latency, gRPC but for Pub/Sub, BigQuery's \
Storage Read and Write APIs, Sheets formulas and formats. docs/sandbox.md lists it method by method.

Administration: GET /_sandbox/health, GET|PUT /_sandbox/clock, GET|DELETE /_sandbox/requests, \
GET|PUT|DELETE /_sandbox/faults, GET|PUT /_sandbox/services, GET|PUT|DELETE /_sandbox/permissions, and a page at /.";

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SANDBOX_LOG")
                .unwrap_or_else(|_| "warn,sqlparser=error".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    // DataFusion's planner recurses deeply in debug builds.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(16 << 20).build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(args));
            runtime.shutdown_timeout(Duration::from_secs(2));
            result
        }
        Err(e) => Err(format!("cannot start: {e}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("strongroom-sandbox: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), String> {
    let seed = args.seed.map(|_profile| (args.project.clone(), args.seed_bucket_prefix));
    let options = Options {
        project: args.project,
        allow_external_targets: args.allow_external_targets,
        bigquery: bigquery::Settings {
            streaming_buffer_seconds: args.streaming_buffer_seconds,
            extract_shard_bytes: args.extract_shard_bytes,
            job_delay_ms: args.job_delay_ms,
            check_bucket_locations: args.check_locations,
        },
    };
    let sandbox = Sandbox::open(&args.data, options).map_err(|e| e.message)?;
    if let Some(clock) = args.clock {
        sandbox.set_clock_us(clock.as_microsecond()).map_err(|e| e.message)?;
    }
    if let Some(file) = &args.tokens {
        let told = |e: String| format!("--tokens '{}': {e}; hint: docs/sandbox.md shows one", file.display());
        let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
        let table = toml::from_str(&text).map_err(|e| told(e.to_string()))?;
        sandbox.permissions.set(table).map_err(|e| told(e.message))?;
    }
    let faults = match &args.faults {
        None => Vec::new(),
        Some(file) => {
            let told =
                |e: String| format!("--faults '{}': {}; hint: docs/sandbox.md shows one", file.display(), e.trim_end());
            let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
            core::faults::Faults::read(&text).map_err(told)?
        }
    };
    if let Some(file) = args.traffic {
        let traffic =
            core::traffic::Traffic::open(&file).map_err(|e| format!("cannot write to '{}': {e}", file.display()))?;
        let _ = sandbox.traffic.set(traffic);
    }
    let listener = tokio::net::TcpListener::bind((args.host, args.port))
        .await
        .map_err(|e| format!("cannot listen on {}:{}: {e}; hint: choose another --port", args.host, args.port))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let _ = sandbox.address.set(address);
    if !args.host.is_loopback() {
        eprintln!(
            "strongroom-sandbox: warning: {address} can be reached from other machines and nothing is authenticated"
        );
    }
    let app = router(&sandbox).map_err(|e| e.message)?;
    storage::start(&sandbox).map_err(|e| e.message)?;
    scheduler::start(&sandbox);
    pubsub::start(&sandbox);

    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    let server = axum::serve(listener, app).with_graceful_shutdown(async {
        let _ = stopping.await;
    });
    let server = tokio::spawn(server.into_future());
    if let Some((project, prefix)) = seed {
        let bucket_prefix = prefix.unwrap_or_else(|| format!("{project}-backup"));
        let seed = seed::Seed { endpoint: format!("http://{address}"), project, bucket_prefix };
        tokio::select! {
            made = seed::ai_usage_analytics(&seed) => print_lines(made.map_err(|e| format!("cannot seed: {e}"))?)?,
            stopped = wait_for_signal() => return stopped,
        }
    }
    sandbox.faults.set(faults).map_err(|e| e.message)?;
    print_lines([format!("strongroom-sandbox listening on http://{address}")])?;
    wait_for_signal().await?;
    // Whoever is held by a fault is let go.
    sandbox.faults.set(Vec::new()).map_err(|e| e.message)?;
    let _ = stop.send(());
    // Requests under way get a moment; what is on disk is sound without it.
    let _ = tokio::time::timeout(Duration::from_secs(5), server).await;
    Ok(())
}

/// Who started this waits for the ready line: it is written through at once.
fn print_lines(lines: impl IntoIterator<Item = String>) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    lines
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush())
        .map_err(|e| format!("cannot write to standard output: {e}"))
}

/// All services on one router. BigQuery's routes come from its own module; every other path is taken apart by hand,
/// because names may hold slashes, colons and anything percent-encoded.
fn router(sandbox: &Arc<Sandbox>) -> Result<Router, ApiError> {
    let dispatcher = sandbox.clone();
    Ok(Router::new()
        .merge(bigquery::router(sandbox)?)
        .fallback(move |request: Request| dispatch(dispatcher.clone(), request))
        .layer(DefaultBodyLimit::disable())
        .layer(axum::middleware::from_fn_with_state(sandbox.clone(), core::gate::gate)))
}

async fn dispatch(sandbox: Arc<Sandbox>, request: Request) -> Response {
    if pubsub::is_grpc(request.headers()) {
        return pubsub::grpc(&sandbox, request).await;
    }
    let path = request.uri().path();
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_string();
    let result: Result<Response, ApiError> = match first.as_str() {
        "_sandbox" if path.starts_with("/_sandbox/services") => run::admin(&sandbox, request).await,
        "_sandbox" => admin::serve(&sandbox, request).await,
        // How clients look for a metadata server.
        "" if request.headers().contains_key("metadata-flavor") => metadata::serve(&sandbox, &request),
        "" if request.method() == axum::http::Method::GET => page::serve(&sandbox),
        "$discovery" | "discovery" => discovery::serve(&sandbox, &request),
        "computeMetadata" => metadata::serve(&sandbox, &request),
        "token" => metadata::oauth(&sandbox, &request),
        "oauth2" if path == "/oauth2/v3/certs" => identity::certs(),
        "v4" => sheets::serve(&sandbox, request).await,
        "v2" => run::serve(&sandbox, request).await,
        "_services" => run::container(&sandbox, request).await,
        "v1" if is_secret_manager(path) => secrets::serve(&sandbox, request).await,
        "v1" if kms::owns(path) => kms::serve(&sandbox, request).await,
        "v1" if pubsub::owns(path) => pubsub::serve(&sandbox, request).await,
        "v1" => scheduler::serve(&sandbox, request).await,
        _ => storage::serve(&sandbox, request).await,
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

/// `/v1/projects/P/secrets...` or `/v1/projects/P/locations/L/secrets...`.
fn is_secret_manager(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    parts.get(3) == Some(&"secrets") || (parts.get(3) == Some(&"locations") && parts.get(5) == Some(&"secrets"))
}

async fn wait_for_signal() -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| format!("cannot wait for signals: {e}"))?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        result = tokio::signal::ctrl_c() => result.map_err(|e| format!("cannot wait for signals: {e}")),
    }
}
