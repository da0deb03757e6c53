//! Follows the schedules inside the process: what is due is begun once, by whichever process sees it first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::ask::Ask;
use super::operations::{Operations, State};
use crate::job::{Context, JobError, schedule};
use crate::model::TierName;
use crate::plan::backup::Occasion;

/// How often is looked at the clock.
const TICK: Duration = Duration::from_secs(5);
/// How often is looked at the catalog, and at whether somebody has stopped the schedules, while nothing is due.
const LOOK_EVERY: SignedDuration = SignedDuration::from_mins(10);
const BY: &str = "schedule";

/// A backup that a tier's schedule asks for.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Due {
    pub tier: TierName,
    pub schedule: String,
    pub at: Timestamp,
}

/// When each tier's next backup is due, the soonest first.
pub(super) fn next(context: &Context) -> Vec<Due> {
    let (config, now) = (&context.config, context.now());
    let due = config.tiers.iter().filter_map(|(name, tier)| {
        let schedule = tier.schedule.as_ref()?;
        let at = schedule.next(now, &config.retention.time_zone)?;
        Some(Due { tier: name.clone(), schedule: schedule.to_string(), at })
    });
    let mut due: Vec<Due> = due.collect();
    due.sort_by_key(|due| due.at);
    due
}

/// What this process has tried of a tier: at which due time, how often, and when last.
type Tried = BTreeMap<TierName, (Timestamp, u32, Timestamp)>;

/// Follows the schedules until the process is asked to end.
pub(super) async fn follow(context: &Context, operations: &Arc<Operations>) {
    let since = context.now();
    let (mut ended, mut tried, mut look_at) = (context.cancelled.clone(), Tried::new(), since);
    loop {
        if context.now() >= look_at {
            look_at = match look(context, operations, since, &mut tried).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "schedules cannot be followed just now");
                    context.now().saturating_add(SignedDuration::from_secs(30)).unwrap_or(Timestamp::MAX)
                }
            };
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            Ok(_) = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Carries out what is due, one after another, and says when to look again.
async fn look(
    context: &Context,
    operations: &Arc<Operations>,
    since: Timestamp,
    tried: &mut Tried,
) -> Result<Timestamp, JobError> {
    let found = schedule::look(context, since).await?;
    let later = |from: Timestamp| from.saturating_add(LOOK_EVERY).unwrap_or(Timestamp::MAX);
    if !found.on {
        // Whoever starts them again does not wait long.
        return Ok(context.now().saturating_add(SignedDuration::from_mins(1)).unwrap_or(Timestamp::MAX));
    }
    for due in &found.tiers {
        let Some(at) = due.missed else { continue };
        let before = tried.get(&due.tier).filter(|(then, ..)| *then == at).map(|(_, times, last)| (*times, *last));
        let Some((id, attempt)) = schedule::run_to_begin(context, &due.tier, at, before).await? else { continue };
        let done = carry_out(context, operations, (&due.tier, &id)).await;
        // (One that was skipped has left no journal.)
        let attempt = if done { u32::MAX } else { attempt };
        tried.insert(due.tier.clone(), (at, attempt, context.now()));
        return Ok(context.now()); // time has passed: everything is looked at anew
    }
    let next = found.tiers.iter().filter_map(|due| due.next).min();
    Ok(next.unwrap_or(Timestamp::MAX).min(later(context.now())))
}

/// Takes the backup, and removes what no rule keeps any more. Gives whether the backup came to its end.
async fn carry_out(context: &Context, operations: &Arc<Operations>, (tier, id): (&TierName, &str)) -> bool {
    let backup = Ask::Backup { tier: tier.clone(), occasion: Occasion::Schedule };
    tracing::info!(%tier, run = id, "a backup is due");
    let done = to_the_end(context, operations, id, backup).await;
    if done {
        to_the_end(context, operations, &format!("{id}-cleanup"), Ask::Cleanup).await;
    }
    done
}

/// Begins an operation and waits for its end; gives whether it came to it.
async fn to_the_end(context: &Context, operations: &Arc<Operations>, id: &str, ask: Ask) -> bool {
    let verb = ask.verb();
    let operation = match operations.begin(context, (id, BY), ask) {
        Ok(operation) => operation,
        Err(problem) => {
            tracing::error!(run = id, verb, problem = %problem.detail(), "cannot be begun");
            return false;
        }
    };
    loop {
        let status = operation.wait(Duration::from_secs(60)).await;
        if !status.state.is_over() {
            continue;
        }
        let exit = status.exit.unwrap_or_default();
        match status.state {
            State::Done | State::Attention => tracing::info!(run = id, verb, exit, "done"),
            _ => {
                let problem = status.problem.as_ref().map(|problem| problem.detail().to_string()).unwrap_or_default();
                tracing::error!(run = id, verb, exit, problem, "failed; what was done was taken back");
            }
        }
        return matches!(status.state, State::Done | State::Attention);
    }
}
