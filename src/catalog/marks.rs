//! Marks: what is said of a backup after it was committed. A manifest is never changed; marks lie beside the catalog.
//!
//! `_strongroom/marks/{backup}/{verified,pinned,condemned,approved}.json`, below the home's root. A mark names the commit id of its
//! backup: a backup that later takes the name does not inherit it.
//!
//! Where the catalog is signed, the chronicle is what counts: a mark that somebody puts there or takes away changes nothing. The
//! objects are kept for people, and for the day on which signing is turned off.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OWN_FOLDER;
use super::chronicle::Chronicle;
use crate::manifest::chronicle::{Event, History};
use crate::manifest::{Doubt, DoubtKind};
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
    /// Its objects are held in the stores that know holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
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

/// The change before which the backup was taken is verified: it need not be kept for that any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    pub commit_id: String,
    pub at: Timestamp,
    /// Who says so.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// All that is said of one backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Marks {
    pub verified: Option<Verified>,
    pub pinned: Option<Pinned>,
    pub condemned: Option<Condemned>,
    pub approved: Option<Approved>,
}

/// A kind of mark.
pub trait Mark: Serialize + DeserializeOwned + Send + Sync {
    /// The name of its object, without the ending.
    const KIND: &'static str;
    fn commit_id(&self) -> &str;
    fn at(&self) -> Timestamp;
    fn by(&self) -> &str;
}

macro_rules! mark {
    ($type:ty, $kind:literal) => {
        impl Mark for $type {
            const KIND: &'static str = $kind;
            fn commit_id(&self) -> &str {
                &self.commit_id
            }
            fn at(&self) -> Timestamp {
                self.at
            }
            fn by(&self) -> &str {
                &self.by
            }
        }
    };
}

mark!(Verified, "verified");
mark!(Pinned, "pinned");
mark!(Condemned, "condemned");
mark!(Approved, "approved");

fn key(backup: &BackupName, kind: &str) -> String {
    format!("{OWN_FOLDER}/marks/{backup}/{kind}.json")
}

/// The kind under which the chronicle has removals that were decided; no object.
pub const REMOVING: &str = "removing";

/// The kinds of marks.
const KINDS: [&str; 4] = [Verified::KIND, Pinned::KIND, Condemned::KIND, Approved::KIND];

/// All marks of a system. Cheap to clone.
#[derive(Clone)]
pub struct Book {
    home: Arc<dyn Store>,
    /// Where the catalog is signed.
    chronicle: Option<Arc<Chronicle>>,
}

impl Book {
    pub fn new(home: Arc<dyn Store>, chronicle: Option<Arc<Chronicle>>) -> Self {
        Self { home, chronicle }
    }

