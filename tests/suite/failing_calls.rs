//! A tenth of all calls fails, at random and in every way that passes: backup, verify and restore succeed, or fail clearly
//! because a call's or the run's repeats are spent; never is a result wrong.
//!
//! The long form: `STRONGROOM_FAULT_SEEDS=200 cargo nextest run failing_calls`; one seed again: `STRONGROOM_FAULT_SEED=17`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::estate::{Estate, Run};
use crate::small::{self, contents, set_faults};

/// In the short form.
const SEEDS: u64 = 3;
/// Most of the time is waiting.
const AT_ONCE: u64 = 3;

#[derive(Debug, Default)]
struct Figures {
    seeds: usize,
    calls: u64,
    faults: BTreeMap<String, u64>,
    runs: usize,
    succeeded: usize,
    /// What runs said that failed.
    failures: Vec<String>,
    wrong: Vec<String>,
}

#[test]
fn a_tenth_of_all_calls_may_fail() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("STRONGROOM_FAULT_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("STRONGROOM_FAULT_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let figures = Mutex::new(Figures::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(seeds.len() as u64) {
            scope.spawn(|| {
                let estate = small::estate(&[]);
                let original = contents(&estate);
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    Storm { estate: &estate, seed: *seed, original: &original, figures: &figures }.passes();
                }
            });
        }
    });
    let figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let faults: u64 = figures.faults.values().sum();
    let kinds: Vec<String> = figures.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    println!(
        "reliability: faults: seeds {}, calls {}, faults {faults} ({:.1} %), runs {}, succeeded {}, clear failures {}, wrong results {}; {}",
        figures.seeds,
        figures.calls,
        faults as f64 * 100.0 / figures.calls.max(1) as f64,
        figures.runs,
        figures.succeeded,
        figures.failures.len(),
        figures.wrong.len(),
        kinds.join(", ")
    );
    for failure in &figures.failures {
        println!("  failed: {failure}");
    }
    assert!(figures.wrong.is_empty(), "{:#?}", figures.wrong);
    assert_eq!(figures.seeds, seeds.len());
    assert!(figures.calls > 200 * figures.seeds as u64, "{figures:?}");
    assert!((3..25).contains(&(faults * 100 / figures.calls)), "{figures:?}");
    assert!(figures.succeeded * 10 >= figures.runs * 8, "too many fail: {figures:?}");
}

/// One seed on one estate.
struct Storm<'a> {
    estate: &'a Estate,
    seed: u64,
    original: &'a BTreeMap<String, Vec<String>>,
    figures: &'a Mutex<Figures>,
}

impl Storm<'_> {
    fn passes(&self) {
        let tier = if self.seed.is_multiple_of(2) { "monthly" } else { "daily" };
        let backup = self.under_faults(0, &["--json", "backup", "--tier", tier]);
        if backup.code != 0 {
            small::recovered(self.estate, &format!("seed {}", self.seed));
            self.estate.strongroom(&["backup", "--tier", tier]).ok();
        }
        let verify = self.under_faults(1, &["--json", "verify", "latest"]);
        if verify.code == 0 && verify.data()["findings"].as_array().is_some_and(|findings| !findings.is_empty()) {
            self.wrong(format!("verify found something in a good backup: {}", verify.stdout));
        }
        small::lose(self.estate);
        let restore = self.under_faults(2, &["--json", "restore", "latest"]);
        if restore.code == 0 {
            self.compare("restore said that all is back");
        } else {
            small::recovered(self.estate, &format!("seed {}", self.seed));
        }
        small::lose(self.estate);
        self.estate.strongroom(&["restore", "latest"]).ok();
        self.compare("a restore without faults");
        self.note(|figures| figures.seeds += 1);
    }

    /// Runs the program while calls fail, and counts.
    fn under_faults(&self, step: u64, args: &[&str]) -> Run {
        let seed = self.seed * 10 + step;
        set_faults(self.estate, json!([{"kind": "any", "probability": 0.1, "seed": seed}]));
        let run = self.estate.strongroom(args);
        let told = self.estate.get("/_sandbox/faults");
        set_faults(self.estate, json!([]));
        let what = format!("seed {} {}: code {}: {}", self.seed, args[1], run.code, run.stderr.trim());
        self.note(|figures| {
            figures.runs += 1;
            figures.calls += told["requests"].as_u64().unwrap();
            for (kind, count) in told["counters"].as_object().unwrap() {
                *figures.faults.entry(kind.clone()).or_default() += count.as_u64().unwrap();
            }
            match run.code {
                0 => figures.succeeded += 1,
                _ => figures.failures.push(what.clone()),
            }
        });
        // 1: failed; 3: done, and what could not be is told. All else would be a false statement about the estate.
        if !matches!(run.code, 0 | 1) || run.stderr.contains("panicked") {
            self.wrong(what);
        } else if run.code == 1 && !is_clear(&run) {
            self.wrong(format!("not clear: {what} {}", run.stdout));
        }
        run
    }

    fn compare(&self, what: &str) {
        let found = contents(self.estate);
        if found != *self.original {
            self.wrong(format!("seed {}: {what}, but: {found:?}", self.seed));
        }
    }

    fn wrong(&self, what: String) {
        self.note(|figures| figures.wrong.push(what));
    }

    fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.figures.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether it says what did not answer: an injected error, silence, a broken connection, or that the repeats are spent.
