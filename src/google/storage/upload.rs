//! Resumable uploads from a stream, by REST: not by Google's crate, whose own (google-cloud-storage 1.21) corrupts what
//! it resumes, and its checksum tells only when the broken object is in place. Measured through a proxy that cuts
//! connections: after a send error the next buffer is sent at the place of the lost one (googleapis/google-cloud-rust#6685).
//! Read in its source: a chunk that is persisted in part is split at the wrong end (#6683).
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>

use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};
use url::Url;

use super::transfer::{self, WRITE_ID};
use super::{ByteStream, Object, Storage, UPLOAD_PART_BYTES, WriteOptions, object_name};
use crate::google::error::{Fault, Known};
use crate::google::rest::Raw;
use crate::google::retry::{self, Effect};
use crate::model::Failure;

/// One upload under way.
struct Session<'a> {
    storage: &'a Storage,
    about: &'a str,
    url: Url,
    /// What the service has, certainly.
    persisted: u64,
}

/// What the service says of an upload.
enum Progress {
    /// So many bytes from the beginning are kept.
    Partial(u64),
    Done(Box<Object>),
}

impl Storage {
    /// Writes an object from a stream: at most one part of 8 MiB and one chunk of the stream are held. An error in the
    /// stream leaves no object.
    ///
    /// # Errors
    /// The stream's own failure; `Precondition` when the generation does not match; `Unknown` when no answer came to the
    /// last part; `Corrupt` when what arrived is not what was sent (it is deleted again).
    pub async fn write_stream(
        &self,
        bucket: &str,
        name: &str,
        mut stream: ByteStream,
        options: &WriteOptions,
    ) -> Result<Object, Failure> {
        let about = object_name(bucket, name);
        let write_id = transfer::new_write_id();
        let mut session = self.start_upload(bucket, name, &about, options, &write_id).await?;
        let (mut size, mut crc) = (0, 0);
        let mut held = BytesMut::new();
        loop {
            // One byte more than a part tells that this part is not the last one.
            let mut ended = false;
            while held.len() <= UPLOAD_PART_BYTES && !ended {
                match stream.next().await {
                    Some(Ok(chunk)) => held.extend_from_slice(&chunk),
                    Some(Err(failure)) => {
                        session.cancel().await;
                        return Err(failure);
                    }
                    None => ended = true,
                }
            }
            let last = held.len() <= UPLOAD_PART_BYTES;
            let part = held.split_to(held.len().min(UPLOAD_PART_BYTES)).freeze();
            size += part.len() as u64;
            crc = crc32c::crc32c_append(crc, &part);
            let object = match session.send(part, last.then_some(crc)).await {
                Ok(None) => continue,
                Ok(Some(object)) => object,
                Err(fault) => self.after_fault(bucket, name, &write_id, fault, last).await?,
            };
            if let Err(corrupt) = transfer::check(&about, &object, size, crc) {
                let _ = self.delete_object(bucket, name, Some(object.generation)).await;
                return Err(corrupt);
            }
            return Ok(object);
        }
    }

    async fn start_upload<'a>(
        &'a self,
        bucket: &str,
        name: &str,
        about: &'a str,
        options: &WriteOptions,
        write_id: &str,
    ) -> Result<Session<'a>, Failure> {
        let mut url = self.rest.address(&["upload", "storage", "v1", "b", bucket, "o"]);
        url.query_pairs_mut().append_pair("uploadType", "resumable").append_pair("name", name);
        if let Some(generation) = options.if_generation_match {
            url.query_pairs_mut().append_pair("ifGenerationMatch", &generation.to_string());
        }
        let mut metadata: Map<String, Value> =
            options.metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        metadata.insert(WRITE_ID.into(), json!(write_id));
        let mut resource = json!({"name": name, "metadata": metadata});
        if let Some(content_type) = &options.content_type {
            resource["contentType"] = json!(content_type);
        }
        if let Some(class) = &options.storage_class {
            resource["storageClass"] = json!(class);
        }
        let body = Bytes::from(resource.to_string());
        let headers = [("content-type", "application/json".to_string())];
        // A session that nobody uses has no effect: it is started again freely.
        let url = retry::run(&self.rest.retry, about, Effect::Read, async |_| {
            let answer = self.rest.raw(about, Method::POST, &url, &headers, body.clone()).await?;
            if !answer.status.is_success() {
                return Err(answer.fault(about));
            }
            let location = answer.headers.get("location").and_then(|value| value.to_str().ok());
            location
                .and_then(|text| Url::parse(text).ok())
                .ok_or_else(|| Fault::refused(malformed(about, "no session")))
        })
        .await?;
        Ok(Session { storage: self, about, url, persisted: 0 })
    }

    /// The last part may have arrived, and only its reply been lost: then the object is there, with this write's number.
    async fn after_fault(
        &self,
        bucket: &str,
        name: &str,
        write_id: &str,
        fault: Fault,
        last: bool,
    ) -> Result<Object, Failure> {
        let perhaps_own = matches!(fault.failure, Failure::Precondition { .. } | Failure::NotFound { .. });
        if !last || (fault.effect != Known::Perhaps && !perhaps_own) {
            return Err(fault.failure);
        }
        match self.own(bucket, name, write_id).await {
            Ok(Some(object)) => Ok(object),
            // The service was asked, and has no object of ours: it has not happened, and without the session never will.
            Ok(None) if perhaps_own => Err(fault.failure),
            Ok(None) | Err(_) => Err(retry::unknown(fault.failure)),
        }
    }
}

