//! Stores in S3 and in Azure Blob Storage, on the `object_store` crate. What the two have in common; what differs is a
//! [`Service`] (`s3.rs`, `azure.rs`).
//!
//! A version is an ETag and the number of the write, which every object carries in its metadata: S3 gives the same bytes
//! the same ETag, and a write whose answer was lost knows itself by its number.

mod azure;
mod failure;
mod read;
mod s3;
mod wire;
mod write;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use object_store::client::{HttpClient, HttpRequest};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ListResult, ObjectMeta, ObjectStore};

use super::{ByteStream, MAX_GET_BYTES, ObjectInfo, Site, Store, Version, changed, collect, exists, key, not_found};
use crate::model::Failure;
pub use azure::{AzureCredentials, AzureSettings};
pub use s3::{S3Credentials, S3Settings};

/// How long a call may take, and a stream bring nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub call: Duration,
    pub progress: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { call: Duration::from_secs(120), progress: Duration::from_secs(60) }
    }
}

/// What differs between the services.
#[async_trait]
trait Service: Debug + Send + Sync {
    fn objects(&self) -> &dyn ObjectStore;

    fn lists(&self) -> &dyn PaginatedListStore;

    fn client(&self) -> &HttpClient;

    /// The request that deletes one object, under an ETag if one is given: the crate deletes in bulk, without conditions.
    async fn deletion(&self, path: &Path, e_tag: Option<&str>) -> Result<HttpRequest, Failure>;
}

/// A bucket or container, and a prefix. Cheap to clone.
#[derive(Clone)]
pub struct CloudStore {
    service: Arc<dyn Service>,
    /// `s3://bucket/` or `az://container/`.
    root: String,
    /// Empty, or ends with `/`.
    prefix: String,
    location: String,
    timeouts: Timeouts,
}

/// The metadata key of a write's number. Azure allows what a C# identifier may be.
const WRITE: &str = "strongroomwrite";
/// More pages than any vault has: a service that gives no end is told.
const MAX_PAGES: usize = 100_000;

/// An object as it was seen.
#[derive(Debug, Clone)]
struct Seen {
    size_bytes: u64,
    e_tag: String,
    write: Option<String>,
    updated: Timestamp,
}

impl Seen {
    fn of(meta: &ObjectMeta, attributes: &object_store::Attributes) -> Self {
        Self {
            size_bytes: meta.size,
            e_tag: meta.e_tag.clone().unwrap_or_default(),
            write: attributes.get(&Attribute::Metadata(WRITE.into())).map(|value| value.as_ref().to_string()),
            updated: time(meta),
        }
    }

    fn version(&self) -> Version {
        version(&self.e_tag, self.write.as_deref())
    }

    /// Whether this is what a version tells of; one out of a list has no number of a write.
    fn is(&self, version: &Version) -> bool {
        let (e_tag, write) = version.0.split_once(' ').map_or((version.0.as_str(), None), |(e, w)| (e, Some(w)));
        self.e_tag == e_tag && (write.is_none() || self.write.as_deref() == write)
    }
}

fn version(e_tag: &str, write: Option<&str>) -> Version {
    Version(write.map_or(e_tag.to_string(), |write| format!("{e_tag} {write}")))
}

fn time(meta: &ObjectMeta) -> Timestamp {
    Timestamp::from_millisecond(meta.last_modified.timestamp_millis()).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl CloudStore {
    fn new(
        service: Arc<dyn Service>,
        root: String,
        prefix: &str,
        location: String,
        timeouts: Timeouts,
    ) -> Result<Self, Failure> {
        let prefix = prefix.trim_matches('/');
        key::check_prefix(prefix)?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { service, root, prefix, location, timeouts })
    }

    fn path(&self, key: &str) -> Result<Path, Failure> {
        key::check(key)?;
        let name = format!("{}{key}", self.prefix);
        let invalid = |error: object_store::path::Error| Failure::Invalid {
            object: format!("key '{}'", key.escape_default()),
            message: error.to_string(),
        };
        Path::parse(name).map_err(invalid)
    }

    fn name(&self, key: &str) -> String {
        format!("{}{}{key}", self.root, self.prefix)
    }

    /// What lies there; `None` also when the bucket is missing.
    async fn look(&self, key: &str) -> Result<Option<Seen>, Failure> {
        let path = self.path(key)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.service.objects().get_opts(&path, options).await {
            Ok(found) => Ok(Some(Seen::of(&found.meta, &found.attributes))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failure::of_read(&self.name(key), &error)),
        }
    }

    /// One page, and what leads to the next.
    async fn page(
        &self,
        prefix: &str,
        delimiter: bool,
        token: Option<String>,
        max_keys: Option<usize>,
    ) -> Result<(ListResult, Option<String>), Failure> {
        let prefix = format!("{}{prefix}", self.prefix);
        let options = PaginatedListOptions {
            delimiter: delimiter.then(|| "/".into()),
            page_token: token,
            max_keys,
            ..PaginatedListOptions::default()
        };
        let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let page = tokio::time::timeout(self.timeouts.call, self.service.lists().list_paginated(prefix, options)).await;
        let name = || self.describe();
        match page {
            Ok(Ok(page)) => Ok((page.result, page.page_token)),
            Ok(Err(error)) => Err(failure::of_read(&name(), &error)),
            Err(_) => Err(Failure::Transient { object: name(), message: "a list was not answered in time".into() }),
        }
    }

    /// Every page of a list.
    async fn pages(
        &self,
        prefix: &str,
        delimiter: bool,
        mut take: impl FnMut(ListResult) + Send,
    ) -> Result<(), Failure> {
        key::check_prefix(prefix)?;
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let (page, next) = self.page(prefix, delimiter, token.clone(), None).await?;
            take(page);
            match next {
                None => return Ok(()),
                Some(next) if token.as_ref() == Some(&next) => break,
                Some(next) => token = Some(next),
            }
        }
        let message = "the service gives the same page of a list again and again".into();
        Err(Failure::Corrupt { object: self.describe(), message })
    }

    fn info(&self, key: &str, seen: &Seen) -> ObjectInfo {
        let (size_bytes, version) = (seen.size_bytes, seen.version());
        ObjectInfo { key: key.into(), size_bytes, version, crc32c: None, updated: seen.updated }
    }
}

