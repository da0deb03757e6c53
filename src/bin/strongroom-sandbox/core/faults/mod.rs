//! Faults that somebody asks for, by a file or by `/_sandbox/faults`: which requests they fall on, and how often they
//! did. Knows requests by service, name, method and path only; `act` carries a fault out.

mod act;
mod rule;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

pub use act::{FailJob, Outcome, alter, faulty, never};
pub use rule::{Kind, Rule, When, matches};

use super::ApiError;

/// More rules than this are refused.
const MAX_RULES: usize = 100;

/// A request, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub service: &'a str,
    pub name: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// Whether a request of this name may change something.
    pub mutating: bool,
    /// The bytes that it brings to be stored, for an upload.
    pub upload_bytes: Option<u64>,
}

/// A fault that falls on a request.
#[derive(Debug, Clone)]
pub struct Strike {
    /// The rule, its kind decided.
    pub rule: Rule,
    /// What is counted and logged: `error 503 before`, `reset after` ...
    pub label: String,
    /// Decides where a body is cut or changed.
    pub draw: u64,
    index: usize,
    /// Changes when the rules do: whoever is stalled is let go.
    changed: watch::Receiver<u64>,
}

/// The rules in force. Not kept across a restart.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// Bytes of uploads that each rule has seen.
    uploaded: Vec<u64>,
    counters: BTreeMap<String, u64>,
    requests: u64,
}

