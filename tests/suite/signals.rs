//! SIGTERM at many moments, also while Google does not answer: the program ends within ten seconds, and what it had begun
//! is taken back by itself or by the next run.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::estate::Estate;
use crate::small::{self, contents, set_faults};

/// What a supervisor waits before it kills.
const TEN_SECONDS: Duration = Duration::from_secs(10);

fn terminate(child: &Child) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

/// Waits for the end, and gives the exit code and how long it took.
fn ended(mut child: Child, what: &str) -> (i32, Duration) {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code().unwrap_or(-1), begin.elapsed());
        }
        if begin.elapsed() > TEN_SECONDS * 3 {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn begun(estate: &Estate, args: &[&str]) -> Child {
    estate.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("strongroom runs")
}

fn rule(estate: &Estate) -> Value {
    estate.get("/_sandbox/faults")["faults"][0].clone()
}

/// Begins a run, and gives it once a request of it is held; `None` when it ended without.
fn held(estate: &Estate, args: &[&str], stall: Value) -> Option<Child> {
    set_faults(estate, json!([stall]));
    let mut child = begun(estate, args);
    while rule(estate)["stalled"].as_u64() == Some(0) {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(child)
}

/// How many backups there are.
fn listed(estate: &Estate) -> usize {
    estate.json(&["list"])["backups"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_backup_is_stopped_within_ten_seconds_wherever_it_is() {
    let estate = small::estate(&[]);
    let all = std::env::var("STRONGROOM_SIGNALS").is_ok();
    let (mut stops, mut slowest, mut by_itself) = (0, Duration::ZERO, 0);
    // The nth change of a backup never gets its answer: of that request alone, or of all from then on.
    for nth in (1..).step_by(if all { 1 } else { 11 }) {
        let mut over = false;
        for (when, lasting) in [("before", false), ("after", false), ("after", true)] {
            // What lasts costs the whole time of grace.
            if lasting && !all && nth != 12 {
                continue;
            }
            let stall = match lasting {
                true => json!({"kind": "stall", "when": when, "mutating": true, "skip": nth - 1, "times": 0}),
                false => json!({"kind": "stall", "when": when, "mutating": true, "nth": nth}),
            };
            let what = format!("{stall}");
            let before = listed(&estate);
            let Some(child) = held(&estate, &["backup"], stall) else {
                over = true;
                break;
            };
            terminate(&child);
            let (code, took) = ended(child, &what);
            // Nothing is left but to give the lease back: all that was asked was done, and only then the code says so.
            assert!(code == 130 || (code == 0 && listed(&estate) == before + 1), "{what}: code {code}");
            assert!(took < TEN_SECONDS, "{what}: {took:?}");
            stops += 1;
            slowest = slowest.max(took);
            set_faults(&estate, json!([]));
            let open = estate.json(&["recover", "--dry-run"]);
            if open["runs"] == json!([]) && estate.job_state(small::JOB) == "ENABLED" {
                by_itself += 1;
            }
            small::recovered(&estate, &what);
        }
        if over {
            break;
        }
    }
    println!(
        "reliability: signals: SIGTERM in backup {stops} times, slowest end {:.1} s, taken back by itself {by_itself}, the rest by recover",
        slowest.as_secs_f64()
    );
    assert!(stops > 6 && by_itself > 0, "{stops} {by_itself}");
    set_faults(&estate, json!([]));
    estate.strongroom(&["backup"]).ok();
}

#[test]
fn a_restore_that_was_stopped_is_done_anew() {
    let estate = small::estate(&[]);
    let original = contents(&estate);
    estate.strongroom(&["backup"]).ok();
    for nth in if std::env::var("STRONGROOM_SIGNALS").is_ok() { vec![2, 4, 6, 8, 10, 12, 14, 16] } else { vec![9] } {
        small::lose(&estate);
        let stall = json!({"kind": "stall", "when": "after", "mutating": true, "nth": nth});
        let child = held(&estate, &["restore"], stall).expect("a restore has as many changes");
        terminate(&child);
        let (code, took) = ended(child, "restore");
        assert!(code == 130 && took < TEN_SECONDS, "{nth}: {code} {took:?}");
        small::recovered(&estate, &format!("restore {nth}"));
        small::lose(&estate);
        estate.strongroom(&["restore"]).ok();
        assert_eq!(contents(&estate), original, "{nth}");
    }
}

#[test]
fn what_only_reads_ends_at_once() {
    let estate = small::estate(&[]);
    estate.strongroom(&["backup"]).ok();
    for args in [&["verify"][..], &["list"], &["backup", "--dry-run"], &["status"]] {
        let stall = json!({"kind": "stall", "skip": 3, "times": 0});
        let child = held(&estate, args, stall).unwrap_or_else(|| panic!("{args:?} was not held"));
        terminate(&child);
        let (code, took) = ended(child, &format!("{args:?}"));
        assert!(code == 130 && took < TEN_SECONDS, "{args:?}: {code} {took:?}");
        if args[0] != "backup" {
            assert!(took < Duration::from_secs(3), "{args:?}: {took:?}");
        }
    }
}

#[test]
fn a_signal_at_any_time_leaves_nothing_behind() {
    let estate = small::estate(&[]);
    let all = std::env::var("STRONGROOM_SIGNALS").is_ok();
    for n in 0..(if all { 40 } else { 2 }) {
        let mut child = begun(&estate, &["backup"]);
        std::thread::sleep(Duration::from_millis(if all { 100 + n * 75 } else { 500 + n * 700 }));
        if child.try_wait().unwrap().is_some() {
            continue;
        }
        terminate(&child);
        let (code, took) = ended(child, "backup");
        // A signal that comes before the program listens ends it at once (-1), one that comes after the end finds it done.
        assert!(matches!(code, 130 | 0 | -1) && took < TEN_SECONDS, "{n}: {code} {took:?}");
        small::recovered(&estate, &format!("moment {n}"));
    }
    estate.strongroom(&["backup"]).ok();
}
