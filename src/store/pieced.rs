//! A backup's objects, each from the first of its places that has it as it was written. Only reads.
//!
//! A place that keeps no checksums (a directory) is believed when the whole object was read once and had its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use super::{ByteStream, ObjectInfo, Site, Store, Version};
use crate::codec::digest::Digester;
use crate::model::{Digests, Failure};

/// What is known of an object in a place, by the place's number and the key.
#[derive(Default)]
struct Known {
    bad: BTreeSet<(usize, String)>,
    good: BTreeSet<(usize, String)>,
}

/// Copies of the same objects as one store.
pub struct PiecedStore {
    places: Vec<Arc<dyn Store>>,
    expected: BTreeMap<String, Digests>,
    known: Mutex<Known>,
}

impl PiecedStore {
    /// Of places in the order in which they are asked, never none; `bad` is what a look has found not to be whole.
    pub fn new(
        places: Vec<Arc<dyn Store>>,
        expected: BTreeMap<String, Digests>,
        bad: impl IntoIterator<Item = (usize, String)>,
    ) -> Self {
        let known = Known { bad: bad.into_iter().collect(), good: BTreeSet::new() };
        Self { places, expected, known: Mutex::new(known) }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The places that may have an object.
    fn candidates(&self, key: &str) -> Vec<usize> {
        self.known(|known| (0..self.places.len()).filter(|at| !known.bad.contains(&(*at, key.to_string()))).collect())
    }

    fn distrust(&self, at: usize, key: &str) {
        self.known(|known| {
            known.good.remove(&(at, key.to_string()));
            known.bad.insert((at, key.to_string()));
        });
    }

    /// The places to ask for an object, one after the other.
    fn turns<'a>(&'a self, key: &'a str) -> Turns<'a> {
        let mut places = self.candidates(key);
        places.reverse();
        Turns { store: self, key, places, failed: None }
    }

    async fn is_whole(&self, at: usize, key: &str) -> Result<bool, Failure> {
        let Some(expected) = self.expected.get(key) else { return Ok(true) };
        if self.known(|known| known.good.contains(&(at, key.to_string()))) {
            return Ok(true);
        }
        let place = self.places[at].as_ref();
        let whole = match place.head(key).await? {
            None => false,
            Some(info) if info.size_bytes != expected.size_bytes => false,
            Some(info) => match info.crc32c {
                Some(crc) => crc == expected.crc32c,
                None => digests(place.read(key).await?).await? == *expected,
            },
        };
        if whole {
            self.known(|known| known.good.insert((at, key.to_string())));
        } else {
            self.distrust(at, key);
        }
        Ok(whole)
    }

    fn nowhere(&self, key: &str) -> Failure {
        let places: Vec<String> = self.places.iter().map(|place| place.describe()).collect();
        let message =
            format!("is not what was written in any place ({}); hint: strongroom repair tells", places.join(", "));
        Failure::Corrupt { object: key.into(), message }
    }

    fn read_only(&self, key: &str) -> Failure {
        let message = "copies are only read here: this is a fault of the program".into();
        Failure::Invalid { object: self.address(key), message }
    }
}

/// The places that are asked for an object, until one has it.
struct Turns<'a> {
    store: &'a PiecedStore,
    key: &'a str,
    /// The next is the last.
    places: Vec<usize>,
    failed: Option<Failure>,
}

impl<'a> Turns<'a> {
    /// The next place whose object seems whole.
    async fn next(&mut self) -> Option<(usize, &'a dyn Store)> {
        while let Some(at) = self.places.pop() {
            match self.store.is_whole(at, self.key).await {
                Ok(true) => return Some((at, self.store.places[at].as_ref())),
                Ok(false) => {}
                Err(error) => drop(self.settle::<()>(at, Err(error))),
            }
        }
        None
    }

    fn settle<T>(&mut self, at: usize, read: Result<T, Failure>) -> Option<T> {
        match read {
            Ok(read) => return Some(read),
            Err(error @ (Failure::NotFound { .. } | Failure::Corrupt { .. })) => {
                self.store.distrust(at, self.key);
                self.failed.get_or_insert(error);
            }
            // What cannot be reached may be whole: it is asked again next time.
            Err(error) => drop(self.failed.insert(error)),
        }
        None
    }

    fn end(self) -> Failure {
        self.failed.unwrap_or_else(|| self.store.nowhere(self.key))
    }
}

async fn digests(mut stream: ByteStream) -> Result<Digests, Failure> {
    let mut digester = Digester::new();
    while let Some(chunk) = stream.next().await {
        digester.update(&chunk?);
    }
    Ok(digester.finish())
}

#[async_trait]
impl Store for PiecedStore {
    fn describe(&self) -> String {
        self.places.first().map(|place| place.describe()).unwrap_or_default()
    }

