//! A guided restore: which backup, what of it and where to, and then the plan, which is confirmed by naming its target.
//!
//! Until then nothing is changed: the steps before are addresses that can be sent to somebody. It never replaces what is there;
//! whoever wants that uses the command line or the API.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;

use super::super::Worker;
use super::super::ask::Ask;
use super::super::fields::Fields;
use super::super::problem::Problem;
use super::super::routes::{Began, look, may, named};
use super::super::session::Visitor;
use super::plan::{table, targets};
use super::{Page, Part, counted, since, to, token};
use crate::codec::digest::Digests;
use crate::config::Role;
use crate::job::Context;
use crate::job::restore;
use crate::manifest::{Manifest, SourceRecord};
use crate::model::Pattern;
use crate::plan::restore::{RestorePlan, RestoreRequest};
use crate::report::page::{day_and_time, escape, put};
use crate::report::{bytes, thousands};

/// Backups that can be chosen from; others by their names' addresses.
const SHOWN: usize = 200;

/// What was chosen so far, as the addresses and the last form carry it.
struct Choice {
    backup: String,
    source: String,
    tables: Vec<String>,
    /// Beside what was lost: a dataset, a spreadsheet, a database. `None`: where it was.
    into: Option<String>,
}

impl Choice {
    fn of(fields: &Fields) -> Self {
        let into = if fields.get("where") == "own" { None } else { fields.some("into").map(String::from) };
        Self {
            backup: fields.get("backup").into(),
            source: fields.get("source").into(),
            tables: fields.all("table").into_iter().map(String::from).collect(),
            into,
        }
    }

    /// The same as a request, once it is known of which kind the source is.
    fn request(&self, context: &Context, manifest: &Manifest) -> Result<RestoreRequest, Problem> {
        let source = manifest.sources.iter().find(|source| source.name() == self.source);
        let unknown =
            || Problem::bad_request("the backup has no such source; hint: choose one of those on the page before");
        let mut request = RestoreRequest {
            sources: vec![self.source.clone()],
            tables: self.tables.iter().map(|text| Pattern::new(text)).collect(),
            ..RestoreRequest::default()
        };
        let Some(into) = &self.into else { return source.map(|_| request).ok_or_else(unknown) };
        match source.ok_or_else(unknown)? {
            SourceRecord::BigQuery(_) => {
                let invalid = |error: crate::model::InvalidName| Problem::bad_request(error.to_string());
                request.into = Some(context.dataset(into).map_err(invalid)?);
            }
            SourceRecord::Sheets(_) => request.into_spreadsheet = Some(into.clone()),
            SourceRecord::Postgres(_) | SourceRecord::Usage(_) => request.target_db = Some(into.clone()),
            SourceRecord::Sqlite(_) | SourceRecord::Files(_) | SourceRecord::Secrets(_) => {
                return Err(Problem::bad_request(
                    "this source goes back to where it was; hint: elsewhere by strongroom restore --to",
                ));
            }
        }
        Ok(request)
    }

    fn hidden(&self) -> String {
        let mut out = String::new();
        let mut field = |name: &str, value: &str| {
            out.push_str(&format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value)));
        };
        field("backup", &self.backup);
        field("source", &self.source);
        self.tables.iter().for_each(|name| field("table", name));
        match &self.into {
            Some(into) => field("into", into),
            None => field("where", "own"),
        }
        out
    }
}

/// The first two steps: a backup, and what of it.
pub async fn choose(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let fields = Fields::of_query(query.as_deref());
    let mut body = String::new();
    let title = match fields.some("backup") {
        None => {
            let listing = worker.listing.get(&worker.context).await?;
            put!(
                body,
                "<h1>Restore: which backup?</h1>\n<p class=\"of\">Step 1 of 3. Nothing is changed before the last step.</p>"
            );
            backups(&listing.backups, worker.context.now(), &mut body);
            "Restore: which backup?"
        }
        Some(name) => {
            let wanted = named(name)?;
            let manifest =
                look(&worker, async move |context| Ok(context.catalog.find(&wanted, None).await?.manifest)).await?;
            put!(body, "<p class=\"trail\"><a href=\"/ui/restore\">Another backup</a></p>");
            put!(
                body,
                "<h1>Restore: what, and where to?</h1>\n<p class=\"of\">Step 2 of 3. Nothing is changed before the last step.</p>"
            );
            put!(
                body,
                "<p>Backup <code>{}</code>, the data of {}.</p>",
                manifest.name,
                day_and_time(manifest.data_of())
            );
            for (n, source) in manifest.sources.iter().enumerate() {
                self::source(&manifest, n, source, &mut body);
            }
            "Restore: what, and where to?"
        }
    };
    Ok(Page { title, part: Part::Restore, head: String::new(), body }.answer(Some(&visitor)))
}

