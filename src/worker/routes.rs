//! What can be called, by whom.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use futures::StreamExt;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::access::Caller;
use super::ask::Ask;
use super::audit::Line;
use super::operations::{self, State as OperationState, Status};
use super::problem::Problem;
use super::schedule::next;
use super::{Worker, guarded, pages};
use crate::catalog::Wanted;
use crate::codec::digest::Digests;
use crate::config::Role;
use crate::job::census::BackupCopies;
use crate::job::listing::Summary;
use crate::job::retention::Deletion;
use crate::job::{self, Context, JobError, status};
use crate::model::{BackupName, Pattern, Terms, TierName};
use crate::plan::backup::Occasion;
use crate::plan::drill::{DrillRequest, Scenario};
use crate::plan::restore::RestoreRequest;
use crate::plan::watch::AlertKind;
use crate::report;

const MAX_BODY_BYTES: usize = 64 << 10;
const MAX_DROPPED_BYTES: usize = 8 << 20;
/// Cloud Run ends a request after an hour at most (<https://cloud.google.com/run/docs/configuring/request-timeout>).
const MAX_WAIT_SECONDS: u64 = 3500;
const MAX_LISTED: usize = 10_000;
/// How long a call that looks may take.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

type Shared = State<Arc<Worker>>;
type Answered = Result<Response, Problem>;

/// All routes.
pub fn router(worker: Arc<Worker>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route("/run-daily-job", post(run_daily_job))
        .route("/backup/status", get(backup_status))
        .route("/backup/list", get(list))
        .route("/backup/create", post(create))
        .route("/backup/run-now", post(run_now))
        .route("/backup/next-backup", get(next_backup))
        .route("/backup/restore", post(restore))
        .route("/backup/cleanup", post(cleanup))
        .route("/backup/{name}", get(show).delete(delete))
        .route("/backup/{name}/verify", post(verify))
        .route("/drill", post(drill))
        .route("/recover", post(recover))
        .route("/operations", get(all_operations))
        .route("/operations/{id}", get(operation))
        .route("/operations/{id}/cancel", post(cancel))
        .merge(pages::routes())
        .fallback(async || Problem::not_found("there is nothing at this path; hint: GET /openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this path has other methods; hint: GET /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(worker.clone(), enter))
        .with_state(worker)
}

/// What anybody may call.
fn is_public(path: &str) -> bool {
    matches!(path, "/health" | "/ready" | "/openapi.json")
}

/// Who calls is found out before anything else, and what came of it is written down.
async fn enter(State(worker): Shared, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    if is_public(&path) {
        return guarded(next.run(request).await);
    }
    if pages::is_page(&path) {
        return pages::enter(&worker, request, next).await;
    }
    let caller = worker.access.who(request.headers()).await;
    let who = caller.as_ref().map_or_else(|_| "unknown".to_string(), |caller| caller.name.clone());
    let response = match caller {
        // A page of another site can make a browser call, but not with this header or type.
        Ok(_) if worker.access.is_open() && method != Method::GET && !is_own(request.headers()) => {
            Problem::forbidden("calls from pages of other sites are refused").into_response()
        }
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let response = as_problem(response).await;
    let operation = response.extensions().get::<Began>().map(|began| began.0.clone());
    let status = response.status();
    let changes = method != Method::GET || status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN;
    let line =
        Line { at: worker.context.now(), who, method: method.to_string(), path, status: status.as_u16(), operation };
    worker.audit.line(line, changes);
    guarded(response)
}

/// What the framework refuses by itself (a query that cannot be read) is a problem like any other.
pub(super) async fn as_problem(response: Response) -> Response {
    let status = response.status();
    let plain = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() && plain) {
        return response;
    }
    let said = to_bytes(response.into_body(), MAX_BODY_BYTES).await.unwrap_or_default();
    Problem::new(status, "bad-request", String::from_utf8_lossy(&said)).into_response()
}

/// The operation that a call began: for the audit log.
#[derive(Clone)]
pub(super) struct Began(pub(super) String);

/// Whether a call does not come from a page of another site.
fn is_own(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    headers.get("origin").is_none() && site.is_none_or(|site| matches!(site, "none" | "same-origin"))
}

pub(super) fn may(caller: &Caller, role: Role) -> Result<(), Problem> {
    if caller.role >= role {
        return Ok(());
    }
    let (has, needs) = (format!("{:?}", caller.role).to_lowercase(), format!("{role:?}").to_lowercase());
    Err(Problem::forbidden(format!("{} is {has}; this needs {needs}", caller.name)))
}

/// A request's body; an empty one stands for `{}`.
async fn body<T: DeserializeOwned>(request: Request) -> Result<(HeaderMap, T), Problem> {
    let (parts, body) = request.into_parts();
    let bytes = bounded(body).await?;
    if bytes.is_empty() {
        let empty = serde_json::from_str("{}").map_err(|error| Problem::bad_request(format!("the body: {error}")))?;
        return Ok((parts.headers, empty));
    }
    let typed = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Cloud Scheduler sends what it was told, and application/octet-stream when it was told nothing.
    if !(typed.starts_with("application/json") || typed.starts_with("application/octet-stream")) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-json",
            "the body must be JSON; hint: Content-Type: application/json",
        ));
    }
    let wrong = |error: serde_json::Error| Problem::bad_request(format!("the body: {error}"));
    // A list would be taken for an object's fields in their order.
    let object: Map<String, Value> = serde_json::from_slice(&bytes).map_err(wrong)?;
    let parsed = T::deserialize(Value::Object(object)).map_err(wrong)?;
    Ok((parts.headers, parsed))
}

