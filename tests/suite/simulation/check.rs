//! The oracle: it sees every change at the moment at which it takes effect, and says what must not have been.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use strongroom::catalog::{Entry, TIME_TO_LIVE, Tombstone};
use strongroom::google::scheduler::JobState;
use strongroom::manifest::{self, Manifest};
use strongroom::model::{DatasetId, Digests};

use super::bigquery::{Row, read_avro};
use super::store::Bucket;
use super::world::{Port, World, lock};

const LEASE: &str = "_strongroom/lease/sim.json";
const LEDGER: &str = "_strongroom/removals.json";

/// What the oracle knows.
#[derive(Default)]
pub struct Oracle {
    /// Backups by the folder of their objects.
    pub committed: BTreeMap<String, Committed>,
    /// Folders of backups whose removal was decided.
    decided: BTreeSet<String>,
    /// Backups that somebody was told are pinned.
    pub pinned: BTreeSet<String>,
    /// The generation of the lease that was taken last.
    generation: u64,
    lease_written: Option<Timestamp>,
    /// Backups that somebody was about to unpin.
    unpinned: BTreeSet<String>,
    /// Scheduler jobs that a person paused.
    pub by_person: BTreeSet<String>,
    /// Batches of ingestion that a restore ran over.
    pub torn: BTreeSet<i64>,
}

pub struct Committed {
    pub manifest: Manifest,
    pub bytes: Bytes,
    /// By table.
    pub rows: BTreeMap<String, Vec<Row>>,
}

