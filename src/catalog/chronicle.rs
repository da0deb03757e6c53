//! The chronicle in the stores: `_strongroom/chronicle/{sequence}.json`, in the home and in every destination, so that whoever
//! rolls one place back is told by the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::OWN_FOLDER;
use super::authority::Authority;
use crate::codec::digest::Digests;
use crate::manifest::chronicle::{CHRONICLE_FORMAT, ChronicleEntry, Event, Head, History, Stored};
use crate::manifest::signed::{self, Standing};
use crate::manifest::{Doubt, DoubtKind};
use crate::model::Failure;
use crate::store::Store;

/// How many entries are read at once.
const PARALLEL: usize = 32;
/// How often an entry is tried anew when another process has taken its place.
const RACES: usize = 20;

/// The chronicle of a system. Cheap to clone.
#[derive(Clone)]
pub struct Chronicle {
    /// The home first.
    places: Vec<Arc<dyn Store>>,
    authority: Authority,
}

/// The chronicle as it was read.
pub struct Reading {
    pub history: History,
    pub doubts: Vec<Doubt>,
}

fn key(sequence: u64) -> String {
    format!("{OWN_FOLDER}/chronicle/{sequence:09}.json")
}

fn sequence_of(key: &str) -> Option<u64> {
    let number = key.rsplit('/').next()?.strip_suffix(".json")?;
    (number.len() == 9).then(|| number.parse().ok())?
}

impl Chronicle {
    /// `places` are the home and every destination.
    pub fn new(places: Vec<Arc<dyn Store>>, authority: Authority) -> Self {
        Self { places, authority }
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Reads all entries in all places and follows the longest history. A place that is gone is left out.
    ///
    /// # Errors
    /// When the home cannot be read.
    pub async fn read(&self) -> Result<Reading, Failure> {
        let (mut all, mut doubts): (Vec<BTreeMap<u64, Stored>>, Vec<Doubt>) = (Vec::new(), Vec::new());
        for (index, place) in self.places.iter().enumerate() {
            match entries(place.as_ref()).await {
                Ok((entries, strays)) => {
                    all.push(entries);
                    doubts.extend(
                        strays
                            .into_iter()
                            .map(|stray| Doubt::new(DoubtKind::Changed, stray, "is no place of a chronicle's entry")),
                    );
                }
                Err(Failure::NotFound { .. }) => all.push(BTreeMap::new()),
                Err(error) if index == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!("{}: the copy of the chronicle cannot be read: {error}", place.describe());
                    all.push(BTreeMap::new());
                }
            }
        }
        let (mut history, mut found) = (History::default(), Vec::new());
        let (system, trusted) = (&self.authority.system, &self.authority.trusted);
        for entries in &all {
            let entries: Vec<Stored> = entries.values().cloned().collect();
            let (own, doubted) = History::of(&entries, system, trusted);
            found.push(own.head());
            doubts.extend(doubted);
            if own.length() > history.length() {
                history = own;
            }
        }
        // Every place holds a beginning of the same history.
        let length = history.length();
        for (place, head) in self.places.iter().zip(found) {
            let name = format!("{}/{OWN_FOLDER}/chronicle", place.describe());
            match head {
                Some(head) => match history.knows(&head, &name) {
                    Ok(()) if head.sequence == length => {}
                    Ok(()) => {
                        let message = format!("it ends at entry {}, another place has {length}", head.sequence);
                        doubts.push(Doubt::new(DoubtKind::RolledBack, name, message));
                    }
                    Err(doubt) => doubts.push(doubt),
                },
                None if length > 0 => {
                    let message = format!("it is empty, another place has {length} entries");
                    doubts.push(Doubt::new(DoubtKind::RolledBack, name, message));
                }
                None => {}
            }
        }
        Ok(Reading { history, doubts })
    }

    /// The last entry, wherever it is.
    ///
    /// # Errors
    /// When the home cannot be read; `Corrupt` when the last entry is not believed, or there are two.
    pub async fn head(&self) -> Result<Option<Head>, Failure> {
        Ok(self.last().await?.0)
    }

