//! Secrets: every enabled version of a project's secrets with their labels and rotation, and files that hold secrets.
//!
//! What is in a secret goes into a sealed object or nowhere. A restore never takes a version away: it makes what is missing,
//! and adds a version where another one is the newest.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::streamed::{
    Cut, ItemFacts, RestoredItem, RestoredSource, Sink, Streamed, StreamedFacts, StreamedRestore, Vault, Wish,
};
use crate::config::SecretsSource;
use crate::google::secrets::{SecretVersion, Secrets as Client};
use crate::manifest::{SecretEntry, SecretsRecord, SourceRecord};
use crate::model::{Failure, Secret};
use crate::plan::Refusal;
use crate::store::collect;

/// A bundle is small: a version holds 64 KiB (<https://cloud.google.com/secret-manager/quotas>).
const MAX_BUNDLE_BYTES: u64 = 64 << 20;
/// A file of secrets that is larger is none.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The label of a secret whose restore has not come to its end.
const RUN_LABEL: &str = "strongroom-run";
/// What of a secret's resource a restore makes anew. (`expireTime` would take the secret away again.)
const KEPT: [&str; 7] =
    ["replication", "labels", "annotations", "topics", "rotation", "versionDestroyTtl", "customerManagedEncryption"];

/// Secrets of one project and files beside it.
pub struct Secrets {
    name: String,
    settings: SecretsSource,
    client: Client,
}

/// All of a secret, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Bundle {
    /// Random: the digest of the bundle tells nothing of what is in it.
    salt: String,
    /// What of the resource is made anew; null for a file.
    resource: Value,
    /// A file's mode bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    /// The newest first; a file has one.
    versions: Vec<Version>,
}

#[derive(Serialize, Deserialize)]
struct Version {
    /// Its number in the project that was backed up.
    version: String,
    created_at: Option<Timestamp>,
    /// Base64.
    payload: String,
}

impl Secrets {
    pub fn new(name: &str, settings: &SecretsSource, client: &Client) -> Self {
        Self { name: name.into(), settings: settings.clone(), client: client.clone() }
    }

    fn origin(&self) -> String {
        format!("projects/{}", self.settings.project)
    }

    /// The resources of the secrets that are meant.
    async fn wanted(&self) -> Result<Vec<Value>, Failure> {
        if self.settings.secrets.is_empty() {
            return Ok(vec![]);
        }
        let mut found = self.client.list(&self.settings.project).await?;
        let settings = &self.settings;
        found.retain(|secret| {
            let id = id(name_of(secret));
            settings.secrets.iter().any(|p| p.matches(id)) && !settings.exclude.iter().any(|p| p.matches(id))
        });
        Ok(found)
    }

    fn parts<'a>(&self, record: &'a SourceRecord) -> Result<&'a SecretsRecord, Failure> {
        match record {
            SourceRecord::Secrets(record) => Ok(record),
            other => Err(Failure::Invalid {
                object: format!("source '{}'", other.name()),
                message: "holds no secrets in the backup".into(),
            }),
        }
    }

    /// Where an entry of the backup goes: a secret into this source's project.
    fn target(&self, entry: &SecretEntry) -> String {
        match entry.version_count {
            Some(_) => format!("{}/secrets/{}", self.origin(), id(&entry.name)),
            None => entry.name.clone(),
        }
    }

    /// The payload that a secret has now; `None` where nothing is enabled.
    async fn newest(&self, secret: &str) -> Result<Option<Secret>, Failure> {
        match enabled(self.client.versions(secret).await?).first() {
            Some(version) => self.client.payload(&version.name).await.map(Some),
            None => Ok(None),
        }
    }

    async fn restore_secret(&self, target: &str, bundle: &Bundle, run: &str) -> Result<Outcome, Failure> {
        let Some(newest) = bundle.versions.first() else { return Ok(Outcome::Same) };
        if self.client.get(target).await?.is_some() {
            let there = self.newest(target).await?;
            if there.is_some_and(|there| there.expose() == newest.payload) {
                return Ok(Outcome::Same);
            }
            self.client.add_payload(target, &Secret::new(newest.payload.clone())).await?;
        } else {
            let mut resource = bundle.resource.clone();
            resource["labels"][RUN_LABEL] = json!(label(run));
            self.client.create_from(target, resource).await?;
            for version in bundle.versions.iter().rev() {
                self.client.add_payload(target, &Secret::new(version.payload.clone())).await?;
            }
            let labels = bundle.resource["labels"].as_object().cloned().unwrap_or_default();
            self.client.set_labels(target, &Value::Object(labels)).await?;
        }
        let there = self.newest(target).await?;
        Ok(if there.is_some_and(|there| there.expose() == newest.payload) {
            Outcome::Restored
        } else {
            Outcome::Differs
        })
    }
}

enum Outcome {
    /// It was there already.
    Same,
    Restored,
    Differs,
}

