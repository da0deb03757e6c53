//! The report of a drill as a document: what is stored, and what text and page are made of. `schemas/` has its JSON Schema.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Totals;
use crate::plan::compare::{State, Verdict};
use crate::plan::drill::Scenario;
use crate::plan::drill::checklist::{Item, ItemState};
use crate::plan::drill::objectives::{Measured, Phase};
use crate::plan::drill::recovery::Recovery;
use crate::report::BackupLine;

/// The version of the document.
pub const VERSION: u32 = 1;

/// A drill, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    pub version: u32,
    pub drill: String,
    pub system: String,
    pub scenario: Scenario,
    pub title: String,
    pub outcome: Outcome,
    /// Why not all is as it should be, the gravest first.
    pub findings: Vec<String>,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub backup: Option<BackupLine>,
    /// How the table that suffered was brought back, and why so.
    pub recovery: Option<Recovery>,
    pub phases: Vec<Phase>,
    pub objectives: Vec<Measured>,
    pub tables: Vec<TableLine>,
    pub view_count: usize,
    pub checks: Vec<Verdict>,
    pub checklist: Vec<Item>,
    /// Earlier backups, the oldest first.
    pub backups: Vec<BackupLine>,
    /// Earlier drills, the oldest first.
    pub drills: Vec<DrillLine>,
    pub signature: Signature,
    /// What a person should know.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All came back, in time.
    Passed,
    /// All came back, but an objective was missed.
    Late,
    /// It did not come back as it was.
    Failed,
    /// A step failed: what was begun was taken back.
    NotFinished,
}

/// A table before the loss and after the recovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableLine {
    pub table: String,
    pub rows_before: u64,
    pub rows_after: u64,
    /// Whether rows and figures were proven to be the same; absent where nothing was recorded to prove it by.
    pub proven: Option<bool>,
    pub before: Option<Totals>,
    pub after: Option<Totals>,
}

/// An earlier drill in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillLine {
    pub drill: String,
    pub scenario: Scenario,
    pub started_at: Timestamp,
    pub outcome: Outcome,
    /// Until every row was proven; absent where the drill did not come so far.
    pub full_ms: Option<i64>,
}

/// Who and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub operator: String,
    /// The process and machine that it ran on.
    pub holder: String,
    pub tool: String,
    pub run: String,
}

impl DrillLine {
    pub fn of(report: &DrillReport) -> Self {
        Self {
            drill: report.drill.clone(),
            scenario: report.scenario,
            started_at: report.started_at,
            outcome: report.outcome,
            full_ms: report
                .objectives
                .iter()
                .find(|line| line.objective == "rto_full")
                .and_then(|line| line.measured_ms),
        }
    }
}

impl DrillReport {
    /// Judges what was found; findings of the run itself come first.
    pub fn conclude(&mut self, finished: bool) {
        let failed_checks = self.checks.iter().filter(|check| check.state == State::Failed && check.critical);
        let failed_checks: Vec<String> = failed_checks
            .map(|check| format!("{}: {}", check.name, check.findings.first().map_or("failed", String::as_str)))
            .collect();
        self.findings.extend(failed_checks);
        for item in self.checklist.iter().filter(|item| item.state == ItemState::Failed) {
            let told = self.findings.iter().any(|finding| item.evidence.contains(finding.as_str()));
            if !told {
                self.findings.push(format!("{}: {}", item.text, item.evidence));
            }
        }
        let broken = !self.findings.is_empty();
        let late = self.objectives.iter().filter(|line| line.met() == Some(false));
        let late: Vec<String> = late
            .map(|line| {
                let measured = super::super::duration(jiff::SignedDuration::from_millis(line.measured_ms.unwrap_or(0)));
                let limit = i64::try_from(line.limit_seconds).unwrap_or(i64::MAX);
                let limit = super::super::duration(jiff::SignedDuration::from_secs(limit));
                format!("{}: {measured}, the objective is {limit} ({})", line.title, line.measures)
            })
            .collect();
        self.outcome = match (finished, broken, late.is_empty()) {
            (false, ..) => Outcome::NotFinished,
            (true, true, _) => Outcome::Failed,
            (true, false, false) => Outcome::Late,
            (true, false, true) => Outcome::Passed,
        };
        self.findings.extend(late);
    }

    /// The document's bytes in the vault.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
