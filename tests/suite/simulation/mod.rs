//! The deterministic simulation: many workers run the real jobs in a small world that fails them, and an oracle that
//! sees all says what must not have been.
//!
//! `STRONGROOM_SEEDS=100000 cargo nextest run simulation::histories --no-capture` is the long form; `STRONGROOM_SEED=17`
//! replays one history and tells it. What it takes for granted: a call to a service that knows no conditions (BigQuery,
//! Cloud Scheduler) takes effect within 40 seconds or never, and a process that sleeps does so where it waits.

mod bigquery;
mod check;
mod store;
mod workers;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;

use world::{Sabotage, World, lock};

const DAILY: &str = "vault-daily";
const COPY: &str = "vault-copy";
const WEEKLY: &str = "vault-weekly";
const DATASET: &str = "p.usage";
const TABLES: [&str; 2] = ["events", "costs"];
const SCHEDULES: [&str; 2] = ["projects/p/locations/l/jobs/hourly", "projects/p/locations/l/jobs/nightly"];

const CONFIG: &str = r#"
name = "sim"
parallel = 2

[google]
project = "p"

[[source]]
name = "w"
kind = "bigquery"
dataset = "usage"

[ingestion]
scheduler_jobs = ["projects/p/locations/l/jobs/hourly", "projects/p/locations/l/jobs/nightly"]
drain_timeout = "5m"
resume_within = "20m"

[tiers.daily]
keep = "30m"
format = "avro"
destinations = ["gs://vault-daily", "gs://vault-copy"]

[tiers.weekly]
keep = "2h"
format = "avro"
destinations = ["gs://vault-weekly"]

[retention]
grace = "10m"
"#;

type Counters = BTreeMap<&'static str, u64>;
/// Seeds, and what was violated.
type Failed = Vec<(u64, Vec<String>)>;

/// What a history came to.
struct History {
    violations: Vec<String>,
    counters: Counters,
}

fn history(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> History {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let world = local.block_on(&runtime, async {
        let world = World::new(seed, sabotage, trace);
        let (workers, turns) = world.roll(|rng| (rng.random_range(2..=16u32), rng.random_range(6..=18u32)));
        // As many turns in all, however many workers there are.
        let turns = turns.div_ceil(workers);
        let others: Vec<_> = vec![
            tokio::task::spawn_local(workers::ingestion(world.clone(), SCHEDULES[0], 1_000_000)),
            tokio::task::spawn_local(workers::ingestion(world.clone(), SCHEDULES[1], 2_000_000)),
            tokio::task::spawn_local(workers::person(world.clone())),
        ];
        let crew: Vec<_> = (0..workers as usize)
            .map(|number| tokio::task::spawn_local(workers::worker(world.clone(), number, turns)))
            .collect();
        for worker in crew {
            worker.await.expect("a worker's own code does not panic");
        }
        others.last().expect("a person").abort();
        workers::end(&world).await;
        let left = check::garbage(&world);
        world.say(|| format!("left behind: {left:?}"));
        others.iter().for_each(tokio::task::JoinHandle::abort);
        world
    });
    let violations = std::mem::take(&mut *lock(&world.violations));
    let counters = std::mem::take(&mut *lock(&world.counters));
    History { violations, counters }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Every seed from `from` on, by all cores; the counters of all, and the seeds that failed.
fn histories(from: u64, count: u64, sabotage: Option<Sabotage>) -> (Counters, Failed) {
    let next = AtomicU64::new(from);
    let (counters, failed) = (Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let run = || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let history = history(seed, sabotage, false);
                    let mut counters = lock(&counters);
                    for (what, n) in history.counters {
                        *counters.entry(what).or_insert(0) += n;
                    }
                    if !history.violations.is_empty() {
                        lock(&failed).push((seed, history.violations));
                    }
                }
            };
            std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, run).expect("a thread");
        }
    });
    let mut failed = failed.into_inner().expect("no thread has panicked");
    failed.sort();
    (counters.into_inner().expect("no thread has panicked"), failed)
}

#[test]
fn histories_keep_every_promise() {
    if let Some(seed) = setting("STRONGROOM_SEED") {
        let history = history(seed, None, true);
        assert!(history.violations.is_empty(), "seed {seed}:\n{}", history.violations.join("\n"));
        return;
    }
    let count = setting("STRONGROOM_SEEDS").unwrap_or(1_000);
    let from = setting("STRONGROOM_FIRST_SEED").unwrap_or(0);
    let begin = std::time::Instant::now();
    let (counters, failed) = histories(from, count, None);
    let told: Vec<String> = counters.iter().map(|(what, n)| format!("{what} {n}")).collect();
    println!(
        "reliability: simulated histories {count}, failed {}, in {} s; {}",
        failed.len(),
        begin.elapsed().as_secs(),
        told.join(", ")
    );
    for (seed, violations) in failed.iter().take(5) {
        println!("seed {seed}: {}", violations.join("\n  "));
        println!(
            "  replay: STRONGROOM_SEED={seed} cargo nextest run --all-targets --no-capture histories_keep_every_promise"
        );
    }
    assert!(failed.is_empty(), "{} of {count} histories break a promise", failed.len());
    if count >= 1_000 {
        for what in HAPPENS {
            assert!(counters.get(what).is_some_and(|n| *n > 0), "'{what}' never happened");
        }
    }
}

/// What must have happened in a thousand histories, or they prove little.
const HAPPENS: &[&str] = &[
    "backups",
    "batches of ingestion",
    "calls late",
    "clocks that jump",
    "deaths after an effect",
    "deaths before an effect",
    "done: backup",
    "done: delete",
    "done: pin",
    "done: recover",
    "done: restore beside",
    "done: restore in place",
    "done: retention",
    "done: unpin",
    "done: verify",
    "refused for now",
    "refused: another holds the lease",
    "removals decided",
    "replies lost",
    "runs recovered at the end",
    "skewed clocks",
    "sleeps",
    "stopped: the lease was lost",
    "switched by a person",
    "takeovers of the lease",
    "tombstones",
];

/// The same seed is the same history, to the last counter.
#[test]
fn a_seed_decides_a_history() {
    for seed in 0..5 {
        let (first, second) = (history(seed, None, false), history(seed, None, false));
        assert_eq!((first.counters, first.violations), (second.counters, second.violations), "seed {seed}");
    }
}

/// A harness that cannot fail proves nothing: broken stores and services are noticed.
#[test]
fn broken_promises_are_noticed() {
    for sabotage in [Sabotage::Unconditional, Sabotage::Straggler, Sabotage::Forgetful] {
        let (_, failed) = histories(0, 40, Some(sabotage));
        println!("{sabotage:?}: {} of 40 histories break a promise", failed.len());
        assert!(!failed.is_empty(), "{sabotage:?} goes unnoticed");
    }
}