fn is_clear(run: &Run) -> bool {
    let said = format!("{} {}", run.stdout, run.stderr);
    ["injected", "no answer within", "error sending request", "unreadable answer", "repeats of this run"]
        .iter()
        .any(|words| said.contains(words))
}

/// Errors that do not pass: the run fails with them, clearly, and leaves nothing.
#[test]
fn what_stays_refused_is_told_and_leaves_nothing() {
    let estate = small::estate(&[]);
    for (rule, code, said) in [
        (json!({"status": 403, "reason": "quotaExceeded", "name": "bigquery.jobs.insert", "skip": 3}), 14, "quota"),
        (json!({"status": 412, "reason": "conditionNotMet", "name": "storage.objects.insert", "skip": 6}), 1, ""),
        (json!({"kind": "disk_full", "bytes": 5000}), 14, "storage quota"),
        (json!({"kind": "fail_job", "reason": "quotaExceeded", "skip": 2}), 14, "quota"),
    ] {
        let mut lasting = rule.clone();
        lasting["times"] = json!(0);
        set_faults(&estate, json!([lasting]));
        let run = estate.strongroom(&["backup"]);
        assert!(estate.get("/_sandbox/faults")["faults"][0]["used"].as_u64() > Some(0), "{rule}: it never acted");
        assert_eq!(run.code, code, "{rule}: {run:?}");
        assert!(run.stderr.contains(said) && !run.stderr.contains("panicked"), "{rule}: {run:?}");
        small::recovered(&estate, &rule.to_string());
        assert_eq!(estate.json(&["list"])["backups"], json!([]), "{rule}");
    }
    estate.strongroom(&["backup"]).ok();
}

/// A job that fails inside BigQuery is begun again under the next id, whichever kind it is.
#[test]
fn jobs_that_fail_late_are_begun_again() {
    let estate = small::estate(&[]);
    let original = contents(&estate);
    let mark = estate.mark();
    // Of the backup the query for the cut and both snapshots, then both extracts; of the restore both loads.
    let fail =
        |skip: u64, times: u64| json!({"kind": "fail_job", "reason": "internalError", "skip": skip, "times": times});
    set_faults(&estate, json!([fail(0, 1), fail(1, 2), fail(3, 2)]));
    estate.strongroom(&["backup"]).ok();
    small::lose(&estate);
    set_faults(&estate, json!([fail(0, 2)]));
    estate.strongroom(&["restore"]).ok();
    set_faults(&estate, json!([]));
    assert_eq!(contents(&estate), original);
    let inserts: Vec<String> = estate
        .requests(mark)
        .iter()
        .filter(|request| request["name"] == "bigquery.jobs.insert")
        .filter_map(|request| request["body"]["jobReference"]["jobId"].as_str().map(String::from))
        .collect();
    for kind in ["_snapshot_", "_extract_", "_load_", "strongroom_query_"] {
        let again = inserts.iter().filter(|id| id.contains(kind) && id.ends_with("_1")).count();
        let expected = if kind.contains("query") { 1 } else { 2 };
        assert_eq!(again, expected, "{kind}: {inserts:#?}");
    }
    let mut once = inserts.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), inserts.len(), "every attempt has an id of its own");
}

/// A directory on a disk that is full: told as such, and nothing is left of the backup anywhere.
#[test]
fn a_full_disk_is_told() {
    let mut estate = small::estate(&[]);
    let disk = tempfile::tempdir().unwrap();
    let path = disk.path().to_str().unwrap().to_string();
    estate.configure(|_| small::CONFIG.replace("gs://vault-copy/b", &path));
    let run = estate.command(&["backup"]);
    // A disk of its own, of 16 KiB, that only the program sees.
    let mut on_it = std::process::Command::new("unshare");
    on_it.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=16k none \"$0\" && exec \"$@\"", &path]);
    on_it.arg(run.get_program()).args(run.get_args());
    on_it.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = on_it.output();
    let said = done.as_ref().map(|done| String::from_utf8_lossy(&done.stderr).into_owned()).unwrap_or_default();
    if done.is_err() || said.contains("unshare:") || said.contains("mount:") {
        println!("skipped: this machine lets nobody mount a disk of their own: {said}");
        return;
    }
    assert_eq!(done.unwrap().status.code(), Some(1), "{said}");
    assert!(said.contains("step 'copy'") && said.contains("free some space"), "{said}");
    small::recovered(&estate, "a full disk");
    assert_eq!(estate.json(&["list"])["backups"], json!([]));
    estate.strongroom(&["backup"]).ok();
}
