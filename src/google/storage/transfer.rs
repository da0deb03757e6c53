//! Bytes in and out, by Google's crate (see the module's head). Memory: one chunk for a stream; what is given or asked
//! for as `Bytes` is in memory anyway.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;

use super::objects::is_own_perhaps;
use super::{Object, Storage, object_name};
use crate::google::error::Fault;
use crate::google::retry::{self, Effect};
use crate::model::Failure;

/// How often an object whose checksum does not hold is read whole, before it is taken to be stored so.
pub const WHOLE_READS: u32 = 4;
/// A write that is slower than this does not end in time.
const SLOWEST_BYTES_PER_S: u64 = 64 << 10;

/// Bytes as they come.
pub type ByteStream = BoxStream<'static, Result<Bytes, Failure>>;

/// How an object is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// 0: only where nothing is. `None`: whatever is there is replaced.
    pub if_generation_match: Option<i64>,
    pub content_type: Option<String>,
    pub storage_class: Option<String>,
    /// The user's own metadata.
    pub metadata: Vec<(String, String)>,
}

/// Every write carries its own number in the object's metadata: after a lost reply it tells one's own work from
/// another writer's.
pub(super) const WRITE_ID: &str = "strongroom-write";

/// A write's options on one of the crate's request builders: their type depends on the payload.
macro_rules! configure {
    ($request:expr, $options:expr, $write_id:expr) => {{
        let own = $options.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut request = $request.set_metadata(own.chain([(WRITE_ID, $write_id.as_str())]));
        if let Some(generation) = $options.if_generation_match {
            request = request.set_if_generation_match(generation);
        }
        if let Some(content_type) = &$options.content_type {
            request = request.set_content_type(content_type);
        }
        if let Some(class) = &$options.storage_class {
            request = request.set_storage_class(class);
        }
        request
    }};
}

impl Storage {
    /// The whole object (its live generation, or the given one), and the generation that was read.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` beyond `max_bytes`; `Corrupt` when the checksum does not hold.
    pub async fn read_all(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        max_bytes: u64,
    ) -> Result<(Bytes, i64), Failure> {
        let policy = &self.rest.retry;
        let mut read = 1;
        loop {
            match self.read_once((bucket, name), generation, max_bytes).await {
                // What was changed on its way is not so the next time; what is stored so, is.
                Err(Failure::Corrupt { .. }) if read < WHOLE_READS && policy.repeats.take() => read += 1,
                outcome => return outcome,
            }
        }
    }

    async fn read_once(
        &self,
        (bucket, name): (&str, &str),
        generation: Option<i64>,
        max_bytes: u64,
    ) -> Result<(Bytes, i64), Failure> {
        let mut reading = self.reading(bucket, name, generation, None).await?;
        let too_large = || {
            let message = format!("larger than the {max_bytes} bytes that are read in one piece");
            Failure::Invalid { object: object_name(bucket, name), message }
        };
        let size = u64::try_from(reading.object.size).unwrap_or_default();
        if size > max_bytes {
            return Err(too_large());
        }
        let mut bytes = BytesMut::with_capacity(size as usize);
        while let Some(chunk) = reading.next().await? {
            if (bytes.len() + chunk.len()) as u64 > max_bytes {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes.freeze(), reading.object.generation))
    }

