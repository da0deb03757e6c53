//! Backups that are made of others' objects: whatever is removed, and wherever a removal dies, nothing that a backup is made of
//! is lost, and with the last backup the last object goes.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use strongroom::catalog::marks::Condemned;
use strongroom::catalog::{Catalog, Ledger, MANIFEST, StoreJournal};
use strongroom::job::removal;
use strongroom::manifest::Manifest;
use strongroom::model::{BackupName, Digests, Failure, TierName};
use strongroom::plan::backup::folder;
use strongroom::saga::{self, Journal, Outcome, Record};
use strongroom::store::{ByteStream, LocalStore, MemoryStore, ObjectInfo, Store, Version};

/// A store whose process dies before the n-th change.
struct Mortal {
    inner: Arc<dyn Store>,
    changes_left: Arc<AtomicI64>,
}

impl Mortal {
    fn live(&self) -> Result<(), Failure> {
        match self.changes_left.fetch_sub(1, Ordering::Relaxed) > 0 {
            true => Ok(()),
            false => Err(Failure::Unknown { object: self.describe(), message: "the process died".into() }),
        }
    }
}

#[async_trait::async_trait]
impl Store for Mortal {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn get(&self, key: &str) -> Result<(Bytes, Version), Failure> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, Failure> {
        self.inner.head(key).await
    }
    async fn put_if_absent(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.live()?;
        self.inner.put_if_absent(key, bytes).await
    }
    async fn put_if_match(&self, key: &str, bytes: Bytes, version: &Version) -> Result<Version, Failure> {
        self.live()?;
        self.inner.put_if_match(key, bytes, version).await
    }
    async fn put(&self, key: &str, bytes: Bytes) -> Result<Version, Failure> {
        self.live()?;
        self.inner.put(key, bytes).await
    }
    async fn read(&self, key: &str) -> Result<ByteStream, Failure> {
        self.inner.read(key).await
    }
    async fn write_stream(&self, key: &str, stream: ByteStream) -> Result<ObjectInfo, Failure> {
        self.live()?;
        self.inner.write_stream(key, stream).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Failure> {
        self.inner.list(prefix).await
    }
    async fn list_prefixes(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        self.inner.list_prefixes(prefix).await
    }
    async fn delete_if_match(&self, key: &str, version: &Version) -> Result<(), Failure> {
        self.live()?;
        self.inner.delete_if_match(key, version).await
    }
    async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.live()?;
        self.inner.delete(key).await
    }
}

/// A vault of two places, in which manifests are written by hand.
struct Vault {
    places: Vec<Arc<dyn Store>>,
    mortal: Vec<Arc<dyn Store>>,
    changes_left: Arc<AtomicI64>,
    tier: TierName,
    taken: i64,
}

impl Vault {
    fn of(places: Vec<Arc<dyn Store>>) -> Self {
        let changes_left = Arc::new(AtomicI64::new(i64::MAX));
        let mortal = |inner: &Arc<dyn Store>| -> Arc<dyn Store> {
            Arc::new(Mortal { inner: inner.clone(), changes_left: changes_left.clone() })
        };
        let mortal = places.iter().map(mortal).collect();
        Self { places, mortal, changes_left, tier: "daily".parse().unwrap(), taken: 0 }
    }

    fn catalog(&self) -> Catalog {
        Catalog::new([(self.tier.clone(), self.places.clone())].into()).of_system("vault", None)
    }

    /// Commits a backup of so many objects of its own and these of others'.
    async fn take(&mut self, own: usize, others: &[Value]) -> Manifest {
        self.taken += 1;
        let at: Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        let at = at + SignedDuration::from_hours(self.taken);
        let name = BackupName::scheduled("vault", &self.tier, at).unwrap();
        let folder = folder(&self.tier, &name, at);
        let mut objects = others.to_vec();
        for n in 0..own {
            let (key, bytes) = (format!("{folder}/data/sheet/{n}.json"), format!("{name} {n}"));
            for place in &self.places {
                place.put(&key, Bytes::from(bytes.clone())).await.unwrap();
            }
            let mut record = serde_json::to_value(Digests::of(bytes.as_bytes())).unwrap();
            record["key"] = json!(key);
            objects.push(record);
        }
        let tab = |object: &Value| json!({"title": "t", "row_count": 1, "column_count": 1, "cells": object, "csv": object, "parquet": object});
        let manifest: Manifest = serde_json::from_value(json!({
            "format": 1, "name": name, "tier": self.tier, "commit_id": name, "tool": "test", "run": "r", "generation": 1,
            "started_at": at, "cut_at": at, "committed_at": at, "validation": [], "pause": null, "timings": [],
            "previous": null, "notes": [],
            "sources": [{
                "kind": "sheets", "name": "s", "spreadsheet": "x", "title": "x", "taken_at": at,
                "tabs": objects.iter().map(tab).collect::<Vec<_>>(),
            }],
        }))
        .unwrap();
        let statement = self.catalog().state(&folder, &manifest, None).await.unwrap();
        for place in self.places.iter().rev() {
            Catalog::commit(place.as_ref(), &folder, &manifest, statement.clone()).await.unwrap();
        }
        manifest
    }

