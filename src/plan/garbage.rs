//! What no manifest reaches: told apart from what is only young, still under way, or strange.
//!
//! Only what a run of this program can have left is ever removed, and only when its age, by the store's own times, is over
//! the time of grace. What a journal says was committed is not garbage because its manifest is gone: then somebody removed
//! the manifest, and the data is all that is left.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::model::{BackupName, DatasetId, Period, Place, TableId};

/// An object that may be garbage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    pub key: String,
    pub size_bytes: u64,
    pub updated: Timestamp,
}

/// The folder of a backup in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    pub place: Place,
    pub folder: String,
    /// Its last part: a backup's name, if it is one.
    pub name: String,
    /// Its manifest is in the catalog.
    pub is_listed: bool,
    /// The backup was removed: what is left in its folder is part of others.
    pub removed: bool,
    pub objects: Vec<Object>,
}

/// What is in staging for one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    pub place: Place,
    pub folder: String,
    /// The backup's name, or the id of the restore's run, which a part of it may follow.
    pub subject: String,
    pub objects: Vec<Object>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    RolledBack,
}

/// A run as its journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: String,
    pub verb: String,
    pub subject: String,
    pub outcome: Option<Outcome>,
    pub ended_at: Timestamp,
}

/// Everything that is decided on.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// All times are by this clock: those of others were translated.
    pub now: Timestamp,
    pub grace: Period,
    pub keep_journals: Period,
    pub folders: Vec<Folder>,
    pub staged: Vec<Staged>,
    /// Keys that any manifest names.
    pub reached: BTreeSet<String>,
    /// Manifests that cannot be read: what they reach is not known.
    pub unreadable: Vec<String>,
    /// Names of the backups whose manifests can be read.
    pub listed: BTreeSet<String>,
    /// Backups whose removal was begun.
    pub removing: BTreeSet<BackupName>,
    pub runs: Vec<Run>,
    /// Backups with marks, and when the last was set.
    pub marks: BTreeMap<BackupName, Timestamp>,
    /// Snapshots that no manifest names, and when they were taken.
    pub snapshots: Vec<(TableId, Timestamp)>,
    /// Datasets named as drills name theirs, and when they were made.
    pub scratch: Vec<(DatasetId, Timestamp)>,
    /// Pages of drills that have no report, and their size and time.
    pub pages: Vec<Object>,
}

/// Something that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Piece {
    /// Objects of a backup's folder.
    Objects {
        place: Place,
        folder: String,
        objects: Vec<Object>,
        why: String,
    },
    /// Objects of the program's own folder.
    Own {
        objects: Vec<Object>,
        why: String,
    },
    Marks {
        backup: BackupName,
        why: String,
    },
    Snapshot {
        table: TableId,
        why: String,
    },
    Scratch {
        dataset: DatasetId,
        run: String,
        why: String,
    },
    Journal {
        run: String,
        why: String,
    },
}

/// What is removed, and what is left though no manifest reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GarbagePlan {
    pub remove: Vec<Piece>,
    /// What it is, and why it is left alone.
    pub spared: Vec<String>,
}

