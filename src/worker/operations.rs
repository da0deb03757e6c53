//! Long work behind a call: begun once, watched while it runs, and known after a restart by its run's journal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::ask::Ask;
use super::listing::Cached;
use super::problem::Problem;
use crate::app::Exit;
use crate::catalog::{self, LeaseError};
use crate::job::{Context, JobError};
use crate::model::Failure;
use crate::saga::{Entry, Log, Observer, Outcome};

/// Operations that are remembered when they are over.
const REMEMBERED: usize = 200;
/// Operations that wait or run at once; more are refused.
const MAX_UNDER_WAY: usize = 32;
/// How long an operation waits for another run to give the lease back.
const LEASE_WAIT: Duration = Duration::from_secs(3600);
/// Callers that wait for one operation, or watch it, at once.
const MAX_WATCHING: usize = 100;
/// Lines of an operation that are kept.
const MAX_NOTES: usize = 200;

/// Where an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Another run holds the lease.
    Waiting,
    Running,
    /// All that was asked was done.
    Done,
    /// Done, but `exit` says what is not as it should be.
    Attention,
    /// Not done; what was done was taken back.
    Failed,
    Cancelled,
    /// It was begun by a process that is gone, and is not closed: `recover` takes it back or up.
    Open,
}

/// What is told of an operation.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub id: String,
    pub verb: String,
    pub subject: String,
    pub state: State,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    pub started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    pub steps: Vec<Step>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The name of the exit code that the command line would have given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// A step of an operation.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub name: String,
    /// `running`, `done`, `failed` or `undone`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
    pub what: String,
}

impl State {
    pub const fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// An operation of this process.
pub struct Operation {
    status: watch::Sender<Status>,
    cancel: watch::Sender<bool>,
}

impl Operation {
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Asks it to end: what was done is taken back.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Tells of every change.
    ///
    /// # Errors
    /// 503 when too many listen.
    pub fn watch(&self) -> Result<watch::Receiver<Status>, Problem> {
        if self.status.receiver_count() >= MAX_WATCHING {
            return Err(Problem::unavailable("too many listen to this operation; hint: ask for its state"));
        }
        Ok(self.status.subscribe())
    }

    /// Waits until it is over, or so long.
    pub async fn wait(&self, at_most: Duration) -> Status {
        let mut watched = self.status.subscribe();
        let over = watched.wait_for(|status| status.state.is_over());
        tokio::time::timeout(at_most, over).await.ok();
        self.status()
    }

    fn step(&self, name: &str, change: impl FnOnce(&mut Step)) {
        self.status.send_modify(|status| {
            // A step that is repeated (a second attempt) is a new line.
            let known = status.steps.iter().rposition(|step| step.name == name);
            let index = known.unwrap_or_else(|| {
                let step =
                    Step { name: name.into(), state: "running", elapsed_ms: None, note: "".into(), progress: None };
                status.steps.push(step);
                status.steps.len() - 1
            });
            change(&mut status.steps[index]);
        });
    }
}

impl Observer for Operation {
    fn step_started(&self, step: &str) {
        self.step(step, |step| step.state = "running");
    }

    fn progress(&self, step: &str, done: usize, total: usize, what: &str) {
        self.step(step, |step| step.progress = Some(Progress { done, total, what: what.into() }));
    }

    fn step_done(&self, step: &str, elapsed: SignedDuration, note: &str) {
        let elapsed_ms = i64::try_from(elapsed.as_millis()).ok();
        self.step(step, |step| {
            (step.state, step.elapsed_ms, step.note, step.progress) = ("done", elapsed_ms, note.into(), None);
        });
    }

    fn step_failed(&self, step: &str, message: &str) {
        self.step(step, |step| (step.state, step.note) = ("failed", message.into()));
    }

    fn undone(&self, step: &str) {
        self.step(step, |step| step.state = "undone");
    }

    fn note(&self, text: &str) {
        self.status.send_modify(|status| {
            if status.notes.len() < MAX_NOTES {
                status.notes.push(text.into());
            }
        });
    }
}

/// The operations of this process, the newest last.
pub struct Operations {
    known: Mutex<VecDeque<(String, Arc<Operation>)>>,
    /// What an operation may have changed.
    listing: Arc<Cached>,
}

impl Operations {
    pub fn new(listing: Arc<Cached>) -> Self {
        Self { known: Mutex::default(), listing }
    }

    pub fn all(&self) -> Vec<Status> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().rev().map(|(_, operation)| operation.status()).collect()
    }

    pub fn get(&self, id: &str) -> Option<Arc<Operation>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| known == id).map(|(_, operation)| operation.clone())
    }

    /// Begins an operation; one of this id that is known already is the same, and is not begun again.
    ///
    /// # Errors
    /// 503 when too many are under way.
    pub fn begin(
        self: &Arc<Self>,
        context: &Context,
        (id, by): (&str, &str),
        ask: Ask,
    ) -> Result<Arc<Operation>, Problem> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, operation)) = known.iter().find(|(known, _)| known == id) {
            return Ok(operation.clone());
        }
        let under_way = known.iter().filter(|(_, operation)| !operation.status().state.is_over()).count();
        if under_way >= MAX_UNDER_WAY {
            return Err(Problem::unavailable(format!("{under_way} operations are under way; hint: wait for them")));
        }
        let status = Status {
            id: id.into(),
            verb: ask.verb().into(),
            subject: ask.subject(),
            state: State::Running,
            by: Some(by.into()),
            started_at: context.now(),
            ended_at: None,
            steps: vec![],
            notes: vec![],
            exit: None,
            problem: None,
            result: None,
        };
        let operation = Arc::new(Operation { status: watch::Sender::new(status), cancel: watch::Sender::new(false) });
        while known.len() >= REMEMBERED {
            let Some(over) = known.iter().position(|(_, old)| old.status().state.is_over()) else { break };
            known.remove(over);
        }
        known.push_back((id.into(), operation.clone()));
        drop(known);

        let mut own = context.clone();
        own.run_id = Some(id.into());
        own.observer = operation.clone();
        own.cancelled = either(context.cancelled.clone(), operation.cancel.subscribe());
        let runtime = tokio::runtime::Handle::current();
        let (watched, listing) = (operation.clone(), self.listing.clone());
        // A thread of its own: jobs are large futures that need not be passed between threads.
        tokio::task::spawn_blocking(move || {
            runtime.block_on(work(&own, (&watched, &listing), ask));
        });
        Ok(operation)
    }

    /// Waits until nothing runs any more, or so long.
    pub async fn drain(&self, at_most: Duration) {
        let running: Vec<_> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(_, operation)| operation.clone()).collect()
        };
        let all = futures::future::join_all(running.iter().map(|operation| operation.wait(at_most)));
        tokio::time::timeout(at_most, all).await.ok();
    }
}

