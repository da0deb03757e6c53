//! Runs steps: journals before and after each, measures it, and takes back what was done when one fails.

use std::future::Future;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use super::log::{Entry, Log, LogError, Outcome, Record};
use crate::model::Failure;

/// Where the log is kept.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stores a record durably before it returns; a record's place can be taken only once.
    async fn append(&self, record: &Record) -> Result<(), Failure>;
}

/// The time, handed in so that tests and simulations decide it.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// Is told of progress; must not block.
pub trait Observer: Send + Sync {
    fn step_started(&self, _step: &str) {}
    /// `done` of `total` units of the running step, the last one named.
    fn progress(&self, _step: &str, _done: usize, _total: usize, _what: &str) {}
    fn step_done(&self, _step: &str, _elapsed: jiff::SignedDuration, _note: &str) {}
    fn step_failed(&self, _step: &str, _message: &str) {}
    fn undone(&self, _step: &str) {}
    /// Something a person should know, outside the steps' own lines.
    fn note(&self, _text: &str) {}
}

/// What a step leaves behind.
#[derive(Debug)]
pub struct Done<T> {
    pub value: T,
    pub output: Value,
    pub undo: Option<Value>,
    pub discharges: Vec<String>,
    /// A few words for people: "12 tables".
    pub note: String,
}

impl<T> Done<T> {
    /// A step that leaves nothing to undo.
    pub fn new(value: T) -> Self {
        Self { value, output: Value::Null, undo: None, discharges: Vec::new(), note: String::new() }
    }

    /// The same step with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Done<U> {
        let Self { value, output, undo, discharges, note } = self;
        Done { value: change(value), output, undo, discharges, note }
    }

    pub fn output(mut self, output: Value) -> Self {
        self.output = output;
        self
    }

    pub fn undo(mut self, undo: Value) -> Self {
        self.undo = Some(undo);
        self
    }

    pub fn discharges(mut self, step: &str) -> Self {
        self.discharges.push(step.into());
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

/// Why a run stopped.
#[derive(Debug, thiserror::Error)]
pub enum SagaError<E: std::error::Error> {
    #[error("{step}: {error}")]
    Step { step: String, error: E },
    /// The log could not be written: nothing further was done.
    #[error("{step}: the journal cannot be written: {error}")]
    Journal { step: String, error: Failure },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A run in progress.
pub struct Saga<'a> {
    journal: &'a dyn Journal,
    clock: &'a dyn Clock,
    observer: &'a dyn Observer,
    log: Log,
    run: String,
    generation: u64,
    timings: Vec<(String, Timestamp, Timestamp)>,
}

impl<'a> Saga<'a> {
    /// Opens a run's log.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn open<E: std::error::Error>(
        journal: &'a dyn Journal,
        clock: &'a dyn Clock,
        observer: &'a dyn Observer,
        run: &str,
        generation: u64,
        (verb, subject): (&str, &str),
    ) -> Result<Self, SagaError<E>> {
        let (log, timings) = (Log::default(), Vec::new());
        let mut saga = Self { journal, clock, observer, log, run: run.into(), generation, timings };
        saga.record("open", Entry::Opened { verb: verb.into(), subject: subject.into() }).await?;
        Ok(saga)
    }

    /// Takes over a run that another process left: that process can write nothing more into its log.
    ///
    /// # Errors
    /// `Journal` with `Exists` when that process lives and was quicker: its log is to be read again.
    pub async fn adopt<E: std::error::Error>(
        journal: &'a dyn Journal,
        clock: &'a dyn Clock,
        observer: &'a dyn Observer,
        log: Log,
        generation: u64,
    ) -> Result<Self, SagaError<E>> {
        let run = log.records().first().map(|record| record.run.clone()).unwrap_or_default();
        let mut saga = Self { journal, clock, observer, log, run, generation, timings: Vec::new() };
        saga.record("recover", Entry::TakenOver).await?;
        Ok(saga)
    }

    /// Runs one step. The journal knows of it before the work begins, and of its undo before this returns.
    ///
    /// # Errors
    /// The step's own error, or the journal's.
    pub async fn step<T, E: std::error::Error>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<Done<T>, E>>,
    ) -> Result<T, SagaError<E>> {
        self.record(name, Entry::Started { step: name.into() }).await?;
        self.observer.step_started(name);
        let started = self.clock.now();
        match work.await {
            Ok(done) => {
                let ended = self.clock.now();
                let Done { value, output, undo, discharges, note } = done;
                self.record(name, Entry::Done { step: name.into(), output, undo, discharges }).await?;
                self.timings.push((name.into(), started, ended));
                self.observer.step_done(name, ended.duration_since(started), &note);
                Ok(value)
            }
            Err(error) => {
                let message = error.to_string();
                self.observer.step_failed(name, &message);
                self.record::<E>(name, Entry::Failed { step: name.into(), message }).await.ok();
                Err(SagaError::Step { step: name.into(), error })
            }
        }
    }

    /// Takes back what was done, the last first, and closes the run when nothing is left.
    ///
    /// An undo that fails stays pending in the journal for `recover`; the others are still carried out, unless the journal
    /// cannot be written.
    /// Returns the messages of those that failed.
    pub async fn unwind<F>(&mut self, mut undo: impl FnMut(String, Value) -> F) -> Vec<String>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut failures = Vec::new();
        for (step, what) in self.log.pending_undos() {
            let entry = match undo(step.clone(), what).await {
                Ok(()) => {
                    self.observer.undone(&step);
                    Entry::Undone { step: step.clone() }
                }
                Err(error) => {
                    failures.push(format!("undo of '{step}': {error}"));
                    Entry::UndoFailed { step: step.clone(), message: error.to_string() }
                }
            };
            if let Err(error) = self.record::<Failure>(&step, entry).await {
                // Perhaps another worker has taken over: nothing further is done.
                failures.push(error.to_string());
                return failures;
            }
        }
        if failures.is_empty()
            && let Err(error) = self.close::<Failure>(Outcome::RolledBack).await
        {
            failures.push(error.to_string());
        }
        failures
    }

    /// Closes the run.
    ///
    /// # Errors
    /// When the journal cannot be written, or a step is unfinished.
    pub async fn close<E: std::error::Error>(&mut self, outcome: Outcome) -> Result<(), SagaError<E>> {
        self.record("close", Entry::Closed { outcome }).await
    }

    /// The steps that are done: name, begin, end.
    pub fn timings(&self) -> &[(String, Timestamp, Timestamp)] {
        &self.timings
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    pub fn run(&self) -> &str {
        &self.run
    }

    async fn record<E: std::error::Error>(&mut self, step: &str, entry: Entry) -> Result<(), SagaError<E>> {
        let record = Record {
            run: self.run.clone(),
            sequence: self.log.records().len() as u64,
            generation: self.generation,
            at: self.clock.now(),
            entry,
        };
        let mut next = self.log.clone();
        next.apply(record.clone())?;
        let written = self.journal.append(&record).await;
        written.map_err(|error| SagaError::Journal { step: step.into(), error })?;
        self.log = next;
        Ok(())
    }
}
