//! Tombstones: what takes a manifest's place where there must never be one any more.
//!
//! A worker that was overtaken may have its manifest under way. Whoever takes its backup back puts a tombstone there first,
//! by put-if-absent: of manifest and tombstone one comes first, and that one stands.
//!
//! One also takes the place of the manifest of a backup that was removed, as long as objects in its folder are part of others.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Failure;
use crate::store::Store;

/// No tombstone is larger; a manifest that is need not be read as one.
const MAX_BYTES: usize = 4_096;
const TRIES: u32 = 8;

/// Why there is no backup here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// The run that did not come to its end; empty for a backup that was removed.
    pub abandoned_run: String,
    pub at: Timestamp,
    /// The backup was removed, and others are made of objects that still lie here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

/// What stands in a manifest's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Manifest,
    Tombstone,
}

impl Tombstone {
    /// Whether this is one, and no manifest.
    pub fn is(bytes: &[u8]) -> bool {
        bytes.len() <= MAX_BYTES && serde_json::from_slice::<Self>(bytes).is_ok()
    }

    /// What stands in place of the manifest of a backup that was removed.
    pub fn of_removed(at: Timestamp) -> Self {
        Self { abandoned_run: String::new(), at, removed: true }
    }

    /// Whether this is one of a backup that was removed.
    pub fn is_of_removed(bytes: &[u8]) -> bool {
        Self::is(bytes) && serde_json::from_slice::<Self>(bytes).is_ok_and(|stone| stone.removed)
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Takes the manifest's place in `folder`, unless there is a manifest. Gives what stands there from now on.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn place(&self, store: &dyn Store, folder: &str) -> Result<Standing, Failure> {
        let key = format!("{folder}/manifest.json");
        for _ in 0..TRIES {
            match store.put_if_absent(&key, self.to_bytes()).await {
                Ok(_) => return Ok(Standing::Tombstone),
                Err(Failure::Exists { .. } | Failure::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
            match store.get(&key).await {
                Ok((found, _)) if Self::is(&found) => return Ok(Standing::Tombstone),
                Ok(_) => return Ok(Standing::Manifest),
                Err(Failure::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(unsettled(store, &key))
    }

    /// Takes the manifest's place in `folder`, also from a manifest: in the copies of a backup that the primary does not
    /// hold.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn replace(&self, store: &dyn Store, folder: &str) -> Result<(), Failure> {
        let key = format!("{folder}/manifest.json");
        for _ in 0..TRIES {
            if self.place(store, folder).await? == Standing::Tombstone {
                return Ok(());
            }
            let Some(found) = store.head(&key).await? else { continue };
            match store.put_if_match(&key, self.to_bytes(), &found.version).await {
                Ok(_) => return Ok(()),
                Err(Failure::Precondition { .. } | Failure::NotFound { .. } | Failure::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(unsettled(store, &key))
    }
}

fn unsettled(store: &dyn Store, key: &str) -> Failure {
    Failure::Unknown { object: format!("{}/{key}", store.describe()), message: "changes again and again".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn the_first_stands() {
        let store = MemoryStore::new();
        let stone = Tombstone { abandoned_run: "r".into(), at: Timestamp::UNIX_EPOCH, removed: false };
        assert_eq!(stone.place(&store, "a").await.unwrap(), Standing::Tombstone);
        assert_eq!(stone.place(&store, "a").await.unwrap(), Standing::Tombstone);
        let refused = store.put_if_absent("a/manifest.json", Bytes::from_static(b"{}")).await;
        assert!(matches!(refused, Err(Failure::Exists { .. })), "a stale manifest finds its place taken");
        store.put("b/manifest.json", Bytes::from_static(b"{\"format\": 1}")).await.unwrap();
        assert_eq!(stone.place(&store, "b").await.unwrap(), Standing::Manifest);
        stone.replace(&store, "b").await.unwrap();
        assert!(Tombstone::is(&store.get("b/manifest.json").await.unwrap().0));
    }
}
