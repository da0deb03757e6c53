//! The worker: the jobs over HTTP, for Cloud Scheduler, for operators with curl, for whatever watches it.
//!
//! `access` says who may call, `routes` what can be called, `ask` turns calls into jobs, `operations` runs them, `pages` shows
//! all of it to people. Does not know how a job works.

mod access;
mod ask;
mod audit;
mod fields;
mod listing;
mod operations;
mod pages;
mod problem;
mod routes;
mod schedule;
mod session;

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use tokio::net::TcpListener;

use crate::job::Context;
use crate::model::Failure;
use access::Access;
use audit::Audit;
use listing::Cached;
use operations::Operations;
use session::Sessions;

/// How long running operations may take to end when the process is asked to; Cloud Run kills after 10 s.
const END_WITHIN: Duration = Duration::from_secs(8);

/// What every call works with.
struct Worker {
    context: Context,
    access: Access,
    operations: Arc<Operations>,
    listing: Arc<Cached>,
    audit: Audit,
    /// Of browsers.
    sessions: Sessions,
}

/// Serves until the process is asked to end: then nothing new is taken, and what runs is taken back.
///
/// # Errors
/// When the address cannot be listened on, or nobody would be asked who they are.
pub async fn serve(
    context: Context,
    follow_schedules: bool,
    ready: impl FnOnce(std::net::SocketAddr, bool),
) -> Result<(), Failure> {
    let listen = context.config.worker.listen;
    let invalid = |message: String| Failure::Invalid { object: "serve".into(), message };
    let endpoint = context.config.google.as_ref().and_then(|google| google.endpoint.as_deref());
    let access = Access::new(&context.config.worker, endpoint).map_err(invalid)?;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        invalid(format!("cannot listen on {listen}: {error}; hint: another worker.listen, or --listen ADDRESS:PORT"))
    })?;
    let address = listener.local_addr().map_err(|error| invalid(error.to_string()))?;
    let open = access.is_open();
    let audit = Audit::new(context.home.clone(), context.nonce.clone());
    let listing = Arc::<Cached>::default();
    let worker = Arc::new(Worker {
        access,
        operations: Arc::new(Operations::new(listing.clone())),
        listing,
        audit,
        sessions: Sessions::new(context.nonce.clone()),
        context: context.clone(),
    });
    ready(address, open);
    if follow_schedules {
        let (context, operations) = (context.clone(), worker.operations.clone());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(schedule::follow(&context, &operations)));
    }
    let mut ended = context.cancelled.clone();
    let (operations, audit) = (worker.operations.clone(), worker.audit.clone());
    let served = axum::serve(listener, routes::router(worker)).with_graceful_shutdown(async move {
        // (A closed channel is no signal.)
        if ended.wait_for(|ended| *ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    // A caller who waits for an operation would keep the process longer than it has.
    let mut told = context.cancelled.clone();
    let outcome = tokio::select! {
        outcome = served.into_future() => outcome,
        () = async {
            if told.wait_for(|ended| *ended).await.is_err() {
                std::future::pending::<()>().await;
            }
            operations.drain(END_WITHIN).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        } => Ok(()),
    };
    operations.drain(END_WITHIN).await;
    audit.flush().await;
    outcome.map_err(|error| invalid(error.to_string()))
}

/// Follows the schedules without being reached from anywhere, until the process is asked to end.
pub async fn follow_schedules(context: &Context) {
    let operations = Arc::new(Operations::new(Arc::default()));
    schedule::follow(context, &operations).await;
    operations.drain(END_WITHIN).await;
}

/// Headers that every answer has.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let set = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
    ];
    for (name, value) in set {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
