//! The one way between an object's content and what lies in the store.

use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;

use super::inspect;
use crate::codec::digest::Digester;
use crate::codec::seal;
use crate::manifest::{ObjectRecord, SealingRecord, StoredForm};
use crate::model::{Digests, Failure};
use crate::store::{ByteStream, Store, sealed};

/// An object's content, out of a place that gives it (`job/sealing.rs`: `open`). The stream ends with `Corrupt` when it was not what the record says.
///
/// # Errors
/// `NotFound`, and as the store's medium fails.
pub(super) async fn read(store: &dyn Store, object: &ObjectRecord) -> Result<ByteStream, Failure> {
    let stored = store.read(&object.key).await?;
    let (name, expected) = (format!("{}/{}", store.describe(), object.key), object.digests);
    Ok(watched(stored, move |found| match found == expected {
        true => Ok(()),
        false => Err(Failure::Corrupt { object: name, message: "is not what was written".into() }),
    }))
}

/// Writes content as an object, sealed where that is asked. What lies there already, from an attempt of this very run, must be the same.
///
/// # Errors
/// The content's own; `Corrupt` when something else lies there.
pub(super) async fn write(
    store: &dyn Store,
    key: &str,
    content: ByteStream,
    sealing: Option<&SealingRecord>,
) -> Result<ObjectRecord, Failure> {
    if let Some(sealing) = sealing {
        return write_sealed(store, key, content, sealing).await;
    }
    let seen: Arc<Mutex<Option<Digests>>> = Arc::default();
    let told = seen.clone();
    let content = watched(content, move |found| {
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(())
    });
    let stored = match store.write_stream(key, content).await {
        Ok(info) => Some(info.size_bytes),
        Err(Failure::Exists { .. }) => None,
        Err(error) => return Err(error),
    };
    let sent = *seen.lock().unwrap_or_else(PoisonError::into_inner);
    let name = || format!("{}/{key}", store.describe());
    let digests = match (stored, sent) {
        (Some(size_bytes), Some(digests)) if size_bytes == digests.size_bytes => digests,
        // A store that refuses may have read nothing.
        (None, _) => inspect::digests(store, key).await?,
        (Some(size_bytes), _) => {
            return Err(Failure::Corrupt {
                object: name(),
                message: format!("{size_bytes} bytes arrived of the content"),
            });
        }
    };
    Ok(ObjectRecord { key: key.into(), digests, row_count: None, stored: None })
}

/// No two sealings of the same content are alike, and this side cannot look into one: what lies there already is replaced.
async fn write_sealed(
    store: &dyn Store,
    key: &str,
    content: ByteStream,
    sealing: &SealingRecord,
) -> Result<ObjectRecord, Failure> {
    let encodings = seal::encodings(key);
    let key = seal::stored_name(key, &encodings);
    let name = format!("{}/{key}", store.describe());
    let (sealed, passed) = sealed::seal(&name, content, &sealing.recipients, &encodings)?;
    let corrupt = |message: String| Failure::Corrupt { object: name.clone(), message };
    let size_bytes = match store.write_stream(&key, sealed).await {
        Ok(info) => info.size_bytes,
        Err(Failure::Exists { .. }) => {
            store.delete(&key).await?;
            return Err(corrupt("an attempt before has left what nobody here can look into".into()));
        }
        Err(error) => return Err(error),
    };
    match passed.digests() {
        Some(digests) if digests.stored.size_bytes == size_bytes => {
            let stored = Some(Box::new(StoredForm { digests: digests.stored, encodings }));
            Ok(ObjectRecord { key, digests: digests.content, row_count: None, stored })
        }
        _ => Err(corrupt(format!("{size_bytes} bytes arrived of what was sealed"))),
    }
}

/// The stream as it is; `judge` sees its digests when it has ended well, and may end it with a failure instead.
fn watched(stream: ByteStream, judge: impl FnOnce(Digests) -> Result<(), Failure> + Send + 'static) -> ByteStream {
    let state = Some((stream, Digester::new(), judge));
    futures::stream::unfold(state, async |state| {
        let (mut stream, mut digester, judge) = state?;
        match stream.next().await {
            Some(Ok(chunk)) => {
                digester.update(&chunk);
                Some((Ok(chunk), Some((stream, digester, judge))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None => judge(digester.finish()).err().map(|error| (Err(error), None)),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{MemoryStore, stream_of};

    #[tokio::test]
    async fn content_comes_as_it_went_and_other_content_is_refused() {
        let store = MemoryStore::default();
        let body = Bytes::from(vec![7; 1 << 20]);
        let written = write(&store, "a", stream_of(body.clone()), None).await.unwrap();
        assert_eq!(written.digests, Digests::of(&body));
        let again = write(&store, "a", stream_of(body.clone()), None).await.unwrap();
        assert_eq!(again, written, "the same content again is the same object");
        let other = write(&store, "a", stream_of(Bytes::from_static(b"other")), None).await.unwrap();
        assert_eq!(other, written, "what lies there is told");

        let read_back = crate::store::collect("a", read(&store, &written).await.unwrap(), u64::MAX).await.unwrap();
        assert_eq!(read_back, body);
        let wrong = ObjectRecord { digests: Digests::of(b"other"), ..written };
        let refused = crate::store::collect("a", read(&store, &wrong).await.unwrap(), u64::MAX).await;
        assert!(matches!(refused, Err(Failure::Corrupt { .. })), "{refused:?}");
    }
}

#[cfg(test)]
#[path = "contents_memory.rs"]
mod memory;
