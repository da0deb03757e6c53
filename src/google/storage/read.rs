//! One object's bytes as they come, by Google's crate: of one generation, broken off when nothing comes, taken up where
//! they broke, held against the object's size and checksum at the end. The crate's own resumption is off: it waits for
//! a silent server without end, and knows nothing of `Retry-After` and of the run's budget.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use google_cloud_storage::model_ext::{ObjectHighlights, ReadRange};
use google_cloud_storage::read_object::ReadObjectResponse;

use super::{ByteStream, Storage, object_name};
use crate::google::error::{Fault, Known};
use crate::google::retry::{self, Effect};
use crate::model::Failure;

/// An object being read.
pub(super) struct Reading {
    storage: Storage,
    bucket: String,
    name: String,
    about: String,
    response: Option<ReadObjectResponse>,
    pub object: ObjectHighlights,
    /// Where the next byte lies in the object.
    next: u64,
    /// Where the read ends; `None` for an object that is unpacked on its way.
    end: Option<u64>,
    /// Of a whole object: the checksum so far, and the one that the service keeps.
    crc: Option<(u32, u32)>,
    attempt: u32,
    since: Instant,
}

impl Storage {
    /// Begins to read: the whole object, or a range of it.
    pub(super) async fn reading(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        range: Option<Range<u64>>,
    ) -> Result<Reading, Failure> {
        let asked = range.clone().map(|range| ReadRange::segment(range.start, range.end.saturating_sub(range.start)));
        let response = self.open(bucket, name, generation, asked).await?;
        let object = response.object();
        let size = u64::try_from(object.size).unwrap_or_default();
        let unpacked = object.content_encoding == "gzip";
        let (next, end) = match &range {
            Some(range) => (range.start, range.end.min(size)),
            None => (0, size),
        };
        let kept = object.checksums.as_ref().and_then(|sums| sums.crc32c);
        Ok(Reading {
            storage: self.clone(),
            bucket: bucket.into(),
            name: name.into(),
            about: object_name(bucket, name),
            response: Some(response),
            object,
            next,
            end: Some(end).filter(|_| !unpacked),
            crc: kept.filter(|_| range.is_none() && !unpacked).map(|kept| (0, kept)),
            attempt: 1,
            since: Instant::now(),
        })
    }

    async fn open(
        &self,
        bucket: &str,
        name: &str,
        generation: Option<i64>,
        range: Option<ReadRange>,
    ) -> Result<ReadObjectResponse, Failure> {
        let about = object_name(bucket, name);
        retry::run(&self.rest.retry, &about, Effect::Read, |_| {
            let mut request = self.once.read_object(format!("projects/_/buckets/{bucket}"), name);
            if let Some(generation) = generation {
                request = request.set_generation(generation);
            }
            if let Some(range) = &range {
                request = request.set_read_range(range.clone());
            }
            let about = &about;
            async move { request.send().await.map_err(|error| Fault::from_gax(about, &error)) }
        })
        .await
    }
}

impl Reading {
    /// The next bytes; `None` at the end, when all is as the service keeps it.
    ///
    /// # Errors
    /// `Corrupt` when the checksum does not hold; `Transient` when no attempt brings more.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let policy = self.storage.rest.retry.clone();
        loop {
            let Some(response) = self.response.as_mut() else {
                self.reopen().await?;
                continue;
            };
            let fault = match tokio::time::timeout(policy.progress_timeout, response.next()).await {
                Ok(Some(Ok(bytes))) if self.end.is_none_or(|end| self.next + bytes.len() as u64 <= end) => {
                    self.next += bytes.len() as u64;
                    if let Some((running, _)) = &mut self.crc {
                        *running = crc32c::crc32c_append(*running, &bytes);
                    }
                    if self.attempt > 1 {
                        policy.repeats.succeeded();
                    }
                    (self.attempt, self.since) = (1, Instant::now());
                    return Ok(Some(bytes));
                }
                Ok(Some(Ok(_))) => Fault::unreadable(&self.about, "more bytes than the object has"),
                Ok(None) if self.end.is_none_or(|end| self.next == end) => return self.ended().map(|()| None),
                Ok(None) => Fault::unreadable(&self.about, "it ends early"),
                // All bytes came, and the crate, too, has a checksum.
                Ok(Some(Err(error))) if self.end == Some(self.next) && error.is_deserialization() => {
                    return Err(self.changed());
                }
                Ok(Some(Err(error))) => Fault::from_gax(&self.about, &error),
                Err(_) => Fault::silence(&self.about, policy.progress_timeout),
            };
            self.response = None;
            if self.end.is_none() || fault.effect == Known::Refused {
                return Err(fault.failure);
            }
            if self.end == Some(self.next) {
                return self.ended().map(|()| None);
            }
            let delay = policy
                .pause(self.attempt, self.since.elapsed(), &fault)
                .map_err(|why| retry::told(fault.failure.clone(), why))?;
            tracing::debug!(attempt = self.attempt, at = self.next, failure = %fault.failure, "taking a read up again");
            tokio::time::sleep(delay).await;
            self.attempt += 1;
        }
    }

    async fn reopen(&mut self) -> Result<(), Failure> {
        let end = self.end.unwrap_or(u64::MAX);
        let range = ReadRange::segment(self.next, end.saturating_sub(self.next));
        let response = self.storage.open(&self.bucket, &self.name, Some(self.object.generation), Some(range)).await?;
        self.response = Some(response);
        Ok(())
    }

    fn ended(&self) -> Result<(), Failure> {
        match self.crc {
            Some((running, kept)) if running != kept => Err(self.changed()),
            _ => Ok(()),
        }
    }

    fn changed(&self) -> Failure {
        let message = "the bytes that came do not have the object's checksum".to_string();
        Failure::Corrupt { object: self.about.clone(), message }
    }

    pub(super) fn into_stream(self) -> ByteStream {
        futures::stream::unfold(Some(self), async |reading| {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(bytes), Some(reading))),
                Ok(None) => None,
                Err(failure) => Some((Err(failure), None)),
            }
        })
        .boxed()
    }
}