/// `tier/date/name` of a key below a backup.
fn folder(key: &str) -> Option<&str> {
    if key.starts_with("_strongroom/") {
        return None;
    }
    let end = key.match_indices('/').nth(2)?.0;
    Some(&key[..end])
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// A worker sets about a change of the store: a record or a manifest only while nobody has taken the lease after it.
pub fn before_change(world: &World, port: &Port, key: &str, new: Option<&Bytes>) {
    let Some(bytes) = new else { return };
    let current = lock(&world.oracle).generation;
    let signed = key.starts_with("_strongroom/journal/") || key.ends_with("/manifest.json") && !Tombstone::is(bytes);
    let by = if signed { json(bytes)["generation"].as_u64() } else { None };
    if let Some(generation) = by.filter(|generation| *generation != current) {
        let worker = port.worker;
        world.violation(format!("w{worker} of generation {generation} writes {key}, the lease is at {current}"));
    }
}

/// A worker asks a service for a change: only the holder of the lease may, or who resumes what is overdue.
pub fn before_service(port: &Port, what: &str) {
    let generation = *lock(&port.generation);
    let current = lock(&port.world.oracle).generation;
    let overdue = generation == 0 && what.starts_with("resume ");
    if generation != current && !overdue {
        let worker = port.worker;
        port.world
            .violation(format!("w{worker} of generation {generation} asks for {what}, the lease is at {current}"));
    }
}

/// A change of the store has taken effect.
pub fn after_change(
    world: &World,
    port: &Port,
    bucket: &Arc<Bucket>,
    key: &str,
    old: Option<Bytes>,
    new: Option<Bytes>,
) {
    match (key, &new) {
        (LEASE, Some(new)) => lease(world, port, old.as_ref(), new),
        (LEDGER, Some(new)) => ledger(world, old.as_ref(), new),
        _ => {}
    }
    let Some(folder) = folder(key) else { return };
    if key.ends_with("/manifest.json") {
        match new {
            Some(new) if Tombstone::is(&new) => {
                world.count("tombstones");
                let was = old.is_some_and(|old| !Tombstone::is(&old));
                if was && bucket.name != super::COPY {
                    world.violation(format!("a tombstone has taken the place of {key}"));
                }
            }
            Some(new) => manifest_written(world, bucket, folder, old, new),
            // A copy's manifest comes before the primary's: without that it is no backup yet.
            None if old.is_some_and(|old| !Tombstone::is(&old)) && is_committed(world, folder) => {
                removed(world, bucket, folder, key);
            }
            None => {}
        }
        return;
    }
    let changed = old.is_some() && old != new;
    if changed && is_committed(world, folder) {
        removed(world, bucket, folder, key);
    }
}

fn is_committed(world: &World, folder: &str) -> bool {
    lock(&world.oracle).committed.contains_key(folder)
}

fn removed(world: &World, bucket: &Bucket, folder: &str, key: &str) {
    if !lock(&world.oracle).decided.contains(folder) {
        world.violation(format!(
            "{}/{key} of a committed backup was changed or removed: nobody decided it",
            bucket.name
        ));
    }
}

fn lease(world: &World, port: &Port, old: Option<&Bytes>, new: &Bytes) {
    let now = world.now();
    let mut oracle = lock(&world.oracle);
    let generation = json(new)["generation"].as_u64().unwrap_or_default();
    if generation > oracle.generation {
        let old = old.map(|old| json(old)).unwrap_or_default();
        let given_back = old["renewed_at"] == old["expires_at"];
        if !given_back {
            world.count("takeovers of the lease");
            let ttl = SignedDuration::try_from(TIME_TO_LIVE).expect("a duration");
            let since = oracle.lease_written.map_or(ttl, |written| now.duration_since(written));
            if since < ttl {
                drop(oracle);
                return world.violation(format!("w{} took a lease that was renewed {since} ago", port.worker));
            }
        }
        oracle.generation = generation;
        *lock(&port.generation) = generation;
        world.count("leases");
    } else if generation < oracle.generation {
        drop(oracle);
        return world
            .violation(format!("w{} wrote the lease of generation {generation} over a later one", port.worker));
    }
    oracle.lease_written = Some(now);
}

/// A decision to remove: it must be allowed at this very moment.
fn ledger(world: &World, old: Option<&Bytes>, new: &Bytes) {
    let removing = |bytes: &Bytes| json(bytes)["removing"].as_object().cloned().unwrap_or_default();
    let before = old.map(removing).unwrap_or_default();
    for (name, mark) in removing(new).into_iter().filter(|(name, _)| !before.contains_key(name)) {
        world.count("removals decided");
        let mut oracle = lock(&world.oracle);
        let by_hand = mark["by_hand"] == true;
        let Some((folder, condemned)) = oracle.committed.iter().find(|(_, c)| c.manifest.name.as_str() == name) else {
            drop(oracle);
            world.violation(format!("{name} is removed, but was never committed"));
            continue;
        };
        let folder = folder.clone();
        let mut wrong = Vec::new();
        if oracle.pinned.contains(&name) {
            wrong.push("it is pinned");
        }
        let left = || oracle.committed.iter().filter(|(folder, _)| !oracle.decided.contains(*folder)).map(|(_, c)| c);
        let newest = |c: &&Committed| (c.manifest.started_at, c.manifest.name.clone());
        let same_tier = left().filter(|c| c.manifest.tier == condemned.manifest.tier);
        if same_tier.max_by_key(newest).is_some_and(|last| last.manifest.name.as_str() == name) {
            wrong.push("it is the newest of its tier");
        }
        let verified = left().filter(|c| {
            let mark = format!("_strongroom/marks/{}/verified.json", c.manifest.name);
            let mark = world.buckets[super::DAILY].peek(&mark);
            mark.is_some_and(|mark| json(&mark)["commit_id"] == c.manifest.commit_id.as_str())
        });
        if !by_hand && verified.max_by_key(newest).is_some_and(|last| last.manifest.name.as_str() == name) {
            wrong.push("it is the newest verified backup");
        }
        oracle.decided.insert(folder);
        drop(oracle);
        for wrong in wrong {
            world.violation(format!("{name} is removed, but {wrong}"));
        }
    }
}

fn manifest_written(world: &World, bucket: &Arc<Bucket>, folder: &str, old: Option<Bytes>, new: Bytes) {
    let Ok(manifest) = manifest::read(&new) else {
        return world.violation(format!("{folder} has a manifest that cannot be read"));
    };
    if old.is_some_and(|old| old != new) {
        world.violation(format!("{}/{folder}/manifest.json was written over", bucket.name));
    }
    if bucket.name == super::COPY {
        return; // it exists from when the primary holds it
    }
    world.count("backups");
    // A run that was taken back must never come to exist.
    let home = &world.buckets[super::DAILY];
    let records = home.keys(&format!("_strongroom/journal/{}/", manifest.run));
    let last = records.last().and_then(|key| home.peek(key)).map(|record| json(&record)["event"].clone());
    if last.is_some_and(|event| event == "closed") {
        world.violation(format!("{} was committed after its run was closed", manifest.name));
    }
    let mut places = vec![bucket.clone()];
    if bucket.name == super::DAILY {
        places.push(world.buckets[super::COPY].clone());
    }
    for place in &places {
        for object in manifest.objects() {
            match place.peek(&object.key) {
                Some(bytes) if Digests::of(&bytes) == *object.in_store() => {}
                Some(_) => world.violation(format!("{}/{} is not what the manifest says", place.name, object.key)),
                None => world.violation(format!("{}/{} is not there at the commit", place.name, object.key)),
            }
        }
    }
    let rows = rows_of(bucket, &manifest);
    cut_is_true(world, &manifest, &rows);
    let committed = Committed { manifest, bytes: new, rows };
    lock(&world.oracle).committed.insert(folder.to_string(), committed);
}

fn rows_of(bucket: &Bucket, manifest: &Manifest) -> BTreeMap<String, Vec<Row>> {
    let tables = manifest.bigquery().flat_map(|source| &source.tables);
    tables
        .map(|table| {
            let files = table.objects.iter().filter_map(|object| bucket.peek(&object.key));
            let mut rows: Vec<Row> = files.flat_map(|file| read_avro(&file)).collect();
            rows.sort_unstable();
            (table.table.table().to_string(), rows)
        })
        .collect()
}

/// The rows are those of the one instant, and no batch of ingestion is cut in two.
fn cut_is_true(world: &World, manifest: &Manifest, rows: &BTreeMap<String, Vec<Row>>) {
    let Some(cut) = manifest.cut_at else { return world.violation(format!("{} has no cut", manifest.name)) };
    let warehouse = lock(&world.warehouse);
    let mut wrong = Vec::new();
    for table in manifest.bigquery().flat_map(|source| &source.tables) {
        let mut expected = warehouse.held(&table.table, cut).map(|rows| rows.to_vec()).unwrap_or_default();
        expected.sort_unstable();
        if rows.get(table.table.table()) != Some(&expected) {
            wrong.push(format!("{}: {} does not hold the rows of {cut}", manifest.name, table.table));
        }
    }
    drop(warehouse);
    let torn = lock(&world.oracle).torn.clone();
    let batches: Vec<BTreeSet<i64>> = rows
        .values()
        .map(|rows| rows.iter().map(|row| row.1).filter(|batch| !torn.contains(batch)).collect())
        .collect();
    if batches.windows(2).any(|two| two[0] != two[1]) {
        wrong.push(format!("{}: a batch of ingestion is cut in two: {batches:?}", manifest.name));
    }
    wrong.into_iter().for_each(|wrong| world.violation(wrong));
}

/// After the last recovery: what was committed and not removed is there as it was, and nothing else is listed.
pub fn at_the_end(world: &World) {
    let oracle = lock(&world.oracle);
    let mut wrong = Vec::new();
    for (folder, committed) in &oracle.committed {
        let primary = &world.buckets[if folder.starts_with("weekly/") { super::WEEKLY } else { super::DAILY }];
        let found = primary.peek(&format!("{folder}/manifest.json"));
        if oracle.decided.contains(folder) {
            continue;
        }
        if found.as_ref() != Some(&committed.bytes) {
            wrong.push(format!("the manifest of {folder} was lost or changed"));
        } else if rows_of(primary, &committed.manifest) != committed.rows {
            wrong.push(format!("the rows of {folder} have changed"));
        }
    }
    for name in [super::DAILY, super::WEEKLY] {
        for key in world.buckets[name].keys("") {
            let Some(folder) = folder(&key).filter(|_| key.ends_with("/manifest.json")) else { continue };
            let stone = world.buckets[name].peek(&key).is_some_and(|bytes| Tombstone::is(&bytes));
            if !stone && !oracle.committed.contains_key(folder) {
                wrong.push(format!("{key} is listed, but nobody saw it being committed"));
            }
        }
    }
    for name in &oracle.pinned {
        if !oracle
            .committed
            .iter()
            .any(|(folder, c)| c.manifest.name.as_str() == name && !oracle.decided.contains(folder))
        {
            wrong.push(format!("{name} was pinned and is gone"));
        }
    }
    drop(oracle);
    wrong.into_iter().for_each(|wrong| world.violation(wrong));
}

/// Objects that no manifest reaches, outside the tool's own folder.
pub fn garbage(world: &World) -> Vec<String> {
    let oracle = lock(&world.oracle);
    let mut found = Vec::new();
    for bucket in world.buckets.values() {
        for key in bucket.keys("") {
            let Some(folder) = folder(&key) else { continue };
            let kept = oracle.committed.get(folder).filter(|_| !oracle.decided.contains(folder));
            if kept.is_none() {
                found.push(format!("{}/{key}", bucket.name));
            }
        }
    }
    found
}

impl Oracle {
    /// Somebody was told that the backup is pinned.
    pub fn was_pinned(&mut self, name: &str) {
        if !self.unpinned.contains(name) {
            self.pinned.insert(name.into());
        }
    }

    /// Somebody is about to unpin it: from here on nothing is certain.
    pub fn is_unpinned(&mut self, name: &str) {
        self.unpinned.insert(name.into());
        self.pinned.remove(name);
    }
}

pub fn is_removed(world: &World, manifest: &Manifest) -> bool {
    let oracle = lock(&world.oracle);
    oracle.committed.iter().any(|(folder, c)| c.manifest.name == manifest.name && oracle.decided.contains(folder))
}

/// What was paused by a run runs again; what a person paused is paused.
pub fn schedules(world: &World) {
    let (warehouse, oracle) = (lock(&world.warehouse), lock(&world.oracle));
    let wrong: Vec<String> = warehouse
        .schedules
        .iter()
        .filter(|(name, state)| (**state == JobState::Paused) != oracle.by_person.contains(*name))
        .map(|(name, state)| format!("{name} is {state:?}, paused by a person: {}", oracle.by_person.contains(name)))
        .collect();
    drop((warehouse, oracle));
    wrong.into_iter().for_each(|wrong| world.violation(wrong));
}

/// A restore that succeeded has brought the backup's rows.
pub fn restored(world: &World, entry: &Entry, into: &DatasetId, passed: bool, differences: &[String], exact: bool) {
    let name = &entry.manifest.name;
    if !passed && exact {
        world.violation(format!("{name} was restored with differences: {differences:?}"));
    }
    let folder = strongroom::plan::backup::folder(&entry.manifest.tier, name, entry.manifest.started_at);
    let mut wrong = Vec::new();
    let oracle = lock(&world.oracle);
    let warehouse = lock(&world.warehouse);
    let Some(committed) = oracle.committed.get(&folder) else { return };
    for (table, rows) in &committed.rows {
        let id = into.table(table).expect("a name");
        let mut found = warehouse.tables.get(&id).map(|table| table.rows().to_vec()).unwrap_or_default();
        found.sort_unstable();
        let same = if exact { found == *rows } else { rows.iter().all(|row| found.contains(row)) };
        if !same {
            wrong.push(format!("{name}: {id} does not hold its rows after the restore"));
        }
    }
    drop((oracle, warehouse));
    wrong.into_iter().for_each(|wrong| world.violation(wrong));
}
