//! The dashboard: pages for people, written by the worker itself. They show what the jobs return, work without a script, and
//! name nothing outside this worker.

mod backup;
mod door;
mod drills;
mod operations;
mod overview;
mod plan;
mod restore;
mod sign;

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::{SignedDuration, Timestamp};

use super::Worker;
use super::problem::Problem;
use super::session::Visitor;
use crate::config::Role;
use crate::report::duration;
use crate::report::page::{self, escape, put};

pub use door::{enter, is_page};

/// Everything comes from this worker; nothing is run that stands within a page, and no other page may frame it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// All pages.
pub fn routes() -> Router<Arc<Worker>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/ui/style.css", get(style))
        .route("/ui/live.js", get(script))
        .route("/ui/sign-in", get(sign::form).post(sign::sign_in))
        .route("/ui/sign-out", post(sign::sign_out))
        .route("/ui/backups", get(overview::backups))
        .route("/ui/backups/{name}", get(backup::page))
        .route("/ui/backups/{name}/verify", post(backup::verify))
        .route("/ui/restore", get(restore::choose).post(restore::begin))
        .route("/ui/restore/plan", get(restore::plan))
        .route("/ui/drills", get(drills::list))
        .route("/ui/drills/{name}", get(drills::page))
        .route("/ui/operations", get(operations::list))
        .route("/ui/operations/{id}", get(operations::page))
        .route("/ui/operations/{id}/events", get(operations::events))
        .route("/ui/operations/{id}/cancel", post(operations::cancel))
}

async fn style() -> Response {
    let text = concat!(include_str!("../../report/page/page.css"), include_str!("dashboard.css"));
    asset("text/css; charset=utf-8", text)
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("live.js"))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Asked for again after an update of the worker.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    response
}

/// Which part of the dashboard a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Overview,
    Restore,
    Drills,
    Operations,
    /// Before anybody is signed in, and where something went wrong.
    None,
}

/// A page within its frame.
struct Page<'a> {
    title: &'a str,
    part: Part,
    /// Further lines of the head.
    head: String,
    body: String,
}

impl Page<'_> {
    fn answer(self, visitor: Option<&Visitor>) -> Response {
        let mut out = String::with_capacity(self.body.len() + 4096);
        put!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
        put!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        put!(out, "<title>{} – Strongroom</title>", escape(self.title));
        put!(out, "<link rel=\"stylesheet\" href=\"/ui/style.css\">\n<link rel=\"icon\" href=\"data:,\">");
        put!(out, "{}</head>\n<body>\n<a class=\"skip\" href=\"#main\">To the content</a>", self.head);
        top(visitor, self.part, &mut out);
        put!(out, "<main id=\"main\">\n{}</main>\n</body>\n</html>", self.body);
        html(StatusCode::OK, out)
    }
}

fn html(status: StatusCode, text: String) -> Response {
    let mut response = (status, text).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

/// Headers of all that belongs to the dashboard.
fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    // Not `no-referrer`: with it browsers hide from us, too, which page a form was sent by.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    super::guarded(response)
}

fn top(visitor: Option<&Visitor>, part: Part, out: &mut String) {
    put!(out, "<header class=\"top\"><div class=\"wide\">");
    put!(out, "<p class=\"brand\">Strongroom</p>");
    if let Some(visitor) = visitor {
        put!(out, "<nav aria-label=\"Pages\"><ul>");
        for (of, path, name) in [
            (Part::Overview, "/", "Backups"),
            (Part::Restore, "/ui/restore", "Restore"),
            (Part::Drills, "/ui/drills", "Drills"),
            (Part::Operations, "/ui/operations", "Operations"),
        ] {
            let current = if of == part { " aria-current=\"page\"" } else { "" };
            put!(out, "<li><a href=\"{path}\"{current}>{name}</a></li>");
        }
        put!(out, "</ul></nav>");
        put!(out, "<p class=\"who\">{} ({})</p>", escape(&visitor.caller.name), role(visitor.caller.role));
        if visitor.signed_in {
            put!(out, "<form method=\"post\" action=\"/ui/sign-out\">{}", token(visitor));
            put!(out, "<button class=\"plain\">Sign out</button></form>");
        }
    }
    put!(out, "</div></header>");
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

/// What makes a form one of this session.
fn token(visitor: &Visitor) -> String {
    format!("<input type=\"hidden\" name=\"form_token\" value=\"{}\">", escape(&visitor.form_token))
}

/// What went wrong, as a page.
fn problem_page(problem: &Problem, visitor: Option<&Visitor>) -> Response {
    let mut body = String::new();
    put!(body, "<h1>{}</h1>", escape(problem.title()));
    let words = match problem.status() {
        StatusCode::NOT_FOUND => "There is no such thing",
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => "This is not for everybody",
        status if status.is_client_error() => "That cannot be done as it was asked",
        _ => "It cannot be told just now",
    };
    let (said, hint) = problem.detail().split_once("; hint: ").unwrap_or((problem.detail(), ""));
    let refusals: Vec<String> = problem
        .refusals()
        .iter()
        .map(|refusal| format!("{}: {}; {}", refusal.object, refusal.message, refusal.hint))
        .collect();
    let said = if refusals.is_empty() { said } else { "Nothing was changed. What stands against it:" };
    page::verdict(("bad", words), said, &refusals, &mut body);
    if !hint.is_empty() && refusals.is_empty() {
        put!(body, "<p>What may help: {}.</p>", escape(hint.trim_end_matches('.')));
    }
    put!(body, "<p><a href=\"/\">To all backups</a></p>");
    let shown = Page { title: problem.title(), part: Part::None, head: String::new(), body };
    let mut response = shown.answer(visitor);
    *response.status_mut() = problem.status();
    response
}

/// Where a button leads.
fn to(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    // Paths are of this program's making: names and ids that are plain.
    let path = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert("location", path);
    response
}

/// A length of time as people say it: days where it is days.
fn age(length: SignedDuration) -> String {
    match length.as_secs() {
        seconds if seconds >= 2 * 86_400 => format!("{} days", seconds / 86_400),
        _ => duration(length),
    }
}

fn since(at: Timestamp, now: Timestamp) -> String {
    age(now.duration_since(at).max(SignedDuration::ZERO))
}

/// `1 table`, `2 tables`.
fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