/// A body's bytes. Of one that is too large the rest is read and dropped, within bounds: many clients look for an answer
/// only after they sent all.
pub(super) async fn bounded(body: Body) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut read) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Problem::bad_request("the body broke off"))?;
        read += chunk.len();
        if read <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if read > MAX_DROPPED_BYTES {
            break;
        }
    }
    if read <= MAX_BODY_BYTES {
        return Ok(bytes);
    }
    let detail = format!("the body is larger than {MAX_BODY_BYTES} bytes");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail))
}

/// Runs what only looks, off the server's own threads: plans are large futures.
pub(super) async fn look<T: Send + 'static>(
    worker: &Arc<Worker>,
    work: impl AsyncFnOnce(&Context) -> Result<T, JobError> + Send + 'static,
) -> Result<T, Problem> {
    let (context, runtime) = (worker.context.clone(), tokio::runtime::Handle::current());
    let done = tokio::task::spawn_blocking(move || {
        runtime.block_on(async { tokio::time::timeout(LOOK_WITHIN, work(&context)).await })
    });
    match done.await {
        Ok(Ok(outcome)) => Ok(outcome?),
        Ok(Err(_)) => Err(Problem::unavailable(format!("no answer within {} s", LOOK_WITHIN.as_secs()))),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", "the call broke off")),
    }
}

/// `?wait=SECONDS`: answer when the operation is over, or after so long.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiting {
    wait: Option<u64>,
}

impl Waiting {
    fn checked(&self) -> Result<(), Problem> {
        match self.wait {
            Some(seconds) if seconds > MAX_WAIT_SECONDS => {
                Err(Problem::bad_request(format!("wait: at most {MAX_WAIT_SECONDS} seconds")))
            }
            _ => Ok(()),
        }
    }
}

/// A number without a fraction: JSON does not tell 1 from 1.0.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    let fits = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
    if fits { Ok(Some(number as u64)) } else { Err(D::Error::custom("must be a whole number")) }
}

/// Begins an operation, and answers 202 with it; or with its end, when the caller waits.
async fn begin(worker: &Arc<Worker>, caller: &Caller, headers: &HeaderMap, waiting: &Waiting, ask: Ask) -> Answered {
    waiting.checked()?;
    let trigger = trigger(headers, ask.verb())?;
    let id = trigger.clone().unwrap_or_else(|| job::new_run_id(&worker.context));
    // A repeated trigger, which this or another worker has seen: the same run.
    if trigger.is_some()
        && worker.operations.get(&id).is_none()
        && let Some(known) = operations::from_journal(&worker.context, &id).await?
    {
        return Ok(told(known));
    }
    let operation = worker.operations.begin(&worker.context, (&id, &caller.name), ask)?;
    let status = match waiting.wait {
        Some(seconds) => operation.wait(Duration::from_secs(seconds)).await,
        None => operation.status(),
    };
    Ok(told(status))
}

fn told(status: Status) -> Response {
    let code = match (status.state, &status.problem) {
        (_, Some(problem)) => problem.status(),
        (OperationState::Waiting | OperationState::Running | OperationState::Open, None) => StatusCode::ACCEPTED,
        (_, None) => StatusCode::OK,
    };
    let id = status.id.clone();
    let mut response = (code, Json(status)).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/operations/{id}")) {
        response.headers_mut().insert("location", location);
    }
    response.extensions_mut().insert(Began(id));
    response
}