#[async_trait]
impl Store for CloudStore {
    fn describe(&self) -> String {
        format!("{}{}", self.root, self.prefix).trim_end_matches('/').to_string()
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        match self.page("", false, None, Some(1)).await {
            Err(Failure::NotFound { .. }) => Ok(None),
            // Who may write need not be one who may list.
            Ok(_) | Err(Failure::Denied { .. }) => {
                Ok(Some(Site { location: self.location.clone(), retention_locked: false }))
            }
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        let (seen, stream) = read::open(self, key, None).await?;
        if seen.size_bytes > MAX_GET_BYTES {
            let message = format!("larger than the {MAX_GET_BYTES} bytes that are read in one piece");
            return Err(Failure::Invalid { object: self.name(key), message });
        }
        Ok((collect(&self.name(key), stream, MAX_GET_BYTES).await?, seen.version()))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        // An empty range, or one beyond the end, is no range in HTTP.
        let seen = self.look(key).await?.ok_or_else(|| not_found(self.name(key)))?;
        let range = range.start..range.end.min(seen.size_bytes);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        if range.end - range.start > MAX_GET_BYTES {
            let message = format!("larger than the {MAX_GET_BYTES} bytes that are read in one piece");
            return Err(Failure::Invalid { object: self.name(key), message });
        }
        let (_, stream) = read::open(self, key, Some((seen, range))).await?;
        collect(&self.name(key), stream, MAX_GET_BYTES).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        if let Some(seen) = self.look(key).await? {
            return Ok(Some(self.info(key, &seen)));
        }
        // A missing bucket is no missing object.
        match self.page(key, false, None, Some(1)).await {
            Ok(_) | Err(Failure::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        write::create(self, key, bytes).await
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        write::replace(self, key, bytes, version).await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        write::put(self, key, bytes).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        Ok(read::open(self, key, None).await?.1)
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        write::stream(self, key, stream).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        let mut found = Vec::new();
        self.pages(prefix, false, |page| {
            for meta in page.objects {
                // Objects that are no keys ("folder/" placeholders) were not put here by a store.
                let Some(key) = meta.location.as_ref().strip_prefix(&self.prefix) else { continue };
                if key::check(key).is_ok() && key.starts_with(prefix) {
                    let e_tag = meta.e_tag.clone().unwrap_or_default();
                    let (size_bytes, updated) = (meta.size, time(&meta));
                    let version = version(&e_tag, None);
                    found.push(ObjectInfo { key: key.into(), size_bytes, version, crc32c: None, updated });
                }
            }
        })
        .await?;
        // The crate (0.13) leaves out of Azure's lists what is called exactly as the prefix.
        if key::check(prefix).is_ok()
            && !found.iter().any(|info| info.key == prefix)
            && let Some(seen) = self.look(prefix).await?
        {
            found.push(self.info(prefix, &seen));
        }
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        self.pages(prefix, true, |page| {
            for path in page.common_prefixes {
                let Some(key) = path.as_ref().strip_prefix(&self.prefix) else { continue };
                if key::check(key).is_ok() && key.starts_with(prefix) {
                    found.push(format!("{key}/"));
                }
            }
        })
        .await?;
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        let seen = self.look(key).await?.ok_or_else(|| not_found(self.name(key)))?;
        if !seen.is(version) {
            return Err(changed(self.name(key)));
        }
        match wire::delete(self, key, Some(&seen.e_tag)).await {
            Err(Failure::Precondition { .. }) => Err(changed(self.name(key))),
            outcome => outcome,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        match wire::delete(self, key, None).await {
            Err(Failure::NotFound { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}
