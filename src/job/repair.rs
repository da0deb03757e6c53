//! Repair: every copy of a backup is made whole again from the others. What is bad is replaced under a condition, and read
//! back; what no place has is named.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::Serialize;

use super::backup::count;
use super::copies::{self, Fault};
use super::{Context, JobError, inspect, run};
use crate::catalog::{Entry, MANIFEST, STATEMENT, Wanted};
use crate::codec::digest::Digester;
use crate::model::{BackupName, Digests, Failure, Place, TierName};
use crate::plan::backup::folder;
use crate::saga::Done;
use crate::store::{ByteStream, Store};

/// Objects up to this size are held in memory, and replaced in one step.
const SMALL_BYTES: u64 = 8 << 20;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairRequest {
    /// `None`: every backup.
    pub backup: Option<Wanted>,
    /// Read every byte, where otherwise sizes and the stores' own checksums are believed.
    pub deep: bool,
}

/// What a repair found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repaired {
    pub backups: Vec<BackupRepair>,
    /// Whether anything was changed; a dry run only says what would be.
    pub dry_run: bool,
}

/// The copies of one backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupRepair {
    pub backup: BackupName,
    pub tier: TierName,
    pub places: Vec<PlaceState>,
    /// What was not whole somewhere.
    pub objects: Vec<ObjectRepair>,
    /// What this look could not tell.
    pub notes: Vec<String>,
}

/// A place of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceState {
    pub place: String,
    pub object_count: usize,
    pub whole_before: usize,
    pub whole_after: usize,
    /// Why it could not be looked at.
    pub problem: Option<String>,
}

/// An object that was not whole in a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectRepair {
    pub object: String,
    pub place: String,
    #[serde(flatten)]
    pub fault: Fault,
    #[serde(flatten)]
    pub outcome: Mended,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Mended {
    Planned {
        from: String,
    },
    Mended {
        from: String,
    },
    /// It could not be written.
    Failed {
        message: String,
    },
    /// No place has it.
    Lost,
}

impl Repaired {
    /// Whether something is whole in no place.
    pub fn has_lost(&self) -> bool {
        self.objects().any(|object| object.outcome == Mended::Lost)
    }

    /// Whether something could not be looked at or written.
    pub fn has_failed(&self) -> bool {
        self.backups.iter().any(|backup| backup.places.iter().any(|place| place.problem.is_some()))
            || self.objects().any(|object| matches!(object.outcome, Mended::Failed { .. }))
    }

    pub fn objects(&self) -> impl Iterator<Item = &ObjectRepair> {
        self.backups.iter().flat_map(|backup| &backup.objects)
    }
}

/// What a repair would do at this moment.
///
/// # Errors
/// When the catalog cannot be read, or there is no such backup.
pub async fn plan(context: &Context, request: &RepairRequest) -> Result<Repaired, JobError> {
    let mut backups = Vec::new();
    for entry in chosen(context, request).await? {
        backups.push(Look::at(context, entry, request.deep).await?.told());
    }
    Ok(Repaired { backups, dry_run: true })
}

/// Makes all copies whole again from one another.
///
/// # Errors
/// When the catalog cannot be read, or there is no such backup; what cannot be mended is in the outcome.
pub async fn run(context: &Context, request: &RepairRequest) -> Result<Repaired, JobError> {
    let seen = chosen(context, request).await?;
    let subject = match seen.as_slice() {
        [one] => one.manifest.name.to_string(),
        _ => "catalog".into(),
    };
    let id = run::new_id(context);
    run::run(context, &id, ("repair", &subject), async |saga| {
        // Once more under the lease: what is being removed must not be brought back.
        let entries = chosen(context, request).await?;
        let total = entries.len();
        let step = async {
            let mut backups = Vec::new();
            for (n, entry) in entries.into_iter().enumerate() {
                context.observer.progress("repair", n + 1, total, entry.manifest.name.as_str());
                let mut look = Look::at(context, entry, request.deep).await?;
                look.mend(context.config.parallel).await;
                backups.push(look.told());
            }
            let repaired = Repaired { backups, dry_run: false };
            let mended = repaired.objects().filter(|object| matches!(object.outcome, Mended::Mended { .. })).count();
            let note = count(mended, "object");
            Ok::<_, JobError>(Done::new(repaired).note(note))
        };
        Ok(saga.step("mend", step).await?)
    })
    .await
}