    /// The object as a stream, of one generation from its beginning to its end, and that generation. The last item is an
    /// error when the checksum does not hold: what was changed on its way is whole when it is read again.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn read_stream(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
    ) -> Result<(ByteStream, i64), Failure> {
        let reading = self.reading(bucket, name, generation, None).await?;
        let generation = reading.object.generation;
        Ok((reading.into_stream(), generation))
    }

    /// The bytes of a range as a stream; what reaches beyond the end is cut there. The checksum cannot be checked.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a range that begins at or beyond the end.
    pub async fn read_range(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        range: Range<u64>,
    ) -> Result<ByteStream, Failure> {
        Ok(self.reading(bucket, name, generation, Some(range)).await?.into_stream())
    }

    /// Writes an object in one request. A lost reply is looked after: what is there is compared by its write id.
    ///
    /// # Errors
    /// `Precondition` when the generation does not match; `Unknown` when no answer came; `Corrupt` when what arrived is
    /// not what was sent.
    pub async fn write_bytes(
        &self,
        bucket: &str,
        name: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Object, Failure> {
        let about = object_name(bucket, name);
        let write_id = new_write_id();
        let policy = &self.rest.retry;
        let timeout = policy.attempt_timeout + Duration::from_secs(bytes.len() as u64 / SLOWEST_BYTES_PER_S);
        let written =
            retry::run_within(policy, timeout, &about, Effect::Idempotent, async |attempt: retry::Attempt| {
                let request = self.once.write_object(bucket_path(bucket), name, bytes.clone());
                match configure!(request, options, write_id).send_buffered().await {
                    Ok(object) => Ok(Some(object)),
                    Err(error) => match Fault::from_gax(&about, &error) {
                        fault if attempt.perhaps_done && is_own_perhaps(&fault) => Ok(None),
                        fault => Err(fault),
                    },
                }
            })
            .await;
        let object = match written {
            Ok(Some(object)) => from_crate(&about, bucket, object)?,
            // Refused after an attempt that may have worked, or no answer at all: what is there tells.
            Ok(None) => match self.own(bucket, name, &write_id).await.map_err(retry::unknown)? {
                Some(object) => object,
                None => {
                    let message = "there is an object of another writer".to_string();
                    return Err(Failure::Precondition { object: about, message });
                }
            },
            Err(unknown @ Failure::Unknown { .. }) => match self.own(bucket, name, &write_id).await {
                Ok(Some(object)) => object,
                _ => return Err(unknown),
            },
            Err(failure) => return Err(failure),
        };
        check(&about, &object, bytes.len() as u64, crc32c::crc32c(&bytes))?;
        Ok(object)
    }

    /// The object, if it is the work of this write.
    pub(super) async fn own(&self, bucket: &str, name: &str, write_id: &str) -> Result<Option<Object>, Failure> {
        match self.get_object(bucket, name, None).await {
            Ok(object) => {
                Ok(Some(object).filter(|found| found.metadata.get(WRITE_ID).is_some_and(|id| id == write_id)))
            }
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

pub(super) fn check(about: &str, object: &Object, size_bytes: u64, crc: u32) -> Result<(), Failure> {
    if object.size_bytes == size_bytes && object.crc32c.is_none_or(|stored| stored == crc) {
        return Ok(());
    }
    let message = format!(
        "{size_bytes} bytes with CRC32C {crc:08x} were sent, {} with {:08x?} arrived",
        object.size_bytes, object.crc32c
    );
    Err(Failure::Corrupt { object: about.into(), message })
}

fn from_crate(about: &str, bucket: &str, object: google_cloud_storage::model::Object) -> Result<Object, Failure> {
    let corrupt = |what: &str| Failure::Corrupt { object: about.into(), message: format!("unreadable answer: {what}") };
    let time = |time: Option<google_cloud_wkt::Timestamp>| {
        time.and_then(|time| jiff::Timestamp::new(time.seconds(), time.nanos()).ok())
    };
    let retained =
        [time(object.retention_expire_time), time(object.retention.and_then(|retention| retention.retain_until_time))];
    Ok(Object {
        bucket: bucket.into(),
        generation: Some(object.generation).filter(|number| *number != 0).ok_or_else(|| corrupt("no generation"))?,
        metageneration: object.metageneration,
        size_bytes: u64::try_from(object.size).map_err(|_| corrupt("size"))?,
        crc32c: object.checksums.and_then(|sums| sums.crc32c),
        updated: time(object.update_time).ok_or_else(|| corrupt("no time of update"))?,
        storage_class: object.storage_class,
        content_type: object.content_type,
        metadata: object.metadata.into_iter().collect(),
        temporary_hold: object.temporary_hold,
        event_based_hold: object.event_based_hold.unwrap_or_default(),
        retained_until: retained.into_iter().flatten().max(),
        custom_time: time(object.custom_time),
        name: object.name,
    })
}

fn bucket_path(bucket: &str) -> String {
    format!("projects/_/buckets/{bucket}")
}

pub(super) fn new_write_id() -> String {
    format!("{:032x}", rand::random::<u128>())
}
