//! The chronicle: everything that was ever committed, removed or marked, as a chain of signed entries. Each names the digest of
//! the one before it, so none can be taken out, put in or changed but the last ones, and those only for who remembers less.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::doubt::{Doubt, DoubtKind};
use super::signed::{self, Record, Standing};
use crate::model::{BackupName, PublicKey, TierName};

/// The version of this record.
pub const CHRONICLE_FORMAT: u32 = 1;

/// One thing that happened to the catalog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChronicleEntry {
    pub format: u32,
    pub system: String,
    /// 1, 2, 3 ... without holes.
    pub sequence: u64,
    /// SHA-256 of the bytes of the entry before this one, in hex.
    pub previous: Option<String>,
    pub at: Timestamp,
    /// Who did it, for people.
    pub by: String,
    #[serde(flatten)]
    pub event: Event,
}

impl Record for ChronicleEntry {
    const KIND: &'static str = "chronicle entry";
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Committed(Commit),
    Removed {
        backup: BackupName,
        commit_id: String,
    },
    /// A mark was set: `kind` names it, `mark` is all of it.
    Marked {
        backup: BackupName,
        commit_id: String,
        kind: String,
        mark: Value,
    },
    Unmarked {
        backup: BackupName,
        kind: String,
    },
}

/// A backup as it was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub backup: BackupName,
    pub tier: TierName,
    pub commit_id: String,
    pub started_at: Timestamp,
    /// SHA-256 of the manifest's bytes, in hex.
    pub manifest_sha256: String,
    /// The destinations that it was written to.
    pub places: Vec<String>,
}

/// The last entry of a chronicle: whoever keeps it can tell whether anything before it was changed or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub sequence: u64,
    /// SHA-256 of the entry's bytes, in hex.
    pub sha256: String,
}

/// What became of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub commit: Commit,
    pub removed_at: Option<Timestamp>,
}

/// All that the chronicle says.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The digest of every entry, the first first.
    digests: Vec<String>,
    pub backups: BTreeMap<BackupName, Fate>,
    /// By backup, then by kind: commit id and mark.
    pub marks: BTreeMap<BackupName, BTreeMap<String, (String, Value)>>,
    pub last_at: Option<Timestamp>,
}

/// An entry as it was found.
#[derive(Debug, Clone)]
pub struct Stored {
    pub sequence: u64,
    /// Its whole address.
    pub place: String,
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
}

impl History {
    /// Follows the entries, which come in the order of their sequence. Stops at the first that is not believed: what comes
    /// after it says nothing.
    ///
    /// An entry of a key that is trusted no longer is believed when a later one of a trusted key stands on it.
    pub fn of(entries: &[Stored], system: &str, trusted: &BTreeSet<PublicKey>) -> (Self, Vec<Doubt>) {
        let (mut history, mut doubts) = (Self::default(), Vec::new());
        let mut followed: Vec<(ChronicleEntry, bool)> = Vec::new();
        let mut previous: Option<&str> = None;
        for stored in entries {
            let wanted = followed.len() as u64 + 1;
            if stored.sequence != wanted {
                let message = format!("entry {wanted} is gone, {} is there", stored.sequence);
                doubts.push(Doubt::new(DoubtKind::Removed, &stored.place, message));
                break;
            }
            match check(stored, system, previous, trusted) {
                Ok(entry) => followed.push(entry),
                Err(message) => {
                    doubts.push(Doubt::new(DoubtKind::Changed, &stored.place, message));
                    break;
                }
            }
            previous = Some(&stored.sha256);
        }
        let believed = followed.iter().rposition(|(_, trusted)| *trusted).map_or(0, |last| last + 1);
        if let Some(stored) = entries.get(believed).filter(|_| believed < followed.len()) {
            let message = "it is not signed by a key that signing.trusted names; hint: name it, if it is yours";
            doubts.push(Doubt::new(DoubtKind::Changed, &stored.place, message));
        }
        for (stored, (entry, _)) in entries.iter().zip(followed).take(believed) {
            history.apply(stored, entry);
        }
        (history, doubts)
    }