fn backups(backups: &[crate::job::listing::Summary], now: Timestamp, out: &mut String) {
    if backups.is_empty() {
        put!(out, "<p>There is no backup.</p>");
        return;
    }
    put!(out, "<form action=\"/ui/restore\"><fieldset><legend>Backup</legend>");
    for (n, backup) in backups.iter().take(SHOWN).enumerate() {
        let checked = if n == 0 { " checked" } else { "" };
        let verified = if backup.verified.is_some() { "verified" } else { "not verified yet" };
        put!(
            out,
            "<div class=\"choice\"><input type=\"radio\" name=\"backup\" id=\"b{n}\" value=\"{0}\" required{checked}><label for=\"b{n}\"><strong>{0}</strong>{1}<br><span class=\"soft\">data of {2}, {3} ago; {4} rows, {5}, {verified}</span></label></div>",
            backup.name,
            backup.purpose.as_ref().map_or(String::new(), |purpose| format!(" ({})", escape(purpose))),
            day_and_time(backup.cut_at),
            since(backup.cut_at, now),
            thousands(backup.row_count),
            bytes(backup.size_bytes)
        );
    }
    put!(out, "</fieldset><button>Next: what, and where to</button></form>");
}

/// A source with what can be chosen of it: a form of its own.
fn source(manifest: &Manifest, n: usize, source: &SourceRecord, out: &mut String) {
    let (title, beside) = match source {
        SourceRecord::BigQuery(of) => {
            (format!("Dataset {}", of.dataset), Some(("Another dataset", format!("{}_restored", of.dataset.dataset()))))
        }
        SourceRecord::Sheets(of) => {
            (format!("Spreadsheet {}", of.title), Some(("Another spreadsheet, by its id", String::new())))
        }
        SourceRecord::Postgres(of) => {
            let database = of.origin.rsplit('/').next().unwrap_or_default();
            let database = database.split('?').next().unwrap_or_default();
            (
                format!("PostgreSQL {}", of.origin),
                Some(("Another database, which is made", format!("{database}_restored"))),
            )
        }
        other => {
            let (kind, origin) = other.streamed().map(|of| (of.kind(), of.origin())).unwrap_or_default();
            let beside = matches!(other, SourceRecord::Usage(_)).then(|| ("Another database", String::new()));
            (format!("{kind} {origin}"), beside)
        }
    };
    put!(
        out,
        "<form action=\"/ui/restore/plan\" class=\"card\" aria-labelledby=\"s{n}\"><h2 id=\"s{n}\">{}</h2>",
        escape(&title)
    );
    put!(out, "<input type=\"hidden\" name=\"backup\" value=\"{}\">", manifest.name);
    put!(out, "<input type=\"hidden\" name=\"source\" value=\"{}\">", escape(source.name()));
    if let SourceRecord::BigQuery(of) = source {
        put!(out, "<details><summary>Only some of its {}</summary>", counted(of.tables.len(), "table"));
        put!(out, "<fieldset><legend>Tables (none: all of them, with views and routines)</legend>");
        for (m, record) in of.tables.iter().enumerate() {
            put!(
                out,
                "<div class=\"choice\"><input type=\"checkbox\" name=\"table\" id=\"t{n}-{m}\" value=\"{0}\"><label for=\"t{n}-{m}\">{0} <span class=\"soft\">{1} rows</span></label></div>",
                escape(record.table.table()),
                thousands(record.row_count)
            );
        }
        put!(out, "</fieldset></details>");
    }
    put!(out, "<fieldset><legend>Where to</legend>");
    if let Some((words, proposed)) = &beside {
        put!(
            out,
            "<div class=\"choice\"><input type=\"radio\" name=\"where\" value=\"beside\" id=\"w{n}-b\" checked><label for=\"w{n}-b\">Beside what is there: nothing of it is touched</label></div>"
        );
        put!(
            out,
            "<label for=\"into{n}\">{words}</label><input type=\"text\" name=\"into\" id=\"into{n}\" value=\"{}\" autocomplete=\"off\" spellcheck=\"false\">",
            escape(proposed)
        );
    }
    let checked = if beside.is_none() { " checked" } else { "" };
    put!(
        out,
        "<div class=\"choice\"><input type=\"radio\" name=\"where\" value=\"own\" id=\"w{n}-o\"{checked}><label for=\"w{n}-o\">Back to where it was: refused where something is there</label></div>"
    );
    put!(out, "</fieldset><button>Show the plan</button></form>");
}

/// What was chosen, as a plan of this moment.
async fn planned(worker: &Arc<Worker>, choice: &Choice) -> Result<(RestorePlan, RestoreRequest), Problem> {
    let wanted = named(&choice.backup)?;
    let entry = look(worker, async move |context| Ok(context.catalog.find(&wanted, None).await?)).await?;
    let request = choice.request(&worker.context, &entry.manifest)?;
    let asked = request.clone();
    let plan = look(worker, async move |context| restore::dry_run(context, &entry, &asked).await).await?;
    Ok((plan, request))
}

