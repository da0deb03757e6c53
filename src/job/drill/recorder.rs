//! Remembers when each step ran and how it ended, also of a run that failed; passes everything on.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use crate::plan::drill::objectives::{Phase, PhaseOutcome};
use crate::saga::{Clock, Observer};

pub(super) struct Recorder {
    inner: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    running_since: Option<Timestamp>,
    phases: Vec<Phase>,
}

impl Recorder {
    pub fn new(inner: Arc<dyn Observer>, clock: Arc<dyn Clock>) -> Self {
        Self { inner, clock, seen: Mutex::default() }
    }

    /// The steps until now.
    pub fn phases(&self) -> Vec<Phase> {
        self.seen.lock().map(|seen| seen.phases.clone()).unwrap_or_default()
    }

    fn ended(&self, step: &str, outcome: PhaseOutcome, note: &str) {
        let Ok(mut seen) = self.seen.lock() else { return };
        let ended_at = self.clock.now();
        // An undo is told of when it is done: it began when the last step ended.
        let before = seen.phases.last().map(|phase| phase.ended_at);
        let started_at = seen.running_since.take().or(before).unwrap_or(ended_at);
        seen.phases.push(Phase { step: step.into(), started_at, ended_at, outcome, note: note.into() });
    }
}

impl Observer for Recorder {
    fn step_started(&self, step: &str) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.running_since = Some(self.clock.now());
        }
        self.inner.step_started(step);
    }

    fn progress(&self, step: &str, done: usize, total: usize, what: &str) {
        self.inner.progress(step, done, total, what);
    }

    fn step_done(&self, step: &str, elapsed: SignedDuration, note: &str) {
        self.ended(step, PhaseOutcome::Done, note);
        self.inner.step_done(step, elapsed, note);
    }

    fn step_failed(&self, step: &str, message: &str) {
        self.ended(step, PhaseOutcome::Failed, message);
        self.inner.step_failed(step, message);
    }

    fn undone(&self, step: &str) {
        self.ended(step, PhaseOutcome::Undone, "");
        self.inner.undone(step);
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }
}