    fn apply(&mut self, stored: &Stored, entry: ChronicleEntry) {
        self.digests.push(stored.sha256.clone());
        self.last_at = self.last_at.max(Some(entry.at));
        match entry.event {
            Event::Committed(commit) => {
                self.marks.remove(&commit.backup);
                self.backups.insert(commit.backup.clone(), Fate { commit, removed_at: None });
            }
            Event::Removed { backup, .. } => {
                self.marks.remove(&backup);
                if let Some(fate) = self.backups.get_mut(&backup) {
                    fate.removed_at = Some(entry.at);
                }
            }
            Event::Marked { backup, commit_id, kind, mark } => {
                self.marks.entry(backup).or_default().insert(kind, (commit_id, mark));
            }
            Event::Unmarked { backup, kind } => {
                if let Some(marks) = self.marks.get_mut(&backup) {
                    marks.remove(&kind);
                }
            }
        }
    }

    /// How many entries it has.
    pub fn length(&self) -> u64 {
        self.digests.len() as u64
    }

    pub fn head(&self) -> Option<Head> {
        let sha256 = self.digests.last()?.clone();
        Some(Head { sequence: self.length(), sha256 })
    }

    /// Whether the chronicle has been at this head.
    ///
    /// # Errors
    /// `RolledBack` when it ends before it, `Forked` when another entry is there.
    pub fn knows(&self, head: &Head, place: &str) -> Result<(), Doubt> {
        let index = usize::try_from(head.sequence).ok().and_then(|sequence| sequence.checked_sub(1));
        match index.and_then(|index| self.digests.get(index)) {
            Some(sha256) if *sha256 == head.sha256 => Ok(()),
            Some(_) => {
                let message = format!("entry {} of the chronicle is another than it has seen", head.sequence);
                Err(Doubt::new(DoubtKind::Forked, place, message))
            }
            None => {
                let message = format!(
                    "it has seen entry {} of the chronicle, which ends at {}",
                    head.sequence,
                    self.digests.len()
                );
                Err(Doubt::new(DoubtKind::RolledBack, place, message))
            }
        }
    }

    /// Whether a backup was committed and is not removed.
    pub fn stands(&self, backup: &BackupName) -> bool {
        self.backups.get(backup).is_some_and(|fate| fate.removed_at.is_none())
    }
}