/// What `/_sandbox/faults` tells.
#[derive(Debug, Serialize)]
pub struct Told {
    faults: Vec<Rule>,
    /// How many requests came since the rules were set.
    requests: u64,
    /// How often each kind of fault acted since then.
    counters: BTreeMap<String, u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Faults {
    /// Replaces all rules and forgets the counts. Requests that a fault holds are let go: their connections break.
    ///
    /// # Errors
    /// 400 when one cannot be carried out.
    pub fn set(&self, rules: Vec<Rule>) -> Result<(), ApiError> {
        let rules = Self::checked(rules)?;
        *self.lock() = State { uploaded: vec![0; rules.len()], rules, ..State::default() };
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// The rules, ready to be set.
    ///
    /// # Errors
    /// 400, naming the rule that is wrong.
    pub fn checked(mut rules: Vec<Rule>) -> Result<Vec<Rule>, ApiError> {
        if rules.len() > MAX_RULES {
            return Err(ApiError::invalid(format!("at most {MAX_RULES} faults are taken")));
        }
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.check().map_err(|what| ApiError::invalid(format!("fault {}: {what}", index + 1)))?;
            (rule.seen, rule.used, rule.stalled) = (0, 0, 0);
        }
        Ok(rules)
    }

    /// The rules of a file: `[[fault]]` tables.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn read(text: &str) -> Result<Vec<Rule>, String> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            fault: Vec<Rule>,
        }
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        Self::checked(file.fault).map_err(|e| e.message)
    }

    /// The rules with their counts.
    pub fn told(&self) -> Told {
        let state = self.lock();
        Told { faults: state.rules.clone(), requests: state.requests, counters: state.counters.clone() }
    }

    /// The fault that falls on this request: of the first rule that matches, is due and is not used up.
    pub fn strike(&self, asked: &Asked<'_>) -> Option<Strike> {
        let mut state = self.lock();
        let State { rules, uploaded, counters, requests } = &mut *state;
        *requests += 1;
        for (index, rule) in rules.iter_mut().enumerate() {
            if !rule.fits(asked) {
                continue;
            }
            rule.seen += 1;
            uploaded[index] += asked.upload_bytes.unwrap_or_default();
            let draw = rule::draw(rule.seed, index as u64, rule.seen);
            if !rule.is_due(draw, uploaded[index]) {
                continue;
            }
            rule.used += 1;
            let rule = rule.decided(rule::draw(draw, 1, 0), asked);
            let label = rule.label();
            *counters.entry(label.clone()).or_default() += 1;
            let changed = self.changes.subscribe();
            return Some(Strike { rule, label, draw: rule::draw(draw, 2, 0), index, changed });
        }
        None
    }

    /// Holds a request until the rules change. While it does, the rule's `stalled` counts it.
    pub async fn hold(self: &Arc<Self>, mut strike: Strike) {
        let _held = Held::new(self.clone(), &strike);
        let _ = strike.changed.changed().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being held; its client may go away at any time.
struct Held {
    faults: Arc<Faults>,
    index: usize,
    era: u64,
}

impl Held {
    fn new(faults: Arc<Faults>, strike: &Strike) -> Self {
        let era = *strike.changed.borrow();
        let held = Self { faults, index: strike.index, era };
        held.count(1);
        held
    }

    fn count(&self, by: i64) {
        let mut state = self.faults.lock();
        // Rules that were set since then have nothing to do with it.
        if *self.faults.changes.borrow() == self.era
            && let Some(rule) = state.rules.get_mut(self.index)
        {
            rule.stalled = rule.stalled.saturating_add_signed(by);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str) -> Asked<'_> {
        Asked { service: "bigquery", name, method: "POST", path: "/x", mutating: true, upload_bytes: None }
    }

    #[test]
    fn rules_skip_act_and_are_used_up() {
        let faults = Faults::default();
        let rule = Rule {
            name: Some("bigquery.jobs.*".into()),
            skip: 1,
            times: Some(2),
            status: Some(503),
            ..Rule::default()
        };
        faults.set(vec![rule]).unwrap();
        let strike = |name: &str| faults.strike(&asked(name)).is_some();
        assert!(!strike("bigquery.tables.get"));
        let struck: Vec<bool> = (0..4).map(|_| strike("bigquery.jobs.insert")).collect();
        assert_eq!(struck, [false, true, true, false]);
        let told = faults.told();
        assert_eq!((told.faults[0].seen, told.faults[0].used, told.requests), (4, 2, 5));
        assert_eq!(told.counters, BTreeMap::from([("error 503 before".to_string(), 2)]));
        assert_eq!(told.faults[0].error().unwrap().reason, "backendError");
    }

    #[test]
    fn the_nth_request_is_met_and_no_other() {
        let faults = Faults::default();
        faults.set(vec![Rule { nth: Some(3), kind: Some(Kind::Stall), ..Rule::default() }]).unwrap();
        let struck: Vec<bool> = (0..5).map(|_| faults.strike(&asked("a")).is_some()).collect();
        assert_eq!(struck, [false, false, true, false, false]);
    }

    #[test]
    fn a_seed_decides_alone() {
        let run = |seed: u64| -> Vec<Option<String>> {
            let faults = Faults::default();
            let rule = Rule { kind: Some(Kind::Any), probability: Some(0.1), seed, ..Rule::default() };
            faults.set(vec![rule]).unwrap();
            let name = |n: u32| if n.is_multiple_of(2) { "bigquery.jobs.insert" } else { "bigquery.tables.get" };
            (0..2000).map(|n| faults.strike(&asked(name(n))).map(|s| s.label)).collect()
        };
        let first = run(7);
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        let struck: Vec<&String> = first.iter().flatten().collect();
        assert!((150..250).contains(&struck.len()), "{} of 2000", struck.len());
        let kinds: std::collections::BTreeSet<_> = struck.iter().map(|l| l.split(' ').next().unwrap()).collect();
        let all = ["corrupt", "delay", "error", "fail_job", "reset", "stall", "truncate"];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_full_disk_takes_no_more_uploads() {
        let faults = Faults::default();
        faults.set(vec![Rule { kind: Some(Kind::DiskFull), bytes: Some(100), ..Rule::default() }]).unwrap();
        let upload = |bytes| faults.strike(&Asked { upload_bytes: Some(bytes), ..asked("storage.objects.insert") });
        assert!(upload(60).is_none());
        assert!(faults.strike(&asked("storage.objects.list")).is_none());
        assert!(upload(60).is_some() && upload(1).is_some());
    }

    #[tokio::test]
    async fn who_is_held_is_counted_and_let_go() {
        let faults = Arc::new(Faults::default());
        faults.set(vec![Rule { kind: Some(Kind::Stall), times: Some(0), ..Rule::default() }]).unwrap();
        let strike = faults.strike(&asked("a")).unwrap();
        let gone = tokio::spawn({
            let (faults, strike) = (faults.clone(), strike.clone());
            async move { faults.hold(strike).await }
        });
        let held = tokio::spawn({
            let faults = faults.clone();
            async move { faults.hold(strike).await }
        });
        while faults.told().faults[0].stalled != 2 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        let _ = gone.await;
        assert_eq!(faults.told().faults[0].stalled, 1);
        faults.set(vec![]).unwrap();
        held.await.unwrap();
    }
}
