//! Who acts: workers that run the real jobs, ingestion that writes, a person who pauses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use strongroom::catalog::marks::{Book, Verified};
use strongroom::catalog::{Catalog, Entry};
use strongroom::config::Config;
use strongroom::google::scheduler::JobState;
use strongroom::google::{Credentials, Google, RetryPolicy, Settings};
use strongroom::job::{Context, JobError, backup, pin, recover, restore, retention, verify};
use strongroom::model::{DatasetId, Failure, Place, TableId};
use strongroom::plan::backup::Occasion;
use strongroom::plan::restore::RestoreRequest;
use strongroom::saga::Observer;
use strongroom::store::Store;

use super::bigquery::SimGoogle;
use super::check;
use super::store::SimStore;
use super::world::{Fate, Port, Process, Weather, World, lock};

/// The clients that the simulation has no use for; they never send anything.
fn idle_clients() -> Google {
    static CLIENTS: OnceLock<Google> = OnceLock::new();
    let connect = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime.expect("a runtime")));
        let settings = Settings {
            endpoint: Some("http://127.0.0.1:9".into()),
            credentials: Credentials::Anonymous,
            retry: RetryPolicy::default(),
            user_agent: "simulation".into(),
        };
        runtime.block_on(Google::connect(settings)).expect("clients")
    };
    // A runtime cannot be entered from within another.
    CLIENTS.get_or_init(|| std::thread::spawn(connect).join().expect("clients")).clone()
}

pub fn config() -> Arc<Config> {
    static CONFIG: OnceLock<Arc<Config>> = OnceLock::new();
    let parsed = || Arc::new(strongroom::config::parse(super::CONFIG, &|_| None).expect("a valid configuration"));
    CONFIG.get_or_init(parsed).clone()
}

struct Silent;

impl Observer for Silent {}

struct Loud(Arc<Port>);

impl Observer for Loud {
    fn step_started(&self, step: &str) {
        self.0.world.say(|| format!("w{} step {step}", self.0.worker));
    }
    fn step_failed(&self, step: &str, message: &str) {
        self.0.world.say(|| format!("w{} step {step} FAILED: {message}", self.0.worker));
    }
}