fn check(
    stored: &Stored,
    system: &str,
    previous: Option<&str>,
    trusted: &BTreeSet<PublicKey>,
) -> Result<(ChronicleEntry, bool), String> {
    let (entry, standing) = signed::read::<ChronicleEntry>(&stored.bytes, trusted)?;
    if entry.format != CHRONICLE_FORMAT {
        return Err(format!("is of format {}, this program reads {CHRONICLE_FORMAT}", entry.format));
    }
    if entry.system != system {
        return Err(format!("is of the system '{}', not of '{system}'", entry.system));
    }
    if entry.sequence != stored.sequence {
        return Err(format!("is entry {}, and lies at the place of {}", entry.sequence, stored.sequence));
    }
    if entry.previous.as_deref() != previous {
        return Err("does not stand on the entry before it".into());
    }
    match standing {
        Standing::Unsigned => Err("is not signed".into()),
        Standing::Trusted(_) => Ok((entry, true)),
        Standing::Stranger(_) => Ok((entry, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SigningKey;

    fn sha256(bytes: &[u8]) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap().0
    }

    fn trusting(keys: &[&SigningKey]) -> BTreeSet<PublicKey> {
        keys.iter().map(|key| key.public()).collect()
    }

    fn commit(name: &str) -> Event {
        Event::Committed(Commit {
            backup: name.parse().unwrap(),
            tier: "daily".parse().unwrap(),
            commit_id: format!("c-{name}"),
            started_at: "2026-08-01T02:00:00Z".parse().unwrap(),
            manifest_sha256: sha256(name.as_bytes()),
            places: vec![],
        })
    }

    fn chain(events: Vec<(Event, SigningKey)>) -> Vec<Stored> {
        let mut stored: Vec<Stored> = Vec::new();
        for (event, key) in events {
            let sequence = stored.len() as u64 + 1;
            let entry = ChronicleEntry {
                format: CHRONICLE_FORMAT,
                system: "x".into(),
                sequence,
                previous: stored.last().map(|last| last.sha256.clone()),
                at: "2026-08-01T02:00:00Z".parse().unwrap(),
                by: "ann".into(),
                event,
            };
            stored.push(at(sequence, signed::write(entry, Some(&key)).unwrap()));
        }
        stored
    }

    fn at(sequence: u64, bytes: Vec<u8>) -> Stored {
        Stored { sequence, place: format!("chronicle/{sequence}"), sha256: sha256(&bytes), bytes }
    }

    fn three() -> Vec<Stored> {
        let pin = Event::Marked {
            backup: "b".parse().unwrap(),
            commit_id: "c-b".into(),
            kind: "pinned".into(),
            mark: serde_json::json!({"z": 1, "a": [true, null]}),
        };
        let gone = Event::Removed { backup: "a".parse().unwrap(), commit_id: "c-a".into() };
        chain(vec![(commit("a"), key(1)), (commit("b"), key(1)), (pin, key(1)), (gone, key(1))])
    }

    #[test]
    fn it_tells_what_stands_what_was_removed_and_what_is_marked() {
        let (history, doubts) = History::of(&three(), "x", &trusting(&[&key(1)]));
        assert_eq!(doubts, []);
        assert!(!history.stands(&"a".parse().unwrap()) && history.stands(&"b".parse().unwrap()));
        assert_eq!(history.marks[&"b".parse().unwrap()]["pinned"].0, "c-b");
        assert_eq!(history.head().unwrap().sequence, 4);
    }

    #[test]
    fn every_changed_byte_of_every_entry_is_found() {
        let (whole, trusted) = (three(), trusting(&[&key(1)]));
        let mut tried = 0;
        for index in 0..whole.len() {
            for byte in 0..whole[index].bytes.len() {
                let mut bytes = whole[index].bytes.clone();
                bytes[byte] ^= 1 << (byte % 8);
                let mut changed = whole.clone();
                changed[index] = at(index as u64 + 1, bytes);
                let (_, doubts) = History::of(&changed, "x", &trusted);
                assert_eq!(doubts.first().map(|doubt| doubt.kind), Some(DoubtKind::Changed), "{index} {byte}");
                tried += 1;
            }
        }
        assert!(tried > 1500, "{tried}");
    }

    #[test]
    fn entries_cannot_be_taken_out_swapped_or_brought_from_elsewhere() {
        let (whole, trusted) = (three(), trusting(&[&key(1)]));
        let kinds = |entries: &[Stored], system: &str| {
            History::of(entries, system, &trusted).1.iter().map(|doubt| doubt.kind).collect::<Vec<_>>()
        };
        for out in 0..3 {
            let mut entries = whole.clone();
            entries.remove(out);
            assert_eq!(kinds(&entries, "x"), [DoubtKind::Removed], "{out}");
        }
        let mut swapped = whole.clone();
        swapped[0].bytes.clone_from(&whole[1].bytes);
        assert_eq!(kinds(&swapped, "x"), [DoubtKind::Changed]);
        assert_eq!(kinds(&whole, "y"), [DoubtKind::Changed], "another system's chronicle");
        // The end can be cut off: who has seen it tells.
        let (history, doubts) = History::of(&whole[..2], "x", &trusted);
        assert_eq!(doubts, []);
        let seen = Head { sequence: 4, sha256: whole[3].sha256.clone() };
        assert_eq!(history.knows(&seen, "p").unwrap_err().kind, DoubtKind::RolledBack);
        let other = Head { sequence: 2, sha256: whole[3].sha256.clone() };
        assert_eq!(history.knows(&other, "p").unwrap_err().kind, DoubtKind::Forked);
    }

    #[test]
    fn a_new_key_stands_on_what_an_old_one_signed() {
        let entries = chain(vec![(commit("a"), key(1)), (commit("b"), key(2)), (commit("c"), key(1))]);
        let (history, doubts) = History::of(&entries[..2], "x", &trusting(&[&key(2)]));
        assert_eq!((history.backups.len(), doubts.len()), (2, 0));
        // But the old one signs nothing new.
        let (history, doubts) = History::of(&entries, "x", &trusting(&[&key(2)]));
        assert_eq!((history.backups.len(), doubts[0].kind), (2, DoubtKind::Changed));
        let (history, doubts) = History::of(&entries, "x", &trusting(&[&key(3)]));
        assert_eq!((history.backups.len(), doubts.len()), (0, 1));
    }
}
