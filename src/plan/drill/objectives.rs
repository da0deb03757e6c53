//! Recovery objectives, and what a drill measured against them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Objectives;

/// A step of a drill, as it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    pub step: String,
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub outcome: PhaseOutcome,
    /// A few words for people.
    pub note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseOutcome {
    Done,
    Failed,
    /// Taken back after a failure.
    Undone,
}

/// What a step is there for: only recovery counts against the objectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Makes the scratch copy, and breaks it.
    Setup,
    Recovery,
    Cleanup,
}

impl Phase {
    pub fn part(&self) -> Part {
        match self.step.as_str() {
            step if step.starts_with("setup") || step.starts_with("scratch") || step == "break" => Part::Setup,
            "teardown" => Part::Cleanup,
            _ if self.outcome == PhaseOutcome::Undone => Part::Cleanup,
            _ => Part::Recovery,
        }
    }

    /// The step without the stage that it belongs to.
    pub fn base(&self) -> &str {
        let stage = self.step.split_once('_').filter(|(stage, _)| matches!(*stage, "setup" | "again"));
        stage.map_or(&self.step, |(_, base)| base)
    }

    pub fn milliseconds(&self) -> i64 {
        self.ended_at.as_millisecond() - self.started_at.as_millisecond()
    }
}

/// An objective, and what was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The configuration's key: `rto_full`, `rpo_transactions`.
    pub objective: String,
    pub title: String,
    /// What the figure is, for people.
    pub measures: String,
    pub limit_seconds: u64,
    /// Absent when this drill has nothing to measure it by.
    pub measured_ms: Option<i64>,
}

impl Measured {
    pub fn met(&self) -> Option<bool> {
        self.measured_ms.map(|measured| measured <= i64::try_from(self.limit_seconds * 1000).unwrap_or(i64::MAX))
    }
}

/// The age of the newest copy of a source when the drill began: what would have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Age {
    pub source: String,
    /// A spreadsheet with mappings, not a dataset.
    pub mappings: bool,
    pub milliseconds: i64,
}

/// Steps after which data is there to be used again: proof and clean-up come later.
const PROVING: &[&str] = &["compare", "validate", "dashboards", "mappings", "pipeline", "service", "health", "dry_run"];
const DASHBOARDS: &[&str] = &["views", "policies", "dashboards"];
const PIPELINE: &[&str] = &["describe", "deploy", "rotate", "revoke", "restart", "health", "dry_run"];

/// Holds the phases of a drill against the recovery time objectives, and the ages against the recovery points.
pub fn judge(objectives: &Objectives, restores: bool, phases: &[Phase], ages: &[Age]) -> Vec<Measured> {
    let recovery: Vec<&Phase> = phases.iter().filter(|phase| phase.part() == Part::Recovery).collect();
    let from_begin = |proving: bool| {
        let begin = recovery.first()?.started_at;
        let end = recovery.iter().rfind(|phase| proving || !PROVING.contains(&phase.base()))?.ended_at;
        Some(end.as_millisecond() - begin.as_millisecond())
    };
    let sum_of = |names: &[&str]| {
        let parts: Vec<i64> = recovery.iter().filter(|p| names.contains(&p.base())).map(|p| p.milliseconds()).collect();
        (!parts.is_empty()).then(|| parts.iter().sum())
    };
    let line = |objective: &str, title: &str, measures: &str, limit: crate::model::Period, measured_ms| Measured {
        objective: objective.into(),
        title: title.into(),
        measures: measures.into(),
        limit_seconds: limit.as_secs(),
        measured_ms,
    };
    let mut lines = Vec::new();
    if restores {
        lines.push(line(
            "rto_critical",
            "Critical system",
            "from the loss until all that was lost can be used again",
            objectives.rto_critical,
            from_begin(false),
        ));
        lines.push(line(
            "rto_full",
            "Full data",
            "from the loss until every row is proven and every check has passed",
            objectives.rto_full,
            from_begin(true),
        ));
        let what = "making the views and their access again, and asking each for its rows";
        lines.push(line("rto_dashboards", "Dashboards", what, objectives.rto_dashboards, sum_of(DASHBOARDS)));
    }
    let pipeline = sum_of(PIPELINE);
    let what = match pipeline {
        Some(_) => "bringing the ingestion service back, until it answers",
        None => "not a part of this drill: service-failure and key-compromise measure it",
    };
    lines.push(line("rto_pipeline", "Pipeline", what, objectives.rto_pipeline, pipeline));
    for age in ages {
        let (objective, title, limit) = if age.mappings {
            ("rpo_mappings", "Configuration and mappings", objectives.rpo_mappings)
        } else {
            ("rpo_transactions", "Transactions", objectives.rpo_transactions)
        };
        let what = format!("age of the newest copy of '{}': what would have been lost", age.source);
        lines.push(line(objective, title, &what, limit, Some(age.milliseconds)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Period;

    fn phase(step: &str, from: i64, to: i64) -> Phase {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        Phase {
            step: step.into(),
            started_at: at(from),
            ended_at: at(to),
            outcome: PhaseOutcome::Done,
            note: String::new(),
        }
    }

    #[test]
    fn only_recovery_counts() {
        let hour = Period::seconds(3600);
        let objectives = Objectives {
            rto_critical: Period::seconds(30),
            rto_full: hour,
            rto_dashboards: hour,
            rto_pipeline: hour,
            rpo_transactions: hour,
            rpo_mappings: hour,
        };
        let phases = [
            phase("setup_load", 0, 100),
            phase("break", 100, 110),
            phase("read", 110, 112),
            phase("load", 112, 140),
            phase("views", 140, 145),
            phase("compare", 145, 160),
            phase("dashboards", 160, 161),
            phase("teardown", 161, 900),
        ];
        let ages = [Age { source: "mappings".into(), mappings: true, milliseconds: 3_600_001 }];
        let found: Vec<(String, Option<i64>, Option<bool>)> = judge(&objectives, true, &phases, &ages)
            .into_iter()
            .map(|m| (m.objective.clone(), m.measured_ms, m.met()))
            .collect();
        let line = |name: &str, ms: Option<i64>, met| (name.to_string(), ms, met);
        assert_eq!(
            found,
            [
                line("rto_critical", Some(35_000), Some(false)),
                line("rto_full", Some(51_000), Some(true)),
                line("rto_dashboards", Some(6_000), Some(true)),
                line("rto_pipeline", None, None),
                line("rpo_mappings", Some(3_600_001), Some(false)),
            ]
        );
    }
}