    /// The last entry, and what every place has; `None` for a place that cannot be listed.
    async fn last(&self) -> Result<(Option<Head>, Vec<Option<BTreeSet<u64>>>), Failure> {
        let mut held = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            match place.list(&format!("{OWN_FOLDER}/chronicle/")).await {
                Ok(listed) => {
                    held.push(Some(listed.iter().filter_map(|info| sequence_of(&info.key)).collect::<BTreeSet<u64>>()));
                }
                Err(error) if index == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!("{}: the copy of the chronicle cannot be listed: {error}", place.describe());
                    held.push(None);
                }
            }
        }
        let mut sequences: BTreeSet<u64> = held.iter().flatten().flatten().copied().collect();
        while let Some(sequence) = sequences.pop_last() {
            let mut head: Option<Head> = None;
            for (index, place) in self.places.iter().enumerate() {
                if !held[index].as_ref().is_some_and(|held| held.contains(&sequence)) {
                    continue;
                }
                let corrupt = |message: &str| Failure::Corrupt {
                    object: format!("{}/{}", place.describe(), key(sequence)),
                    message: format!("{message}; hint: strongroom verify --catalog"),
                };
                let (bytes, _) = place.get(&key(sequence)).await?;
                if !self.believes(&bytes, sequence) {
                    if index == 0 {
                        return Err(corrupt("the last entry of the chronicle is not what was written"));
                    }
                    // Whoever can write to a copy must not be able to stop the system with a word.
                    tracing::warn!("{}/{}: is no entry of the chronicle", place.describe(), key(sequence));
                    continue;
                }
                let sha256 = Digests::of(&bytes).sha256_hex();
                if head.as_ref().is_some_and(|head| head.sha256 != sha256) {
                    return Err(corrupt("the chronicle has two last entries"));
                }
                head = Some(Head { sequence, sha256 });
            }
            if head.is_some() {
                return Ok((head, held));
            }
        }
        Ok((None, held))
    }

    fn believes(&self, bytes: &[u8], sequence: u64) -> bool {
        signed::read::<ChronicleEntry>(bytes, &self.authority.trusted).is_ok_and(|(entry, standing)| {
            entry.system == self.authority.system
                && entry.sequence == sequence
                && entry.format == CHRONICLE_FORMAT
                && matches!(standing, Standing::Trusted(_))
        })
    }

    /// Adds an entry: in the home first, which decides who is next, then everywhere else. What a place lacks is brought up.
    ///
    /// # Errors
    /// When the home cannot be written, or the chronicle's end is not believed.
    pub async fn append(&self, event: Event, at: Timestamp, by: &str) -> Result<Head, Failure> {
        let signer = self.authority.key().await?;
        for _ in 0..RACES {
            let (head, held) = self.last().await?;
            let sequence = head.as_ref().map_or(0, |head| head.sequence) + 1;
            let entry = ChronicleEntry {
                format: CHRONICLE_FORMAT,
                system: self.authority.system.clone(),
                sequence,
                previous: head.map(|head| head.sha256),
                at,
                by: by.into(),
                event: event.clone(),
            };
            let invalid = |message| Failure::Invalid { object: key(sequence), message };
            let bytes = Bytes::from(signed::write(entry, Some(signer)).map_err(invalid)?);
            let sha256 = Digests::of(&bytes).sha256_hex();
            // A home that was rolled back is brought up first: the place is taken once.
            self.bring_up(&held, sequence).await?;
            match self.places[0].put_if_absent(&key(sequence), bytes.clone()).await {
                Ok(_) => {}
                Err(Failure::Exists { .. } | Failure::Unknown { .. } | Failure::Transient { .. }) => {
                    match self.places[0].get(&key(sequence)).await {
                        Ok((found, _)) if found == bytes => {}
                        Ok(_) | Err(Failure::NotFound { .. }) => continue, // another process was quicker
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
            for (place, _) in self.places.iter().zip(&held).skip(1).filter(|(_, held)| held.is_some()) {
                if let Err(error) = place.put_if_absent(&key(sequence), bytes.clone()).await {
                    // The next entry brings it up.
                    tracing::warn!("{}: the chronicle's entry {sequence} was not copied: {error}", place.describe());
                }
            }
            return Ok(Head { sequence, sha256 });
        }
        let message = "other processes keep writing to it; hint: try again".to_string();
        Err(Failure::Precondition { object: format!("{}/{OWN_FOLDER}/chronicle", self.places[0].describe()), message })
    }

    /// Copies to every place the entries before `sequence` that it lacks.
    async fn bring_up(&self, held: &[Option<BTreeSet<u64>>], sequence: u64) -> Result<(), Failure> {
        for (index, place) in self.places.iter().enumerate() {
            let Some(has) = &held[index] else { continue };
            for missing in (1..sequence).filter(|n| !has.contains(n)) {
                let holder = held.iter().position(|has| has.as_ref().is_some_and(|has| has.contains(&missing)));
                let Some(holder) = holder else { continue };
                let (bytes, _) = self.places[holder].get(&key(missing)).await?;
                match place.put_if_absent(&key(missing), bytes).await {
                    Ok(_) | Err(Failure::Exists { .. }) => {}
                    Err(error) if index == 0 => return Err(error),
                    Err(error) => {
                        tracing::warn!("{}: the chronicle's entry {missing} was not copied: {error}", place.describe());
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The entries of a place by their sequence, and what else lies there.
async fn entries(store: &dyn Store) -> Result<(BTreeMap<u64, Stored>, Vec<String>), Failure> {
    let listed = store.list(&format!("{OWN_FOLDER}/chronicle/")).await?;
    let mut strays = Vec::new();
    let mut wanted = Vec::new();
    for info in listed {
        match sequence_of(&info.key) {
            Some(sequence) if key(sequence) == info.key => wanted.push((sequence, info.key)),
            _ => strays.push(format!("{}/{}", store.describe(), info.key)),
        }
    }
    let read = stream::iter(wanted)
        .map(|(sequence, key)| async move {
            let (bytes, _) = store.get(&key).await?;
            let sha256 = Digests::of(&bytes).sha256_hex();
            let place = format!("{}/{key}", store.describe());
            Ok::<_, Failure>((sequence, Stored { sequence, place, bytes: bytes.to_vec(), sha256 }))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    Ok((read, strays))
}