/// The id of the run that a trigger stands for: the same for the same job and schedule time, or the same key.
fn trigger(headers: &HeaderMap, verb: &str) -> Result<Option<String>, Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    let hash = |text: &str| Digests::of(text.as_bytes()).sha256_hex()[..16].to_string();
    if let (Some(job), Some(time)) = (text("x-cloudscheduler-jobname"), text("x-cloudscheduler-scheduletime")) {
        let at: Timestamp = time.parse().map_err(|_| {
            Problem::bad_request("x-cloudscheduler-scheduletime is no time such as 2026-08-01T02:00:00Z")
        })?;
        let hash = hash(&format!("{job}\n{time}\n{verb}"));
        return Ok(Some(format!("{}-{hash}", at.strftime("%Y%m%dT%H%M%SZ"))));
    }
    Ok(text("idempotency-key").map(|key| format!("key-{}", hash(&format!("{key}\n{verb}")))))
}

// ------------------------------------------------------------------------------------------------------- looking

async fn health() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// 200 when backups could be taken now, and the last is young enough; 503 with what is not so.
async fn ready(State(worker): Shared) -> Response {
    let status = look(&worker, async |context| status::run(context).await).await;
    let (code, document) = match status {
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, json!({"ready": false, "because": [problem.detail()]})),
        Ok(status) if status.content() => (StatusCode::OK, json!({"ready": true})),
        Ok(status) => {
            // What is not well enough to look at is for those who may look: here only how much of it there is.
            let late = status
                .rpo_seconds
                .is_none_or(|age| u64::try_from(age).is_ok_and(|age| age > status.rpo_objective_seconds));
            let code = if late { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            (code, json!({"ready": !late, "finding_count": status.findings.len()}))
        }
    };
    (code, Json(document)).into_response()
}