/// Decides.
pub fn plan(facts: &Facts) -> GarbagePlan {
    let mut plan = GarbagePlan::default();
    if facts.unreadable.is_empty() {
        for folder in &facts.folders {
            folder_plan(facts, folder, &mut plan);
        }
        for (table, taken) in &facts.snapshots {
            snapshot_plan(facts, table, *taken, &mut plan);
        }
    } else {
        let n = facts.unreadable.len();
        plan.spared.push(format!(
            "all backups' folders: {n} manifest(s) cannot be read, what they reach is not known ({})",
            facts.unreadable.join(", ")
        ));
    }
    for (backup, set) in &facts.marks {
        let gone = !facts.listed.contains(backup.as_str())
            && !facts.removing.contains(backup)
            && !facts.folders.iter().any(|folder| folder.name == backup.as_str());
        if gone && facts.unreadable.is_empty() {
            match young(facts, *set) {
                None => plan.remove.push(Piece::Marks { backup: backup.clone(), why: "the backup is gone".into() }),
                Some(left) => plan.spared.push(format!("marks of {backup}, which is gone: {left}")),
            }
        }
    }
    for staged in &facts.staged {
        staged_plan(facts, staged, &mut plan);
    }
    for (dataset, made) in &facts.scratch {
        scratch_plan(facts, dataset, *made, &mut plan);
    }
    let old: Vec<Object> = facts.pages.iter().filter(|page| young(facts, page.updated).is_none()).cloned().collect();
    if !old.is_empty() {
        plan.remove.push(Piece::Own { objects: old, why: "a page of a drill that has no report".into() });
    }
    for run in &facts.runs {
        // A committed backup's journal is the proof that it was one: it is kept as long as the backup.
        let needed = run.verb == "backup" && run.outcome == Some(Outcome::Committed) && known(facts, &run.subject);
        if run.outcome.is_some() && !needed && older(facts.now, run.ended_at, facts.keep_journals) {
            let why = format!("{} {} ended {}", run.verb, run.subject, run.ended_at);
            plan.remove.push(Piece::Journal { run: run.id.clone(), why });
        }
    }
    plan
}

fn folder_plan(facts: &Facts, folder: &Folder, plan: &mut GarbagePlan) {
    let here = || format!("{}/{}", folder.place, folder.folder);
    if facts.removing.iter().any(|name| name.as_str() == folder.name) {
        return; // whoever began to remove it, or the next retention, does
    }
    let mut about = facts.runs.iter().filter(|run| run.verb == "backup" && run.subject == folder.name);
    let own = ["manifest.json", "statement.json"].map(|name| format!("{}/{name}", folder.folder));
    // What is called a manifest and is in no catalog is that of a copy whose primary was not committed, or a tombstone.
    let needed =
        |object: &Object| facts.reached.contains(&object.key) || (folder.is_listed && own.contains(&object.key));
    let mut unreached: Vec<Object> = folder.objects.iter().filter(|object| !needed(object)).cloned().collect();
    if folder.removed && unreached.len() < folder.objects.len() {
        // As long as others are made of what lies here, the tombstone says why there is no manifest.
        unreached.retain(|object| object.key != own[0]);
    }
    if unreached.is_empty() {
        return;
    }
    if let Some(run) = about.clone().find(|run| run.outcome.is_none()) {
        plan.spared.push(format!("{}: of run {}, which is open", here(), run.id));
        return;
    }
    if !folder.is_listed
        && !folder.removed
        && let Some(run) = about.find(|run| run.outcome == Some(Outcome::Committed))
    {
        plan.spared.push(format!(
            "{}: run {} committed it, and its manifest is gone; hint: put the manifest back, or delete the folder by hand",
            here(),
            run.id
        ));
        return;
    }
    let newest = unreached.iter().map(|object| object.updated).max().unwrap_or(facts.now);
    match young(facts, newest) {
        Some(left) => plan.spared.push(format!("{}: {left}", here())),
        None => {
            let why = match folder.is_listed {
                true => "its manifest does not name them".into(),
                false if folder.removed => "it was removed, and no other backup is made of them".into(),
                false => "there is no manifest".into(),
            };
            let (place, folder) = (folder.place.clone(), folder.folder.clone());
            plan.remove.push(Piece::Objects { place, folder, objects: unreached, why });
        }
    }
}

