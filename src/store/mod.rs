//! Objects behind one narrow trait: a bucket, a directory, memory. One conformance suite (`conformance.rs`) says what
//! every store does. Does not know what the objects mean.

mod cloud;
pub mod conformance;
mod drop_box;
mod gcs;
pub mod halt;
mod key;
mod local;
mod memory;
mod pieced;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::model::Failure;
pub use cloud::{AzureCredentials, AzureSettings, CloudStore, S3Credentials, S3Settings, Timeouts};
pub use drop_box::DropBox;
pub use gcs::GcsStore;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use pieced::PiecedStore;

/// Bytes as they come; chunks of at most a few hundred kilobytes.
pub type ByteStream = BoxStream<'static, Result<Bytes, Failure>>;

/// `get` and `get_range` refuse more than this: larger objects are read as a stream.
pub const MAX_GET_BYTES: u64 = 256 << 20;

/// Which state of an object was seen. Opaque: a generation, a time stamp, a counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub String);

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub size_bytes: u64,
    pub version: Version,
    /// CRC32C (Castagnoli) of the bytes; `None` where the store does not keep it.
    pub crc32c: Option<u32>,
    pub updated: jiff::Timestamp,
}

/// What is known of the place that a store is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// A bucket's location, e.g. `EU`; `local` for what is no bucket.
    pub location: String,
    /// Whether objects cannot be removed before a time of retention that nobody can shorten.
    pub retention_locked: bool,
}

/// What a file system has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// A place for objects. Keys are relative, parts divided by `/`, no part empty, `.` or `..`; at most 900 bytes.
///
/// An object appears whole or not at all. Every method fails with `Invalid` for a key that is none.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where this is, e.g. `gs://bucket/prefix`; no secrets in it.
    fn describe(&self) -> String;

    /// Where an object lies, e.g. `gs://bucket/prefix/key`: for who reads it without this store.
    fn address(&self, key: &str) -> String {
        format!("{}/{key}", self.describe())
    }

    /// Where the objects lie; `None` when the place (a bucket) does not exist.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn site(&self) -> Result<Option<Site>, Failure> {
        Ok(Some(Site { location: "local".into(), retention_locked: false }))
    }

    /// What is left where that can come to an end; `None` where it cannot.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn space(&self) -> Result<Option<Space>, Failure> {
        Ok(None)
    }

    /// The whole object and the version that was read.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` above [`MAX_GET_BYTES`].
    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure>;

    /// The bytes of a range; a range that reaches beyond the end is cut there.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` above [`MAX_GET_BYTES`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure>;

    /// What is known of the object; `None` when there is none.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure>;

    /// Creates the object.
    ///
    /// # Errors
    /// `Exists` when there is one (perhaps of a write of one's own whose reply was lost: compare what is there);
    /// `Unknown` when the reply was lost.
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure>;

    /// Replaces the object if it is still at `version`.
    ///
    /// # Errors
    /// `Precondition` when it is not, or is gone; `Unknown` when the reply was lost.
    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure>;

    /// Creates or replaces: for derived objects that can be made again.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure>;

    /// The whole object as a stream. A replacement meanwhile does not mix into it.
    ///
    /// # Errors
    /// `NotFound`; within the stream `Corrupt` when the bytes do not have the checksum that the store keeps.
    async fn read(&self, key: &str) -> Result<ByteStream, Failure>;

    /// The object as a file, where the store is a directory; `None` elsewhere. A replacement meanwhile does not mix into it.
    ///
    /// # Errors
    /// `NotFound`.
    async fn open_file(&self, _key: &str) -> Result<Option<std::fs::File>, Failure> {
        Ok(None)
    }

    /// Creates the object from a stream, in bounded memory. An error in the stream leaves no object.
    ///
    /// # Errors
    /// `Exists` when there is one; the stream's own failure; `Corrupt` when what arrived is not what was sent.
    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure>;

    /// All objects whose key begins with `prefix` (any text), sorted by key.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure>;

    /// What follows `prefix` up to and with the next `/`, once each, as whole keys (`prefix` + `part/`), sorted.
    /// Objects directly under the prefix are left out.
    ///
    /// # Errors
    /// As the store's medium fails.
    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure>;

    /// Deletes the object if it is still at `version`.
    ///
    /// # Errors
    /// `NotFound` when it is gone, `Precondition` when it has changed.
    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure>;

    /// Tells the store's own lifecycle since when the object is needed no more. A later time takes an earlier one's place, an
    /// earlier one changes nothing. Does nothing where the lifecycle cannot be told.
    ///
    /// # Errors
    /// `NotFound`, and as the store's medium fails.
    async fn unneeded_since(&self, _key: &str, _at: jiff::Timestamp) -> Result<(), Failure> {
        Ok(())
    }

    /// Holds the object against deletion by anybody, or lets it go; gives whether the store knows holds.
    ///
    /// # Errors
    /// `NotFound`, and as the store's medium fails.
    async fn hold(&self, _key: &str, _held: bool) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Deletes the object; no object is as good.
    ///
    /// # Errors
    /// As the store's medium fails; `Denied` or `Precondition` under retention.
    async fn delete(&self, key: &str) -> Result<(), Failure>;
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Bytes as a stream, in chunks of at most 256 KiB.
pub fn stream_of(bytes: Bytes) -> ByteStream {
    futures::stream::unfold(bytes, async |mut left| {
        if left.is_empty() {
            return None;
        }
        let chunk = left.split_to(left.len().min(256 << 10));
        Some((Ok(chunk), left))
    })
    .boxed()
}

/// A stream's bytes in one piece.
///
/// # Errors
/// The stream's own; `Invalid` beyond `max_bytes`.
pub async fn collect(object: &str, mut stream: ByteStream, max_bytes: u64) -> Result<Bytes, Failure> {
    let mut all = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if (all.len() + chunk.len()) as u64 > max_bytes {
            let message = format!("larger than the {max_bytes} bytes that are read in one piece");
            return Err(Failure::Invalid { object: object.into(), message });
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.freeze())
}

fn not_found(object: String) -> Failure {
    Failure::NotFound { object, message: "no such object".into() }
}

fn exists(object: String) -> Failure {
    Failure::Exists { object, message: "there is an object of this key".into() }
}

fn changed(object: String) -> Failure {
    Failure::Precondition { object, message: "the object has changed since it was read, or is gone".into() }
}

/// The part of a key after `prefix` up to the next `/`, as a whole key.
fn next_prefix(key: &str, prefix: &str) -> Option<String> {
    let rest = key.strip_prefix(prefix)?;
    let end = rest.find('/')?;
    Some(key[..prefix.len() + end + 1].to_string())
}
