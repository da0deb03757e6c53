//! The simulated world: its time, its dice, what is counted, and the port through which a worker reaches it.
//!
//! Everything runs on one thread in tokio's paused time; every wait draws its length from one seeded generator. So a
//! seed decides the whole history, and the same seed gives the same one.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strongroom::model::Failure;
use strongroom::saga::Clock;
use tokio::time::Instant;

use super::bigquery::Warehouse;
use super::check::Oracle;
use super::store::Bucket;

/// Longer than this a call to a service without conditions (BigQuery, Scheduler) is not under way: what the lease counts
/// on. Calls to the store may be as late as they like.
pub const SERVICE_LATE: Duration = Duration::from_secs(40);

/// What the history does to workers.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of a thousand calls: refused for now, reply lost, late.
    pub transient: u32,
    pub lost: u32,
    pub late: u32,
    /// The longest wait of an ordinary call.
    pub latency_ms: u64,
}

pub struct World {
    begin: Instant,
    rng: Mutex<StdRng>,
    pub weather: Mutex<Weather>,
    pub counters: Mutex<BTreeMap<&'static str, u64>>,
    pub violations: Mutex<Vec<String>>,
    pub oracle: Mutex<Oracle>,
    pub warehouse: Mutex<Warehouse>,
    pub buckets: BTreeMap<&'static str, Arc<Bucket>>,
    /// The mutation under which the invariants must be seen to break.
    pub sabotage: Option<Sabotage>,
    /// What happened, when it is asked for.
    pub trace: bool,
}

/// Ways in which a broken store or program breaks its promises, to see that the harness notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// Compare-and-swap and put-if-absent always succeed.
    Unconditional,
    /// Calls to services without conditions are under way for longer than a lease lasts.
    Straggler,
    /// What the extracts write is lost now and then.
    Forgetful,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub fn new(seed: u64, sabotage: Option<Sabotage>, trace: bool) -> Arc<Self> {
        let begin = Instant::now();
        let now = move || at(begin);
        let names = [super::DAILY, super::COPY, super::WEEKLY];
        let buckets = names.map(|name| (name, Arc::new(Bucket::new(name, now))));
        let mut rng = StdRng::seed_from_u64(seed);
        // Some histories are calm, so that jobs come to their end; deaths and sleep there are in all.
        let bad = [0, 0, 1, 1, 2, 4][rng.random_range(0..6usize)];
        let weather = Weather {
            transient: 2 * bad,
            lost: 3 * bad,
            late: if sabotage == Some(Sabotage::Straggler) { 30 } else { 3 * bad },
            latency_ms: *[40, 200, 1_000].get(rng.random_range(0..3usize)).unwrap_or(&40),
        };
        Arc::new(Self {
            begin,
            rng: Mutex::new(rng),
            weather: Mutex::new(weather),
            counters: Mutex::default(),
            violations: Mutex::default(),
            oracle: Mutex::default(),
            warehouse: Mutex::new(Warehouse::new(at(begin))),
            buckets: buckets.into_iter().collect(),
            sabotage,
            trace,
        })
    }

    /// True time: that of the store and the services.
    pub fn now(&self) -> Timestamp {
        at(self.begin)
    }

    pub fn roll<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.rng))
    }

    pub fn one_in_thousand(&self, of: u32) -> bool {
        of > 0 && self.roll(|rng| rng.random_range(0..1000u32)) < of
    }

    pub async fn pause(&self, from: Duration, to: Duration) {
        let ms = self.roll(|rng| rng.random_range(from.as_millis() as u64..=to.as_millis() as u64));
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    pub fn count(&self, what: &'static str) {
        *lock(&self.counters).entry(what).or_default() += 1;
    }

    pub fn violation(&self, what: String) {
        self.say(|| format!("VIOLATION {what}"));
        lock(&self.violations).push(format!("{}: {what}", self.now()));
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{} {}", self.now(), what());
        }
    }
}

fn at(begin: Instant) -> Timestamp {
    let passed = Instant::now().duration_since(begin).as_millis();
    // 2 March 2026, 00:00 UTC.
    Timestamp::from_millisecond(1_772_409_600_000 + i64::try_from(passed).unwrap_or_default()).expect("a time")
}

/// What becomes of a worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    /// It dies at its n-th call: before the effect, or after it and before the reply.
    Dies {
        call: u32,
        after: bool,
    },
    /// It stands still before its n-th call, or after the effect: a machine asleep.
    Sleeps {
        call: u32,
        after: bool,
        ms: u64,
    },
}

/// Whether a call changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Look,
    /// A change under a condition, or of the store at all.
    Store,
    /// A change of a service that knows no conditions.
    Service,
}

/// One process of a worker: its way to the world.
pub struct Port {
    pub world: Arc<World>,
    pub worker: usize,
    fate: Fate,
    calls: Mutex<u32>,
    asleep_until: Mutex<Option<Instant>>,
    dead: Mutex<bool>,
    /// Milliseconds that its own clock is wrong by.
    skew_ms: i64,
    /// It jumps by so much at this moment.
    jump: Option<(Timestamp, i64)>,
    /// The generation of the lease that it took last.
    pub generation: Mutex<u64>,
}