async fn chosen(context: &Context, request: &RepairRequest) -> Result<Vec<Entry>, JobError> {
    if let Some(wanted) = &request.backup {
        return Ok(vec![context.catalog.find(wanted, None).await?]);
    }
    let mut entries = Vec::new();
    for entry in context.catalog.list().await?.entries {
        entries.push(context.catalog.sound(entry).await?);
    }
    Ok(entries)
}

/// An object as it should be everywhere.
struct Wanting {
    key: String,
    digests: Digests,
    /// By place: what is wrong with it; `None` where it is whole.
    faults: Vec<Option<Fault>>,
    /// By place: what became of it.
    outcomes: BTreeMap<usize, (Fault, Mended)>,
}

/// What lies in a backup's places.
struct Look {
    backup: BackupName,
    tier: TierName,
    stores: Vec<Arc<dyn Store>>,
    problems: Vec<Option<String>>,
    whole_before: Vec<usize>,
    /// The statement and the manifest come last: a place that lists a backup has all of it.
    objects: Vec<Wanting>,
    notes: Vec<String>,
}

impl Look {
    async fn at(context: &Context, entry: Entry, deep: bool) -> Result<Self, JobError> {
        let manifest = &entry.manifest;
        let own = folder(&manifest.tier, &manifest.name, manifest.started_at);
        let mut objects: Vec<Wanting> = Vec::new();
        for object in manifest.objects() {
            objects.push(Wanting::new(object.key.clone(), *object.stored()));
        }
        for name in [STATEMENT, MANIFEST] {
            let key = format!("{own}/{name}");
            match entry.store.get(&key).await {
                Ok((bytes, _)) => objects.push(Wanting::new(key, Digests::of(&bytes))),
                Err(Failure::NotFound { .. }) => {} // backups of old have no statement
                Err(error) => return Err(error.into()),
            }
        }
        let mut look = Self {
            backup: manifest.name.clone(),
            tier: manifest.tier.clone(),
            stores: vec![],
            problems: vec![],
            whole_before: vec![],
            objects,
            notes: vec![],
        };
        let mut folders = manifest.folders();
        folders.insert(own);
        let mut places: Vec<Place> = context.places(&manifest.tier).cloned().collect();
        if places.is_empty() {
            look.notes.push(format!("tier {} is not configured any more: its places are not known", manifest.tier));
        }
        for place in places.drain(..) {
            let store = (context.open)(&place)?;
            let read = deep || matches!(place, Place::Local { .. });
            let problem = match look.look_in(store.as_ref(), &folders, read, context.config.parallel).await {
                Ok(()) => None,
                Err(error) => {
                    look.objects.iter_mut().for_each(|object| object.faults.push(Some(Fault::Missing)));
                    Some(error.to_string())
                }
            };
            let at = look.stores.len();
            look.whole_before.push(look.objects.iter().filter(|object| object.faults[at].is_none()).count());
            look.problems.push(problem);
            look.stores.push(store);
        }
        look.decide();
        Ok(look)
    }

    /// Adds what lies in one place; with `read` every byte of what seems whole is read.
    async fn look_in(
        &mut self,
        store: &dyn Store,
        folders: &std::collections::BTreeSet<String>,
        read: bool,
        parallel: usize,
    ) -> Result<(), Failure> {
        let mut listed = BTreeMap::new();
        for folder in folders {
            listed.extend(store.list(&format!("{folder}/")).await?.into_iter().map(|info| (info.key.clone(), info)));
        }
        let mut unchecked = 0;
        let wanted: Vec<(&str, Digests, Option<Fault>)> = self
            .objects
            .iter()
            .map(|object| {
                let fault = match listed.get(&object.key) {
                    None => Some(Fault::Missing),
                    Some(info) => {
                        unchecked += usize::from(info.crc32c.is_none() && !read);
                        copies::fault(info, &object.digests)
                    }
                };
                (object.key.as_str(), object.digests, fault)
            })
            .collect();
        let judged: Vec<Result<Option<Fault>, Failure>> = stream::iter(wanted)
            .map(|(key, digests, fault)| async move {
                match fault {
                    None if read => read_fault(store, key, &digests).await,
                    fault => Ok(fault),
                }
            })
            .buffered(parallel)
            .collect()
            .await;
        let judged: Vec<Option<Fault>> = judged.into_iter().collect::<Result<_, Failure>>()?;
        for (object, fault) in self.objects.iter_mut().zip(judged) {
            object.faults.push(fault);
        }
        if unchecked > 0 {
            let place = store.describe();
            self.notes.push(format!("{place} keeps no checksums: sizes were compared; hint: --deep reads every byte"));
        }
        Ok(())
    }

