//! `strongroom config check`: whether what the configuration names is there, and may be used. One line a check, none left out
//! because another failed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::exit::{Exit, of_error};
use super::wire;
use crate::config::{self, Config, Destination};
use crate::job::{JobError, backup};
use crate::model::{Failure, TierName};
use crate::plan::backup::Occasion;
use crate::saga::Observer;
use crate::store::{Store, collect};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Well,
    Wrong,
    /// It could not be made.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub what: String,
    pub state: State,
    /// What was found, with a hint where there is a way out.
    pub message: String,
    #[serde(skip)]
    exit: Option<Exit>,
}

impl Check {
    pub fn well(what: &str, message: &str) -> Self {
        Self { what: what.into(), state: State::Well, message: message.into(), exit: None }
    }

    pub fn skipped(what: &str, message: &str) -> Self {
        Self { what: what.into(), state: State::Skipped, message: message.into(), exit: None }
    }

    pub fn of_problem(problem: &config::Problem) -> Self {
        let (what, message) = (problem.path.clone(), problem.message.clone());
        Self { what, state: State::Wrong, message, exit: Some(Exit::Usage) }
    }

    fn failed(what: &str, error: &JobError) -> Self {
        let (what, message) = (what.to_string(), error.to_string());
        Self { what, state: State::Wrong, message, exit: Some(of_error(error)) }
    }

    fn of(what: &str, done: &str, outcome: Result<(), Failure>) -> Self {
        match outcome {
            Ok(()) => Self::well(what, done),
            Err(failure) => Self::failed(what, &JobError::Failure(failure)),
        }
    }

    pub fn is_wrong(&self) -> bool {
        self.state == State::Wrong
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Well => "ok     ",
            State::Wrong => "FAILED ",
            State::Skipped => "skipped",
        };
        write!(f, "{state}  {}: {}", self.what, self.message)
    }
}

/// The exit code of all checks: wrong text before missing rights before anything else.
pub fn of_checks(checks: &[Check]) -> Exit {
    let exits: Vec<Exit> = checks.iter().filter_map(|check| check.exit).collect();
    let first = [Exit::Usage, Exit::Denied].into_iter().find(|exit| exits.contains(exit));
    first.or(exits.first().copied()).unwrap_or(Exit::Done)
}

/// Tries everything that the configuration names. Writes nothing but a probe object, which it removes.
pub async fn check(config: Config, path: &Path, observer: Arc<dyn Observer>) -> Vec<Check> {
    let mut checks = Vec::new();
    let open = match wire::opener(&config).await {
        Ok(open) => open,
        Err(failure) => {
            checks.push(Check::failed("credentials", &JobError::Failure(failure)));
            return checks;
        }
    };
    let mut places: Vec<(String, Destination)> = Vec::new();
    let named = config.tiers.iter().flat_map(|(tier, settings)| settings.destinations.iter().map(move |d| (tier, d)));
    for (tier, destination) in named {
        match places.iter_mut().find(|(_, known)| known.place == destination.place) {
            Some((tiers, _)) => tiers.push_str(&format!(", {tier}")),
            None => places.push((tier.to_string(), destination.clone())),
        }
    }
    let further = [Some(&config.home), config.staging.as_ref()].into_iter().zip(["home", "staging"]);
    for (place, name) in further.filter_map(|(place, name)| Some((place?, name))) {
        if !places.iter().any(|(_, known)| known.place == *place) {
            places.push((name.into(), Destination::from(place.clone())));
        }
    }
    for (name, destination) in &places {
        let what = format!("{name} {}", destination.place);
        match open(&destination.place) {
            Ok(store) => checks.extend(probe(&what, store.as_ref(), destination.create_only).await),
            Err(failure) => checks.push(Check::failed(&what, &JobError::Failure(failure))),
        }
    }
    checks.extend(sources(config, path, observer).await);
    checks
}

const PROBE: &str = "_strongroom/probe";
const CONTENT: &[u8] = b"written by `strongroom config check`; can be removed\n";

/// Lists, writes, reads and deletes in a place.
async fn probe(what: &str, store: &dyn Store, create_only: bool) -> Vec<Check> {
    let step = |name: &str| format!("{what}: {name}");
    if create_only {
        let key = format!("{PROBE}-{:032x}", rand::random::<u128>());
        let put = store.put_if_absent(&key, Bytes::from_static(CONTENT)).await;
        return vec![Check::of(&step("create"), "an object can be created", put.map(drop))];
    }
    let listed = store.list_prefixes("").await.map(drop);
    // A place that is not there has nothing more to tell.
    if let Err(failure @ Failure::NotFound { .. }) = listed {
        return vec![Check::failed(&step("list"), &JobError::Failure(failure))];
    }
    let mut checks = vec![Check::of(&step("list"), "can be listed", listed)];
    let put = store.put(PROBE, Bytes::from_static(CONTENT)).await.map(drop);
    let written = put.is_ok();
    checks.push(Check::of(&step("write"), "an object can be written", put));
    if !written {
        checks.push(Check::skipped(&step("read, delete"), "nothing could be written"));
        return checks;
    }
    let read = async {
        let content = collect(PROBE, store.read(PROBE).await?, 1 << 10).await?;
        let object = store.address(PROBE);
        let message = "what is read is not what was written".to_string();
        if content == CONTENT { Ok(()) } else { Err(Failure::Corrupt { object, message }) }
    };
    checks.push(Check::of(&step("read"), "it can be read", read.await));
    checks.push(Check::of(&step("delete"), "it can be deleted", store.delete(PROBE).await));
    checks
}

/// Looks at every source as the plan of a backup does.
async fn sources(config: Config, path: &Path, observer: Arc<dyn Observer>) -> Vec<Check> {
    let mut checks = Vec::new();
    for source in &config.sources {
        let what = format!("source {}", source.name);
        let alone = Config { sources: vec![source.clone()], ..config.clone() };
        let tier = alone.tiers.keys().find(|tier| tier.as_str() == "daily").or(alone.tiers.keys().next()).cloned();
        let Some(tier): Option<TierName> = tier else { continue };
        let context = match wire::connect(alone, path, observer.clone()).await {
            Ok(context) => context,
            Err(problem) => {
                let message = problem.to_string();
                checks.push(Check { what, state: State::Wrong, message, exit: Some(Exit::Failed) });
                continue;
            }
        };
        match backup::plan(&context, &tier, &Occasion::Schedule).await {
            Ok(plan) => {
                let skipped = plan.streamed().find_map(|source| source.skipped.clone());
                let items = plan.tables().count() + plan.streamed().map(|source| source.items.len()).sum::<usize>();
                checks.push(match skipped {
                    Some(reason) => Check::skipped(&what, &reason),
                    None => Check::well(&what, &format!("can be read: {items} tables or items")),
                });
            }
            Err(JobError::Refused(refusals)) => checks.extend(refusals.into_iter().map(|refusal| Check {
                what: what.clone(),
                state: State::Wrong,
                message: refusal.to_string(),
                exit: Some(Exit::Refused),
            })),
            Err(error) => checks.push(Check::failed(&what, &error)),
        }
    }
    checks
}
