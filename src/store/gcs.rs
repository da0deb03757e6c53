//! A store in a bucket of Cloud Storage, under a prefix. A version is the object's generation.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;

use super::{ByteStream, MAX_GET_BYTES, ObjectInfo, Site, Store, Version, changed, collect, exists, key};
use crate::google::Storage;
use crate::google::storage::{ListOptions, Object, WriteOptions};
use crate::model::Failure;

/// A bucket and a prefix. Cheap to clone.
#[derive(Clone)]
pub struct GcsStore {
    storage: Storage,
    bucket: String,
    /// Empty, or ends with `/`.
    prefix: String,
}

impl GcsStore {
    /// # Errors
    /// `Invalid` for a prefix that is none.
    pub fn new(storage: Storage, bucket: &str, prefix: &str) -> Result<Self, Failure> {
        let prefix = prefix.trim_matches('/');
        key::check_prefix(prefix)?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { storage, bucket: bucket.into(), prefix })
    }

    fn object(&self, key: &str) -> Result<String, Failure> {
        key::check(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    fn name(&self, key: &str) -> String {
        format!("gs://{}/{}{key}", self.bucket, self.prefix)
    }

    fn info(&self, object: Object) -> ObjectInfo {
        ObjectInfo {
            key: object.name.strip_prefix(&self.prefix).unwrap_or(&object.name).to_string(),
            size_bytes: object.size_bytes,
            version: version(object.generation),
            crc32c: object.crc32c,
            updated: object.updated,
        }
    }

    async fn write(&self, key: &str, bytes: Bytes, generation: Option<i64>) -> Result<Version, Failure> {
        let options = WriteOptions { if_generation_match: generation, ..WriteOptions::default() };
        let written = self.storage.write_bytes(&self.bucket, &self.object(key)?, bytes, &options).await?;
        Ok(version(written.generation))
    }

    /// The number inside a version; one that is none never matches.
    fn generation(&self, key: &str, version: &Version) -> Result<i64, Failure> {
        version.0.parse().ok().filter(|number| *number > 0).ok_or_else(|| changed(self.name(key)))
    }
}

fn version(generation: i64) -> Version {
    Version(generation.to_string())
}

#[async_trait]
impl Store for GcsStore {
    fn describe(&self) -> String {
        format!("gs://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_string()
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        match self.storage.get_bucket(&self.bucket).await {
            Ok(bucket) => {
                let retention_locked = bucket.retention.is_some_and(|policy| policy.locked);
                Ok(Some(Site { location: bucket.location, retention_locked }))
            }
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        let name = self.object(key)?;
        let (bytes, generation) = self.storage.read_all(&self.bucket, &name, None, MAX_GET_BYTES).await?;
        Ok((bytes, version(generation)))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let name = self.object(key)?;
        // An empty range, or one beyond the end, is no range in HTTP.
        let object = self.storage.get_object(&self.bucket, &name, None).await?;
        let range = range.start..range.end.min(object.size_bytes);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let stream = self.storage.read_range(&self.bucket, &name, Some(object.generation), range).await?;
        collect(&self.name(key), stream, MAX_GET_BYTES).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        match self.storage.get_object(&self.bucket, &self.object(key)?, None).await {
            Ok(object) => Ok(Some(self.info(object))),
            // A missing bucket is no missing object.
            Err(Failure::NotFound { .. }) => self
                .storage
                .get_bucket(&self.bucket)
                .await
                .map(|_| None)
                .or_else(|failure| if matches!(failure, Failure::Denied { .. }) { Ok(None) } else { Err(failure) }),
            Err(failure) => Err(failure),
        }
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.write(key, bytes, Some(0)).await.map_err(|failure| self.absent_failure(key, failure))
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        key::check(key)?;
        let generation = self.generation(key, version)?;
        match self.write(key, bytes, Some(generation)).await {
            // The service says 412 for another generation, and 404 where there is none.
            Err(Failure::NotFound { .. }) if self.head(key).await?.is_none() => Err(changed(self.name(key))),
            result => result,
        }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.write(key, bytes, None).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        Ok(self.storage.read_stream(&self.bucket, &self.object(key)?, None).await?.0)
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        let options = WriteOptions { if_generation_match: Some(0), ..WriteOptions::default() };
        let written = self.storage.write_stream(&self.bucket, &self.object(key)?, stream, &options).await;
        written.map(|object| self.info(object)).map_err(|failure| self.absent_failure(key, failure))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        key::check_prefix(prefix)?;
        let options = ListOptions { prefix: format!("{}{prefix}", self.prefix), ..ListOptions::default() };
        let listed = self.storage.list_objects(&self.bucket, &options).await?.objects;
        // Objects that are no keys ("folder/" placeholders) were not put here by a store.
        let infos = listed.into_iter().map(|object| self.info(object)).filter(|info| key::check(&info.key).is_ok());
        let mut infos: Vec<_> = infos.collect();
        infos.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(infos)
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        key::check_prefix(prefix)?;
        let prefix = format!("{}{prefix}", self.prefix);
        let options = ListOptions { prefix, delimiter: Some("/".into()), ..ListOptions::default() };
        let listed = self.storage.list_objects(&self.bucket, &options).await?.prefixes;
        let mut found: Vec<_> = listed
            .iter()
            .filter_map(|name| name.strip_prefix(&self.prefix))
            .filter(|key| key::check_prefix(key).is_ok())
            .map(str::to_string)
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        let name = self.object(key)?;
        let generation = self.generation(key, version)?;
        self.storage.delete_object(&self.bucket, &name, Some(generation)).await
    }

    async fn unneeded_since(&self, key: &str, at: jiff::Timestamp) -> Result<(), Failure> {
        let name = self.object(key)?;
        match self.storage.patch_object(&self.bucket, &name, json!({ "customTime": at.to_string() }), None).await {
            Ok(_) => Ok(()),
            // It only goes forward.
            Err(failure @ Failure::Invalid { .. }) => {
                let there = self.storage.get_object(&self.bucket, &name, None).await?.custom_time;
                if there.is_some_and(|there| there >= at) { Ok(()) } else { Err(failure) }
            }
            Err(failure) => Err(failure),
        }
    }

    async fn hold(&self, key: &str, held: bool) -> Result<bool, Failure> {
        let name = self.object(key)?;
        self.storage.patch_object(&self.bucket, &name, json!({ "temporaryHold": held }), None).await?;
        Ok(true)
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        match self.storage.delete_object(&self.bucket, &self.object(key)?, None).await {
            Err(Failure::NotFound { .. }) => Ok(()),
            result => result,
        }
    }
}

impl GcsStore {
    /// "Only where nothing is" and something is: that is `Exists`.
    fn absent_failure(&self, key: &str, failure: Failure) -> Failure {
        match failure {
            Failure::Precondition { .. } => exists(self.name(key)),
            other => other,
        }
    }
}