    /// Sets a mark; an older one of its kind is replaced.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set<M: Mark>(&self, backup: &BackupName, mark: &M) -> Result<(), Failure> {
        let key = key(backup, M::KIND);
        let invalid = |error: serde_json::Error| Failure::Invalid { object: key.clone(), message: error.to_string() };
        if let Some(chronicle) = &self.chronicle {
            let value = serde_json::to_value(mark).map_err(invalid)?;
            let (backup, commit_id) = (backup.clone(), mark.commit_id().to_string());
            let event = Event::Marked { backup, commit_id, kind: M::KIND.into(), mark: value };
            chronicle.append(event, mark.at(), mark.by()).await?;
        }
        let encoded = encode(&serde_json::to_value(mark).map_err(invalid)?);
        self.home.put(&key, encoded).await.map(drop)
    }

    /// Takes a mark away; none is as good.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn clear<M: Mark>(&self, backup: &BackupName, (at, by): (Timestamp, &str)) -> Result<(), Failure> {
        if let Some(chronicle) = &self.chronicle {
            let event = Event::Unmarked { backup: backup.clone(), kind: M::KIND.into() };
            chronicle.append(event, at, by).await?;
        }
        self.home.delete(&key(backup, M::KIND)).await
    }

    /// Takes every mark of a backup away that was removed, and says so in the chronicle.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn close(
        &self,
        backup: &BackupName,
        commit_id: &str,
        (at, by): (Timestamp, &str),
    ) -> Result<(), Failure> {
        if let Some(chronicle) = &self.chronicle {
            let event = Event::Removed { backup: backup.clone(), commit_id: commit_id.into() };
            chronicle.append(event, at, by).await?;
        }
        for kind in KINDS {
            self.home.delete(&key(backup, kind)).await?;
        }
        Ok(())
    }

    /// The marks of one backup.
    ///
    /// # Errors
    /// When the store cannot be read, or a mark is damaged.
    pub async fn of(&self, backup: &BackupName, commit_id: &str) -> Result<Marks, Failure> {
        let Some(chronicle) = &self.chronicle else {
            let home = self.home.as_ref();
            let (verified, pinned, condemned, approved) = tokio::try_join!(
                one(home, backup, commit_id),
                one(home, backup, commit_id),
                one(home, backup, commit_id),
                one(home, backup, commit_id)
            )?;
            return Ok(Marks { verified, pinned, condemned, approved });
        };
        signed(&chronicle.read().await?.history, backup, commit_id)
    }

    /// The marks of many backups, by name: `backups` are names with their commit ids. Backups without a mark are left out.
    ///
    /// # Errors
    /// When the store cannot be read, or a mark is damaged: an unreadable pin must not count as none.
    pub async fn of_all(
        &self,
        backups: impl IntoIterator<Item = (BackupName, String)>,
    ) -> Result<BTreeMap<BackupName, Marks>, Failure> {
        if let Some(chronicle) = &self.chronicle {
            return signed_all(&chronicle.read().await?.history, backups);
        }
        // One listing tells which have any.
        let marked = self.home.list_prefixes(&format!("{OWN_FOLDER}/marks/")).await?;
        let marked: std::collections::HashSet<&str> =
            marked.iter().filter_map(|prefix| prefix.trim_end_matches('/').rsplit('/').next()).collect();
        stream::iter(backups.into_iter().filter(|(name, _)| marked.contains(name.as_str())))
            .map(|(name, commit_id)| async move { Ok((name.clone(), self.of(&name, &commit_id).await?)) })
            .buffer_unordered(PARALLEL)
            .try_collect()
            .await
    }

    /// Removes the objects of marks whose backup is gone.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn sweep(&self, backup: &BackupName) -> Result<(), Failure> {
        for kind in KINDS {
            self.home.delete(&key(backup, kind)).await?;
        }
        Ok(())
    }

    /// Says in the chronicle that a removal is decided, before it is. Without a chronicle there is nothing to say.
    ///
    /// # Errors
    /// When the chronicle cannot be written.
    pub async fn decide(&self, backup: &BackupName, mark: &Condemned) -> Result<(), Failure> {
        let Some(chronicle) = &self.chronicle else { return Ok(()) };
        let invalid =
            |error: serde_json::Error| Failure::Invalid { object: backup.to_string(), message: error.to_string() };
        let value = serde_json::to_value(mark).map_err(invalid)?;
        let (backup, commit_id) = (backup.clone(), mark.commit_id.clone());
        let event = Event::Marked { backup, commit_id, kind: REMOVING.into(), mark: value };
        chronicle.append(event, mark.at, &mark.by).await.map(drop)
    }

    /// Takes back what [`Book::decide`] has said.
    ///
    /// # Errors
    /// When the chronicle cannot be written.
    pub async fn undecide(&self, backup: &BackupName, (at, by): (Timestamp, &str)) -> Result<(), Failure> {
        let Some(chronicle) = &self.chronicle else { return Ok(()) };
        let event = Event::Unmarked { backup: backup.clone(), kind: REMOVING.into() };
        chronicle.append(event, at, by).await.map(drop)
    }

    /// Whether a removal that is told as decided was: a decision that somebody puts there removes nothing.
    ///
    /// # Errors
    /// When the chronicle cannot be read.
    pub async fn is_decided(&self, backup: &BackupName, mark: &Condemned) -> Result<bool, Failure> {
        let Some(chronicle) = &self.chronicle else { return Ok(true) };
        let history = chronicle.read().await?.history;
        let said = history.marks.get(backup).and_then(|marks| marks.get(REMOVING));
        Ok(said.is_some_and(|(_, said)| serde_json::to_value(mark).is_ok_and(|mark| mark == *said)))
    }

    /// The objects that are not what the chronicle says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn doubts(&self, history: &History) -> Result<Vec<Doubt>, Failure> {
        let mut expected: BTreeMap<String, Bytes> = BTreeMap::new();
        for (backup, marks) in &history.marks {
            for (kind, (_, mark)) in marks.iter().filter(|(kind, _)| *kind != REMOVING) {
                expected.insert(key(backup, kind), encode(mark));
            }
        }
        let mut doubts = Vec::new();
        let place = |key: &str| format!("{}/{key}", self.home.describe());
        for info in self.home.list(&format!("{OWN_FOLDER}/marks/")).await? {
            let Some(wanted) = expected.remove(&info.key) else {
                let message = "the chronicle has no such mark: it counts for nothing";
                doubts.push(Doubt::new(DoubtKind::Changed, place(&info.key), message));
                continue;
            };
            let found = match self.home.get(&info.key).await {
                Ok((found, _)) => found,
                Err(Failure::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            if found != wanted {
                let message = "it is not as the chronicle has it: what is there counts for nothing";
                doubts.push(Doubt::new(DoubtKind::Changed, place(&info.key), message));
            }
        }
        doubts.extend(expected.keys().map(|key| {
            Doubt::new(DoubtKind::Removed, place(key), "the chronicle has this mark, and it counts all the same")
        }));
        Ok(doubts)
    }
}

