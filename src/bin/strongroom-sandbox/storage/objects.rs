//! Buckets and objects for the other services of this process (BigQuery's load and extract jobs): the same objects
//! that the HTTP API serves. Synchronous; callers with much data run it in `spawn_blocking`.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::{ApiError, Sandbox};

/// What a caller needs to know of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub bucket: String,
    pub name: String,
    pub generation: i64,
    pub size_bytes: u64,
    pub content_type: Option<String>,
    pub updated: String,
}

/// Access to all buckets.
#[derive(Clone)]
pub struct Objects {
    sandbox: Arc<Sandbox>,
}

/// An object in the making: bytes go in by `Write`; nothing is visible before [`ObjectWriter::finish`].
pub struct ObjectWriter {
    file: File,
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
        let _ = (&self.sandbox, bucket);
        Err(ApiError::not_implemented("buckets"))
    }

    /// The live object of that name.
    ///
    /// # Errors
    /// 404 when the bucket or the object does not exist.
    pub fn get(&self, bucket: &str, name: &str) -> Result<ObjectInfo, ApiError> {
        let _ = (bucket, name);
        Err(ApiError::not_implemented("objects"))
    }

    /// All live objects whose names begin with `prefix`, in the order of names.
    ///
    /// # Errors
    /// 404 when the bucket does not exist.
    pub fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectInfo>, ApiError> {
        let _ = (bucket, prefix);
        Err(ApiError::not_implemented("objects"))
    }

    /// The live objects that a BigQuery URI `gs://bucket/path*rest` means: `*` stands for any text, also slashes.
    ///
    /// # Errors
    /// 400 for a bad URI, 404 when the bucket does not exist. No match is an empty list.
    pub fn expand(&self, uri: &str) -> Result<Vec<ObjectInfo>, ApiError> {
        let _ = uri;
        Err(ApiError::not_implemented("objects"))
    }

    /// The object's bytes, as a file to read from.
    ///
    /// # Errors
    /// 404 when that generation is gone.
    pub fn open(&self, object: &ObjectInfo) -> Result<File, ApiError> {
        let _ = object;
        Err(ApiError::not_implemented("objects"))
    }

    /// All of the object's bytes.
    ///
    /// # Errors
    /// 404 when that generation is gone.
    pub fn read(&self, object: &ObjectInfo) -> Result<Bytes, ApiError> {
        let _ = object;
        Err(ApiError::not_implemented("objects"))
    }

    /// Begins a new object (or a new generation of one).
    ///
    /// # Errors
    /// 404 when the bucket does not exist.
    pub fn create(&self, bucket: &str, name: &str, content_type: &str) -> Result<ObjectWriter, ApiError> {
        let _ = (bucket, name, content_type);
        Err(ApiError::not_implemented("objects"))
    }

    /// Deletes the live object.
    ///
    /// # Errors
    /// 404 when there is none, 403 when a hold or retention forbids it.
    pub fn delete(&self, bucket: &str, name: &str) -> Result<(), ApiError> {
        let _ = (bucket, name);
        Err(ApiError::not_implemented("objects"))
    }
}

impl ObjectWriter {
    /// Makes the object visible, durably.
    ///
    /// # Errors
    /// 403 when a hold or retention forbids overwriting, 500 when the disk fails.
    pub fn finish(self) -> Result<ObjectInfo, ApiError> {
        let _ = self.file;
        Err(ApiError::not_implemented("objects"))
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