#[async_trait]
impl Streamed for Secrets {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        let mut facts = StreamedFacts { name: self.name.clone(), origin: self.origin(), ..StreamedFacts::default() };
        for secret in self.wanted().await? {
            let name = name_of(&secret).to_string();
            if enabled(self.client.versions(&name).await?).is_empty() {
                facts.notes.push(format!("{name}: has no enabled version, left out"));
                continue;
            }
            facts.items.push(ItemFacts { name, ..ItemFacts::default() });
        }
        for pattern in self.settings.secrets.iter().filter(|pattern| pattern.is_literal()) {
            let there = |item: &ItemFacts| pattern.matches(id(&item.name));
            if !facts.items.iter().any(there) {
                let object = format!("{}/secrets/{pattern}", self.origin());
                let hint = "create it, enable a version, or correct 'secrets' of the source";
                facts.refusals.push(Refusal::new(object, "there is no such secret with an enabled version", hint));
            }
        }
        for file in &self.settings.files {
            match std::fs::metadata(file) {
                Ok(found) if found.is_file() && found.len() <= MAX_FILE_BYTES => {
                    facts.items.push(ItemFacts { name: file.clone(), ..ItemFacts::default() });
                }
                Ok(_) => facts.refusals.push(Refusal::new(
                    file,
                    format!("is no file of at most {MAX_FILE_BYTES} bytes"),
                    "files that are no secrets belong into a source of kind files",
                )),
                Err(error) => {
                    facts.refusals.push(Refusal::new(file, error.to_string(), "correct 'files' of the source"));
                }
            }
        }
        Ok(facts)
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        let mut secrets = Vec::new();
        for secret in self.wanted().await? {
            let versions = enabled(self.client.versions(name_of(&secret)).await?);
            if !versions.is_empty() {
                secrets.push((secret, versions));
            }
        }
        Ok(Box::new(SecretsCut {
            name: self.name.clone(),
            origin: self.origin(),
            client: self.client.clone(),
            files: self.settings.files.clone(),
            secrets,
            taken_at: now(),
        }))
    }

    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        let record = self.parts(record)?;
        let mut plan = StreamedRestore {
            source: self.name.clone(),
            origin: record.origin.clone(),
            target: self.origin(),
            replaces: false,
            items: vec![],
            notes: vec!["secrets that are there keep their versions; one is added where another is the newest".into()],
        };
        let mut refusals = Vec::new();
        for entry in &record.secrets {
            let target = self.target(entry);
            let there = match entry.version_count {
                Some(_) => self.client.get(&target).await?.is_some(),
                None => Path::new(&target).exists(),
            };
            if there && !wish.replace {
                let hint = "add --replace: a version is added to a secret, a file is replaced; what is the same stays";
                refusals.push(Refusal::new(&target, "is there; a restore never overwrites a secret unasked", hint));
            }
            plan.replaces |= there;
            plan.items.push(ItemFacts { name: target, ..ItemFacts::default() });
        }
        Ok(if refusals.is_empty() { Ok(plan) } else { Err(refusals) })
    }

    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure> {
        let record = self.parts(record)?;
        let mut restored =
            RestoredSource { source: self.name.clone(), target: self.origin(), items: vec![], differences: vec![] };
        for entry in &record.secrets {
            let key = &entry.object.key;
            let bytes = collect(key, vault.read(&entry.object).await?, MAX_BUNDLE_BYTES).await?;
            // (What serde says of a wrong bundle may quote from it.)
            let corrupt = |_| Failure::Corrupt { object: key.clone(), message: "is no bundle of a secret".into() };
            let bundle: Bundle = serde_json::from_slice(&bytes).map_err(corrupt)?;
            let target = self.target(entry);
            let outcome = match entry.version_count {
                Some(_) => self.restore_secret(&target, &bundle, &wish.run).await?,
                None => restore_file(Path::new(&target), &bundle, &wish.run)?,
            };
            if matches!(outcome, Outcome::Differs) {
                restored.differences.push(format!("{target}: its newest version is not the backup's"));
            }
            let proven = Some(!matches!(outcome, Outcome::Differs));
            restored.items.push(RestoredItem { name: target, row_count: None, expected_row_count: None, proven });
        }
        Ok(restored)
    }

    async fn take_back(&self, record: &SourceRecord, wish: &Wish) -> Result<(), Failure> {
        for entry in &self.parts(record)?.secrets {
            let target = self.target(entry);
            if entry.version_count.is_none() {
                match std::fs::remove_file(beside(Path::new(&target), &wish.run)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(local(&target, &error)),
                    _ => continue,
                }
            }
            // One that the run made and did not finish; a version that was added is all there is to it.
            let found = self.client.get(&target).await?;
            if found.is_some_and(|found| found["labels"][RUN_LABEL] == json!(label(&wish.run))) {
                self.client.delete(&target).await?;
            }
        }
        Ok(())
    }
}

