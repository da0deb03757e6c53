//! Secret Manager v1, by REST: Google's crate is not worth its build for a handful of calls. Payloads are `Secret`s: they
//! are sent and read, never shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rest::{Call, Rest, check_advances};
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

    /// The whole resources of a project's secrets, in the order of their names.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn list(&self, project: &str) -> Result<Vec<Value>, Failure> {
        let parent = format!("projects/{project}");
        let mut path = path(&parent);
        path.push("secrets");
        let mut found = self.pages(&format!("secrets of {parent}"), &path, "secrets").await?;
        found.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        Ok(found)
    }

    /// The whole resource of `projects/P/secrets/S`; `None` when there is none.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn get(&self, name: &str) -> Result<Option<Value>, Failure> {
        match self.rest.call(&Call::get(object(name), &path(name))).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a secret's labels.
    ///
    /// # Errors
    /// As mapped by `error.rs`.
    pub async fn set_labels(&self, name: &str, labels: &Value) -> Result<(), Failure> {
        let call = Call::patch(object(name), &path(name), json!({"labels": labels})).query("updateMask", "labels");
        self.rest.call(&call).await.map(drop)
    }

    /// Creates `projects/P/secrets/S`, which holds nothing yet.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn create(&self, name: &str, labels: Value) -> Result<(), Failure> {
        self.create_from(name, json!({"replication": {"automatic": {}}, "labels": labels})).await
    }

    /// Creates a secret by its resource, whose labels must be its own: by them a lost reply is told apart from another's secret.
    ///
    /// # Errors
    /// `Exists`, and as mapped by `error.rs`.
    pub async fn create_from(&self, name: &str, body: Value) -> Result<(), Failure> {
        let (parent, id) = name.rsplit_once("/secrets/").unwrap_or((name, ""));
        let mut path = path(parent);
        path.push("secrets");
        let labels = body["labels"].clone();
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

    /// Stores a text as a new version and gives the version's name.
    ///
    /// # Errors
    /// As mapped by `error.rs`; `Unknown` when no answer came and the version is not there: it is not sent twice.
    pub async fn add_version(&self, name: &str, payload: &Secret) -> Result<String, Failure> {
        self.add_payload(name, &Secret::new(STANDARD.encode(payload.expose()))).await
    }

    /// Stores a payload, given in Base64, as a new version and gives the version's name.
    ///
    /// # Errors
    /// `Invalid` for what is no Base64; as [`Self::add_version`].
    pub async fn add_payload(&self, name: &str, payload: &Secret) -> Result<String, Failure> {
        let invalid = |_| Failure::Invalid { object: object(name), message: "the payload is no Base64".into() };
        let crc32c = crc32c::crc32c(&STANDARD.decode(payload.expose()).map_err(invalid)?);
        let body = json!({"payload": {"data": payload.expose(), "dataCrc32c": crc32c.to_string()}});
        let call = Call::post(object(name), &path(&format!("{name}:addVersion")), Effect::Once, body);
        let answer = match self.rest.call(&call).await {
            Ok(answer) => answer,
            // The reply was lost: the newest version is ours when it holds what was sent.
            Err(unknown @ Failure::Unknown { .. }) => {
                let Some(newest) = self.versions(name).await?.into_iter().next() else { return Err(unknown) };
                return match self.payload(&newest.name).await {
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
        let payload = self.payload(version).await?;
        let corrupt = || Failure::Corrupt { object: object(version), message: "the payload is no text".into() };
        let bytes = STANDARD.decode(payload.expose()).ok();
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).map(Secret::new).ok_or_else(corrupt)
    }

    /// The payload of a version in Base64, checked against the checksum that comes with it.
    ///
    /// # Errors
    /// `Precondition` for one that is disabled, `Corrupt`, and as mapped by `error.rs`.
    pub async fn payload(&self, version: &str) -> Result<Secret, Failure> {
        let answer = self.rest.call(&Call::get(object(version), &path(&format!("{version}:access")))).await?;
        let corrupt = |message: &str| Failure::Corrupt { object: object(version), message: message.into() };
        let text = answer["payload"]["data"].as_str().unwrap_or_default();
        let bytes = STANDARD.decode(text).map_err(|_| corrupt("the payload is no Base64"))?;
        let expected = answer["payload"]["dataCrc32c"].as_str().and_then(|crc32c| crc32c.parse::<u32>().ok());
        if expected.is_some_and(|expected| expected != crc32c::crc32c(&bytes)) {
            return Err(corrupt("the payload changed on its way"));
        }
        Ok(Secret::new(text.to_string()))
    }

    /// The versions of a secret, the newest first.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn versions(&self, name: &str) -> Result<Vec<SecretVersion>, Failure> {
        let mut path = path(name);
        path.push("versions");
        let found = self.pages(&object(name), &path, "versions").await?;
        let version = |version: &Value| SecretVersion {
            name: version["name"].as_str().unwrap_or_default().into(),
            state: version["state"].as_str().unwrap_or_default().into(),
            created_at: version["createTime"].as_str().and_then(|text| text.parse().ok()),
        };
        Ok(found.iter().map(version).collect())
    }

    /// Every entry of a list, page by page.
    async fn pages(&self, object: &str, path: &[&str], key: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let call = Call::get(object, path).query("pageSize", 250).query_if("pageToken", token.as_ref());
            let answer = self.rest.call(&call).await?;
            all.extend(answer[key].as_array().into_iter().flatten().cloned());
            let next = answer["nextPageToken"].as_str().filter(|next| !next.is_empty());
            check_advances(object, token.as_deref(), next)?;
            match next {
                Some(next) => token = Some(next.into()),
                None => return Ok(all),
            }
        }
    }
}

fn object(name: &str) -> String {
    format!("secret {name}")
}

fn path(name: &str) -> Vec<&str> {
    std::iter::once("v1").chain(name.split('/')).collect()
}