impl Port {
    pub fn new(
        world: &Arc<World>,
        worker: usize,
        fate: Fate,
        skew_ms: i64,
        jump: Option<(Timestamp, i64)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            worker,
            fate,
            calls: Mutex::default(),
            asleep_until: Mutex::default(),
            dead: Mutex::default(),
            skew_ms,
            jump,
            generation: Mutex::default(),
        })
    }

    pub fn is_dead(&self) -> bool {
        *lock(&self.dead)
    }

    /// One call: it may be late, refused, lost on the way there or back, and the process may die or sleep around it.
    pub async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        what: String,
        effect: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let world = &self.world;
        let n = {
            let mut calls = lock(&self.calls);
            *calls += 1;
            *calls
        };
        self.meet(n, false, &what).await;
        let weather = *lock(&world.weather);
        if world.one_in_thousand(weather.transient) {
            world.count("refused for now");
            world.pause(Duration::from_millis(1), Duration::from_secs(5)).await;
            return Err(Failure::Transient { object: what, message: "simulated".into() });
        }
        let changes = kind != Kind::Look;
        if changes && world.one_in_thousand(weather.late) {
            return self.late(kind, what, effect).await;
        }
        world.pause(Duration::from_millis(1), Duration::from_millis(weather.latency_ms)).await;
        world.say(|| format!("w{} {what}", self.worker));
        let outcome = effect();
        self.meet(n, true, &what).await;
        if changes && world.one_in_thousand(weather.lost) {
            world.count("replies lost");
            world.pause(Duration::from_millis(1), Duration::from_secs(5)).await;
            return Err(Failure::Unknown { object: what, message: "the reply was lost (simulated)".into() });
        }
        outcome
    }

    /// The call is stuck on its way: it takes effect whatever becomes of its sender, who waits half a minute at most.
    async fn late<T: Send + 'static>(
        &self,
        kind: Kind,
        what: String,
        effect: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let world = self.world.clone();
        world.count("calls late");
        let bounded = kind == Kind::Service && world.sabotage != Some(Sabotage::Straggler);
        let longest = if bounded { SERVICE_LATE } else { Duration::from_secs(900) };
        let ms = world.roll(|rng| rng.random_range(1_000..longest.as_millis() as u64));
        let (tell, told) = tokio::sync::oneshot::channel();
        let name = what.clone();
        let sender = self.worker;
        tokio::task::spawn_local(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            world.say(|| format!("w{sender} {name} (late)"));
            tell.send(effect()).ok();
        });
        match tokio::time::timeout(Duration::from_secs(30), told).await {
            Ok(Ok(outcome)) => outcome,
            _ => Err(Failure::Unknown { object: what, message: "no reply in time (simulated)".into() }),
        }
    }

    /// What befalls the process at this call.
    async fn meet(&self, call: u32, now_after: bool, what: &str) {
        match self.fate {
            Fate::Dies { call: at, after } if (at, after) == (call, now_after) => {
                self.world.count(if after { "deaths after an effect" } else { "deaths before an effect" });
                self.world.say(|| format!("w{} DIES at {what} after={after}", self.worker));
                *lock(&self.dead) = true;
                std::future::pending::<()>().await;
            }
            Fate::Sleeps { call: at, after, ms } if (at, after) == (call, now_after) => {
                self.world.count("sleeps");
                self.world.say(|| format!("w{} SLEEPS {ms} ms at {what} after={after}", self.worker));
                *lock(&self.asleep_until) = Some(Instant::now() + Duration::from_millis(ms));
                // So that the whole process is seen to sleep before anything goes on.
                tokio::task::yield_now().await;
            }
            _ => {}
        }
    }
}

impl Clock for Port {
    fn now(&self) -> Timestamp {
        let now = self.world.now();
        let jumped = self.jump.filter(|(when, _)| now >= *when).map_or(0, |(_, ms)| ms);
        now.checked_add(SignedDuration::from_millis(self.skew_ms + jumped)).expect("a time")
    }
}

/// Runs a process: not at all while it sleeps; `None` when it dies.
pub struct Process<'a, T> {
    pub port: Arc<Port>,
    pub work: Pin<Box<dyn Future<Output = T> + 'a>>,
    nap: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<'a, T> Process<'a, T> {
    pub fn new(port: &Arc<Port>, work: impl Future<Output = T> + 'a) -> Self {
        Self { port: port.clone(), work: Box::pin(work), nap: None }
    }
}

impl<T> Future for Process<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<T>> {
        loop {
            if self.port.is_dead() {
                return Poll::Ready(None);
            }
            if let Some(nap) = &mut self.nap {
                if nap.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.nap = None;
            }
            let outcome = self.work.as_mut().poll(context);
            if self.port.is_dead() {
                return Poll::Ready(None);
            }
            let asleep = lock(&self.port.asleep_until).take();
            match (outcome, asleep) {
                (Poll::Ready(outcome), _) => return Poll::Ready(Some(outcome)),
                (Poll::Pending, Some(until)) => self.nap = Some(Box::pin(tokio::time::sleep_until(until))),
                (Poll::Pending, None) => return Poll::Pending,
            }
        }
    }
}
