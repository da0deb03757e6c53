//! The lease: at most one run at a time works on a system, and one that dies is followed without a human.
//!
//! An object that is changed by compare-and-swap. It is renewed while its holder lives, and carries a generation that grows
//! with every holder. Two clocks are never compared with each other:
//!
//! - Whether a lease is over is asked of the store's clock alone: when the object was last written, and what time it is
//!   there now. A worker whose own clock is wrong cannot take a living lease.
//! - Whether it still holds the lease, a holder knows by the time that has passed for itself since it last *sent* a
//!   renewal that worked. It stops a good while before anybody else may begin, so that what it has sent is done by then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::saga::Clock;
use crate::store::{ObjectInfo, Store, Version};

/// How long a lease lasts without renewal: only then may another take it.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(120);
/// How long a holder works without a renewal. What is left of the time to live is for calls that are under way.
pub const HOLD_ON: Duration = Duration::from_secs(75);
/// How often it renews.
const RENEW_EVERY: Duration = Duration::from_secs(20);
/// How soon it tries again when that failed.
const RETRY_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    generation: u64,
    /// What the holder does, for people: "backup daily on host x".
    holder: String,
    run: String,
    /// By the holder's clock, as is `expires_at`: only what lies between the two counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renewed_at: Option<Timestamp>,
    /// Not after `renewed_at` when the lease was given back.
    expires_at: Timestamp,
}

/// A lease that is held.
#[derive(Debug, Clone)]
pub struct Lease {
    key: String,
    record: Record,
    version: Version,
    held: Held,
}

/// Until when a holder may work, by its own clocks. Both are asked: a machine that was asleep has a monotonic clock that
/// slept with it, and a clock of the day can be set.
#[derive(Debug, Clone, Copy)]
struct Held {
    monotonic: Instant,
    of_day: Timestamp,
}

/// Why a lease is not had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LeaseError {
    #[error(
        "{holder} holds the lease until {expires_at}; hint: wait for it; a run that died is followed by itself after that time"
    )]
    Held { holder: String, expires_at: Timestamp },
    #[error(
        "the lease was lost: it was taken over, or could not be renewed in time; hint: the next run, or `strongroom recover`, takes back what this one has begun"
    )]
    Lost,
    #[error(transparent)]
    Store(#[from] Failure),
}

impl Held {
    /// For a renewal that was sent at this moment.
    fn from(clock: &dyn Clock) -> Self {
        Self { monotonic: Instant::now() + HOLD_ON, of_day: after(clock.now(), HOLD_ON) }
    }

    fn is_over(&self, clock: &dyn Clock) -> bool {
        Instant::now() >= self.monotonic || clock.now() >= self.of_day
    }
}

