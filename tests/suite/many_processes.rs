//! A directory as a store between real processes: conditions hold, also when processes are killed in the midst of it.
//!
//! The processes are this very test binary, started again with another task in the environment.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use strongroom::catalog::{Lease, LeaseError};
use strongroom::model::Failure;
use strongroom::saga::Clock;
use strongroom::store::{LocalStore, Store};

const TASK: &str = "STRONGROOM_TEST_TASK";
const PLACE: &str = "STRONGROOM_TEST_PLACE";
const NUMBER: &str = "STRONGROOM_TEST_NUMBER";

struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Another process with a task; `number` is its own.
fn process(task: &str, place: &Path, number: usize) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "many_processes::the_other_processes"])
        .envs([(TASK, task), (PLACE, place.to_str().expect("a plain path"))])
        .env(NUMBER, number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs again")
}

/// What a process has said that it did: a line each.
fn said(place: &Path, number: usize) -> Vec<String> {
    let text = std::fs::read_to_string(place.join(format!("said-{number}"))).unwrap_or_default();
    text.lines().map(String::from).collect()
}

fn say(place: &Path, number: &str, what: &str) {
    let path = place.join(format!("said-{number}"));
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file");
    writeln!(file, "{what}").expect("it is written");
}

/// Does nothing in a run of all tests; in another process, that process's task.
#[tokio::test]
async fn the_other_processes() {
    let Ok(task) = std::env::var(TASK) else { return };
    let place = PathBuf::from(std::env::var(PLACE).expect("a place"));
    let number = std::env::var(NUMBER).expect("a number");
    let store = LocalStore::open(place.join("store")).expect("a store");
    match task.as_str() {
        "count" => count(&store, &place, &number).await,
        "claim" => claim(&store, &place, &number).await,
        "lease" => lease(&store, &place, &number).await,
        other => panic!("no task: {other}"),
    }
}

/// Adds one to the number in an object, again and again, by compare-and-swap.
async fn count(store: &LocalStore, place: &Path, number: &str) {
    for _ in 0..60 {
        loop {
            let (bytes, version) = store.get("a/counter").await.expect("it is there, whole");
            let n: u64 = std::str::from_utf8(&bytes).expect("text").parse().expect("a number");
            let next = Bytes::from((n + 1).to_string());
            match store.put_if_match("a/counter", next, &version).await {
                Ok(_) => break,
                Err(Failure::Precondition { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        say(place, number, "one");
    }
}

/// Claims places that can be taken once.
async fn claim(store: &LocalStore, place: &Path, number: &str) {
    for n in 0..80 {
        let key = format!("journal/{n:03}");
        match store.put_if_absent(&key, Bytes::from(number.repeat(20_000))).await {
            Ok(_) => say(place, number, &key),
            Err(Failure::Exists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes the lease, works, gives it back.
async fn lease(store: &LocalStore, place: &Path, number: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    let mut times = 0;
    while times < 5 && Instant::now() < until {
        match Lease::acquire(store, "x", ("test", &format!("run-{number}-{times}")), &RealClock).await {
            Ok(mut lease) => {
                let generation = lease.generation();
                let work = async {
                    say(place, "all", &format!("begin {generation}"));
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    say(place, "all", &format!("end {generation}"));
                };
                lease.hold(store, &RealClock, work).await.expect("it is held");
                lease.release(store, &RealClock).await.expect("it is given back");
                times += 1;
            }
            Err(LeaseError::Held { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
    say(place, number, &times.to_string());
}

fn wait(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().expect("it ends").success(), "a process failed");
    }
}

#[tokio::test]
async fn no_swap_is_lost_though_processes_are_killed() {
    let place = tempfile::tempdir().expect("a directory");
    let store = LocalStore::open(place.path().join("store")).expect("a store");
    store.put("a/counter", Bytes::from_static(b"0")).await.expect("put");
    let steady: Vec<Child> = (0..3).map(|n| process("count", place.path(), n)).collect();
    let mut doomed: Vec<Child> = (3..6).map(|n| process("count", place.path(), n)).collect();
    for (n, child) in doomed.iter_mut().enumerate() {
        let begin = Instant::now();
        while said(place.path(), 3 + n).len() < 5 + 7 * n && begin.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
    }
    wait(steady);
    let (bytes, _) = store.get("a/counter").await.expect("get");
    let counted: usize = std::str::from_utf8(&bytes).expect("text").parse().expect("a number");
    let told: usize = (0..6).map(|n| said(place.path(), n).len()).sum();
    // One that was killed may have added one that it could not tell any more.
    assert!((told..=told + 3).contains(&counted), "{counted} counted, {told} told");
    assert!(told >= 180 + 5);
}

#[tokio::test]
async fn a_place_is_taken_once() {
    let place = tempfile::tempdir().expect("a directory");
    wait((0..5).map(|n| process("claim", place.path(), n)).collect());
    let store = LocalStore::open(place.path().join("store")).expect("a store");
    let mut winners = std::collections::BTreeMap::new();
    for n in 0..5 {
        for key in said(place.path(), n) {
            assert!(winners.insert(key.clone(), n).is_none(), "{key} was taken twice");
        }
    }
    assert_eq!(winners.len(), 80);
    for (key, n) in winners {
        let (bytes, _) = store.get(&key).await.expect("get");
        assert_eq!(bytes, n.to_string().repeat(20_000), "{key} is its winner's, whole");
    }
}

#[tokio::test]
async fn one_process_works_at_a_time() {
    let place = tempfile::tempdir().expect("a directory");
    wait((0..4).map(|n| process("lease", place.path(), n)).collect());
    let log = std::fs::read_to_string(place.path().join("said-all")).expect("a log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 4 * 5 * 2);
    for (n, two) in lines.chunks(2).enumerate() {
        assert_eq!(two, [format!("begin {}", n + 1), format!("end {}", n + 1)], "generations grow, nobody overlaps");
    }
}
