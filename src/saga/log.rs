//! The log as a transition table: which entry may follow, and what is still to be undone.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An entry with its place in the log of its run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub run: String,
    /// 0, 1, 2, ... without holes.
    pub sequence: u64,
    /// The lease's generation of the writer: a stale worker's records carry an old one.
    pub generation: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Entry {
    Opened {
        verb: String,
        subject: String,
    },
    Started {
        step: String,
    },
    Done {
        step: String,
        #[serde(default, skip_serializing_if = "Value::is_null")]
        output: Value,
        /// What takes the step back; absent when there is nothing to take back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undo: Option<Value>,
        /// Steps whose undo this step has made unnecessary.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        discharges: Vec<String>,
    },
    Failed {
        step: String,
        message: String,
    },
    Undone {
        step: String,
    },
    UndoFailed {
        step: String,
        message: String,
    },
    /// A later holder of the lease takes the run back. From here on its first worker, should it still live, finds the
    /// next place in the log taken and stops.
    TakenOver,
    Closed {
        outcome: Outcome,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Committed,
    RolledBack,
}

/// An entry that cannot follow what the log holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run {run}, record {sequence}: {message}")]
pub struct LogError {
    pub run: String,
    pub sequence: u64,
    pub message: String,
}

/// The state of a run, as its records tell it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    records: Vec<Record>,
    running: Option<String>,
    undos: Vec<(String, Value)>,
    failed: Option<(String, String)>,
    closed: Option<Outcome>,
}

