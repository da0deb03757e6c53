//! Schedules: what is due, whether they are followed, and which run a due time is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Context, JobError};
pub use crate::catalog::schedules::Switch;
use crate::catalog::{self, schedules};
use crate::model::TierName;
use crate::plan::schedule::{self, Due};

/// How often a due backup is tried, and how long is waited after one that failed.
const ATTEMPTS: u32 = 3;
const BETWEEN_ATTEMPTS: SignedDuration = SignedDuration::from_mins(10);

/// What the schedules come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedules {
    /// Whether a process that follows schedules would: nobody has stopped them.
    pub on: bool,
    /// Who said so last.
    pub switch: Option<Switch>,
    pub tiers: Vec<Due>,
}

/// Looks at the schedules; what was due before `since` is not missed where a tier has no backup yet.
///
/// # Errors
/// When the catalog cannot be read.
pub async fn look(context: &Context, since: Timestamp) -> Result<Schedules, JobError> {
    let switch = schedules::switch(context.home.as_ref()).await?;
    let mut newest: BTreeMap<TierName, Timestamp> = BTreeMap::new();
    for entry in context.catalog.list().await?.entries {
        let manifest = entry.manifest;
        if manifest.kind().is_none() {
            let at = newest.entry(manifest.tier).or_insert(manifest.started_at);
            *at = manifest.started_at.max(*at);
        }
    }
    let tiers = schedule::due(&context.config, &newest, since, context.now());
    Ok(Schedules { on: switch.as_ref().is_none_or(|switch| switch.on), switch, tiers })
}

/// Has schedules followed from now on, or not.
///
/// # Errors
/// When it cannot be written down.
pub async fn set(context: &Context, on: bool, by: &str) -> Result<Switch, JobError> {
    let switch = Switch { on, at: context.now(), by: by.into() };
    schedules::set(context.home.as_ref(), &switch).await?;
    Ok(switch)
}

/// The run that is to be begun for a due time, and its attempt; `None` when it is done, under way, or is to be tried again later
/// or not at all. `before`: how often this process has tried, and when last.
///
/// # Errors
/// When the journal cannot be read.
pub async fn run_to_begin(
    context: &Context,
    tier: &TierName,
    at: Timestamp,
    before: Option<(u32, Timestamp)>,
) -> Result<Option<(String, u32)>, JobError> {
    let (times, last) = before.unwrap_or((0, Timestamp::MIN));
    if times > 0 && context.now().duration_since(last) < BETWEEN_ATTEMPTS {
        return Ok(None);
    }
    for attempt in times.saturating_add(1)..=ATTEMPTS {
        let id = schedule::run_id(tier, at, attempt);
        let Some(log) = catalog::log_of(context.home.as_ref(), &id).await? else { return Ok(Some((id, attempt))) };
        let ended = log.records().last().map(|record| record.at);
        let failed = log.closed().is_some_and(|outcome| outcome != crate::saga::Outcome::Committed);
        if !failed || ended.is_none_or(|ended| context.now().duration_since(ended) < BETWEEN_ATTEMPTS) {
            return Ok(None);
        }
    }
    Ok(None)
}