/// What a process works with: the real jobs' context over the simulated world.
pub fn context(port: &Arc<Port>) -> Context {
    let config = config();
    let name = config.name.clone();
    let open = {
        let port = port.clone();
        move |place: &Place| -> Result<Arc<dyn Store>, Failure> {
            let name = place.to_string();
            let bucket = port.world.buckets.get(name.trim_start_matches("gs://")).expect("a bucket of the simulation");
            Ok(Arc::new(SimStore { port: port.clone(), bucket: bucket.clone() }))
        }
    };
    let tiers = config.tiers.iter().map(|(name, tier)| {
        let stores = tier.places().map(|place| open(place).expect("a store")).collect();
        (name.clone(), stores)
    });
    let tiers = tiers.collect();
    let google = SimGoogle { port: port.clone() };
    let scheduler = SimGoogle { port: port.clone() };
    let nonce = {
        let world = port.world.clone();
        move || format!("{:032x}", world.roll(|rng| rng.random::<u128>()))
    };
    let home = open(&config.home).expect("a store");
    let observer: Arc<dyn Observer> = if port.world.trace { Arc::new(Loud(port.clone())) } else { Arc::new(Silent) };
    Context {
        config,
        google: Google { bigquery: Arc::new(google), scheduler: Arc::new(scheduler), ..idle_clients() },
        catalog: Catalog::new(tiers).of_system(&name, None).at_home(home.clone()),
        marks: Book::new(home.clone(), None),
        chronicle: None,
        home,
        clock: port.clone(),
        observer,
        queries: Arc::new(vec![]),
        anomalies: None,
        open: Arc::new(open),
        source: Arc::new(|_| Ok(None)),
        run_id: None,
        identity: None,
        nonce: Arc::new(nonce),
        holder: format!("worker {}", port.worker),
        tool: "simulation".into(),
        cancelled: tokio::sync::watch::channel(false).1,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Backup,
    Verify,
    Retention,
    Delete,
    Pin,
    Unpin,
    RestoreBeside,
    RestoreInPlace,
    Recover,
}

const VERBS: &[(Verb, &str)] = &[
    (Verb::Backup, "done: backup"),
    (Verb::Backup, "done: backup"),
    (Verb::Backup, "done: backup"),
    (Verb::Backup, "done: backup"),
    (Verb::Verify, "done: verify"),
    (Verb::Retention, "done: retention"),
    (Verb::Retention, "done: retention"),
    (Verb::Retention, "done: retention"),
    (Verb::Delete, "done: delete"),
    (Verb::Pin, "done: pin"),
    (Verb::Unpin, "done: unpin"),
    (Verb::RestoreBeside, "done: restore beside"),
    (Verb::RestoreInPlace, "done: restore in place"),
    (Verb::Recover, "done: recover"),
];

/// A worker: one process after the other.
pub async fn worker(world: Arc<World>, number: usize, turns: u32) {
    for turn in 0..turns {
        world.pause(Duration::from_secs(1), Duration::from_secs(1_500)).await;
        let (verb, done) = world.roll(|rng| *VERBS.choose(rng).expect("verbs"));
        let (fate, skew_ms, jump_ms) = world.roll(|rng| {
            let call = rng.random_range(1..160u32);
            let after = rng.random_bool(0.5);
            let fate = match rng.random_range(0..10) {
                0 | 1 => Fate::Dies { call, after },
                2 | 3 => Fate::Sleeps { call, after, ms: rng.random_range(5_000..900_000) },
                _ => Fate::Lives,
            };
            let skew = if rng.random_bool(0.3) { rng.random_range(-1_200_000..1_200_000i64) } else { 0 };
            let jump = if rng.random_bool(0.1) { rng.random_range(-600_000..600_000i64) } else { 0 };
            (fate, skew, jump)
        });
        if skew_ms != 0 {
            world.count("skewed clocks");
        }
        let jump = (jump_ms != 0).then(|| {
            world.count("clocks that jump");
            (super::bigquery::later(world.now(), Duration::from_secs(20)), jump_ms)
        });
        let port = Port::new(&world, number, fate, skew_ms, jump);
        let context = context(&port);
        world.say(|| format!("w{number} {verb:?} {fate:?} skew {skew_ms}"));
        let ended = Process::new(&port, perform(&context, &port, verb, (number, turn))).await;
        world.say(|| format!("w{number} {verb:?} ended: {ended:?}"));
        match ended {
            Some(Ok(())) => world.count(done),
            Some(Err(error)) => judge(&world, verb, &error),
            None => world.count("processes that died"),
        }
    }
}

/// A job may fail when calls do; it must say so in words that fit.
fn judge(world: &World, verb: Verb, error: &JobError) {
    let text = error.to_string();
    if text.contains("holds the lease") {
        return world.count("refused: another holds the lease");
    }
    if text.contains("the lease was lost") {
        return world.count("stopped: the lease was lost");
    }
    if text.contains("was resumed by somebody") {
        return world.count("failed: ingestion ran during the cut");
    }
    if text.contains("corrupt") || text.contains("journal is inconsistent") {
        return world.violation(format!("{verb:?} failed with what must not be: {text}"));
    }
    world.count("failed otherwise");
}

async fn any_entry(context: &Context, world: &World) -> Result<Option<Entry>, JobError> {
    let entries = context.catalog.list().await?.entries;
    Ok(world.roll(|rng| entries.choose(rng).cloned()))
}

async fn perform(context: &Context, port: &Arc<Port>, verb: Verb, id: (usize, u32)) -> Result<(), JobError> {
    let world = &port.world;
    match verb {
        Verb::Backup => {
            recover::at_start(context).await?;
            let weekly = world.one_in_thousand(250);
            let tier = if weekly { "weekly" } else { "daily" }.parse().expect("a tier");
            backup::run(context, &tier, &Occasion::Schedule).await.map(drop)
        }
        Verb::Verify => {
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            verified(context, world, &entry).await
        }
        Verb::Retention => {
            recover::at_start(context).await?;
            retention::run(context).await.map(drop)
        }
        Verb::Delete => {
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            let how = retention::Deletion { now: world.one_in_thousand(700), even_the_last: false };
            retention::delete(context, &entry.manifest.name, how).await.map(drop)
        }
        Verb::Pin => {
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            let name = &entry.manifest.name;
            pin::pin(context, name, None, None, false).await?;
            lock(&world.oracle).was_pinned(name.as_str());
            Ok(())
        }
        Verb::Unpin => {
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            let name = &entry.manifest.name;
            lock(&world.oracle).is_unpinned(name.as_str());
            pin::unpin(context, name).await.map(drop)
        }
        Verb::RestoreBeside => {
            recover::at_start(context).await?;
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            let into: DatasetId = format!("p.restore_{}_{}", id.0, id.1).parse().expect("a name");
            let request = RestoreRequest { into: Some(into.clone()), ..RestoreRequest::default() };
            let restored = restore::run(context, &entry, &request).await?;
            check::restored(world, &entry, &into, restored.passed(), &restored.differences, true);
            mark_verified(context, &entry).await
        }
        Verb::RestoreInPlace => {
            recover::at_start(context).await?;
            let Some(entry) = any_entry(context, world).await? else { return Ok(()) };
            let into: DatasetId = super::DATASET.parse().expect("a name");
            let request = RestoreRequest { replace: true, ..RestoreRequest::default() };
            let restored = restore::run(context, &entry, &request).await?;
            check::restored(world, &entry, &into, restored.passed(), &restored.differences, false);
            Ok(())
        }
        Verb::Recover => recover::run(context).await.map(drop),
    }
}

/// As a drill does when a restore was proven.
async fn mark_verified(context: &Context, entry: &Entry) -> Result<(), JobError> {
    let commit_id = entry.manifest.commit_id.clone();
    let at = context.clock.now();
    let mark = Verified { commit_id, at, by: context.holder.clone(), how: "simulation".into() };
    context.marks.set(&entry.manifest.name, &mark).await?;
    Ok(())
}

/// A listed backup verifies, unless its removal was decided meanwhile.
pub async fn verified(context: &Context, world: &World, entry: &Entry) -> Result<(), JobError> {
    let verification = verify::run(context, entry, context.depth()).await?;
    if !verification.passed() && !check::is_removed(world, &entry.manifest) {
        world.violation(format!("{} does not verify: {:?}", entry.manifest.name, verification.findings));
    }
    Ok(())
}

fn table(name: &str) -> TableId {
    let dataset: DatasetId = super::DATASET.parse().expect("a name");
    dataset.table(name).expect("a name")
}

/// What a scheduler job starts: a batch goes into both tables, one after the other.
pub async fn ingestion(world: Arc<World>, schedule: &'static str, first_batch: i64) {
    let mut batch = first_batch;
    loop {
        world.pause(Duration::from_secs(20), Duration::from_secs(1_200)).await;
        if lock(&world.warehouse).schedules[schedule] != JobState::Enabled {
            continue;
        }
        world.count("batches of ingestion");
        batch += 1;
        let id = format!("ingestion_{batch}");
        let made = |world: &World| super::TABLES.map(|name| lock(&world.warehouse).made(&table(name)));
        let before = made(&world);
        lock(&world.warehouse).begin_writer(&id);
        for name in super::TABLES {
            world.pause(Duration::from_millis(100), Duration::from_secs(6)).await;
            if made(&world) != before {
                lock(&world.oracle).torn.insert(batch);
            }
            let now = world.now();
            let streaming = world.one_in_thousand(200).then(|| super::bigquery::later(now, Duration::from_secs(40)));
            if !lock(&world.warehouse).append(&table(name), (batch, batch), now, streaming) {
                lock(&world.oracle).torn.insert(batch);
            }
        }
        if made(&world) != before {
            lock(&world.oracle).torn.insert(batch);
        }
        lock(&world.warehouse).end_writer(&id);
    }
}

/// A person pauses jobs and resumes them, while no run is under way (what a person pauses during a run's own pause is
/// taken for the run's).
pub async fn person(world: Arc<World>) {
    loop {
        world.pause(Duration::from_secs(60), Duration::from_secs(3_000)).await;
        let home = &world.buckets[super::DAILY];
        if !home.keys("_strongroom/open/").is_empty() {
            continue;
        }
        let schedule = world.roll(|rng| *super::SCHEDULES.choose(rng).expect("jobs"));
        let mut warehouse = lock(&world.warehouse);
        let mut oracle = lock(&world.oracle);
        let state = if oracle.by_person.remove(schedule) {
            JobState::Enabled
        } else {
            oracle.by_person.insert(schedule.to_string());
            JobState::Paused
        };
        warehouse.schedules.insert(schedule.to_string(), state);
        drop((warehouse, oracle));
        world.count("switched by a person");
    }
}

/// The last recovery, without faults; then what must hold is checked.
pub async fn end(world: &Arc<World>) {
    // What is under way arrives, and every lease that is not renewed ends.
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    *lock(&world.weather) = Weather { transient: 0, lost: 0, late: 0, latency_ms: 40 };
    let port = Port::new(world, 99, Fate::Lives, 0, None);
    let context = context(&port);
    match recover::run(&context).await {
        Ok(recovered) => {
            for run in recovered {
                world.count("runs recovered at the end");
                if !run.failures.is_empty() {
                    world.violation(format!("run {} cannot be taken back: {:?}", run.run, run.failures));
                }
            }
        }
        Err(error) => world.violation(format!("the last recovery failed: {error}")),
    }
    check::schedules(world);
    let open = world.buckets[super::DAILY].keys("_strongroom/open/");
    if !open.is_empty() {
        world.violation(format!("runs are open after the recovery: {open:?}"));
    }
    check::at_the_end(world);
    match context.catalog.list().await {
        Ok(listing) => {
            for broken in &listing.broken {
                world.violation(format!("{} is listed and broken: {}", broken.place, broken.error));
            }
            // The oracle has looked at all of them; the program itself reads some.
            for entry in listing.entries.iter().take(3) {
                if let Err(error) = verified(&context, world, entry).await {
                    world.violation(format!("{} cannot be verified: {error}", entry.manifest.name));
                }
            }
        }
        Err(error) => world.violation(format!("the catalog cannot be listed: {error}")),
    }
    // Life goes on.
    let tier = "daily".parse().expect("a tier");
    tokio::time::sleep(Duration::from_secs(60)).await;
    if let Err(error) = backup::run(&context, &tier, &Occasion::Schedule).await {
        world.violation(format!("the last backup failed: {error}"));
    }
    match retention::run(&context).await {
        Ok(retained) if retained.failures.is_empty() => {}
        Ok(retained) => world.violation(format!("the last retention: {:?}", retained.failures)),
        Err(error) => world.violation(format!("the last retention failed: {error}")),
    }
    check::schedules(world);
    check::at_the_end(world);
}