    /// Whether a place can be written to at all.
    fn seen(&self, at: usize) -> bool {
        self.problems[at].is_none()
    }

    /// Says what is to be done.
    fn decide(&mut self) {
        let names: Vec<String> = self.stores.iter().map(|store| store.describe()).collect();
        let seen: Vec<bool> = (0..self.stores.len()).map(|at| self.seen(at)).collect();
        for object in &mut self.objects {
            let source = object.faults.iter().position(Option::is_none);
            for (at, fault) in object.faults.iter().enumerate().filter(|(at, _)| seen[*at]) {
                let Some(fault) = fault.clone() else { continue };
                let outcome = match source {
                    Some(source) => Mended::Planned { from: names[source].clone() },
                    None => Mended::Lost,
                };
                object.outcomes.insert(at, (fault, outcome));
            }
        }
    }

    async fn mend(&mut self, parallel: usize) {
        let (stores, seen) = (self.stores.clone(), (0..self.stores.len()).map(|at| self.seen(at)).collect::<Vec<_>>());
        let own = self.objects.iter().position(|object| {
            object.key.ends_with(&format!("/{STATEMENT}")) || object.key.ends_with(&format!("/{MANIFEST}"))
        });
        let last = self.objects.split_off(own.unwrap_or(self.objects.len()));
        let objects = std::mem::take(&mut self.objects);
        let mut mended: Vec<Wanting> =
            stream::iter(objects).map(|object| object.mend(&stores, &seen)).buffered(parallel).collect().await;
        for mut object in last {
            // A place in which something is still missing is not made to list the backup.
            let unfit: Vec<bool> =
                (0..stores.len()).map(|at| seen[at] && mended.iter().any(|other| other.faults[at].is_some())).collect();
            for (at, _) in unfit.iter().enumerate().filter(|(_, unfit)| **unfit) {
                if let Some((_, outcome)) = object.outcomes.get_mut(&at) {
                    let message = "is not written while objects of the backup are missing there".into();
                    *outcome = Mended::Failed { message };
                }
            }
            let fit: Vec<bool> = unfit.iter().zip(&seen).map(|(unfit, seen)| !unfit && *seen).collect();
            mended.push(object.mend(&stores, &fit).await);
        }
        self.objects = mended;
    }

    fn told(self) -> BackupRepair {
        let names: Vec<String> = self.stores.iter().map(|store| store.describe()).collect();
        let places = names.iter().enumerate().map(|(at, place)| PlaceState {
            place: place.clone(),
            object_count: self.objects.len(),
            whole_before: self.whole_before[at],
            whole_after: self.objects.iter().filter(|object| object.faults[at].is_none()).count(),
            problem: self.problems[at].clone(),
        });
        let places = places.collect();
        let objects = self.objects.into_iter().flat_map(|object| {
            let (key, names) = (object.key, &names);
            object.outcomes.into_iter().map(move |(at, (fault, outcome))| ObjectRepair {
                object: key.clone(),
                place: names[at].clone(),
                fault,
                outcome,
            })
        });
        let objects = objects.collect();
        BackupRepair { backup: self.backup, tier: self.tier, places, objects, notes: self.notes }
    }
}

impl Wanting {
    fn new(key: String, digests: Digests) -> Self {
        Self { key, digests, faults: vec![], outcomes: BTreeMap::new() }
    }

    /// Makes the object whole in every place that may be written to.
    async fn mend(mut self, stores: &[Arc<dyn Store>], writable: &[bool]) -> Self {
        let mut failed: Vec<usize> = Vec::new();
        loop {
            let to_mend = |at: &usize| self.faults[*at].is_some() && writable[*at] && !failed.contains(at);
            let Some(at) = (0..stores.len()).find(to_mend) else { return self };
            let fault = self.faults[at].clone().unwrap_or(Fault::Missing);
            let Some(source) = self.faults.iter().position(Option::is_none) else {
                failed.push(at);
                self.outcomes.insert(at, (fault, Mended::Lost));
                continue;
            };
            let from = stores[source].describe();
            match replace(stores[source].as_ref(), stores[at].as_ref(), &self.key, &self.digests).await {
                Ok(()) => {
                    self.faults[at] = None;
                    let fault = self.outcomes.remove(&at).map_or(fault, |(fault, _)| fault);
                    self.outcomes.insert(at, (fault, Mended::Mended { from }));
                }
                // What seemed whole is not: it is to be mended, too.
                Err(Broken::Source(message)) => self.faults[source] = Some(Fault::Corrupt { message }),
                Err(Broken::Target(error)) => {
                    failed.push(at);
                    self.outcomes.insert(at, (fault, Mended::Failed { message: error.to_string() }));
                }
            }
        }
    }
}

