//! The metadata server of Google's machines and an OAuth token endpoint: enough for clients that insist on credentials.
//! Access tokens prove nothing and nobody looks at them; identity tokens are signed (`identity.rs`).

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::core::http::{header, ok};
use crate::core::{ApiError, Params, Sandbox};

const LIFE_S: i64 = 3600;
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Answers `/computeMetadata/v1/...`.
///
/// # Errors
/// 403 without the header that Google demands, 404 for an unknown path.
pub fn serve(sandbox: &Arc<Sandbox>, request: &Request) -> Result<Response, ApiError> {
    let path = request.uri().path().trim_end_matches('/');
    if header(request.headers(), "metadata-flavor") != Some("Google") {
        return Err(ApiError::forbidden("forbidden", "Missing Metadata-Flavor:Google header."));
    }
    let project = &sandbox.options.project;
    let email = format!("sandbox@{project}.iam.gserviceaccount.com");
    let number = crate::storage::project_number(project);
    let params = Params::of(request.uri());
    let rest = path.trim_start_matches("/computeMetadata").trim_start_matches("/v1").trim_start_matches('/');
    let account = rest
        .strip_prefix("instance/service-accounts/")
        .and_then(|r| r.strip_prefix("default").or_else(|| r.strip_prefix(email.as_str())))
        .map(|r| r.trim_start_matches('/'));
    let text = match (rest, account) {
        ("", _) => "instance/\nproject/\n".to_string(),
        ("project/project-id", _) => project.clone(),
        ("project/numeric-project-id", _) => number.to_string(),
        ("instance/region", _) => format!("projects/{number}/regions/us-central1"),
        ("instance/zone", _) => format!("projects/{number}/zones/us-central1-1"),
        ("instance/id", _) => number.to_string(),
        ("universe/universe-domain", _) => "googleapis.com".into(),
        ("instance/service-accounts", _) => format!("default/\n{email}/\n"),
        (_, Some("")) => {
            return Ok(flavoured(ok(json!({ "aliases": ["default"], "email": email, "scopes": [SCOPE] }))));
        }
        (_, Some("email")) => email,
        (_, Some("aliases")) => "default\n".into(),
        (_, Some("scopes")) => format!("{SCOPE}\n"),
        (_, Some("token")) => return Ok(flavoured(ok(token(sandbox)))),
        (_, Some("identity")) => {
            let audience =
                params.get("audience").ok_or_else(|| ApiError::invalid("non-empty audience parameter required"))?;
            crate::identity::token(sandbox, &email, audience)?
        }
        _ => return Err(ApiError::not_found(format!("the sandbox's metadata server has no {path}"))),
    };
    Ok(flavoured(text.into_response()))
}

/// Answers `POST /token`, whatever the grant.
///
/// # Errors
/// 404 for another method.
pub fn oauth(sandbox: &Arc<Sandbox>, request: &Request) -> Result<Response, ApiError> {
    if request.method() == Method::POST { Ok(ok(token(sandbox))) } else { Err(ApiError::not_found("no such path")) }
}

fn token(sandbox: &Sandbox) -> Value {
    let token = format!("sandbox-{:x}", sandbox.clock.unique_us());
    json!({ "access_token": token, "expires_in": LIFE_S, "token_type": "Bearer" })
}

/// Clients tell a metadata server from any other by this header.
fn flavoured(mut response: Response) -> Response {
    let name = HeaderName::from_static("metadata-flavor");
    response.headers_mut().insert(name, HeaderValue::from_static("Google"));
    response
}
