//! Secret Manager v1, by REST: Google's crate is not worth its build for a handful of calls. Payloads are `Secret`s: they
//! are sent and read, never shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rest::{Call, Rest};
use super::retry::Effect;
use crate::model::{Failure, Secret};

pub(super) const HOST: &str = "https://secretmanager.googleapis.com";

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    rest: Rest,
}

/// A version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretVersion {
    /// `projects/P/secrets/S/versions/N`.
    pub name: String,
    /// `ENABLED`, `DISABLED` or `DESTROYED`.
    pub state: String,
    pub created_at: Option<jiff::Timestamp>,
}

impl Secrets {
    pub(crate) fn new(rest: Rest) -> Self {
        Self { rest }
    }

    /// Creates `projects/P/secrets/S`, which holds nothing yet.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn create(&self, name: &str, labels: Value) -> Result<(), Failure> {
        let (parent, id) = name.rsplit_once("/secrets/").unwrap_or((name, ""));
        let mut path = path(parent);
        path.push("secrets");
        let body = json!({"replication": {"automatic": {}}, "labels": labels.clone()});
        let call = Call::post(object(name), &path, Effect::Idempotent, body).query("secretId", id);
        if self.rest.create(&call).await?.is_some() {
            return Ok(());
        }
        // After a lost reply: one with these labels is our own work.
        let found = self.rest.call(&Call::get(object(name), &self::path(name))).await?;
        if found["labels"] == labels {
            return Ok(());
        }
        Err(Failure::Exists { object: object(name), message: "there is a secret of this name".into() })
    }

    /// Deletes a secret with all its versions; none is as good.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        match self.rest.call(&Call::delete(object(name), &path(name))).await {
            Ok(_) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Stores a new version and gives its name.
    ///
    /// # Errors
    /// As mapped by `error.rs`; `Unknown` when no answer came and the version is not there: it is not sent twice.
    pub async fn add_version(&self, name: &str, payload: &Secret) -> Result<String, Failure> {
        let bytes = payload.expose().as_bytes();
        let body =
            json!({"payload": {"data": STANDARD.encode(bytes), "dataCrc32c": crc32c::crc32c(bytes).to_string()}});
        let call = Call::post(object(name), &path(&format!("{name}:addVersion")), Effect::Once, body);
        let answer = match self.rest.call(&call).await {
            Ok(answer) => answer,
            // The reply was lost: the newest version is ours when it holds what was sent.
            Err(unknown @ Failure::Unknown { .. }) => {
                let Some(newest) = self.versions(name).await?.into_iter().next() else { return Err(unknown) };
                return match self.access(&newest.name).await {
                    Ok(found) if found.expose() == payload.expose() => Ok(newest.name),
                    _ => Err(unknown),
                };
            }
            Err(failure) => return Err(failure),
        };
        let missing = || Failure::Corrupt { object: object(name), message: "the answer names no version".into() };
        answer["name"].as_str().map(String::from).ok_or_else(missing)
    }

    /// Makes a version unusable; it can be enabled again.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn disable_version(&self, version: &str) -> Result<(), Failure> {
        let call = Call::post(object(version), &path(&format!("{version}:disable")), Effect::Idempotent, json!({}));
        self.rest.call(&call).await.map(drop)
    }

    /// The payload of a version, or of `projects/P/secrets/S/versions/latest`.
    ///
    /// # Errors
    /// `Precondition` for one that is disabled, and as mapped by `error.rs`.
    pub async fn access(&self, version: &str) -> Result<Secret, Failure> {
        let answer = self.rest.call(&Call::get(object(version), &path(&format!("{version}:access")))).await?;
        let corrupt = || Failure::Corrupt { object: object(version), message: "the payload is no text".into() };
        let bytes = answer["payload"]["data"].as_str().and_then(|text| STANDARD.decode(text).ok());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new).ok_or_else(corrupt)
    }

    /// The versions of a secret, the newest first; at most the newest 100.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn versions(&self, name: &str) -> Result<Vec<SecretVersion>, Failure> {
        let mut path = path(name);
        path.push("versions");
        let answer = self.rest.call(&Call::get(object(name), &path).query("pageSize", 100)).await?;
        let version = |version: &Value| SecretVersion {
            name: version["name"].as_str().unwrap_or_default().into(),
            state: version["state"].as_str().unwrap_or_default().into(),
            created_at: version["createTime"].as_str().and_then(|text| text.parse().ok()),
        };
        Ok(answer["versions"].as_array().into_iter().flatten().map(version).collect())
    }
}

fn object(name: &str) -> String {
    format!("secret {name}")
}

fn path(name: &str) -> Vec<&str> {
    std::iter::once("v1").chain(name.split('/')).collect()
}