    async fn listed(&self) -> Vec<Manifest> {
        let listing = self.catalog().list().await.unwrap();
        assert!(listing.broken.is_empty() && listing.damaged.is_empty());
        listing.entries.into_iter().map(|entry| entry.manifest).collect()
    }

    async fn remove(&self, manifest: &Manifest) -> Result<(), Failure> {
        let folder = folder(&manifest.tier, &manifest.name, manifest.started_at);
        let at = manifest.started_at;
        removal::remove(&self.catalog(), &self.mortal, (&manifest.name, &folder), at).await
    }

    async fn keys(&self, place: usize) -> BTreeSet<String> {
        self.places[place].list("").await.unwrap().into_iter().map(|info| info.key).collect()
    }

    /// Every object of every backup that is listed lies in every place.
    async fn holds(&self, what: &str) {
        for place in 0..self.places.len() {
            let keys = self.keys(place).await;
            for manifest in self.listed().await {
                for object in manifest.objects() {
                    assert!(keys.contains(&object.key), "{what}: {} of {} is lost", object.key, manifest.name);
                }
            }
        }
    }
}

fn records(manifest: &Manifest) -> Vec<Value> {
    let keys: BTreeSet<&str> = manifest.objects().map(|object| object.key.as_str()).collect();
    let record = |key: &&str| manifest.objects().find(|object| object.key == **key);
    keys.iter().filter_map(record).map(|object| serde_json::to_value(object).unwrap()).collect()
}

#[tokio::test]
async fn what_others_are_made_of_stays_without_its_backup() {
    let directory = tempfile::tempdir().unwrap();
    let local: Arc<dyn Store> = Arc::new(LocalStore::open(directory.path()).unwrap());
    let mut vault = Vault::of(vec![Arc::new(MemoryStore::new()), local]);
    let full = vault.take(3, &[]).await;
    let parts = records(&full);
    let second = vault.take(1, &parts[..2]).await;
    let third = vault.take(0, &parts[..1]).await;

    vault.remove(&full).await.unwrap();
    assert_eq!(vault.listed().await.len(), 2, "it is gone from the list");
    vault.holds("the full one is removed").await;
    let own = folder(&full.tier, &full.name, full.started_at);
    let left = |keys: BTreeSet<String>| keys.into_iter().filter(|key| key.starts_with(&own)).collect::<Vec<_>>();
    let key = |n: usize| format!("{own}/data/sheet/{n}.json");
    let stone = format!("{own}/{MANIFEST}");
    assert_eq!(
        left(vault.keys(1).await),
        [key(0), key(1), stone.clone()],
        "what nobody needs is gone, the statement too"
    );

    vault.remove(&second).await.unwrap();
    assert_eq!(left(vault.keys(0).await), [key(0), stone], "with the last that needs it an object goes");
    vault.remove(&third).await.unwrap();
    for place in 0..2 {
        assert_eq!(vault.keys(place).await, BTreeSet::new());
    }
}

#[tokio::test]
async fn an_unreadable_manifest_holds_a_removal_up() {
    let mut vault = Vault::of(vec![Arc::new(MemoryStore::new())]);
    let (first, second) = (vault.take(1, &[]).await, vault.take(1, &[]).await);
    let broken = format!("{}/{MANIFEST}", folder(&second.tier, &second.name, second.started_at));
    vault.places[0].put(&broken, Bytes::from_static(b"{")).await.unwrap();
    let refused = vault.remove(&first).await;
    assert!(matches!(&refused, Err(Failure::Precondition { message, .. }) if message.contains(&broken)), "{refused:?}");
    vault.remove(&second).await.unwrap();
    vault.remove(&first).await.unwrap();
}