async fn openapi() -> Response {
    let mut response = include_str!("openapi.json").into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn metrics(State(worker): Shared, Extension(caller): Extension<Caller>) -> Answered {
    may(&caller, Role::Viewer)?;
    let status = look(&worker, async |context| status::run(context).await).await?;
    let listing = worker.listing.get(&worker.context).await?;
    let operations = worker.operations.all();
    let errors = operations.iter().filter(|operation| operation.state == OperationState::Failed);
    let mut failed: BTreeMap<String, u64> = BTreeMap::new();
    for operation in errors {
        *failed.entry(operation.verb.clone()).or_default() += 1;
    }
    let sizes: Vec<report::BackupSample> = listing.backups.iter().map(sample).collect();
    let text = report::metrics(&report::Samples {
        backups: sizes,
        broken_count: listing.broken.len(),
        errors: failed,
        running_count: operations.iter().filter(|operation| !operation.state.is_over()).count(),
        rpo_seconds: status.rpo_seconds,
        rpo_objective_seconds: status.rpo_objective_seconds,
        finding_count: status.findings.len(),
        alerts: alerts(&status),
        copies: status.copies.iter().map(copies).collect(),
    });
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Every kind has its number, also none: an alert that is over must be seen to be.
fn alerts(status: &status::Status) -> BTreeMap<&'static str, usize> {
    let count = |kind: AlertKind| status.alerts.iter().filter(|alert| alert.kind == kind).count();
    AlertKind::ALL.into_iter().map(|kind| (kind.name(), count(kind))).collect()
}

fn copies(backup: &BackupCopies) -> report::CopiesSample {
    report::CopiesSample { tier: backup.tier.clone(), copies: backup.standing.copies, met: backup.short.is_empty() }
}

fn sample(backup: &Summary) -> report::BackupSample {
    report::BackupSample {
        tier: backup.tier.clone(),
        committed_at: backup.committed_at,
        seconds: backup.committed_at.duration_since(backup.started_at).as_secs_f64(),
        size_bytes: backup.size_bytes,
        row_count: backup.row_count,
        verified_at: backup.verified.as_ref().map(|mark| mark.at),
    }
}

async fn backup_status(State(worker): Shared, Extension(caller): Extension<Caller>) -> Answered {
    may(&caller, Role::Viewer)?;
    let status = look(&worker, async |context| status::run(context).await).await?;
    let config = &worker.context.config;
    let keep = config.tiers.iter().map(|(tier, of)| (tier.to_string(), of.keep.within.as_secs() / 86_400));
    let retention_days: BTreeMap<String, u64> = keep.collect();
    let mut document = serde_json::to_value(&status).unwrap_or_default();
    if let Some(document) = document.as_object_mut() {
        document.insert("content".into(), json!(status.content()));
        document.insert("retention_days".into(), json!(retention_days));
        document.insert("next_backups".into(), json!(next(&worker.context)));
        document.insert("operations".into(), json!(worker.operations.all().iter().take(5).collect::<Vec<_>>()));
    }
    Ok(Json(document).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    tier: Option<TierName>,
    limit: Option<usize>,
}

async fn list(State(worker): Shared, Extension(caller): Extension<Caller>, query: Query<Listed>) -> Answered {
    may(&caller, Role::Viewer)?;
    let limit = query.limit.unwrap_or(1000);
    if limit > MAX_LISTED {
        return Err(Problem::bad_request(format!("limit: at most {MAX_LISTED}")));
    }
    let listing = worker.listing.get(&worker.context).await?;
    let of_tier = listing.backups.iter().filter(|backup| query.tier.as_ref().is_none_or(|tier| backup.tier == *tier));
    let backups: Vec<&Summary> = of_tier.take(limit).collect();
    Ok(Json(json!({"backups": backups, "broken": listing.broken, "doubted": listing.doubted})).into_response())
}

async fn show(State(worker): Shared, Extension(caller): Extension<Caller>, Path(name): Path<String>) -> Answered {
    may(&caller, Role::Viewer)?;
    let wanted = named(&name)?;
    let (manifest, marks) = look(&worker, async move |context| {
        let manifest = context.catalog.find(&wanted, None).await?.manifest;
        let marks = context.marks.of(&manifest.name, &manifest.commit_id).await?;
        Ok((manifest, marks))
    })
    .await?;
    Ok(Json(json!({"manifest": manifest, "marks": marks})).into_response())
}

async fn next_backup(State(worker): Shared, Extension(caller): Extension<Caller>) -> Answered {
    may(&caller, Role::Viewer)?;
    Ok(Json(json!({"next_backups": next(&worker.context)})).into_response())
}

async fn all_operations(State(worker): Shared, Extension(caller): Extension<Caller>) -> Answered {
    may(&caller, Role::Viewer)?;
    Ok(Json(json!({"operations": worker.operations.all()})).into_response())
}

async fn operation(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    waiting: Query<Waiting>,
) -> Answered {
    may(&caller, Role::Viewer)?;
    waiting.checked()?;
    let status = match worker.operations.get(&id) {
        Some(operation) => operation.wait(Duration::from_secs(waiting.wait.unwrap_or(0))).await,
        None => {
            let known = if plain_id(&id) { operations::from_journal(&worker.context, &id).await? } else { None };
            known.ok_or_else(|| Problem::not_found("there is no such operation; hint: GET /operations"))?
        }
    };
    Ok(Json(status).into_response())
}

/// Ids come from this program: anything else would be a path of somebody's making.
pub(super) fn plain_id(id: &str) -> bool {
    id.len() <= 100 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

async fn cancel(State(worker): Shared, Extension(caller): Extension<Caller>, Path(id): Path<String>) -> Answered {
    may(&caller, Role::Operator)?;
    let unknown = || Problem::not_found("no operation of this id runs in this worker; hint: GET /operations");
    let operation = worker.operations.get(&id).ok_or_else(unknown)?;
    operation.cancel();
    Ok((StatusCode::ACCEPTED, Json(operation.status())).into_response())
}

// ------------------------------------------------------------------------------------------------------- changing

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DailyJob {
    mode: Mode,
    /// The days up to now of which it is told whether they have a backup.
    #[serde(default, deserialize_with = "whole")]
    days: Option<u64>,
    tier: Option<TierName>,
}

#[derive(Debug, Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Mode {
    DryRun,
    Run,
}

fn daily(tier: Option<TierName>) -> Result<TierName, Problem> {
    match tier {
        Some(tier) => Ok(tier),
        None => "daily".parse().map_err(|error: crate::model::InvalidName| Problem::bad_request(error.to_string())),
    }
}

/// The scheduled backup: planned, or taken.
async fn run_daily_job(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, job): (_, DailyJob) = body(request).await?;
    let days = job.days.unwrap_or(1);
    if !(1..=366).contains(&days) {
        return Err(Problem::bad_request("days: must be from 1 to 366"));
    }
    let tier = daily(job.tier)?;
    let ask = Ask::Backup { tier: tier.clone(), occasion: Occasion::Schedule };
    if job.mode == Mode::Run {
        may(&caller, Role::Operator)?;
        return begin(&worker, &caller, &headers, &waiting, ask).await;
    }
    may(&caller, Role::Viewer)?;
    let plan = look(&worker, async move |context| ask.plan(context).await).await?;
    let listing = worker.listing.get(&worker.context).await?;
    let days = covered(&worker.context, &listing.backups, &tier, days);
    Ok(Json(json!({"mode": "dry_run", "tier": tier, "plan": plan, "days": days})).into_response())
}

/// For each of the last days, today first, the backups of the tier whose data is of that day.
fn covered(context: &Context, backups: &[Summary], tier: &TierName, days: u64) -> Vec<Value> {
    let zone = &context.config.retention.time_zone;
    let today = context.now().to_zoned(zone.clone()).date();
    let day_of = |at: Timestamp| at.to_zoned(zone.clone()).date();
    let mut out = Vec::new();
    for back in 0..days.cast_signed() {
        let Ok(day) = today.checked_sub(jiff::Span::new().days(back)) else { break };
        let of_day = backups.iter().filter(|backup| backup.tier == *tier && day_of(backup.cut_at) == day);
        let names: Vec<&BackupName> = of_day.map(|backup| &backup.name).collect();
        out.push(json!({"date": day.to_string(), "backups": names}));
    }
    out
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    /// A backup by hand: what it is for becomes its name.
    #[serde(alias = "purpose")]
    backup_name: Option<String>,
    tier: Option<TierName>,
    #[serde(default)]
    dry_run: bool,
}

async fn create(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, create): (_, Create) = body(request).await?;
    let occasion = create.backup_name.map_or(Occasion::Schedule, |purpose| {
        let terms = Terms { creator: Some(caller.name.clone()), ..Terms::default() };
        Occasion::Manual { purpose, terms }
    });
    let ask = Ask::Backup { tier: daily(create.tier)?, occasion };
    plan_or_begin(&worker, &caller, (&headers, &waiting), create.dry_run, Role::Operator, ask).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunNow {
    tier: Option<TierName>,
}

async fn run_now(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, now): (_, RunNow) = body(request).await?;
    let ask = Ask::Backup { tier: daily(now.tier)?, occasion: Occasion::Schedule };
    plan_or_begin(&worker, &caller, (&headers, &waiting), false, Role::Operator, ask).await
}

