//! The ledger of removals: the one object through which every decision to remove a backup goes.
//!
//! `_strongroom/removals.json`, changed by compare-and-swap only. A pin turns its page, too: so a pin and a decision cannot
//! miss each other, and a worker that wakes up after a later one has begun can decide nothing any more. What is decided
//! is never taken back: whoever finds it finishes it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::OWN_FOLDER;
use super::lease::LeaseError;
use super::marks::Condemned;
use crate::model::{BackupName, Failure};
use crate::store::{Store, Version};

/// Somebody else may change the ledger as often as this while one change is made.
const TRIES: u32 = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    /// Of the last holder of the lease that set about removing.
    generation: u64,
    /// Grows with every change.
    turn: u64,
    /// Backups that are being removed.
    removing: BTreeMap<BackupName, Condemned>,
}

/// The ledger as it was when it was read.
#[derive(Debug, Clone)]
pub struct Ledger {
    page: Page,
    /// `None` while there is no ledger.
    version: Option<Version>,
}

/// What a decision came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Made,
    /// Something was decided or pinned meanwhile: look again.
    LookAgain,
}

fn key() -> String {
    format!("{OWN_FOLDER}/removals.json")
}

impl Ledger {
    /// # Errors
    /// When the store cannot be read.
    pub async fn read(home: &dyn Store) -> Result<Self, Failure> {
        match home.get(&key()).await {
            Ok((bytes, version)) => {
                let page = serde_json::from_slice(&bytes).map_err(|error| Failure::Corrupt {
                    object: format!("{}/{}", home.describe(), key()),
                    message: error.to_string(),
                })?;
                Ok(Self { page, version: Some(version) })
            }
            Err(Failure::NotFound { .. }) => Ok(Self { page: Page::default(), version: None }),
            Err(error) => Err(error),
        }
    }

    /// Opens the ledger for a holder of the lease: holders before it can decide nothing from now on.
    ///
    /// # Errors
    /// `Lost` when a later holder was here.
    pub async fn enter(home: &dyn Store, generation: u64) -> Result<Self, LeaseError> {
        for _ in 0..TRIES {
            let mut ledger = Self::read(home).await?;
            if ledger.page.generation > generation {
                return Err(LeaseError::Lost);
            }
            if ledger.page.generation == generation {
                return Ok(ledger);
            }
            ledger.page.generation = generation;
            if ledger.write(home).await? {
                return Ok(ledger);
            }
        }
        Err(crowded(home).into())
    }

    /// Backups whose removal was decided and is not finished.
    pub fn removing(&self) -> impl Iterator<Item = (&BackupName, &Condemned)> {
        self.page.removing.iter()
    }

    pub fn is_removing(&self, backup: &BackupName) -> bool {
        self.page.removing.contains_key(backup)
    }

    /// Decides to remove a backup, if nothing was decided or pinned since this ledger was read.
    ///
    /// # Errors
    /// `Lost` when a later holder was here.
    pub async fn decide(
        &mut self,
        home: &dyn Store,
        backup: &BackupName,
        mark: &Condemned,
    ) -> Result<Decision, LeaseError> {
        let generation = self.page.generation;
        self.page.removing.insert(backup.clone(), mark.clone());
        if self.write(home).await? {
            return Ok(Decision::Made);
        }
        *self = Self::enter(home, generation).await?;
        Ok(if self.page.removing.get(backup) == Some(mark) { Decision::Made } else { Decision::LookAgain })
    }

    /// Strikes a backup that is gone.
    ///
    /// # Errors
    /// When the ledger cannot be written; the removal is finished again then.
    pub async fn strike(&mut self, home: &dyn Store, backup: &BackupName) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if self.page.removing.remove(backup).is_none() || self.write(home).await? {
                return Ok(());
            }
            *self = Self::read(home).await?;
        }
        Err(crowded(home))
    }

    /// Turns the page: decisions that were about to be made look again.
    ///
    /// # Errors
    /// When the store fails. `false` when somebody else changed the ledger since this one was read.
    pub async fn turn(mut self, home: &dyn Store) -> Result<bool, Failure> {
        self.write(home).await
    }

    /// Whether the page could be written over the one that was read.
    async fn write(&mut self, home: &dyn Store) -> Result<bool, Failure> {
        let page = Page { turn: self.page.turn + 1, ..self.page.clone() };
        let encoded = serde_json::to_vec(&page)
            .map_err(|error| Failure::Invalid { object: key(), message: error.to_string() })?;
        let bytes = Bytes::from(encoded);
        let written = match &self.version {
            Some(version) => home.put_if_match(&key(), bytes, version).await,
            None => home.put_if_absent(&key(), bytes).await,
        };
        match written {
            Ok(version) => {
                (self.page, self.version) = (page, Some(version));
                Ok(true)
            }
            // Also where the reply was lost: to look again is always right.
            Err(
                Failure::Exists { .. }
                | Failure::Precondition { .. }
                | Failure::NotFound { .. }
                | Failure::Unknown { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn crowded(home: &dyn Store) -> Failure {
    let object = format!("{}/{}", home.describe(), key());
    Failure::Transient { object, message: format!("was changed by others {TRIES} times in a row") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn mark(commit_id: &str) -> Condemned {
        let at = "2026-08-01T02:00:00Z".parse().unwrap();
        let tier = "daily".parse().unwrap();
        Condemned { commit_id: commit_id.into(), tier, started_at: at, at, by: "ann".into(), by_hand: false }
    }

    #[tokio::test]
    async fn who_was_overtaken_decides_nothing() {
        let home = MemoryStore::new();
        let name: BackupName = "x_daily".parse().unwrap();
        let mut stale = Ledger::enter(&home, 1).await.unwrap();
        let mut current = Ledger::enter(&home, 2).await.unwrap();
        assert!(matches!(stale.decide(&home, &name, &mark("a")).await, Err(LeaseError::Lost)));
        assert!(matches!(Ledger::enter(&home, 1).await, Err(LeaseError::Lost)));
        assert_eq!(current.decide(&home, &name, &mark("a")).await.unwrap(), Decision::Made);
        assert!(Ledger::read(&home).await.unwrap().is_removing(&name));
        current.strike(&home, &name).await.unwrap();
        assert_eq!(Ledger::read(&home).await.unwrap().removing().count(), 0);
    }

    #[tokio::test]
    async fn a_pin_in_between_makes_a_decision_look_again() {
        let home = MemoryStore::new();
        let name: BackupName = "x_daily".parse().unwrap();
        let mut ledger = Ledger::enter(&home, 1).await.unwrap();
        assert!(Ledger::read(&home).await.unwrap().turn(&home).await.unwrap());
        assert_eq!(ledger.decide(&home, &name, &mark("a")).await.unwrap(), Decision::LookAgain);
        assert!(!ledger.is_removing(&name));
        assert_eq!(ledger.decide(&home, &name, &mark("a")).await.unwrap(), Decision::Made);
    }
}
