//! A store in memory, for tests and dry runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    ByteStream, MAX_GET_BYTES, ObjectInfo, Store, Version, changed, collect, exists, key, next_prefix, not_found,
};
use crate::model::Failure;

/// A map with a counter for versions.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    clock: Box<dyn Fn() -> jiff::Timestamp + Send + Sync>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    counter: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    version: Version,
    updated: jiff::Timestamp,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::with_clock(jiff::Timestamp::now)
    }

    /// With a clock of its own, which says when an object was written.
    pub fn with_clock(clock: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Self {
        Self { inner: Mutex::default(), clock: Box::new(clock) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Result<Object, Failure> {
        key::check(key)?;
        self.lock().objects.get(key).cloned().ok_or_else(|| not_found(name(key)))
    }

    fn put_where(
        &self,
        key: &str,
        bytes: Bytes,
        allowed: impl FnOnce(Option<&Object>) -> Result<(), Failure>,
    ) -> Result<ObjectInfo, Failure> {
        key::check(key)?;
        let mut inner = self.lock();
        allowed(inner.objects.get(key))?;
        inner.counter += 1;
        let version = Version(inner.counter.to_string());
        let object = Object { bytes, version, updated: (self.clock)() };
        let info = info(key, &object);
        inner.objects.insert(key.into(), object);
        Ok(info)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

fn name(key: &str) -> String {
    format!("memory:{key}")
}

fn info(key: &str, object: &Object) -> ObjectInfo {
    ObjectInfo {
        key: key.into(),
        size_bytes: object.bytes.len() as u64,
        version: object.version.clone(),
        crc32c: Some(crc32c::crc32c(&object.bytes)),
        updated: object.updated,
    }
}

fn absent(key: &str) -> impl FnOnce(Option<&Object>) -> Result<(), Failure> {
    let name = name(key);
    move |object| object.map_or(Ok(()), |_| Err(exists(name)))
}

fn still(key: &str, version: &Version) -> impl FnOnce(Option<&Object>) -> Result<(), Failure> {
    let (name, version) = (name(key), version.clone());
    move |object| match object {
        Some(object) if object.version == version => Ok(()),
        _ => Err(changed(name)),
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn describe(&self) -> String {
        "memory".into()
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        self.object(key).map(|object| (object.bytes, object.version))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let bytes = self.object(key)?.bytes;
        let end = range.end.min(bytes.len() as u64) as usize;
        Ok(bytes.slice((range.start as usize).min(end)..end))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        key::check(key)?;
        Ok(self.lock().objects.get(key).map(|object| info(key, object)))
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        Ok(self.put_where(key, bytes, absent(key))?.version)
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        Ok(self.put_where(key, bytes, still(key, version))?.version)
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        Ok(self.put_where(key, bytes, |_| Ok(()))?.version)
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        Ok(super::stream_of(self.object(key)?.bytes))
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        key::check(key)?;
        let bytes = collect(&name(key), stream, MAX_GET_BYTES).await?;
        self.put_where(key, bytes, absent(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        key::check_prefix(prefix)?;
        let inner = self.lock();
        let from = inner.objects.range(prefix.to_string()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, object)| info(key, object)).collect())
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        key::check_prefix(prefix)?;
        let found: BTreeSet<_> = self.lock().objects.keys().filter_map(|key| next_prefix(key, prefix)).collect();
        Ok(found.into_iter().collect())
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        key::check(key)?;
        let mut inner = self.lock();
        match inner.objects.get(key) {
            None => Err(not_found(name(key))),
            Some(object) if object.version != *version => Err(changed(name(key))),
            Some(_) => {
                inner.objects.remove(key);
                Ok(())
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        key::check(key)?;
        self.lock().objects.remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    #[tokio::test]
    async fn conforms() {
        conformance::run(&MemoryStore::new()).await;
    }
}