async fn work(context: &Context, (operation, listing): (&Operation, &Cached), ask: Ask) {
    let outcome = when_free(context, operation, ask).await;
    // Before anybody hears that it is over.
    listing.forget().await;
    let ended_at = Some(context.now());
    operation.status.send_modify(|status| {
        status.ended_at = ended_at;
        match outcome {
            Ok(answer) => {
                status.state = if answer.exit == Exit::Done { State::Done } else { State::Attention };
                status.exit = Some(answer.exit.name());
                status.result = Some(answer.result);
            }
            Err(error) => {
                let exit = crate::app::of_error(&error);
                status.state = if exit == Exit::Interrupted { State::Cancelled } else { State::Failed };
                status.exit = Some(exit.name());
                status.problem = Some(error.into());
            }
        }
    });
}

/// Does the work as soon as no other run holds the lease.
async fn when_free(context: &Context, operation: &Operation, ask: Ask) -> Result<super::ask::Answer, JobError> {
    let latest = tokio::time::Instant::now() + LEASE_WAIT;
    let mut cancelled = context.cancelled.clone();
    loop {
        operation.status.send_modify(|status| status.state = State::Running);
        // A trigger that came to two workers: the other one may have done it meanwhile.
        if let Some(id) = &context.run_id
            && let Some(log) = catalog::log_of(context.home.as_ref(), id).await?
        {
            let message = format!("run {id} was begun by another worker ({})", told(&log));
            return Err(Failure::Exists { object: format!("run {id}"), message }.into());
        }
        match ask.clone().carry_out(context).await {
            Err(JobError::Lease(LeaseError::Held { .. })) if tokio::time::Instant::now() < latest => {
                operation.status.send_modify(|status| {
                    status.state = State::Waiting;
                    status.steps.clear();
                });
            }
            outcome => return outcome,
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            Ok(_) = cancelled.wait_for(|cancelled| *cancelled) => return Err(JobError::Interrupted),
        }
    }
}

/// What the journal says of a run that this process does not know.
///
/// # Errors
/// When the journal cannot be read.
pub async fn from_journal(context: &Context, id: &str) -> Result<Option<Status>, Failure> {
    let Some(log) = catalog::log_of(context.home.as_ref(), id).await? else { return Ok(None) };
    Ok(Some(of_log(id, &log)))
}

fn of_log(id: &str, log: &Log) -> Status {
    let (mut verb, mut subject) = (String::new(), String::new());
    let mut steps: Vec<Step> = Vec::new();
    for record in log.records() {
        let mut set = |name: &str, state: &'static str, note: &str| {
            let step = Step { name: name.into(), state, elapsed_ms: None, note: note.into(), progress: None };
            match steps.iter_mut().find(|step| step.name == name) {
                Some(known) => *known = step,
                None => steps.push(step),
            }
        };
        match &record.entry {
            Entry::Opened { verb: v, subject: s } => (verb, subject) = (v.clone(), s.clone()),
            Entry::Started { step } => set(step, "running", ""),
            Entry::Done { step, .. } => set(step, "done", ""),
            Entry::Failed { step, message } => set(step, "failed", message),
            Entry::Undone { step } => set(step, "undone", ""),
            Entry::UndoFailed { step, message } => set(step, "failed", message),
            _ => {}
        }
    }
    let (state, exit) = match log.closed() {
        Some(Outcome::Committed) => (State::Done, Some(Exit::Done.name())),
        Some(_) => (State::Failed, Some(Exit::Failed.name())),
        None => (State::Open, None),
    };
    let ended_at = log.closed().and_then(|_| log.records().last()).map(|record| record.at);
    let started_at = log.records().first().map_or(Timestamp::UNIX_EPOCH, |record| record.at);
    let (by, notes) = (None, vec![]);
    Status {
        id: id.into(),
        verb,
        subject,
        state,
        by,
        started_at,
        ended_at,
        steps,
        notes,
        exit,
        problem: None,
        result: None,
    }
}

fn told(log: &Log) -> &'static str {
    match log.closed() {
        Some(Outcome::Committed) => "done",
        Some(_) => "taken back",
        None => "under way",
    }
}

/// Turns true when either does.
fn either(mut a: watch::Receiver<bool>, mut b: watch::Receiver<bool>) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            Ok(_) = a.wait_for(|on| *on) => {}
            Ok(_) = b.wait_for(|on| *on) => {}
            () = tell.closed() => return,
            else => return,
        }
        tell.send_replace(true);
        // Kept until nobody listens: a closed channel is no signal.
        tell.closed().await;
    });
    told
}