impl Session<'_> {
    /// Sends one part, whatever it takes; `last` is the checksum of all, with the last part. `Some` when the object is
    /// complete.
    async fn send(&mut self, part: Bytes, last: Option<u32>) -> Result<Option<Object>, Fault> {
        let begin = self.persisted;
        let end = begin + part.len() as u64;
        let policy = &self.storage.rest.retry;
        let (mut attempt, mut since) = (1, Instant::now());
        let mut asked = false;
        loop {
            let before = self.persisted;
            let progress = if asked {
                self.ask().await
            } else {
                let rest = part.slice((self.persisted - begin) as usize..);
                self.put(rest, end, last).await
            };
            match progress {
                Ok(Progress::Done(object)) => return Ok(Some(*object)),
                Ok(Progress::Partial(persisted)) => {
                    if persisted < before || persisted > end {
                        let message = format!("the service has {persisted} bytes of {end}, and had {before} before");
                        let object = self.about.to_string();
                        return Err(Fault::refused(Failure::Corrupt { object, message }));
                    }
                    self.persisted = persisted;
                    policy.repeats.succeeded();
                    if persisted == end && last.is_none() {
                        return Ok(None);
                    }
                    // An answer that brings nothing is no progress: it counts as an attempt.
                    let stands_still = persisted == before && !asked;
                    asked = false;
                    if !stands_still {
                        if persisted > before {
                            (attempt, since) = (1, Instant::now());
                        }
                        continue;
                    }
                    let message = "the service does not take the bytes".to_string();
                    let failure = Failure::Transient { object: self.about.into(), message };
                    let fault = Fault { failure, effect: Known::Perhaps, retry_after: None };
                    self.pause(policy, &mut attempt, since, fault).await?;
                }
                Err(fault) => {
                    self.pause(policy, &mut attempt, since, fault).await?;
                    asked = true;
                }
            }
        }
    }

    async fn pause(
        &self,
        policy: &retry::RetryPolicy,
        attempt: &mut u32,
        since: Instant,
        fault: Fault,
    ) -> Result<(), Fault> {
        if fault.effect == Known::Refused {
            return Err(fault);
        }
        let delay = match policy.pause(*attempt, since.elapsed(), &fault) {
            Ok(delay) => delay,
            Err(why) => return Err(Fault { failure: retry::told(fault.failure, why), ..fault }),
        };
        tracing::debug!(attempt, delay_ms = delay.as_millis() as u64, failure = %fault.failure, "resuming an upload");
        tokio::time::sleep(delay).await;
        *attempt += 1;
        Ok(())
    }

    async fn put(&self, bytes: Bytes, end: u64, last: Option<u32>) -> Result<Progress, Fault> {
        let total = last.map_or("*".to_string(), |_| end.to_string());
        let range = match bytes.is_empty() {
            true => format!("bytes */{total}"),
            false => format!("bytes {}-{}/{total}", self.persisted, end - 1),
        };
        let mut headers = vec![("content-range", range)];
        if let Some(crc) = last {
            // The service refuses what does not match, before the object appears.
            headers.push(("x-goog-hash", format!("crc32c={}", STANDARD.encode(crc.to_be_bytes()))));
        }
        self.answer(self.storage.rest.raw(self.about, Method::PUT, &self.url, &headers, bytes).await?)
    }

    async fn ask(&self) -> Result<Progress, Fault> {
        let headers = [("content-range", "bytes */*".to_string())];
        self.answer(self.storage.rest.raw(self.about, Method::PUT, &self.url, &headers, Bytes::new()).await?)
    }

    fn answer(&self, answer: Raw) -> Result<Progress, Fault> {
        if answer.status.as_u16() == 308 {
            return persisted(&answer.headers)
                .map(Progress::Partial)
                .ok_or_else(|| Fault::refused(malformed(self.about, "range")));
        }
        if !answer.status.is_success() {
            return Err(answer.fault(self.about));
        }
        let resource: Value =
            serde_json::from_slice(&answer.body).map_err(|error| Fault::unreadable(self.about, error))?;
        Object::from_resource(self.about, &resource)
            .map(|object| Progress::Done(Box::new(object)))
            .map_err(Fault::refused)
    }

    /// Tells the service to forget the parts; it would by itself, after a week.
    async fn cancel(&self) {
        let _ = self.storage.rest.raw(self.about, Method::DELETE, &self.url, &[], Bytes::new()).await;
    }
}

/// `Range: bytes=0-LAST`; no header when nothing is kept.
fn persisted(headers: &HeaderMap) -> Option<u64> {
    let Some(range) = headers.get("range") else {
        return Some(0);
    };
    let last: u64 = range.to_str().ok()?.strip_prefix("bytes=0-")?.parse().ok()?;
    last.checked_add(1)
}

fn malformed(about: &str, what: &str) -> Failure {
    Failure::Corrupt { object: about.into(), message: format!("unreadable answer to an upload: {what}") }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_kept_range_is_read() {
        let read = |text: &'static str| {
            persisted(&HeaderMap::from_iter([(http::header::RANGE, HeaderValue::from_static(text))]))
        };
        assert_eq!(persisted(&HeaderMap::new()), Some(0));
        assert_eq!(read("bytes=0-262143"), Some(262_144));
        for broken in ["bytes=5-9", "0-9", "bytes=0-x", "bytes=0-18446744073709551615"] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