    fn address(&self, key: &str) -> String {
        // Empty where no place has it.
        let at = self.candidates(key).first().copied();
        at.and_then(|at| self.places.get(at)).map(|place| place.address(key)).unwrap_or_default()
    }

    async fn site(&self) -> Result<Option<Site>, Failure> {
        match self.places.first() {
            Some(place) => place.site().await,
            None => Ok(None),
        }
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        let mut turns = self.turns(key);
        while let Some((at, place)) = turns.next().await {
            let changed =
                |bytes: &Bytes| self.expected.get(key).is_some_and(|expected| Digests::of(bytes) != *expected);
            let read = match place.get(key).await {
                Ok((bytes, _)) if changed(&bytes) => {
                    let message = "is not what was written".into();
                    Err(Failure::Corrupt { object: place.address(key), message })
                }
                read => read,
            };
            if let Some(read) = turns.settle(at, read) {
                return Ok(read);
            }
        }
        Err(turns.end())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let mut turns = self.turns(key);
        while let Some((at, place)) = turns.next().await {
            if let Some(read) = turns.settle(at, place.get_range(key, range.clone()).await) {
                return Ok(read);
            }
        }
        Err(turns.end())
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        let mut turns = self.turns(key);
        while let Some((at, place)) = turns.next().await {
            if let Some(read) = turns.settle(at, place.head(key).await) {
                return Ok(read);
            }
        }
        match turns.end() {
            Failure::NotFound { .. } => Ok(None),
            error => Err(error),
        }
    }

    async fn put_if_absent(&self, key: &str, _: Bytes) -> Result<Version, Failure> {
        Err(self.read_only(key))
    }

    async fn put_if_match(&self, key: &str, _: Bytes, _: &Version) -> Result<Version, Failure> {
        Err(self.read_only(key))
    }

    async fn put(&self, key: &str, _: Bytes) -> Result<Version, Failure> {
        Err(self.read_only(key))
    }

    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        let mut turns = self.turns(key);
        while let Some((at, place)) = turns.next().await {
            if let Some(read) = turns.settle(at, place.read(key).await) {
                return Ok(read);
            }
        }
        Err(turns.end())
    }

    async fn open_file(&self, key: &str) -> Result<Option<std::fs::File>, Failure> {
        let mut turns = self.turns(key);
        while let Some((at, place)) = turns.next().await {
            if let Some(read) = turns.settle(at, place.open_file(key).await) {
                return Ok(read);
            }
        }
        Err(turns.end())
    }

    async fn write_stream(&self, key: &str, _: ByteStream) -> Result<ObjectInfo, Failure> {
        Err(self.read_only(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        match self.places.first() {
            Some(place) => place.list(prefix).await,
            None => Ok(vec![]),
        }
    }

    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        match self.places.first() {
            Some(place) => place.list_prefixes(prefix).await,
            None => Ok(vec![]),
        }
    }

    async fn delete_if_match(&self, key: &str, _: &Version) -> Result<(), Failure> {
        Err(self.read_only(key))
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        Err(self.read_only(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{LocalStore, MemoryStore, collect};

    async fn put(store: &dyn Store, key: &str, bytes: &'static [u8]) {
        store.put(key, Bytes::from_static(bytes)).await.unwrap();
    }

    #[tokio::test]
    async fn every_object_comes_from_where_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let first = Arc::new(MemoryStore::new());
        let second = Arc::new(LocalStore::open(directory.path()).unwrap());
        let third = Arc::new(MemoryStore::new());
        // Missing in the first; of the same size and wrong in the second, which keeps no checksums.
        put(second.as_ref(), "a", b"wrong").await;
        put(third.as_ref(), "a", b"right").await;
        put(first.as_ref(), "b", b"other").await;
        put(second.as_ref(), "b", b"right").await;
        put(first.as_ref(), "c", b"lost").await;
        let expected = ["a", "b", "c"].map(|key| (key.to_string(), Digests::of(b"right")));
        let store = PiecedStore::new(vec![first, second, third], expected.into(), []);
        for key in ["a", "b"] {
            assert_eq!(store.get(key).await.unwrap().0, Bytes::from_static(b"right"));
            assert_eq!(collect(key, store.read(key).await.unwrap(), 100).await.unwrap(), Bytes::from_static(b"right"));
            assert_eq!(store.get_range(key, 0..2).await.unwrap(), Bytes::from_static(b"ri"));
        }
        assert!(store.open_file("b").await.unwrap().is_some());
        assert_eq!(store.address("b"), format!("file://{}/b", directory.path().display()));
        for failed in [store.get("c").await.err(), store.read("c").await.err()] {
            assert!(
                matches!(&failed, Some(Failure::Corrupt { message, .. }) if message.contains("in any place")),
                "{failed:?}"
            );
        }
        assert!(matches!(store.delete("a").await, Err(Failure::Invalid { .. })));
    }
}
