//! Writing: each write has a number of its own in the object's metadata, by which one whose answer was lost is found again.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use jiff::Timestamp;
use object_store::{
    Attribute, Attributes, MultipartUpload, PutMode, PutMultipartOptions, PutOptions, PutResult, UpdateVersion,
};

use super::{CloudStore, WRITE, changed, exists, failure, version};
use crate::model::Failure;
use crate::store::{ByteStream, ObjectInfo, Version};

/// The first parts of a stream; what fits into one is sent in one request. S3 takes no part below 5 MiB.
const PART_BYTES: usize = 8 << 20;
/// After so many parts they are twice as large: S3 takes 10,000, so that an object may have about 500 GB.
const PARTS_OF_A_SIZE: usize = 2_000;
/// How often a creation is tried again that met another one under way.
const TRIES: u32 = 4;

fn number() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn marked(write: &str) -> Attributes {
    Attributes::from_iter([(Attribute::Metadata(WRITE.into()), write.to_string())])
}

/// Creates an object in one request.
pub(super) async fn create(store: &CloudStore, key: &str, bytes: Bytes) -> Result<Version, Failure> {
    let write = number();
    let mut tries = 0;
    loop {
        let error = match send(store, key, &bytes, &write, PutMode::Create).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        tries += 1;
        match found(store, key, &write, failure::of_write(&store.name(key), &error)).await {
            // Another one was under way, and came to nothing.
            Err(Failure::Transient { .. })
                if tries < TRIES && matches!(error, object_store::Error::AlreadyExists { .. }) =>
            {
                tokio::time::sleep(std::time::Duration::from_millis(50 << tries)).await;
            }
            outcome => return outcome,
        }
    }
}

/// What became of a creation that was not answered by success: the object is its own, another's, or none.
async fn found(store: &CloudStore, key: &str, write: &str, failed: Failure) -> Result<Version, Failure> {
    if matches!(failed, Failure::Denied { .. } | Failure::Transient { .. }) {
        return Err(failed);
    }
    match (store.look(key).await, failed) {
        (Ok(Some(seen)), _) if seen.write.as_deref() == Some(write) => Ok(seen.version()),
        (Ok(Some(_)), _) => Err(exists(store.name(key))),
        (Ok(None), Failure::Exists { object, message } | Failure::Precondition { object, message }) => {
            Err(Failure::Transient { object, message })
        }
        // Who may create need not be one who may look.
        (Err(Failure::Denied { .. }), Failure::Exists { .. } | Failure::Precondition { .. }) => {
            Err(exists(store.name(key)))
        }
        (_, failed) => Err(failed),
    }
}

/// Replaces an object at a version.
pub(super) async fn replace(store: &CloudStore, key: &str, bytes: Bytes, at: &Version) -> Result<Version, Failure> {
    // The ETag alone does not tell the same bytes that were written twice.
    let seen = store.look(key).await?.filter(|seen| seen.is(at)).ok_or_else(|| changed(store.name(key)))?;
    let write = number();
    let mode = PutMode::Update(UpdateVersion { e_tag: Some(seen.e_tag), version: None });
    let error = match send(store, key, &bytes, &write, mode).await {
        Ok(version) => return Ok(version),
        Err(error) => error,
    };
    let failed = failure::of_write(&store.name(key), &error);
    if matches!(failed, Failure::Denied { .. }) {
        return Err(failed);
    }
    match (store.look(key).await?, failed) {
        (Some(seen), _) if seen.write.as_deref() == Some(write.as_str()) => Ok(seen.version()),
        (_, Failure::Precondition { .. } | Failure::NotFound { .. } | Failure::Exists { .. }) => {
            Err(changed(store.name(key)))
        }
        (_, failed) => Err(failed),
    }
}

/// Creates or replaces.
pub(super) async fn put(store: &CloudStore, key: &str, bytes: Bytes) -> Result<Version, Failure> {
    let sent = send(store, key, &bytes, &number(), PutMode::Overwrite).await;
    sent.map_err(|error| failure::of_write(&store.name(key), &error))
}