/// What only a copy has counts when it was committed, and is not being removed.
#[tokio::test]
async fn what_the_primary_has_lost_is_listed_from_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let copy: Arc<dyn Store> = Arc::new(LocalStore::open(directory.path()).unwrap());
    let mut vault = Vault::of(vec![Arc::new(MemoryStore::new()), copy]);
    let taken = vault.take(1, &[]).await;
    let home: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let catalog = vault.catalog().at_home(home.clone());
    let key = format!("{}/{MANIFEST}", folder(&taken.tier, &taken.name, taken.started_at));
    let primary = vault.places[0].clone();
    let (good, _) = primary.get(&key).await.unwrap();
    // Entries, manifests that a copy stands in for, and those that nobody can read.
    let listed = async || {
        let listing = catalog.list().await.unwrap();
        (listing.entries.len(), listing.damaged.len(), listing.broken.len())
    };
    assert_eq!(listed().await, (1, 0, 0));
    primary.put(&key, Bytes::from_static(b"{\"format\": 1, ")).await.unwrap();
    assert_eq!(listed().await, (1, 1, 0), "damaged");
    primary.delete(&key).await.unwrap();
    assert_eq!(listed().await, (1, 1, 0), "gone, and the journal with it");

    let journal = StoreJournal::new(home.clone());
    let record = |sequence, entry| Record { run: "r".into(), sequence, generation: 1, at: taken.started_at, entry };
    let opened = saga::Entry::Opened { verb: "backup".into(), subject: taken.name.to_string() };
    journal.append(&record(0, opened)).await.unwrap();
    assert_eq!(listed().await, (0, 0, 0), "its run is under way: the primary's manifest comes last");
    for (outcome, expected) in [(Outcome::RolledBack, (0, 0, 0)), (Outcome::Committed, (1, 1, 0))] {
        home.delete("_strongroom/journal/r/000001.json").await.unwrap();
        journal.append(&record(1, saga::Entry::Closed { outcome })).await.unwrap();
        assert_eq!(listed().await, expected, "{outcome:?}");
    }
    // Of a backup that is being removed the primary's manifest goes first.
    let mut ledger = Ledger::enter(home.as_ref(), 1).await.unwrap();
    let mark = Condemned {
        commit_id: taken.commit_id.clone(),
        tier: taken.tier.clone(),
        started_at: taken.started_at,
        at: taken.started_at,
        by: "ann".into(),
        by_hand: true,
    };
    ledger.decide(home.as_ref(), &taken.name, &mark).await.unwrap();
    assert_eq!(listed().await, (0, 0, 0), "it is being removed");
    primary.put(&key, good).await.unwrap();
    assert_eq!(listed().await, (1, 0, 0));
}

/// `STRONGROOM_VAULTS=20000 cargo nextest run --test suite --no-capture nothing_referenced` is the long form.
#[tokio::test]
async fn nothing_referenced_is_ever_lost() {
    let vaults: u64 = std::env::var("STRONGROOM_VAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let begin = std::time::Instant::now();
    let (mut taken, mut removed, mut deaths, mut stones) = (0, 0, 0, 0);
    for seed in 0..vaults {
        let mut random = StdRng::seed_from_u64(seed);
        let mut vault = Vault::of(vec![Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new())]);
        for _ in 0..random.random_range(2..14) {
            let listed = vault.listed().await;
            if listed.is_empty() || random.random_bool(0.6) {
                let all: Vec<Value> = listed.iter().flat_map(records).collect();
                let parts: Vec<Value> = all.into_iter().filter(|_| random.random_bool(0.3)).collect();
                vault.take(random.random_range(0..4), &parts).await;
                taken += 1;
                continue;
            }
            let gone = &listed[random.random_range(0..listed.len())];
            // It may die again and again before it comes to its end.
            while random.random_bool(0.6) {
                vault.changes_left.store(random.random_range(0..12), Ordering::Relaxed);
                if vault.remove(gone).await.is_ok() {
                    break;
                }
                deaths += 1;
                vault.changes_left.store(i64::MAX, Ordering::Relaxed);
                vault.holds(&format!("seed {seed}, a removal died")).await;
            }
            vault.changes_left.store(i64::MAX, Ordering::Relaxed);
            vault.remove(gone).await.unwrap();
            removed += 1;
            assert!(vault.listed().await.iter().all(|manifest| manifest.name != gone.name), "seed {seed}");
            vault.holds(&format!("seed {seed}")).await;
            let parts = vault.keys(0).await.into_iter().filter(|key| key.starts_with(&format!("daily/{}", &gone.name)));
            stones += usize::from(parts.count() > 0);
        }
        for manifest in vault.listed().await {
            vault.remove(&manifest).await.unwrap();
            vault.holds(&format!("seed {seed}, in the end")).await;
        }
        assert_eq!(vault.listed().await, []);
        // What a removal that died did not know any more is left to `recover`; what was never interrupted leaves nothing.
        stones += vault.keys(0).await.len();
    }
    println!(
        "vault: references: {vaults} vaults, {taken} backups, {removed} removals, {deaths} deaths in them, {stones} objects left to \
         recover, 0 lost, in {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    assert!(removed * 8 > taken && deaths * 4 > removed, "{removed} removals, {deaths} deaths");
}