impl Record {
    /// How long it lasts from when it was written, as its holder says.
    fn lasts(&self, written: Timestamp) -> SignedDuration {
        match self.renewed_at {
            Some(renewed_at) => self.expires_at.duration_since(renewed_at),
            // Of an older version, which gave a lease back by an end in the past.
            None if self.expires_at <= written => SignedDuration::ZERO,
            None => signed(TIME_TO_LIVE),
        }
    }
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
        clock: &dyn Clock,
    ) -> Result<Self, LeaseError> {
        let key = format!("{OWN_FOLDER}/lease/{name}.json");
        let current = match store.get(&key).await {
            Ok((bytes, version)) => {
                let record: Record = serde_json::from_slice(&bytes).map_err(|error| Failure::Corrupt {
                    object: format!("{}/{key}", store.describe()),
                    message: error.to_string(),
                })?;
                if let Some(until) = alive_until(store, &key, name, &record, &version).await? {
                    return Err(LeaseError::Held { holder: record.holder, expires_at: until });
                }
                Some((record.generation, version))
            }
            Err(Failure::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let held = Held::from(clock);
        let now = clock.now();
        let record = Record {
            generation: current.as_ref().map_or(1, |(generation, _)| generation + 1),
            holder: holder.into(),
            run: run.into(),
            renewed_at: Some(now),
            expires_at: after(now, TIME_TO_LIVE),
        };
        let bytes = encode(&record);
        let written = match &current {
            Some((_, version)) => store.put_if_match(&key, bytes.clone(), version).await,
            None => store.put_if_absent(&key, bytes.clone()).await,
        };
        match written {
            Ok(version) => Ok(Self { key, record, version, held }),
            // One's own write whose reply was lost, or somebody was quicker: what is there tells.
            Err(Failure::Exists { .. } | Failure::Precondition { .. } | Failure::Unknown { .. }) => {
                let (found, version) = store.get(&key).await?;
                if found == bytes {
                    return Ok(Self { key, record, version, held });
                }
                let holder = serde_json::from_slice::<Record>(&found).map(|record| (record.holder, record.expires_at));
                let (holder, expires_at) = holder.unwrap_or_else(|_| ("another run".into(), after(now, TIME_TO_LIVE)));
                Err(LeaseError::Held { holder, expires_at })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the lease last from now on.
    ///
    /// # Errors
    /// `Lost` when another has it; `Store` when it is not known to be renewed: it may be tried again.
    pub async fn renew(&mut self, store: &dyn Store, clock: &dyn Clock) -> Result<(), LeaseError> {
        let held = Held::from(clock);
        let now = clock.now();
        let record = Record { renewed_at: Some(now), expires_at: after(now, TIME_TO_LIVE), ..self.record.clone() };
        self.replace(store, record).await?;
        self.held = held;
        Ok(())
    }

    /// Gives the lease back: it is free at once. The generation stays.
    ///
    /// # Errors
    /// `Lost` when another has it.
    pub async fn release(mut self, store: &dyn Store, clock: &dyn Clock) -> Result<(), LeaseError> {
        let now = clock.now();
        let record = Record { renewed_at: Some(now), expires_at: now, ..self.record.clone() };
        match self.replace(store, record.clone()).await {
            // A renewal that nobody waited for any more may have come to pass.
            Err(LeaseError::Store(_)) => self.replace(store, record).await,
            outcome => outcome,
        }
    }

    async fn replace(&mut self, store: &dyn Store, record: Record) -> Result<(), LeaseError> {
        let bytes = encode(&record);
        match store.put_if_match(&self.key, bytes.clone(), &self.version).await {
            Ok(version) => {
                (self.record, self.version) = (record, version);
                Ok(())
            }
            Err(error @ (Failure::Precondition { .. } | Failure::NotFound { .. } | Failure::Unknown { .. })) => {
                match store.get(&self.key).await {
                    Ok((found, version)) if found == bytes => {
                        (self.record, self.version) = (record, version);
                        Ok(())
                    }
                    // The write has not come to pass, or not yet.
                    Ok((_, version)) if version == self.version => Err(error.into()),
                    // An earlier write of one's own, whose reply was lost, came to pass in the end.
                    Ok((found, version)) if self.is_own(&found) => {
                        self.version = version;
                        Err(error.into())
                    }
                    Ok(_) | Err(Failure::NotFound { .. }) => Err(LeaseError::Lost),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    fn is_own(&self, found: &[u8]) -> bool {
        serde_json::from_slice::<Record>(found)
            .is_ok_and(|found| (found.generation, &found.run) == (self.record.generation, &self.record.run))
    }

    pub fn generation(&self) -> u64 {
        self.record.generation
    }

    /// Does `work` while the lease is held, and renews it meanwhile. Once it is lost, `work` is not continued for one
    /// step: also not when the whole process was asleep and wakes up after the lease has ended.
    ///
    /// # Errors
    /// `Lost`. What `work` was about is left as it is then: it is the next holder's.
    pub async fn hold<T>(
        &mut self,
        store: &dyn Store,
        clock: &dyn Clock,
        work: impl Future<Output = T>,
    ) -> Result<T, LeaseError> {
        let held = Arc::new(Mutex::new(self.held));
        let is_over = || held.lock().unwrap_or_else(PoisonError::into_inner).is_over(clock);
        let mut keeper = std::pin::pin!(self.keep(store, clock, held.clone()));
        // On the heap: a job's future is large.
        let mut work = Box::pin(work);
        std::future::poll_fn(|context| {
            if keeper.as_mut().poll(context).is_ready() || is_over() {
                return std::task::Poll::Ready(Err(LeaseError::Lost));
            }
            work.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// Renews the lease again and again; ends when it is lost.
    async fn keep(&mut self, store: &dyn Store, clock: &dyn Clock, held: Arc<Mutex<Held>>) {
        let mut pause = RENEW_EVERY;
        loop {
            tokio::time::sleep(pause).await;
            let until = self.held.monotonic;
            pause = match tokio::time::timeout_at(until, self.renew(store, clock)).await {
                Ok(Ok(())) => {
                    *held.lock().unwrap_or_else(PoisonError::into_inner) = self.held;
                    RENEW_EVERY
                }
                Ok(Err(LeaseError::Store(_))) if !self.held.is_over(clock) => RETRY_AFTER,
                _ => return,
            };
        }
    }
}

/// Until when (by the store's clock) a lease is held; `None` when it is over.
async fn alive_until(
    store: &dyn Store,
    key: &str,
    name: &str,
    record: &Record,
    version: &Version,
) -> Result<Option<Timestamp>, LeaseError> {
    let Some(ObjectInfo { updated, version: seen, .. }) = store.head(key).await? else { return Ok(None) };
    let lasts = record.lasts(updated);
    if lasts <= SignedDuration::ZERO {
        return Ok(None);
    }
    let until = updated.checked_add(lasts).unwrap_or(Timestamp::MAX);
    if seen != *version {
        return Ok(Some(until)); // renewed this very moment
    }
    // What time is it there? A fresh object tells.
    let probe = format!("{OWN_FOLDER}/lease/{name}.clock");
    store.put(&probe, Bytes::from_static(b"{}")).await?;
    let now = store.head(&probe).await?.map(|info| info.updated);
    Ok(now.is_none_or(|now| now < until).then_some(until))
}

fn encode(record: &Record) -> Bytes {
    Bytes::from(serde_json::to_vec(record).unwrap_or_default())
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(signed(duration)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::store::MemoryStore;

    /// A worker's clock that is wrong by so much.
    struct Skewed(i64);

    impl Clock for Skewed {
        fn now(&self) -> Timestamp {
            true_time().checked_add(SignedDuration::from_secs(self.0)).unwrap()
        }
    }

    fn true_time() -> Timestamp {
        thread_local!(static BEGIN: Instant = Instant::now());
        let passed = BEGIN.with(|begin| begin.elapsed().as_millis());
        Timestamp::from_millisecond(1_800_000_000_000 + i64::try_from(passed).unwrap()).unwrap()
    }

    fn store() -> MemoryStore {
        MemoryStore::with_clock(true_time)
    }

    async fn take(store: &MemoryStore, run: &str, skew_s: i64) -> Result<Lease, LeaseError> {
        Lease::acquire(store, "x", ("somebody", run), &Skewed(skew_s)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_clock_takes_no_living_lease_and_a_dead_one_is_followed() {
        let store = store();
        let first = take(&store, "a", -10_000).await.unwrap();
        for skew_s in [-100_000, 0, 100_000] {
            assert!(matches!(take(&store, "b", skew_s).await, Err(LeaseError::Held { .. })), "{skew_s}");
        }
        tokio::time::sleep(TIME_TO_LIVE - Duration::from_secs(1)).await;
        assert!(take(&store, "b", 100_000).await.is_err(), "a second too early");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = take(&store, "b", -100_000).await.unwrap();
        assert_eq!((first.generation(), second.generation()), (1, 2));
        let mut first = first;
        assert!(matches!(first.renew(&store, &Skewed(0)).await, Err(LeaseError::Lost)));
        second.release(&store, &Skewed(0)).await.unwrap();
        assert_eq!(take(&store, "c", 0).await.unwrap().generation(), 3, "given back, it is free at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_lasts_while_its_holder_works() {
        let store = store();
        let mut lease = take(&store, "a", 0).await.unwrap();
        let long = tokio::time::sleep(TIME_TO_LIVE * 10);
        let (held, others) = tokio::join!(lease.hold(&store, &Skewed(0), long), async {
            let mut refused = 0;
            for _ in 0..100 {
                tokio::time::sleep(TIME_TO_LIVE / 11).await;
                refused += usize::from(take(&store, "b", 0).await.is_err());
            }
            refused
        });
        assert!(held.is_ok());
        assert_eq!(others, 100);
        lease.release(&store, &Skewed(0)).await.unwrap();
    }

    /// The thread stands still inside the work, as a machine does that is put to sleep, while another takes the lease.
    #[tokio::test(start_paused = true)]
    async fn who_wakes_up_late_does_not_go_on() {
        let store = store();
        let mut lease = take(&store, "a", 0).await.unwrap();
        let went_on = std::sync::atomic::AtomicBool::new(false);
        let work = async {
            tokio::time::advance(TIME_TO_LIVE).now_or_never();
            take(&store, "b", 0).now_or_never().unwrap().unwrap();
            tokio::task::yield_now().await;
            went_on.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        assert!(matches!(lease.hold(&store, &Skewed(0), work).await, Err(LeaseError::Lost)));
        assert!(!went_on.into_inner());
    }

    /// What an older version of this program, or a person, wrote.
    #[tokio::test(start_paused = true)]
    async fn a_lease_without_a_time_of_renewal_is_understood() {
        let store = store();
        for (expires_at, free) in [("2001-01-01T00:00:00Z", true), ("2099-01-01T00:00:00Z", false)] {
            let text = format!(r#"{{"generation":7,"holder":"h","run":"r","expires_at":"{expires_at}"}}"#);
            store.put("_strongroom/lease/x.json", Bytes::from(text)).await.unwrap();
            assert_eq!(take(&store, "a", 0).await.is_ok(), free, "{expires_at}");
        }
        tokio::time::sleep(TIME_TO_LIVE).await;
        assert_eq!(take(&store, "a", 0).await.unwrap().generation(), 8);
    }
}
