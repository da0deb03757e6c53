//! A store into which objects can be put, and that gives nothing back: what a credential that may only create makes of a
//! bucket. It shows what was put in by this very store, with the sizes and checksums that the store behind it answered, so that
//! whoever writes can look at his own work; of all else it knows nothing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteStream, ObjectInfo, Site, Store, Version, exists, next_prefix, not_found};
use crate::model::Failure;

/// Bytes up to this size are kept, to be looked at again: manifests and definitions. Larger objects have their checksum only.
const KEPT_BYTES: usize = 64 << 20;

/// Another store, of which only creations are used.
pub struct DropBox {
    inner: Arc<dyn Store>,
    put: Mutex<BTreeMap<String, (ObjectInfo, Option<Bytes>)>>,
}

impl DropBox {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, put: Mutex::default() }
    }

    fn own(&self, key: &str) -> Option<(ObjectInfo, Option<Bytes>)> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn note(&self, key: &str, info: ObjectInfo, bytes: Option<Bytes>) {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).insert(key.into(), (info, bytes));
    }

    fn name(&self, key: &str) -> String {
        format!("{}/{key}", self.describe())
    }

    fn refused(&self, key: &str, what: &str) -> Failure {
        let message = format!("is in a place into which may only be put, and cannot be {what}; hint: `create_only`");
        Failure::Denied { object: self.name(key), message }
    }

    fn infos(&self, prefix: &str) -> Vec<ObjectInfo> {
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        put.values().map(|(info, _)| info.clone()).filter(|info| info.key.starts_with(prefix)).collect()
    }
}

#[async_trait]
impl Store for DropBox {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        self.inner.site().await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        match self.own(key) {
            Some((info, Some(bytes))) => Ok((bytes, info.version)),
            Some(_) => Err(self.refused(key, "read")),
            None => Err(not_found(self.name(key))),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let (bytes, _) = self.get(key).await?;
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
        let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
        Ok(bytes.slice(start..end))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        Ok(self.own(key).map(|(info, _)| info))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        let version = self.inner.put_if_absent(key, bytes.clone()).await?;
        let info = ObjectInfo {
            key: key.into(),
            size_bytes: bytes.len() as u64,
            version: version.clone(),
            crc32c: Some(crc32c::crc32c(&bytes)),
            updated: jiff::Timestamp::UNIX_EPOCH,
        };
        self.note(key, info, (bytes.len() <= KEPT_BYTES).then_some(bytes));
        Ok(version)
    }

    async fn put_if_match(&self, key: &str, _bytes: Bytes, _version: &Version) -> Result<Version, Failure> {
        Err(self.refused(key, "replaced"))
    }

    /// Nothing is replaced here: the same as `put_if_absent`.
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.put_if_absent(key, bytes).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        Ok(super::stream_of(self.get(key).await?.0))
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        if self.own(key).is_some() {
            return Err(exists(self.name(key)));
        }
        let info = self.inner.write_stream(key, stream).await?;
        self.note(key, info.clone(), None);
        Ok(info)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        Ok(self.infos(prefix))
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let mut found: Vec<String> =
            self.infos(prefix).iter().filter_map(|info| next_prefix(&info.key, prefix)).collect();
        found.dedup();
        Ok(found)
    }

    async fn delete_if_match(&self, key: &str, _version: &Version) -> Result<(), Failure> {
        Err(self.refused(key, "deleted"))
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        Err(self.refused(key, "deleted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, stream_of};

    #[tokio::test]
    async fn what_was_put_in_is_seen_and_nothing_else() {
        let behind = Arc::new(MemoryStore::new());
        behind.put("a/theirs", Bytes::from_static(b"x")).await.unwrap();
        let store = DropBox::new(behind.clone());
        assert_eq!(store.list("").await.unwrap(), []);
        assert_eq!(store.head("a/theirs").await.unwrap(), None);
        assert!(matches!(store.put("a/theirs", Bytes::new()).await, Err(Failure::Exists { .. })), "never replaced");

        store.put_if_absent("a/own", Bytes::from_static(b"own")).await.unwrap();
        let info = store.write_stream("a/b/stream", stream_of(Bytes::from_static(b"12345"))).await.unwrap();
        assert_eq!(info.size_bytes, 5);
        assert_eq!(store.get("a/own").await.unwrap().0, Bytes::from_static(b"own"));
        assert!(matches!(store.get("a/b/stream").await, Err(Failure::Denied { .. })), "a stream's bytes are gone");
        let keys: Vec<String> = store.list("a/").await.unwrap().into_iter().map(|info| info.key).collect();
        assert_eq!(keys, ["a/b/stream", "a/own"]);
        assert_eq!(store.list_prefixes("a/").await.unwrap(), ["a/b/"]);
        for outcome in [store.delete("a/own").await, store.delete_if_match("a/own", &info.version).await] {
            assert!(matches!(outcome, Err(Failure::Denied { .. })));
        }
        assert_eq!(behind.list("").await.unwrap().len(), 3);
    }
}