async fn plan_or_begin(
    worker: &Arc<Worker>,
    caller: &Caller,
    (headers, waiting): (&HeaderMap, &Waiting),
    dry_run: bool,
    role: Role,
    ask: Ask,
) -> Answered {
    waiting.checked()?;
    if !dry_run {
        may(caller, role)?;
        return begin(worker, caller, headers, waiting, ask).await;
    }
    may(caller, Role::Viewer)?;
    let verb = ask.verb();
    let plan = look(worker, async move |context| ask.plan(context).await).await?;
    Ok(Json(json!({"dry_run": true, "verb": verb, "plan": plan})).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restore {
    #[serde(default = "latest")]
    backup_name: String,
    tier: Option<TierName>,
    #[serde(default)]
    tables: Vec<String>,
    /// Another dataset: DATASET or PROJECT.DATASET.
    into: Option<String>,
    into_spreadsheet: Option<String>,
    /// Another database; of a backup of datasets the same as `into`.
    target_database: Option<String>,
    /// Only these sources, by their names in the configuration.
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    replace: bool,
    /// With `replace`: the backup's name once more.
    confirm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn latest() -> String {
    "latest".into()
}

async fn restore(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, restore): (_, Restore) = body(request).await?;
    let datasets = worker.context.bigquery_sources().next().is_some();
    let (dataset, target_db) = match restore.target_database {
        Some(dataset) if datasets => (restore.into.or(Some(dataset)), None),
        other => (restore.into, other),
    };
    if worker.context.config.google.is_none() && dataset.as_deref().is_some_and(|text| !text.contains('.')) {
        let detail =
            "into: no [google] project is configured; hint: PROJECT.DATASET, or target_database for a database";
        return Err(Problem::new(StatusCode::CONFLICT, "refused", detail));
    }
    let into = dataset.as_deref().map(|text| worker.context.dataset(text).map_err(no_name));
    let request = RestoreRequest {
        tables: restore.tables.iter().map(|text| Pattern::new(text)).collect(),
        into: into.transpose()?,
        replace: restore.replace,
        into_spreadsheet: restore.into_spreadsheet,
        target_db,
        sources: restore.sources,
        ..RestoreRequest::default()
    };
    if restore.replace && !restore.dry_run {
        may(&caller, Role::Admin)?;
        confirmed(restore.confirm.as_deref(), &restore.backup_name)?;
    }
    let ask = Ask::Restore { backup: named(&restore.backup_name)?, tier: restore.tier, request: Box::new(request) };
    plan_or_begin(&worker, &caller, (&headers, &waiting), restore.dry_run, Role::Operator, ask).await
}

/// What destroys must be said twice.
fn confirmed(said: Option<&str>, name: &str) -> Result<(), Problem> {
    if said == Some(name) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::PRECONDITION_REQUIRED,
        "not-confirmed",
        format!("this destroys; hint: say its target once more, \"confirm\": \"{name}\""),
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DryRun {
    #[serde(default)]
    dry_run: bool,
}

async fn cleanup(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, how): (_, DryRun) = body(request).await?;
    plan_or_begin(&worker, &caller, (&headers, &waiting), how.dry_run, Role::Operator, Ask::Cleanup).await
}

async fn recover(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, how): (_, DryRun) = body(request).await?;
    plan_or_begin(&worker, &caller, (&headers, &waiting), how.dry_run, Role::Operator, Ask::Recover).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Delete {
    /// The backup's name once more.
    confirm: Option<String>,
    /// Without a time of grace.
    #[serde(default)]
    now: bool,
    /// Also the last backup of its tier.
    #[serde(default)]
    even_the_last: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(default, deserialize_with = "whole")]
    wait: Option<u64>,
}

/// Takes its fields from the query or from the body: not every client sends a body with DELETE.
async fn delete(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(asked): Query<Delete>,
    request: Request,
) -> Answered {
    let (headers, said): (_, Delete) = body(request).await?;
    let backup: BackupName = name.parse().map_err(no_name)?;
    let dry_run = asked.dry_run || said.dry_run;
    if !dry_run {
        may(&caller, Role::Admin)?;
        confirmed(asked.confirm.as_deref().or(said.confirm.as_deref()), &name)?;
    }
    let how = Deletion { now: asked.now || said.now, even_the_last: asked.even_the_last || said.even_the_last };
    Waiting { wait: said.wait }.checked()?;
    let waiting = Waiting { wait: asked.wait.or(said.wait) };
    let ask = Ask::Delete { backup, how };
    plan_or_begin(&worker, &caller, (&headers, &waiting), dry_run, Role::Admin, ask).await
}

async fn verify(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, how): (_, DryRun) = body(request).await?;
    let ask = Ask::Verify { backup: named(&name)? };
    plan_or_begin(&worker, &caller, (&headers, &waiting), how.dry_run, Role::Operator, ask).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drill {
    #[serde(default = "rehearsal")]
    scenario: String,
    #[serde(default = "latest")]
    backup_name: String,
    tier: Option<TierName>,
    table: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn rehearsal() -> String {
    "rehearsal".into()
}

async fn drill(
    State(worker): Shared,
    Extension(caller): Extension<Caller>,
    waiting: Query<Waiting>,
    request: Request,
) -> Answered {
    let (headers, drill): (_, Drill) = body(request).await?;
    let scenario: Scenario =
        drill.scenario.parse().map_err(|error| Problem::bad_request(format!("scenario: {error}")))?;
    let ask = Ask::Drill {
        backup: named(&drill.backup_name)?,
        tier: drill.tier,
        request: DrillRequest { scenario, table: drill.table },
        operator: caller.name.clone(),
    };
    plan_or_begin(&worker, &caller, (&headers, &waiting), drill.dry_run, Role::Operator, ask).await
}

pub(super) fn named(text: &str) -> Result<Wanted, Problem> {
    if text == "latest" {
        return Ok(Wanted::Latest);
    }
    text.parse().map(Wanted::Called).map_err(no_name)
}

fn no_name(error: crate::model::InvalidName) -> Problem {
    Problem::bad_request(error.to_string())
}