impl Log {
    /// Replays records in order.
    ///
    /// # Errors
    /// When a record is missing, doubled or impossible at its place.
    pub fn replay(records: impl IntoIterator<Item = Record>) -> Result<Self, LogError> {
        let mut log = Self::default();
        for record in records {
            log.apply(record)?;
        }
        Ok(log)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it cannot follow; the log is unchanged then.
    pub fn apply(&mut self, record: Record) -> Result<(), LogError> {
        let refuse = |message: String| Err(LogError { run: record.run.clone(), sequence: record.sequence, message });
        if record.sequence != self.records.len() as u64 {
            return refuse(format!("record {} was expected", self.records.len()));
        }
        if let Some(first) = self.records.first()
            && first.run != record.run
        {
            return refuse(format!("the log is of run {}", first.run));
        }
        if let Some(last) = self.records.last()
            && record.generation < last.generation
        {
            return refuse(format!("its writer's lease (generation {}) was taken over", record.generation));
        }
        if self.closed.is_some() {
            return refuse("the run is closed".into());
        }
        match &record.entry {
            Entry::Opened { .. } if record.sequence == 0 => {}
            Entry::Opened { .. } => return refuse("the run is open already".into()),
            _ if record.sequence == 0 => return refuse("a run begins by being opened".into()),
            Entry::Started { step } => match (&self.running, &self.failed) {
                (None, None) => self.running = Some(step.clone()),
                (Some(running), _) => return refuse(format!("'{step}' cannot start while '{running}' runs")),
                (None, Some((failed, _))) => return refuse(format!("'{step}' cannot start after '{failed}' failed")),
            },
            Entry::Done { step, undo, discharges, .. } => {
                if self.running.as_ref() != Some(step) {
                    return refuse(format!("'{step}' is done but does not run"));
                }
                self.running = None;
                self.undos.retain(|(done, _)| !discharges.contains(done));
                self.undos.extend(undo.clone().map(|undo| (step.clone(), undo)));
            }
            Entry::Failed { step, message } => {
                if self.running.as_ref().is_some_and(|running| running != step) {
                    return refuse(format!("'{step}' failed but does not run"));
                }
                self.running = None;
                self.failed = Some((step.clone(), message.clone()));
            }
            Entry::Undone { step } => {
                if !self.undos.iter().any(|(done, _)| done == step) {
                    return refuse(format!("'{step}' has nothing to undo"));
                }
                self.undos.retain(|(done, _)| done != step);
            }
            Entry::UndoFailed { .. } | Entry::TakenOver => {}
            Entry::Closed { outcome } => {
                if *outcome == Outcome::Committed && (self.running.is_some() || self.failed.is_some()) {
                    return refuse("a run with a failed or unfinished step cannot commit".into());
                }
                if *outcome == Outcome::RolledBack && !self.undos.is_empty() {
                    return refuse(format!("'{}' is not undone yet", self.undos[0].0));
                }
                self.closed = Some(*outcome);
            }
        }
        self.records.push(record);
        Ok(())
    }

    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What is to be undone, the last done first.
    pub fn pending_undos(&self) -> Vec<(String, Value)> {
        self.undos.iter().rev().cloned().collect()
    }

    pub fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// The failed step and its message.
    pub fn failed(&self) -> Option<(&str, &str)> {
        self.failed.as_ref().map(|(step, message)| (step.as_str(), message.as_str()))
    }

    pub fn closed(&self) -> Option<Outcome> {
        self.closed
    }

    pub fn opened_at(&self) -> Option<Timestamp> {
        self.records.first().map(|record| record.at)
    }

    pub fn generation(&self) -> u64 {
        self.records.last().map_or(0, |record| record.generation)
    }

    /// The verb and subject that the run was opened with.
    pub fn purpose(&self) -> Option<(&str, &str)> {
        match &self.records.first()?.entry {
            Entry::Opened { verb, subject } => Some((verb, subject)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(sequence: u64, entry: Entry) -> Record {
        Record { run: "r".into(), sequence, generation: 1, at: Timestamp::UNIX_EPOCH, entry }
    }

    fn opened() -> Entry {
        Entry::Opened { verb: "backup".into(), subject: "s".into() }
    }

    fn started(step: &str) -> Entry {
        Entry::Started { step: step.into() }
    }

    fn done(step: &str, undo: Option<Value>, discharges: &[&str]) -> Entry {
        let discharges = discharges.iter().map(|s| (*s).into()).collect();
        Entry::Done { step: step.into(), output: Value::Null, undo, discharges }
    }

    fn failed(step: &str) -> Entry {
        Entry::Failed { step: step.into(), message: "m".into() }
    }

    fn closed(outcome: Outcome) -> Entry {
        Entry::Closed { outcome }
    }

    fn replay(entries: Vec<Entry>) -> Result<Log, LogError> {
        Log::replay(entries.into_iter().enumerate().map(|(i, entry)| record(i as u64, entry)))
    }

    #[test]
    fn undos_come_back_last_first_without_the_discharged_and_without_the_failed_steps_own() {
        let log = replay(vec![
            opened(),
            started("arm"),
            done("arm", Some(json!("resume")), &[]),
            started("pause"),
            done("pause", None, &[]),
            started("snapshot"),
            done("snapshot", Some(json!("drop")), &[]),
            started("capture"),
            failed("capture"),
        ])
        .unwrap();
        assert_eq!(log.pending_undos(), [("snapshot".into(), json!("drop")), ("arm".into(), json!("resume"))]);

        let log = replay(vec![
            opened(),
            started("arm"),
            done("arm", Some(json!("resume")), &[]),
            started("resume"),
            done("resume", None, &["arm"]),
        ])
        .unwrap();
        assert!(log.pending_undos().is_empty());
    }

    #[test]
    fn impossible_records_are_refused() {
        let arm = || vec![opened(), started("arm"), done("arm", Some(json!(1)), &[])];
        let with = |mut entries: Vec<Entry>, more: Vec<Entry>| {
            entries.extend(more);
            replay(entries)
        };
        for (what, log) in [
            ("no opening", replay(vec![started("a")])),
            ("opened twice", replay(vec![opened(), opened()])),
            ("two at once", replay(vec![opened(), started("a"), started("b")])),
            ("done without a start", replay(vec![opened(), done("a", None, &[])])),
            ("start after a failure", replay(vec![opened(), started("a"), failed("a"), started("b")])),
            ("commit after a failure", replay(vec![opened(), started("a"), failed("a"), closed(Outcome::Committed)])),
            ("commit while one runs", replay(vec![opened(), started("a"), closed(Outcome::Committed)])),
            ("rolled back with an undo left", with(arm(), vec![closed(Outcome::RolledBack)])),
            (
                "undone twice",
                with(arm(), vec![Entry::Undone { step: "arm".into() }, Entry::Undone { step: "arm".into() }]),
            ),
            ("after the end", replay(vec![opened(), closed(Outcome::Committed), started("a")])),
        ] {
            assert!(log.is_err(), "{what}");
        }
        assert!(Log::replay([record(0, opened()), record(2, started("a"))]).is_err(), "a hole");
        let mut stale = record(2, done("a", None, &[]));
        let mut newer = record(1, started("a"));
        newer.generation = 2;
        stale.generation = 1;
        assert!(Log::replay([record(0, opened()), newer, stale]).is_err(), "a stale writer");
    }
}
