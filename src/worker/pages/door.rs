//! Who may come in by a browser, and which forms are ours.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::Worker;
use super::super::audit::Line;
use super::super::problem::Problem;
use super::super::routes::{Began, as_problem};
use super::super::session::Visitor;

/// Whether a path is one of the dashboard's.
pub fn is_page(path: &str) -> bool {
    path == "/" || path == "/ui" || path.starts_with("/ui/")
}

/// What is shown before anybody signs in.
fn is_public(path: &str) -> bool {
    matches!(path, "/ui/sign-in" | "/ui/style.css" | "/ui/live.js")
}

/// Who looks is found out before anything else, and what came of it is written down.
pub async fn enter(worker: &Arc<Worker>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let looks = matches!(method, Method::GET | Method::HEAD);
    let visitor = visitor(worker, request.headers()).await;
    let known = visitor.as_ref().ok().cloned();
    let response = if worker.access.is_open() && !host(&request).is_some_and(is_loopback) {
        // Another site could give its own name this machine's address, and read what it is not asked about.
        Problem::forbidden(
            "nobody is asked who they are here, so pages are shown under a name of this machine only; \
             hint: http://localhost and the port, or give [[worker.token]]",
        )
        .into_response()
    } else if !looks && !is_same_origin(&request) {
        Problem::forbidden("forms of other sites are refused; hint: open the dashboard itself").into_response()
    } else {
        match visitor {
            Ok(visitor) => {
                request.extensions_mut().insert(visitor);
                next.run(request).await
            }
            Err(_) if is_public(&path) => next.run(request).await,
            Err(_) if looks => super::to("/ui/sign-in"),
            Err(problem) => problem.into_response(),
        }
    };
    let mut response = as_problem(response).await;
    if let Some(problem) = response.extensions().get::<Problem>().cloned() {
        response = super::problem_page(&problem, known.as_ref());
    }
    let status = response.status().as_u16();
    let operation = response.extensions().get::<Began>().map(|began| began.0.clone());
    let who = known.map_or_else(|| "unknown".to_string(), |visitor| visitor.caller.name);
    let changes = !looks || status == 403;
    let line = Line { at: worker.context.now(), who, method: method.to_string(), path, status, operation };
    worker.audit.line(line, changes);
    super::guarded(response)
}

/// By a session; or by a bearer token, for those who read pages by a program.
async fn visitor(worker: &Worker, headers: &HeaderMap) -> Result<Visitor, Problem> {
    if !worker.access.is_open()
        && let Some(visitor) = worker.sessions.of(headers)
    {
        return Ok(visitor);
    }
    worker.access.who(headers).await.map(|caller| worker.sessions.without(caller))
}

/// The host that was called, with its port.
pub fn host(request: &Request) -> Option<&str> {
    let named = request.headers().get("host").and_then(|value| value.to_str().ok());
    // HTTP/2 has it in the address.
    named.or_else(|| request.uri().authority().map(|authority| authority.as_str()))
}

pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    let name = name.unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a form was sent by a page of this worker: browsers say so in `Sec-Fetch-Site`, older ones and those without TLS by
/// `Origin`. What says neither is no browser, and has the API.
fn is_same_origin(request: &Request) -> bool {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let of = origin.split_once("://").map(|(_, host)| host);
            of.is_some() && of == host(request)
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn forms_of_other_sites_are_told_apart() {
        for (headers, ours) in [
            (&[][..], false),
            (&[("origin", "https://b.example:1")], true),
            (&[("origin", "https://b.example")], false),
            (&[("origin", "https://b.example:1.evil.example")], false),
            (&[("origin", "null")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "https://b.example:1")], true),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://b.example:1")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
        ] {
            let mut request = Request::builder().method("POST").uri("/ui/restore").header("host", "b.example:1");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            assert_eq!(is_same_origin(&request.body(Body::empty()).unwrap()), ours, "{headers:?}");
        }
    }

    #[test]
    fn names_of_this_machine_are_known() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "localhost.evil.example", "evil.example:8000", "10.0.0.1", "[::2]", "127.0.0.1.evil.example"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