/// The marks that the chronicle has of a backup.
///
/// # Errors
/// `Corrupt` when one is not understood.
pub fn signed(history: &History, backup: &BackupName, commit_id: &str) -> Result<Marks, Failure> {
    fn one<M: Mark>(history: &History, backup: &BackupName, commit_id: &str) -> Result<Option<M>, Failure> {
        let mark = history.marks.get(backup).and_then(|marks| marks.get(M::KIND));
        let Some((_, mark)) = mark.filter(|(of, _)| of == commit_id) else { return Ok(None) };
        serde_json::from_value(mark.clone()).map(Some).map_err(|error| Failure::Corrupt {
            object: format!("the chronicle's mark '{}' of {backup}", M::KIND),
            message: error.to_string(),
        })
    }
    Ok(Marks {
        verified: one(history, backup, commit_id)?,
        pinned: one(history, backup, commit_id)?,
        condemned: one(history, backup, commit_id)?,
        approved: one(history, backup, commit_id)?,
    })
}

/// The marks that the chronicle has of these backups; backups without a mark are left out.
///
/// # Errors
/// `Corrupt` when one is not understood.
pub fn signed_all(
    history: &History,
    backups: impl IntoIterator<Item = (BackupName, String)>,
) -> Result<BTreeMap<BackupName, Marks>, Failure> {
    let marked = backups.into_iter().filter(|(name, _)| history.marks.contains_key(name));
    marked.map(|(name, commit_id)| Ok((name.clone(), signed(history, &name, &commit_id)?))).collect()
}

fn encode(mark: &serde_json::Value) -> Bytes {
    Bytes::from(serde_json::to_vec_pretty(mark).unwrap_or_default())
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
    use crate::catalog::authority::Authority;
    use crate::model::SigningKey;
    use crate::store::MemoryStore;

    fn pinned(commit_id: &str) -> Pinned {
        Pinned {
            commit_id: commit_id.into(),
            at: "2026-08-01T02:00:00Z".parse().unwrap(),
            by: "ann".into(),
            reason: Some("audit".into()),
            until: None,
            held: false,
        }
    }

    fn book(home: &Arc<MemoryStore>) -> Book {
        Book::new(home.clone(), None)
    }

    #[tokio::test]
    async fn a_mark_is_of_one_commit_only() {
        let book = book(&Arc::default());
        let name: BackupName = "x_daily".parse().unwrap();
        book.set(&name, &pinned("a")).await.unwrap();
        assert_eq!(book.of(&name, "a").await.unwrap().pinned, Some(pinned("a")));
        assert_eq!(book.of(&name, "b").await.unwrap(), Marks::default());
        let other: BackupName = "y_daily".parse().unwrap();
        let all = book.of_all([(name.clone(), "a".into()), (other, "a".into())]).await.unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&name]);
        book.clear::<Pinned>(&name, (Timestamp::UNIX_EPOCH, "ann")).await.unwrap();
        assert_eq!(book.of(&name, "a").await.unwrap(), Marks::default());
    }

    #[tokio::test]
    async fn a_damaged_mark_is_an_error_not_an_absence() {
        let home = Arc::new(MemoryStore::new());
        let name: BackupName = "x_daily".parse().unwrap();
        home.put(&key(&name, "pinned"), Bytes::from_static(b"{")).await.unwrap();
        let error = book(&home).of(&name, "a").await.unwrap_err();
        assert!(error.to_string().contains("marks/x_daily/pinned.json"), "{error}");
    }

    #[tokio::test]
    async fn where_the_chronicle_counts_no_object_is_believed() {
        let home = Arc::new(MemoryStore::new());
        let signer = SigningKey::from_seed(&[3; 32]).unwrap().0;
        let authority = Authority::new("x", [signer.public()].into(), Arc::new(signer));
        let chronicle = Arc::new(Chronicle::new(vec![home.clone()], authority));
        let book = Book::new(home.clone(), Some(chronicle.clone()));
        let name: BackupName = "x_daily".parse().unwrap();
        book.set(&name, &pinned("a")).await.unwrap();
        // The pin is taken away, and a sentence put in its place.
        home.delete(&key(&name, "pinned")).await.unwrap();
        let forged = Condemned {
            commit_id: "a".into(),
            tier: "daily".parse().unwrap(),
            started_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            by: "mallory".into(),
            by_hand: true,
        };
        Book::new(home.clone(), None).set(&name, &forged).await.unwrap();
        assert_eq!(book.of(&name, "a").await.unwrap(), Marks { pinned: Some(pinned("a")), ..Marks::default() });
        assert!(!book.is_decided(&name, &forged).await.unwrap());
        let kinds = |doubts: Vec<Doubt>| doubts.iter().map(|doubt| doubt.kind).collect::<Vec<_>>();
        let history = chronicle.read().await.unwrap().history;
        assert_eq!(kinds(book.doubts(&history).await.unwrap()), [DoubtKind::Changed, DoubtKind::Removed]);
        book.clear::<Pinned>(&name, (Timestamp::UNIX_EPOCH, "ann")).await.unwrap();
        assert_eq!(book.of(&name, "a").await.unwrap(), Marks::default());
    }
}
