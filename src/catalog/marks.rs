//! Marks: what is said of a backup after it was committed. A manifest is never changed; marks lie beside the catalog.
//!
//! `_strongroom/marks/{backup}/{verified,pinned,condemned}.json`, below the home's root. A mark names the commit id of its
//! backup: a backup that later takes the name does not inherit it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OWN_FOLDER;
use crate::model::{BackupName, Failure, TierName};
use crate::store::Store;

/// How many marks are read at once.
const PARALLEL: usize = 16;

/// A restore of the backup was proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub commit_id: String,
    pub at: Timestamp,
    /// Who did it, for people.
    pub by: String,
    /// How: the drill's or the verification's name.
    pub how: String,
}

/// The backup is kept until it is unpinned, or until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    pub commit_id: String,
    pub at: Timestamp,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// The backup is to be removed once the time of grace is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    pub commit_id: String,
    pub tier: TierName,
    /// When the backup's run began: with tier and name it tells its folder, also when the manifest is gone.
    pub started_at: Timestamp,
    pub at: Timestamp,
    pub by: String,
    /// By a person, not by a rule.
    pub by_hand: bool,
}

/// All that is said of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Marks {
    pub verified: Option<Verified>,
    pub pinned: Option<Pinned>,
    pub condemned: Option<Condemned>,
}

/// A kind of mark.
pub trait Mark: Serialize + DeserializeOwned + Send + Sync {
    /// The name of its object, without the ending.
    const KIND: &'static str;
    fn commit_id(&self) -> &str;
}

macro_rules! mark {
    ($type:ty, $kind:literal) => {
        impl Mark for $type {
            const KIND: &'static str = $kind;
            fn commit_id(&self) -> &str {
                &self.commit_id
            }
        }
    };
}

mark!(Verified, "verified");
mark!(Pinned, "pinned");
mark!(Condemned, "condemned");

fn key(backup: &BackupName, kind: &str) -> String {
    format!("{OWN_FOLDER}/marks/{backup}/{kind}.json")
}

/// Sets a mark; an older one of its kind is replaced.
///
/// # Errors
/// When the store cannot be written.
pub async fn set<M: Mark>(home: &dyn Store, backup: &BackupName, mark: &M) -> Result<(), Failure> {
    let key = key(backup, M::KIND);
    let encoded = serde_json::to_vec_pretty(mark)
        .map_err(|error| Failure::Invalid { object: key.clone(), message: error.to_string() })?;
    home.put(&key, Bytes::from(encoded)).await.map(drop)
}

/// Takes a mark away; none is as good.
///
/// # Errors
/// When the store cannot be written.
pub async fn clear<M: Mark>(home: &dyn Store, backup: &BackupName) -> Result<(), Failure> {
    home.delete(&key(backup, M::KIND)).await
}

/// Takes every mark of a backup away.
///
/// # Errors
/// When the store cannot be written.
pub async fn clear_all(home: &dyn Store, backup: &BackupName) -> Result<(), Failure> {
    for kind in [Verified::KIND, Pinned::KIND, Condemned::KIND] {
        home.delete(&key(backup, kind)).await?;
    }
    Ok(())
}

/// The marks of one backup.
///
/// # Errors
/// When the store cannot be read, or a mark is damaged.
pub async fn of(home: &dyn Store, backup: &BackupName, commit_id: &str) -> Result<Marks, Failure> {
    let (verified, pinned, condemned) =
        tokio::try_join!(one(home, backup, commit_id), one(home, backup, commit_id), one(home, backup, commit_id))?;
    Ok(Marks { verified, pinned, condemned })
}

/// The marks of many backups, by name: `backups` are names with their commit ids. Backups without a mark are left out.
///
/// # Errors
/// When the store cannot be read, or a mark is damaged: an unreadable pin must not count as none.
pub async fn of_all(
    home: &dyn Store,
    backups: impl IntoIterator<Item = (BackupName, String)>,
) -> Result<BTreeMap<BackupName, Marks>, Failure> {
    // One listing tells which have any.
    let marked = home.list_prefixes(&format!("{OWN_FOLDER}/marks/")).await?;
    let marked: std::collections::HashSet<&str> =
        marked.iter().filter_map(|prefix| prefix.trim_end_matches('/').rsplit('/').next()).collect();
    stream::iter(backups.into_iter().filter(|(name, _)| marked.contains(name.as_str())))
        .map(|(name, commit_id)| async move { Ok((name.clone(), of(home, &name, &commit_id).await?)) })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await
}

async fn one<M: Mark>(home: &dyn Store, backup: &BackupName, commit_id: &str) -> Result<Option<M>, Failure> {
    Ok(read::<M>(home, backup).await?.filter(|mark| mark.commit_id() == commit_id))
}

async fn read<M: Mark>(home: &dyn Store, backup: &BackupName) -> Result<Option<M>, Failure> {
    let key = key(backup, M::KIND);
    let bytes = match home.get(&key).await {
        Ok((bytes, _)) => bytes,
        Err(Failure::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| Failure::Corrupt {
        object: format!("{}/{key}", home.describe()),
        message: format!("{error}; hint: delete this object and set the mark again"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn pinned(commit_id: &str) -> Pinned {
        Pinned {
            commit_id: commit_id.into(),
            at: "2026-08-01T02:00:00Z".parse().unwrap(),
            by: "ann".into(),
            reason: Some("audit".into()),
            until: None,
        }
    }

    #[tokio::test]
    async fn a_mark_is_of_one_commit_only() {
        let home = MemoryStore::new();
        let name: BackupName = "x_daily".parse().unwrap();
        set(&home, &name, &pinned("a")).await.unwrap();
        assert_eq!(of(&home, &name, "a").await.unwrap().pinned, Some(pinned("a")));
        assert_eq!(of(&home, &name, "b").await.unwrap(), Marks::default());
        let other: BackupName = "y_daily".parse().unwrap();
        let all = of_all(&home, [(name.clone(), "a".into()), (other, "a".into())]).await.unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&name]);
        clear::<Pinned>(&home, &name).await.unwrap();
        assert_eq!(of(&home, &name, "a").await.unwrap(), Marks::default());
    }

    #[tokio::test]
    async fn a_damaged_mark_is_an_error_not_an_absence() {
        let home = MemoryStore::new();
        let name: BackupName = "x_daily".parse().unwrap();
        home.put(&key(&name, "pinned"), Bytes::from_static(b"{")).await.unwrap();
        let error = of(&home, &name, "a").await.unwrap_err();
        assert!(error.to_string().contains("marks/x_daily/pinned.json"), "{error}");
    }
}