/// Which end of a copy is at fault.
enum Broken {
    Source(String),
    Target(Failure),
}

/// Puts an object of one place into another, over what is bad there, and reads it back. What is there is only taken away
/// when the source is proven.
async fn replace(source: &dyn Store, target: &dyn Store, key: &str, digests: &Digests) -> Result<(), Broken> {
    let there = target.head(key).await.map_err(Broken::Target)?;
    let written = if digests.size_bytes <= SMALL_BYTES {
        let bytes = whole(source, key, digests).await?;
        match &there {
            Some(info) => target.put_if_match(key, bytes, &info.version).await.map(drop),
            None => target.put_if_absent(key, bytes).await.map(drop),
        }
    } else {
        if let Some(info) = &there {
            prove(source, key, digests).await?;
            target.delete_if_match(key, &info.version).await.map_err(Broken::Target)?;
        }
        let stream = source.read(key).await.map_err(of_source)?;
        target.write_stream(key, checked(stream, source.address(key), *digests)).await.map(drop)
    };
    // A reply that was lost is cleared up by what is there.
    match (read_fault(target, key, digests).await, written) {
        (Ok(None), _) => Ok(()),
        (_, Err(error @ Failure::Corrupt { .. })) => match prove(source, key, digests).await {
            Ok(()) => Err(Broken::Target(error)),
            broken => broken,
        },
        (_, Err(error)) | (Err(error), Ok(())) => Err(Broken::Target(error)),
        (Ok(Some(_)), Ok(())) => {
            let message = "was written and reads back otherwise".into();
            Err(Broken::Target(Failure::Corrupt { object: target.address(key), message }))
        }
    }
}

fn of_source(error: Failure) -> Broken {
    Broken::Source(error.to_string())
}

async fn whole(source: &dyn Store, key: &str, digests: &Digests) -> Result<Bytes, Broken> {
    let (bytes, _) = source.get(key).await.map_err(of_source)?;
    if Digests::of(&bytes) == *digests { Ok(bytes) } else { Err(Broken::Source("is not what was written".into())) }
}

async fn prove(source: &dyn Store, key: &str, digests: &Digests) -> Result<(), Broken> {
    match read_fault(source, key, digests).await.map_err(of_source)? {
        None => Ok(()),
        Some(Fault::Missing) => Err(Broken::Source("is not there any more".into())),
        Some(Fault::Corrupt { message }) => Err(Broken::Source(message)),
    }
}

/// What reading an object tells against it.
async fn read_fault(store: &dyn Store, key: &str, written: &Digests) -> Result<Option<Fault>, Failure> {
    match inspect::digests(store, key).await {
        Ok(found) if found == *written => Ok(None),
        Ok(found) => {
            let message = format!("its SHA-256 is {}, written was {}", found.sha256_hex(), written.sha256_hex());
            Ok(Some(Fault::Corrupt { message }))
        }
        Err(Failure::NotFound { .. }) => Ok(Some(Fault::Missing)),
        Err(Failure::Corrupt { message, .. }) => Ok(Some(Fault::Corrupt { message })),
        Err(error) => Err(error),
    }
}

/// A stream that fails at its end when it was not what was written: then no object comes to be.
fn checked(stream: ByteStream, object: String, written: Digests) -> ByteStream {
    let state = (stream, Some(Digester::new()));
    stream::unfold(state, move |(mut stream, digester)| {
        let object = object.clone();
        async move {
            let mut digester = digester?;
            match stream.next().await {
                Some(Ok(chunk)) => {
                    digester.update(&chunk);
                    Some((Ok(chunk), (stream, Some(digester))))
                }
                Some(Err(error)) => Some((Err(error), (stream, None))),
                None if digester.finish() == written => None,
                None => {
                    let message = "is not what was written".into();
                    Some((Err(Failure::Corrupt { object, message }), (stream, None)))
                }
            }
        }
    })
    .boxed()
}