/// Nothing lasts in staging: what no open run needs has arrived elsewhere, or never will.
fn staged_plan(facts: &Facts, staged: &Staged, plan: &mut GarbagePlan) {
    let here = || format!("{}/{}", staged.place, staged.folder);
    let needs = |run: &&Run| run.subject == staged.subject || staged.subject.starts_with(&run.id);
    if let Some(run) = facts.runs.iter().filter(|run| run.outcome.is_none()).find(needs) {
        plan.spared.push(format!("{}: of run {}, which is open", here(), run.id));
        return;
    }
    let newest = staged.objects.iter().map(|object| object.updated).max().unwrap_or(facts.now);
    match young(facts, newest) {
        Some(left) => plan.spared.push(format!("{}: {left}", here())),
        None => {
            let (place, folder, objects) = (staged.place.clone(), staged.folder.clone(), staged.objects.clone());
            plan.remove.push(Piece::Objects { place, folder, objects, why: "was left in staging".into() });
        }
    }
}

fn snapshot_plan(facts: &Facts, table: &TableId, taken: Timestamp, plan: &mut GarbagePlan) {
    let why = if let Some((_, run)) = table.table().split_once("_before_restore_") {
        // The way back from a restore that was carried out is kept until it expires.
        let run = facts.runs.iter().find(|known| known.id.replace('-', "_") == run);
        match run.and_then(|run| run.outcome) {
            Some(Outcome::RolledBack) => "its restore was taken back".to_string(),
            _ => return,
        }
    } else if ends_with_stamp(table.table()) {
        // Someone took manifests away: what else there is of those backups is not touched.
        if facts.runs.iter().any(|run| run.outcome.is_none() && run.verb == "backup")
            || facts
                .folders
                .iter()
                .any(|folder| !folder.is_listed && !folder.removed && was_committed(facts, &folder.name))
        {
            return;
        }
        "no manifest names it".to_string()
    } else {
        return;
    };
    match young(facts, taken) {
        None => plan.remove.push(Piece::Snapshot { table: table.clone(), why }),
        Some(left) => plan.spared.push(format!("snapshot {table}: {left}")),
    }
}

fn scratch_plan(facts: &Facts, dataset: &DatasetId, made: Timestamp, plan: &mut GarbagePlan) {
    let drills = facts.runs.iter().filter(|run| run.verb == "drill");
    let run = drills.clone().find(|run| dataset.dataset().ends_with(&format!("_drill_{}", run.id.replace('-', "_"))));
    match run {
        None => plan.spared.push(format!("dataset {dataset}: no journal knows its drill")),
        Some(run) if run.outcome.is_none() => {}
        Some(run) => match young(facts, made) {
            None => {
                let why = format!("its drill ended {}", run.ended_at);
                plan.remove.push(Piece::Scratch { dataset: dataset.clone(), run: run.id.clone(), why });
            }
            Some(left) => plan.spared.push(format!("dataset {dataset}: {left}")),
        },
    }
}

/// The end of a drill's datasets' names: `_drill_20261121T163000Z_0123abcd`.
pub fn is_scratch(name: &str) -> bool {
    name.rsplit_once("_drill_").is_some_and(|(_, run)| {
        run.rsplit_once('_').is_some_and(|(stamp, nonce)| ends_with_stamp(&format!("_{stamp}")) && nonce.len() == 8)
    })
}

fn was_committed(facts: &Facts, name: &str) -> bool {
    facts.runs.iter().any(|run| run.subject == name && run.outcome == Some(Outcome::Committed))
}

/// Whether something of this backup is still there.
fn known(facts: &Facts, name: &str) -> bool {
    facts.listed.contains(name) || facts.folders.iter().any(|folder| folder.name == name)
}

/// `..._20261121T163000Z`: how snapshots of backups are named.
fn ends_with_stamp(name: &str) -> bool {
    let Some((_, stamp)) = name.rsplit_once('_') else { return false };
    let bytes = stamp.as_bytes();
    bytes.len() == 16
        && bytes.iter().enumerate().all(|(i, byte)| match i {
            8 => *byte == b'T',
            15 => *byte == b'Z',
            _ => byte.is_ascii_digit(),
        })
}