/// Says whether a plan is the one that was shown.
fn digest(plan: &RestorePlan) -> String {
    Digests::of(&serde_json::to_vec(plan).unwrap_or_default()).sha256_hex()
}

/// The last step: the plan.
pub async fn plan(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    may(&visitor.caller, Role::Viewer)?;
    let fields = Fields::of_query(query.as_deref());
    if fields.get("where") == "beside" && fields.some("into").is_none() {
        return Err(Problem::bad_request("it is not said beside what: the name is empty; hint: go back, and name it"));
    }
    let choice = Choice::of(&fields);
    let (plan, _) = planned(&worker, &choice).await?;
    Ok(shown(&worker, &visitor, (&choice, &plan), None))
}

/// The plan with its confirmation; `wrong` says why the last one did not count.
fn shown(worker: &Worker, visitor: &Visitor, (choice, plan): (&Choice, &RestorePlan), wrong: Option<&str>) -> Response {
    let mut body = String::new();
    let backup = escape(&choice.backup);
    put!(body, "<p class=\"trail\"><a href=\"/ui/restore?backup={backup}\">Choose otherwise</a></p>");
    put!(body, "<h1>Restore: this will be done</h1>\n<p class=\"of\">Step 3 of 3. Nothing has been changed yet.</p>");
    let targets = targets(plan);
    let target = targets.first().cloned().unwrap_or_default();
    put!(
        body,
        "<p class=\"target\">From <code>{}</code> into <strong>{}</strong></p>",
        plan.backup,
        escape(&targets.join(", "))
    );
    table(plan, &mut body);
    put!(body, "<section aria-labelledby=\"h-confirm\">\n<h2 id=\"h-confirm\">Confirm</h2>");
    if visitor.caller.role < Role::Operator {
        put!(
            body,
            "<p>You may look at this plan. To carry it out takes an operator: send the address of this page to one.</p>"
        );
    } else {
        put!(body, "<form method=\"post\" action=\"/ui/restore\" class=\"card\">{}{}", token(visitor), choice.hidden());
        put!(body, "<input type=\"hidden\" name=\"plan\" value=\"{}\">", digest(plan));
        put!(body, "<input type=\"hidden\" name=\"once\" value=\"{}\">", (worker.context.nonce)());
        let invalid = if wrong.is_some() { " aria-invalid=\"true\" aria-describedby=\"wrong\"" } else { "" };
        if let Some(wrong) = wrong {
            put!(body, "<p class=\"bad\" id=\"wrong\" role=\"alert\"><strong>{}</strong></p>", escape(wrong));
        }
        put!(body, "<label for=\"confirm\">To restore, type the target: <code>{}</code></label>", escape(&target));
        put!(
            body,
            "<input type=\"text\" id=\"confirm\" name=\"confirm\" required autocomplete=\"off\" autocapitalize=\"off\" spellcheck=\"false\"{invalid}>"
        );
        put!(body, "<button>Restore</button></form>");
    }
    put!(body, "</section>");
    let page = Page { title: "Restore: this will be done", part: Part::Restore, head: String::new(), body };
    let mut response = page.answer(Some(visitor));
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    response
}

/// Begins the restore that was shown, once.
pub async fn begin(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Result<Response, Problem> {
    let fields = Fields::of_form(request).await?.sent_by(&visitor)?;
    may(&visitor.caller, Role::Operator)?;
    let once = Digests::of(format!("{}\n{}", visitor.form_token, fields.get("once")).as_bytes()).sha256_hex();
    let id = format!("page-{}", &once[..16]);
    // The same button pressed twice.
    if worker.operations.get(&id).is_some() {
        return Ok(to(&format!("/ui/operations/{id}")));
    }
    let choice = Choice::of(&fields);
    let (plan, request) = planned(&worker, &choice).await?;
    let target = targets(&plan).into_iter().next().unwrap_or_default();
    let wrong = if fields.get("plan") != digest(&plan) {
        Some("The plan has changed since it was shown: this is the new one.")
    } else if fields.get("confirm").trim() != target {
        Some("This is not the target. Nothing was changed.")
    } else {
        None
    };
    if wrong.is_some() {
        return Ok(shown(&worker, &visitor, (&choice, &plan), wrong));
    }
    let ask = Ask::Restore { backup: named(&choice.backup)?, tier: None, request: Box::new(request) };
    worker.operations.begin(&worker.context, (&id, &visitor.caller.name), ask)?;
    let mut response = to(&format!("/ui/operations/{id}"));
    response.extensions_mut().insert(Began(id));
    Ok(response)
}
