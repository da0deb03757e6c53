//! Buckets and objects for the other services of this process (BigQuery's load and extract jobs): the same objects
//! that the HTTP API serves. Synchronous; callers with much data run it in `spawn_blocking`.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use serde_json::{Map, json};

use super::blob::Writer;
use super::conditions::Conditions;
use super::glob::matches_star;
use super::list::{self, Query};
use super::records::Object;
use super::store::Store;
use crate::core::{ApiError, Sandbox};

/// What a caller needs to know of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub bucket: String,
    pub name: String,
    pub generation: i64,
    pub size_bytes: u64,
    pub content_type: Option<String>,
    /// RFC 3339.
    pub updated: String,
}

/// Access to all buckets.
#[derive(Clone)]
pub struct Objects {
    sandbox: Arc<Sandbox>,
}

/// An object in the making: bytes go in by `Write`; nothing is visible before [`ObjectWriter::finish`], and nothing is
/// left of one that is dropped.
pub struct ObjectWriter {
    sandbox: Arc<Sandbox>,
    bucket: String,
    name: String,
    content_type: String,
    writer: Writer,
}

impl Objects {
    pub fn new(sandbox: &Arc<Sandbox>) -> Self {
        Self { sandbox: sandbox.clone() }
    }

    /// The bucket's location in upper case, such as `EU`.
    ///
    /// # Errors
    /// 404 when there is no such bucket.
    pub fn bucket_location(&self, bucket: &str) -> Result<String, ApiError> {
        Ok(Store::new(&self.sandbox).bucket(bucket)?.location().to_string())
    }

    /// All live objects whose names begin with `prefix`, in the order of names.
    ///
    /// # Errors
    /// 404 when the bucket does not exist.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectInfo>, ApiError> {
        let mut query = Query { prefix: prefix.into(), limit: 1000, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = list::list(&self.sandbox, bucket, &query)?;
            found.extend(page.items.iter().map(info));
            match page.next {
                Some(next) => query.page_token = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// The live objects that a BigQuery URI `gs://bucket/path*rest` means: `*` stands for any text, also slashes.
    ///
    /// # Errors
    /// 400 for a bad URI, 404 when the bucket does not exist. No match is an empty list.
    pub fn expand(&self, uri: &str) -> Result<Vec<ObjectInfo>, ApiError> {
        let (bucket, pattern) = split_uri(uri)?;
        let prefix = &pattern[..pattern.find('*').unwrap_or(pattern.len())];
        let mut found = self.list(bucket, prefix)?;
        found.retain(|o| matches_star(pattern, &o.name));
        Ok(found)
    }

    /// The object's bytes, as a file to read from. It stays readable when the object is deleted meanwhile.
    ///
    /// # Errors
    /// 404 when that generation is gone.
    pub fn open(&self, object: &ObjectInfo) -> Result<File, ApiError> {
        let store = Store::new(&self.sandbox);
        let (found, _) = store.object(&object.bucket, &object.name, Some(object.generation))?;
        Ok(store.blobs.open(&found.blob)?)
    }

    /// Begins a new object (or a new generation of one).
    ///
    /// # Errors
    /// 404 when the bucket does not exist, 403 when what is there is protected.
    pub fn create(&self, bucket: &str, name: &str, content_type: &str) -> Result<ObjectWriter, ApiError> {
        let store = Store::new(&self.sandbox);
        store.check_insert(bucket, name, &Conditions::default())?;
        Ok(ObjectWriter {
            sandbox: self.sandbox.clone(),
            bucket: bucket.into(),
            name: name.into(),
            content_type: content_type.into(),
            writer: store.blobs.create()?,
        })
    }
}

impl ObjectWriter {
    /// Makes the object visible, durably.
    ///
    /// # Errors
    /// 403 when a hold or retention forbids overwriting, 500 when the disk fails.
    pub fn finish(self) -> Result<ObjectInfo, ApiError> {
        let mut draft = Map::new();
        draft.insert("contentType".into(), json!(self.content_type));
        let content = self.writer.finish()?.into();
        let store = Store::new(&self.sandbox);
        let (object, _) = store.insert(&self.bucket, &self.name, &draft, content, &Conditions::default())?;
        Ok(info(&object))
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bucket and path of `gs://bucket/path`.
///
/// # Errors
/// 400 when it is no such URI.
pub fn split_uri(uri: &str) -> Result<(&str, &str), ApiError> {
    uri.strip_prefix("gs://")
        .and_then(|rest| rest.split_once('/'))
        .filter(|(bucket, path)| !bucket.is_empty() && !path.is_empty() && !bucket.contains('*'))
        .ok_or_else(|| ApiError::invalid(format!("Source URI must be a Google Cloud Storage location: {uri}")))
}

fn info(object: &Object) -> ObjectInfo {
    ObjectInfo {
        bucket: object.bucket().into(),
        name: object.name().into(),
        generation: object.generation(),
        size_bytes: object.size(),
        content_type: object.text("contentType").map(str::to_string),
        updated: object.text("updated").unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Options;
    use crate::storage::buckets;

    #[test]
    fn what_is_written_is_found_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            project: "p".into(),
            allow_external_targets: false,
            bigquery: crate::bigquery::Settings::default(),
        };
        let sandbox = Sandbox::open(dir.path(), options).unwrap();
        let draft = json!({ "name": "bkt", "location": "europe-west1" });
        buckets::create(&sandbox, "p", draft.as_object().unwrap()).unwrap();
        let objects = Objects::new(&sandbox);
        assert_eq!(objects.bucket_location("bkt").unwrap(), "EUROPE-WEST1");
        for name in ["e/000.avro", "e/001.avro", "e/x.json"] {
            let mut writer = objects.create("bkt", name, "application/octet-stream").unwrap();
            writer.write_all(name.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        let found = objects.expand("gs://bkt/e/*.avro").unwrap();
        assert_eq!(found.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["e/000.avro", "e/001.avro"]);
        let text = std::io::read_to_string(objects.open(&found[1]).unwrap()).unwrap();
        assert_eq!(text, "e/001.avro");
        assert!(objects.expand("gs://bkt").is_err() && objects.expand("gs://none/x").is_err());
        drop(objects.create("bkt", "e/dropped", "x").unwrap());
        assert_eq!(objects.list("bkt", "").unwrap().len(), 3);
        assert_eq!(objects.create("none", "x", "y").err().unwrap().code, 404);
    }
}
