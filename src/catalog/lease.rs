//! The lease: at most one run at a time works on a system, and one that dies is followed without a human.
//!
//! An object that is changed by compare-and-swap. It expires by itself, is renewed while its holder lives, and carries a
//! generation that grows with every holder: the fence against a holder that wakes up late.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::store::{Store, Version};

/// How long a lease lasts without renewal.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    generation: u64,
    /// What the holder does, for people: "backup daily on host x".
    holder: String,
    run: String,
    expires_at: Timestamp,
}

/// A lease that is held.
#[derive(Debug, Clone)]
pub struct Lease {
    key: String,
    record: Record,
    version: Version,
}

/// Why a lease is not had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "{holder} holds the lease until {expires_at}; hint: wait for it; a run that died is followed by itself after that time"
    )]
    Held { holder: String, expires_at: Timestamp },
    #[error("the lease was taken over by another run: this one stops")]
    Lost,
    #[error(transparent)]
    Store(#[from] Failure),
}

impl Lease {
    /// Takes the lease `name`.
    ///
    /// # Errors
    /// `Held` while another has it.
    pub async fn acquire(
        store: &dyn Store,
        name: &str,
        (holder, run): (&str, &str),
        now: Timestamp,
    ) -> Result<Self, LeaseError> {
        let key = format!("{OWN_FOLDER}/lease/{name}.json");
        let current = match store.get(&key).await {
            Ok((bytes, version)) => {
                let record: Record = serde_json::from_slice(&bytes).map_err(|error| Failure::Corrupt {
                    object: format!("{}/{key}", store.describe()),
                    message: error.to_string(),
                })?;
                if record.expires_at > now {
                    return Err(LeaseError::Held { holder: record.holder, expires_at: record.expires_at });
                }
                Some((record.generation, version))
            }
            Err(Failure::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let record = Record {
            generation: current.as_ref().map_or(1, |(generation, _)| generation + 1),
            holder: holder.into(),
            run: run.into(),
            expires_at: expiry(now),
        };
        let bytes = encode(&record);
        let written = match &current {
            Some((_, version)) => store.put_if_match(&key, bytes.clone(), version).await,
            None => store.put_if_absent(&key, bytes.clone()).await,
        };
        match written {
            Ok(version) => Ok(Self { key, record, version }),
            // One's own write whose reply was lost, or somebody was quicker: what is there tells.
            Err(Failure::Exists { .. } | Failure::Precondition { .. } | Failure::Unknown { .. }) => {
                let (found, version) = store.get(&key).await?;
                if found == bytes {
                    return Ok(Self { key, record, version });
                }
                let holder = serde_json::from_slice::<Record>(&found).map(|record| (record.holder, record.expires_at));
                let (holder, expires_at) = holder.unwrap_or_else(|_| ("another run".into(), expiry(now)));
                Err(LeaseError::Held { holder, expires_at })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the lease last from `now` on.
    ///
    /// # Errors
    /// `Lost` when another has it.
    pub async fn renew(&mut self, store: &dyn Store, now: Timestamp) -> Result<(), LeaseError> {
        let record = Record { expires_at: expiry(now), ..self.record.clone() };
        self.replace(store, record).await
    }

    /// Gives the lease back: it is free at once. The generation stays.
    ///
    /// # Errors
    /// `Lost` when another has it.
    pub async fn release(mut self, store: &dyn Store, now: Timestamp) -> Result<(), LeaseError> {
        let record = Record { expires_at: now, ..self.record.clone() };
        self.replace(store, record).await
    }

    async fn replace(&mut self, store: &dyn Store, record: Record) -> Result<(), LeaseError> {
        let bytes = encode(&record);
        match store.put_if_match(&self.key, bytes.clone(), &self.version).await {
            Ok(version) => {
                (self.record, self.version) = (record, version);
                Ok(())
            }
            Err(Failure::Precondition { .. } | Failure::NotFound { .. } | Failure::Unknown { .. }) => {
                let (found, version) = store.get(&self.key).await.map_err(|_| LeaseError::Lost)?;
                if found != bytes {
                    return Err(LeaseError::Lost);
                }
                (self.record, self.version) = (record, version);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub fn generation(&self) -> u64 {
        self.record.generation
    }
}

/// Renews a lease until the returned handle is dropped. When the lease is lost, `lost` is told.
pub fn keep(
    store: Arc<dyn Store>,
    lease: Arc<tokio::sync::Mutex<Lease>>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    lost: tokio::sync::watch::Sender<bool>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(TIME_TO_LIVE / 4).await;
            if let Err(LeaseError::Lost) = lease.lock().await.renew(store.as_ref(), now()).await {
                lost.send_replace(true);
                return;
            }
        }
    })
}

fn encode(record: &Record) -> Bytes {
    Bytes::from(serde_json::to_vec(record).unwrap_or_default())
}

fn expiry(now: Timestamp) -> Timestamp {
    let ttl = SignedDuration::try_from(TIME_TO_LIVE).unwrap_or(SignedDuration::from_secs(120));
    now.checked_add(ttl).unwrap_or(Timestamp::MAX)
}