/// Why something is too young, or nothing.
fn young(facts: &Facts, updated: Timestamp) -> Option<String> {
    let age = facts.now.duration_since(updated).max(SignedDuration::ZERO).as_secs();
    (!older(facts.now, updated, facts.grace)).then(|| format!("{age} s old; spared until it is {} old", facts.grace))
}

fn older(now: Timestamp, then: Timestamp, period: Period) -> bool {
    let period = SignedDuration::try_from(period.as_duration()).unwrap_or(SignedDuration::MAX);
    now.duration_since(then) >= period
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKUP: &str = "sys_daily_backup_2026-01-01T02-00-00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn object(key: &str, updated: &str) -> Object {
        Object { key: key.into(), size_bytes: 1, updated: at(updated) }
    }

    fn facts() -> Facts {
        let folder = format!("daily/20260101/{BACKUP}");
        let data = object(&format!("{folder}/data/a"), "2026-01-01T02:00:10Z");
        Facts {
            now: at("2026-01-03T00:00:00Z"),
            grace: Period::days(1),
            keep_journals: Period::days(90),
            folders: vec![Folder {
                removed: false,
                place: "gs://bucket".parse().unwrap(),
                folder,
                name: BACKUP.into(),
                is_listed: false,
                objects: vec![data],
            }],
            staged: vec![],
            reached: BTreeSet::new(),
            unreadable: vec![],
            listed: BTreeSet::new(),
            removing: BTreeSet::new(),
            runs: vec![],
            marks: BTreeMap::new(),
            snapshots: vec![],
            scratch: vec![],
            pages: vec![],
        }
    }

    fn run(outcome: Option<Outcome>) -> Run {
        let ended_at = at("2026-01-01T02:00:20Z");
        Run { id: "20260101T020000Z-abcd".into(), verb: "backup".into(), subject: BACKUP.into(), outcome, ended_at }
    }

    fn removed(facts: &Facts) -> usize {
        plan(facts).remove.len()
    }

    #[test]
    fn an_old_folder_without_a_manifest_goes() {
        assert_eq!(removed(&facts()), 1);
        assert_eq!(removed(&Facts { runs: vec![run(Some(Outcome::RolledBack))], ..facts() }), 1);
    }

    #[test]
    fn what_is_young_open_committed_or_doubtful_stays() {
        let spared = |what: &str, facts: Facts| {
            let plan = plan(&facts);
            assert!(plan.remove.is_empty() && plan.spared.len() == 1, "{what}: {plan:?}");
        };
        spared("young", Facts { now: at("2026-01-01T12:00:00Z"), ..facts() });
        spared("a clock that was set back", Facts { now: at("2025-01-01T00:00:00Z"), ..facts() });
        spared("open", Facts { runs: vec![run(None)], ..facts() });
        spared("committed, and its manifest gone", Facts { runs: vec![run(Some(Outcome::Committed))], ..facts() });
        spared("another manifest cannot be read", Facts { unreadable: vec!["gs://x/manifest.json".into()], ..facts() });
        let mut reached = facts();
        reached.reached.insert(reached.folders[0].objects[0].key.clone());
        assert_eq!(plan(&reached), GarbagePlan::default(), "another backup is made of it");
        let mut removing = facts();
        removing.removing.insert(BACKUP.parse().unwrap());
        assert_eq!(plan(&removing), GarbagePlan::default(), "retention is about to remove it");
    }

    #[test]
    fn what_a_manifest_does_not_name_goes_from_its_folder() {
        let mut facts = facts();
        facts.folders[0].is_listed = true;
        let folder = facts.folders[0].folder.clone();
        facts.folders[0].objects.push(object(&format!("{folder}/manifest.json"), "2026-01-01T02:00:30Z"));
        facts.folders[0].objects.push(object(&format!("{folder}/data/b"), "2026-01-01T02:00:30Z"));
        facts.reached.insert(format!("{folder}/data/a"));
        let plan = plan(&facts);
        let [Piece::Objects { objects, .. }] = plan.remove.as_slice() else { panic!("{plan:?}") };
        assert_eq!(objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), [format!("{folder}/data/b")]);
    }

    #[test]
    fn what_was_left_in_staging_goes_unless_its_run_is_open_or_it_is_young() {
        let staged = |subject: &str| Staged {
            place: "gs://staging".parse().unwrap(),
            folder: "f".into(),
            subject: subject.into(),
            objects: vec![object("f/a", "2026-01-01T02:00:10Z")],
        };
        for subject in [BACKUP, "20260101T020000Z-abcd", "20260101T020000Z-abcd_back"] {
            let facts = Facts { folders: vec![], staged: vec![staged(subject)], ..facts() };
            assert_eq!(removed(&facts), 1, "{subject}");
            assert_eq!(removed(&Facts { runs: vec![run(Some(Outcome::Committed))], ..facts.clone() }), 1, "{subject}");
            assert_eq!(removed(&Facts { runs: vec![run(None)], ..facts.clone() }), 0, "{subject}: open");
            assert_eq!(removed(&Facts { now: at("2026-01-01T12:00:00Z"), ..facts }), 0, "{subject}: young");
        }
    }

    #[test]
    fn snapshots_go_by_their_names_and_runs() {
        let table = |name: &str| format!("p.s.{name}").parse::<TableId>().unwrap();
        let taken = at("2026-01-01T02:00:05Z");
        let stamped = Facts { folders: vec![], snapshots: vec![(table("a_20260101T020000Z"), taken)], ..facts() };
        assert_eq!(removed(&stamped), 1);
        assert_eq!(removed(&Facts { runs: vec![run(None)], ..stamped.clone() }), 0, "a backup is under way");
        let others = vec![(table("a_2026"), taken), (table("somebodys_table"), taken)];
        assert_eq!(removed(&Facts { snapshots: others, ..stamped.clone() }), 0, "not ours");
        let way_back = vec![(table("a_before_restore_20260101T020000Z_abcd"), taken)];
        let restore = |outcome| Run { verb: "restore".into(), ..run(outcome) };
        for (outcome, expected) in [(Some(Outcome::Committed), 0), (None, 0), (Some(Outcome::RolledBack), 1)] {
            let facts = Facts { snapshots: way_back.clone(), runs: vec![restore(outcome)], ..stamped.clone() };
            assert_eq!(removed(&facts), expected, "{outcome:?}");
        }
    }

    #[test]
    fn datasets_of_drills_go_with_their_run() {
        assert!(is_scratch("a_drill_20260101T020000Z_0123abcd"));
        assert!(!is_scratch("my_drill_results") && !is_scratch("a_drill_2026_0123abcd"));
        let dataset: DatasetId = "p.a_drill_20260101T020000Z_abcd".parse().unwrap();
        let scratch = Facts { folders: vec![], scratch: vec![(dataset, at("2026-01-01T02:00:05Z"))], ..facts() };
        let drill = |outcome| vec![Run { verb: "drill".into(), ..run(outcome) }];
        assert_eq!(removed(&Facts { runs: drill(Some(Outcome::RolledBack)), ..scratch.clone() }), 1);
        assert_eq!(removed(&Facts { runs: drill(None), ..scratch.clone() }), 0);
        assert_eq!(removed(&Facts { runs: vec![run(Some(Outcome::RolledBack))], ..scratch }), 0, "no drill");
    }

    #[test]
    fn journals_are_kept_as_long_as_their_backup() {
        let mut facts = facts();
        facts.now = at("2026-08-01T00:00:00Z");
        facts.runs = vec![run(Some(Outcome::Committed))];
        facts.folders.clear();
        assert_eq!(removed(&facts), 1);
        facts.listed.insert(BACKUP.into());
        assert_eq!(removed(&facts), 0);
        facts.runs[0].verb = "restore".into();
        assert_eq!(removed(&facts), 1);
    }
}