/// Which versions are captured.
struct SecretsCut {
    name: String,
    origin: String,
    client: Client,
    files: Vec<String>,
    secrets: Vec<(Value, Vec<SecretVersion>)>,
    taken_at: Timestamp,
}

#[async_trait]
impl Cut for SecretsCut {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure> {
        if !sink.is_sealed() {
            let message = "secrets are stored sealed only; hint: [sealing] recipients, or sealed = true for the tier";
            return Err(Failure::Precondition { object: self.origin, message: message.into() });
        }
        let total = self.secrets.len() + self.files.len();
        let mut secrets = Vec::new();
        for (resource, versions) in &self.secrets {
            let name = name_of(resource).to_string();
            let mut kept = Map::new();
            for key in KEPT {
                if let Some(value) = resource.get(key) {
                    kept.insert(key.into(), value.clone());
                }
            }
            let mut bundle = Bundle { salt: salt(), resource: Value::Object(kept), mode: None, versions: vec![] };
            for version in versions {
                let payload = self.client.payload(&version.name).await?;
                bundle.versions.push(Version {
                    version: id(&version.name).into(),
                    created_at: version.created_at,
                    payload: payload.expose().into(),
                });
            }
            let object = sink.put(&format!("{}.json", id(&name)), bundle.to_bytes(&name)?).await?;
            secrets.push(SecretEntry { name: name.clone(), version_count: Some(versions.len() as u64), object });
            sink.progress(secrets.len(), total, &name);
        }
        for (n, file) in self.files.iter().enumerate() {
            let (bytes, mode) = read_file(Path::new(file))?;
            let version = Version { version: "file".into(), created_at: None, payload: STANDARD.encode(&bytes) };
            let bundle = Bundle { salt: salt(), resource: Value::Null, mode: Some(mode), versions: vec![version] };
            let object = sink.put(&format!("files/{n}.json"), bundle.to_bytes(file)?).await?;
            secrets.push(SecretEntry { name: file.clone(), version_count: None, object });
            sink.progress(secrets.len(), total, file);
        }
        Ok(SourceRecord::Secrets(SecretsRecord {
            name: self.name,
            origin: self.origin,
            taken_at: self.taken_at,
            secrets,
        }))
    }
}

impl Bundle {
    fn to_bytes(&self, name: &str) -> Result<Bytes, Failure> {
        let failed = |_| Failure::Invalid { object: name.into(), message: "cannot be written down".into() };
        serde_json::to_vec(self).map(Bytes::from).map_err(failed)
    }
}

fn read_file(path: &Path) -> Result<(Vec<u8>, u32), Failure> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| local(&name, &error);
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.len() > MAX_FILE_BYTES {
        let message = format!("has more than {MAX_FILE_BYTES} bytes");
        return Err(Failure::Invalid { object: name, message });
    }
    Ok((std::fs::read(path).map_err(failed)?, found.permissions().mode() & 0o7777))
}

/// Written beside, and renamed: a reader sees the old file or the new one.
fn restore_file(path: &Path, bundle: &Bundle, run: &str) -> Result<Outcome, Failure> {
    let name = path.display().to_string();
    let failed = |error: std::io::Error| local(&name, &error);
    let payload = bundle.versions.first().and_then(|version| STANDARD.decode(&version.payload).ok());
    let corrupt = || Failure::Corrupt { object: name.clone(), message: "the bundle holds no payload".into() };
    let payload = payload.ok_or_else(corrupt)?;
    if std::fs::read(path).is_ok_and(|there| there == payload) {
        return Ok(Outcome::Same);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let new = beside(path, run);
    // Nobody else reads it, not for a moment.
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    std::io::Write::write_all(&mut file, &payload).map_err(failed)?;
    // More than its owner's bits are the backup's only where they were there.
    let mode = bundle.mode.unwrap_or(0o600) & 0o777;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    Ok(match std::fs::read(path).map_err(failed)? == payload {
        true => Outcome::Restored,
        false => Outcome::Differs,
    })
}

/// Where a run writes a file before it takes its place.
fn beside(path: &Path, run: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.strongroom-{run}"))
}

fn enabled(versions: Vec<SecretVersion>) -> Vec<SecretVersion> {
    versions.into_iter().filter(|version| version.state == "ENABLED").collect()
}

fn name_of(secret: &Value) -> &str {
    secret["name"].as_str().unwrap_or_default()
}

/// The last part of a name.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A run's id as a label's value: small letters, at most 63 of them.
fn label(run: &str) -> String {
    run.to_lowercase().chars().take(63).collect()
}

fn salt() -> String {
    STANDARD.encode(rand::random::<[u8; 32]>())
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

fn local(object: &str, error: &std::io::Error) -> Failure {
    let object = object.to_string();
    let message = error.to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::NotFound { object, message },
        std::io::ErrorKind::PermissionDenied => Failure::Denied { object, message },
        _ => Failure::Transient { object, message },
    }
}
