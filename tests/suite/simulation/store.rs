//! Buckets in memory, and a worker's view of one. The bucket itself never fails; the way to it does.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use strongroom::model::Failure;
use strongroom::store::{ByteStream, MemoryStore, ObjectInfo, Site, Store, Version, collect, stream_of};

use super::world::{Kind, Port, Sabotage, World};

/// A bucket as the service has it.
pub struct Bucket {
    pub name: &'static str,
    pub memory: MemoryStore,
}

/// What memory answers at once.
fn done<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("memory answers at once")
}

impl Bucket {
    pub fn new(name: &'static str, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { name, memory: MemoryStore::with_clock(now) }
    }

    pub fn peek(&self, key: &str) -> Option<Bytes> {
        done(self.memory.get(key)).ok().map(|(bytes, _)| bytes)
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = done(self.memory.list(prefix)).unwrap_or_default();
        listed.into_iter().map(|info| info.key).collect()
    }

    pub fn write(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        done(self.memory.put(key, bytes))
    }
}

/// A bucket as a worker reaches it.
pub struct SimStore {
    pub port: Arc<Port>,
    pub bucket: Arc<Bucket>,
}

impl SimStore {
    async fn look<T: Send + 'static>(
        &self,
        what: &str,
        key: &str,
        read: impl FnOnce(&MemoryStore) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let bucket = self.bucket.clone();
        let what = format!("{what} {}/{key}", bucket.name);
        self.port.call(Kind::Look, what, move || read(&bucket.memory)).await
    }

    /// A change of an object, seen by the oracle at the moment at which it takes effect.
    async fn change<T: Send + 'static>(
        &self,
        what: &str,
        key: &str,
        new: Option<Bytes>,
        write: impl FnOnce(&MemoryStore) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (bucket, world, key) = (self.bucket.clone(), self.port.world.clone(), key.to_string());
        let port = self.port.clone();
        let what = format!("{what} {}/{key}", bucket.name);
        super::check::before_change(&world, &port, &key, new.as_ref());
        self.port
            .call(Kind::Store, what, move || {
                let old = bucket.peek(&key);
                let outcome = write(&bucket.memory)?;
                super::check::after_change(&world, &port, &bucket, &key, old, new);
                Ok(outcome)
            })
            .await
    }

    fn unconditional(&self) -> bool {
        self.port.world.sabotage == Some(Sabotage::Unconditional)
    }
}

#[async_trait]
impl Store for SimStore {
    fn describe(&self) -> String {
        format!("gs://{}", self.bucket.name)
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        Ok(Some(Site { location: "EU".into(), retention_locked: false }))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        let owned = key.to_string();
        self.look("get", key, move |memory| done(memory.get(&owned))).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let owned = key.to_string();
        self.look("get_range", key, move |memory| done(memory.get_range(&owned, range))).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        let owned = key.to_string();
        self.look("head", key, move |memory| done(memory.head(&owned))).await
    }

    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        let (owned, new, anyway) = (key.to_string(), bytes.clone(), self.unconditional());
        self.change("put_if_absent", key, Some(bytes), move |memory| {
            if anyway { done(memory.put(&owned, new)) } else { done(memory.put_if_absent(&owned, new)) }
        })
        .await
    }

    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        let (owned, new, version, anyway) = (key.to_string(), bytes.clone(), version.clone(), self.unconditional());
        self.change("put_if_match", key, Some(bytes), move |memory| {
            if anyway { done(memory.put(&owned, new)) } else { done(memory.put_if_match(&owned, new, &version)) }
        })
        .await
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        let (owned, new) = (key.to_string(), bytes.clone());
        self.change("put", key, Some(bytes), move |memory| done(memory.put(&owned, new))).await
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        let (bytes, _) = self.get(key).await?;
        Ok(stream_of(bytes))
    }

    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        let bytes = collect(key, stream, u64::MAX).await?;
        let (owned, new) = (key.to_string(), bytes.clone());
        self.change("write_stream", key, Some(bytes), move |memory| done(memory.write_stream(&owned, stream_of(new))))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        let owned = prefix.to_string();
        self.look("list", prefix, move |memory| done(memory.list(&owned))).await
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let owned = prefix.to_string();
        self.look("list_prefixes", prefix, move |memory| done(memory.list_prefixes(&owned))).await
    }

    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        let (owned, version) = (key.to_string(), version.clone());
        self.change("delete_if_match", key, None, move |memory| done(memory.delete_if_match(&owned, &version))).await
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let owned = key.to_string();
        self.change("delete", key, None, move |memory| done(memory.delete(&owned))).await
    }
}

/// The bucket of a `gs://bucket/key` and the key.
pub fn resolve<'a>(world: &World, uri: &'a str) -> Option<(Arc<Bucket>, &'a str)> {
    let (bucket, key) = uri.strip_prefix("gs://")?.split_once('/')?;
    Some((world.buckets.get(bucket)?.clone(), key))
}

/// Whether the sabotaged service forgets this file.
pub fn forgets(world: &World) -> bool {
    world.sabotage == Some(Sabotage::Forgetful) && world.one_in_thousand(200)
}