async fn send(
    store: &CloudStore,
    key: &str,
    bytes: &Bytes,
    write: &str,
    mode: PutMode,
) -> Result<Version, object_store::Error> {
    let path = match store.path(key) {
        Ok(path) => path,
        Err(error) => return Err(object_store::Error::NotSupported { source: error.into() }),
    };
    let options = PutOptions { mode, attributes: marked(write), ..PutOptions::default() };
    let put = store.service.objects().put_opts(&path, bytes.clone().into(), options).await?;
    Ok(written(&put, write))
}

fn written(put: &PutResult, write: &str) -> Version {
    version(put.e_tag.as_deref().unwrap_or_default(), Some(write))
}

/// Creates an object from a stream: in one request what is short, in parts what is long.
pub(super) async fn stream(store: &CloudStore, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
    let path = store.path(key)?;
    let mut parts = Parts { stream, rest: Bytes::new(), ended: false, size_bytes: 0 };
    let first = parts.next(PART_BYTES).await?;
    let version = if parts.ended {
        create(store, key, first).await?
    } else {
        // Nobody sends gigabytes to learn that there is one already.
        match store.look(key).await {
            Ok(None) | Err(Failure::Denied { .. }) => {}
            Ok(Some(_)) => return Err(exists(store.name(key))),
            Err(error) => return Err(error),
        }
        let write = number();
        let options = PutMultipartOptions { attributes: marked(&write), ..PutMultipartOptions::default() };
        let begun = store.service.objects().put_multipart_opts(&path, options).await;
        let mut upload = begun.map_err(|error| failure::of_write(&store.name(key), &error))?;
        if let Err(failed) = send_parts(store, key, upload.as_mut(), first, &mut parts).await {
            upload.abort().await.ok();
            return Err(failed);
        }
        // Whether nothing lies there is asked by the service itself, as the last thing: see `wire.rs`.
        match upload.complete().await {
            Ok(put) => written(&put, &write),
            Err(error) => {
                let outcome = found(store, key, &write, failure::of_write(&store.name(key), &error)).await;
                if outcome.is_err() {
                    upload.abort().await.ok();
                }
                outcome?
            }
        }
    };
    let sent = parts.size_bytes;
    let seen = match store.look(key).await {
        Ok(Some(seen)) if seen.is(&version) => seen,
        // Who may create need not be one who may look.
        Err(Failure::Denied { .. }) => {
            let (key, updated) = (key.to_string(), Timestamp::now());
            return Ok(ObjectInfo { key, size_bytes: sent, version, crc32c: None, updated });
        }
        Ok(_) => return Err(changed(store.name(key))),
        Err(error) => return Err(error),
    };
    if seen.size_bytes != sent {
        let message = format!("{} bytes arrived, {sent} were sent", seen.size_bytes);
        return Err(Failure::Corrupt { object: store.name(key), message });
    }
    Ok(store.info(key, &seen))
}

/// Sends one part while the next is collected: two of them are in memory.
async fn send_parts(
    store: &CloudStore,
    key: &str,
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    parts: &mut Parts,
) -> Result<(), Failure> {
    let mut part = first;
    for number in 1.. {
        let size = PART_BYTES << (number / PARTS_OF_A_SIZE).min(4);
        let (sent, next) = tokio::join!(upload.put_part(part.into()), parts.next(size));
        sent.map_err(|error| failure::of_write(&store.name(key), &error))?;
        part = next?;
        if part.is_empty() {
            break;
        }
    }
    Ok(())
}

/// A stream in pieces of a given size.
struct Parts {
    stream: ByteStream,
    rest: Bytes,
    ended: bool,
    size_bytes: u64,
}

impl Parts {
    /// The next `size` bytes, fewer at the end.
    async fn next(&mut self, size: usize) -> Result<Bytes, Failure> {
        let mut part = BytesMut::new();
        while part.len() < size && !self.ended {
            if self.rest.is_empty() {
                match self.stream.next().await {
                    Some(chunk) => self.rest = chunk?,
                    None => self.ended = true,
                }
            }
            let taken = self.rest.split_to(self.rest.len().min(size - part.len()));
            part.extend_from_slice(&taken);
        }
        self.size_bytes += part.len() as u64;
        Ok(part.freeze())
    }
}
