//! Cloud Run services (Admin API v2), by REST: Google's crate is not worth its build for four calls. Also calls what a
//! service answers at its own address. Does not know why.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::rest::{Call, Rest};
use super::retry::{self, Effect};
use crate::model::Failure;

/// How long a deployment may take.
const DEPLOYMENT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(500);

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct CloudRun {
    rest: Rest,
    /// Identity tokens for calls to services.
    tokens: Rest,
}

impl CloudRun {
    pub(crate) fn new(rest: Rest, tokens: Rest) -> Self {
        Self { rest, tokens }
    }

    /// The whole resource of `projects/P/locations/L/services/S`.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get_service(&self, name: &str) -> Result<Value, Failure> {
        self.rest.call(&Call::get(object(name), &path(name))).await
    }

    /// Creates a service and waits until it serves.
    ///
    /// # Errors
    /// `Exists`; `Invalid` when the deployment fails; `Unknown` when it does not end.
    pub async fn create_service(&self, name: &str, resource: Value) -> Result<Value, Failure> {
        let (parent, id) = name.rsplit_once("/services/").unwrap_or((name, ""));
        let mut path = path(parent);
        path.push("services");
        let call = Call::post(object(name), &path, Effect::Idempotent, resource).query("serviceId", id);
        self.rest.create(&call).await?;
        self.settled(name).await
    }

    /// Deploys a new revision from the service's template, even if nothing changed, and waits until it serves.
    ///
    /// # Errors
    /// `Invalid` when the deployment fails; `Unknown` when it does not end.
    pub async fn redeploy_service(&self, name: &str, service: &Value) -> Result<Value, Failure> {
        let body = json!({"template": service["template"]});
        let call = Call::patch(object(name), &path(name), body)
            .query("updateMask", "template")
            .query("forceNewRevision", true);
        self.rest.call(&call).await?;
        self.settled(name).await
    }

    /// Deletes a service; none is as good.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn delete_service(&self, name: &str) -> Result<(), Failure> {
        match self.rest.call(&Call::delete(object(name), &path(name))).await {
            Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits for a deployment: what the service says of itself counts, not the operation.
    async fn settled(&self, name: &str) -> Result<Value, Failure> {
        let begin = std::time::Instant::now();
        loop {
            let service = self.get_service(name).await?;
            let condition = &service["terminalCondition"];
            let observed = service["observedGeneration"] == service["generation"];
            match condition["state"].as_str() {
                Some("CONDITION_SUCCEEDED") if observed => return Ok(service),
                Some("CONDITION_FAILED") if observed => {
                    let message = condition["message"].as_str().unwrap_or("the deployment failed").to_string();
                    return Err(Failure::Invalid { object: object(name), message });
                }
                _ if begin.elapsed() > DEPLOYMENT => {
                    let message = format!("is not deployed after {} s", DEPLOYMENT.as_secs());
                    return Err(Failure::Unknown { object: object(name), message });
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Calls a path of a service at its own address: GET, or POST with a body. Gives the status and the answer's text.
    ///
    /// `caller` is the service account in whose name it is called, where the service asks who calls.
    ///
    /// # Errors
    /// `Transient` or `Unknown` when nothing answers; every status is an answer.
    pub async fn call_service(
        &self,
        service: &Value,
        path: &str,
        body: Option<&str>,
        caller: Option<&str>,
    ) -> Result<(u16, String), Failure> {
        let uri = service["uri"].as_str().unwrap_or_default();
        let about = format!("{uri}{path}");
        let invalid = |message: String| Failure::Invalid { object: about.clone(), message };
        let url = format!("{}{path}", uri.trim_end_matches('/'))
            .parse()
            .map_err(|_| invalid("the service has no address".into()))?;
        let mut headers = Vec::new();
        if let Some(caller) = caller {
            headers.push(("authorization", format!("Bearer {}", self.identity_token(caller, uri).await?)));
        }
        let method = if body.is_some() { http::Method::POST } else { http::Method::GET };
        if body.is_some() {
            headers.push(("content-type", "application/json".to_string()));
        }
        // Asking is repeated; what a service does when it is told something is its own matter.
        let effect = if body.is_some() { Effect::Once } else { Effect::Read };
        let body = Bytes::from(body.unwrap_or_default().to_string());
        let answer = retry::run(&self.rest.retry, &about, effect, |_| {
            self.rest.raw(&about, method.clone(), &url, &headers, body.clone())
        })
        .await?;
        Ok((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// A token that tells a service who calls
    /// (<https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateIdToken>).
    async fn identity_token(&self, account: &str, audience: &str) -> Result<String, Failure> {
        let last = format!("{account}:generateIdToken");
        let path = ["v1", "projects", "-", "serviceAccounts", &last];
        let about = format!("identity token of {account}");
        let body = json!({"audience": audience, "includeEmail": true});
        let answer = self.tokens.call(&Call::post(&about, &path, Effect::Read, body)).await?;
        let missing = || Failure::Corrupt { object: about.clone(), message: "the answer holds no token".into() };
        answer["token"].as_str().map(String::from).ok_or_else(missing)
    }
}

fn object(name: &str) -> String {
    format!("Cloud Run service {name}")
}

fn path(name: &str) -> Vec<&str> {
    std::iter::once("v2").chain(name.split('/')).collect()
}

pub(super) const HOST: &str = "https://run.googleapis.com";
pub(super) const TOKENS_HOST: &str = "https://iamcredentials.googleapis.com";
