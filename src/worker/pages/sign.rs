//! Signing in: a token is exchanged for a session, and stays in no page, address or log.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::Response;

use super::super::Worker;
use super::super::fields::Fields;
use super::super::problem::Problem;
use super::super::session::Visitor;
use super::door::{host, is_loopback};
use super::{Page, Part, to, token};
use crate::report::page::put;

/// How long the answer to a token that is not good is kept back.
const DELAY: Duration = Duration::from_millis(500);

pub async fn form(visitor: Option<Extension<Visitor>>) -> Response {
    if visitor.is_some() { to("/") } else { page(false) }
}

fn page(refused: bool) -> Response {
    let mut body = String::new();
    put!(body, "<h1>Sign in</h1>");
    put!(
        body,
        "<p>With a token of this worker, or an identity token of Google that was made for it. It is not kept: your browser gets a session that ends after an hour without use.</p>"
    );
    put!(body, "<form method=\"post\" action=\"/ui/sign-in\" class=\"card\">");
    let (invalid, said) = if refused {
        (
            " aria-invalid=\"true\" aria-describedby=\"refused\"",
            "<p class=\"bad\" id=\"refused\" role=\"alert\"><strong>The token is not accepted.</strong></p>",
        )
    } else {
        ("", "")
    };
    put!(body, "{said}<label for=\"token\">Token</label>");
    put!(
        body,
        "<input type=\"password\" id=\"token\" name=\"token\" required autocomplete=\"current-password\"{invalid}>"
    );
    put!(body, "<button>Sign in</button></form>");
    let mut response = Page { title: "Sign in", part: Part::None, head: String::new(), body }.answer(None);
    if refused {
        *response.status_mut() = axum::http::StatusCode::UNAUTHORIZED;
    }
    response
}

pub async fn sign_in(State(worker): State<Arc<Worker>>, request: Request) -> Result<Response, Problem> {
    let secure = !host(&request).is_some_and(is_loopback);
    let fields = Fields::of_form(request).await?;
    match worker.access.caller(fields.get("token").trim()).await {
        Ok(caller) => {
            let mut response = to("/");
            let cookie = worker.sessions.begin(caller, secure);
            response.headers_mut().insert(SET_COOKIE, value(&cookie));
            Ok(response)
        }
        Err(_) => {
            tokio::time::sleep(DELAY).await;
            Ok(page(true))
        }
    }
}

pub async fn sign_out(
    State(worker): State<Arc<Worker>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Result<Response, Problem> {
    let secure = !host(&request).is_some_and(is_loopback);
    let headers = request.headers().clone();
    Fields::of_form(request).await?.sent_by(&visitor)?;
    let mut response = to("/ui/sign-in");
    response.headers_mut().insert(SET_COOKIE, value(&worker.sessions.end(&headers, secure)));
    Ok(response)
}

/// Cookies are of this program's making: plain.
fn value(cookie: &str) -> HeaderValue {
    HeaderValue::from_str(cookie).unwrap_or(HeaderValue::from_static(""))
}

/// A button that does something; what else it needs stands in `fields`.
pub(super) fn button(visitor: &Visitor, action: &str, words: &str, class: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{action}\" class=\"inline\">{}<button class=\"{class}\">{words}</button></form>",
        token(visitor)
    )
}
