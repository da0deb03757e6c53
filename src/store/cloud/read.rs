//! Reading: one stream of one state of an object, begun again where it broke.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{GetOptions, GetRange};

use super::{CloudStore, Seen, failure};
use crate::model::Failure;
use crate::store::{ByteStream, not_found};

/// Tries without a byte between them, before a read is given up.
const MAX_TRIES: u32 = 5;

/// Opens an object, or a range of one state of it.
pub(super) async fn open(
    store: &CloudStore,
    key: &str,
    part: Option<(Seen, Range<u64>)>,
) -> Result<(Seen, ByteStream), Failure> {
    let mut reading = Reading { store: store.clone(), key: key.into(), state: part, stream: None, tries: 0 };
    while let Err(failure) = reading.begin().await {
        reading.again(failure).await?;
    }
    let Some((seen, _)) = reading.state.clone() else { return Err(not_found(store.name(key))) };
    Ok((seen, reading.chunks()))
}

struct Reading {
    store: CloudStore,
    key: String,
    /// The state that is read, and what of it is still to come; `None` before the first answer.
    state: Option<(Seen, Range<u64>)>,
    stream: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    tries: u32,
}

impl Reading {
    async fn begin(&mut self) -> Result<(), Failure> {
        let path = self.store.path(&self.key)?;
        let mut options = GetOptions::default();
        if let Some((seen, left)) = &self.state {
            options.range = Some(GetRange::Bounded(left.clone()));
            options.if_match = Some(seen.e_tag.clone());
        }
        let call = self.store.service.objects().get_opts(&path, options);
        let name = || self.store.name(&self.key);
        let got = match tokio::time::timeout(self.store.timeouts.call, call).await {
            Ok(Ok(got)) => got,
            Ok(Err(error)) => return Err(failure::of_read(&name(), &error)),
            Err(_) => return Err(Failure::Transient { object: name(), message: "was not answered in time".into() }),
        };
        if self.state.is_none() {
            self.state = Some((Seen::of(&got.meta, &got.attributes), 0..got.meta.size));
        }
        self.stream = Some(got.into_stream());
        Ok(())
    }

    /// Waits before another try, or gives up.
    async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.stream = None;
        self.tries += 1;
        if self.tries >= MAX_TRIES || !matches!(failure, Failure::Transient { .. }) {
            return Err(match failure {
                // It was replaced meanwhile: what is left of it is nowhere.
                Failure::Precondition { object, message } => Failure::Transient { object, message },
                other => other,
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(100 << self.tries)).await;
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let left = self.state.as_ref().map_or(0..0, |(_, left)| left.clone());
            if left.is_empty() {
                return Ok(None);
            }
            let name = self.store.name(&self.key);
            let outcome = match &mut self.stream {
                None => self.begin().await.map(|()| None),
                Some(stream) => match tokio::time::timeout(self.store.timeouts.progress, stream.next()).await {
                    Ok(Some(Ok(chunk))) => Ok(Some(chunk)),
                    Ok(Some(Err(error))) => Err(failure::of_read(&name, &error)),
                    Ok(None) => Err(Failure::Transient { object: name, message: "ended early".into() }),
                    Err(_) => Err(Failure::Transient { object: name, message: "brought nothing in time".into() }),
                },
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(mut chunk)) => {
                    let length = left.end - left.start;
                    chunk.truncate(usize::try_from(length).unwrap_or(usize::MAX).min(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    self.tries = 0;
                    if let Some((_, left)) = &mut self.state {
                        left.start += chunk.len() as u64;
                    }
                    return Ok(Some(chunk));
                }
                Err(failure) => self.again(failure).await?,
            }
        }
    }

    fn chunks(self) -> ByteStream {
        futures::stream::unfold(Some(self), async |reading| {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
                Ok(None) => None,
                Err(failure) => Some((Err(failure), None)),
            }
        })
        .boxed()
    }
}
