//! What a drill has seen, and what it says about the points of the checklist.

use super::super::{Context, JobError};
use crate::catalog::Entry;
use crate::model::Failure;
use crate::plan::compare::{State, Verdict};
use crate::plan::drill::checklist::{Evidence, Point};
use crate::plan::facts::count as number;
use crate::report::{self, TableLine};

/// What the steps leave behind, also when one of them fails.
#[derive(Default)]
pub(super) struct Findings {
    pub differences: Vec<String>,
    pub tables: Vec<TableLine>,
    pub view_count: usize,
    pub checks: Vec<Verdict>,
    pub evidence: Evidence,
    pub notes: Vec<String>,
}

/// What comparison and validation say about the checklist.
pub(super) fn of_restored(
    context: &Context,
    differences: &[String],
    tables: &[TableLine],
    checks: &[Verdict],
    evidence: &mut Evidence,
) {
    if !tables.is_empty() {
        let proven = tables.iter().filter(|table| table.proven == Some(true)).count();
        let same = tables.iter().all(|table| table.proven != Some(false) && table.rows_before == table.rows_after);
        let rows: u64 = tables.iter().map(|table| table.rows_after).sum();
        let rows = report::thousands(rows);
        let text = format!("{proven} of {} tables proven by fingerprint, {rows} rows", tables.len());
        evidence.add(Point::Rows, same, text);
        let policies: Vec<&String> =
            differences.iter().filter(|d| d.contains("policy ") || d.contains("IAM ")).collect();
        match policies.first() {
            None => evidence.add(Point::Permissions, true, "row access policies and IAM of tables and views compared"),
            Some(first) => evidence.add(Point::Permissions, false, first.as_str()),
        }
    }
    for check in checks {
        let point = context.queries.iter().find(|query| query.name == check.name).and_then(|query| query.checklist);
        if let Some(point) = point.filter(|_| matches!(check.state, State::Passed | State::Failed)) {
            let failed = check.state == State::Failed && check.critical;
            let what = if failed { check.findings.first().unwrap_or(&check.title) } else { &check.title };
            evidence.add(point, !failed, what.trim_end_matches('.'));
        }
    }
}

/// How far back BigQuery remembers a table of the backup's datasets: the shortest of them
/// (<https://cloud.google.com/bigquery/docs/time-travel#configure_the_time_travel_window>).
pub(super) async fn time_travel_hours(context: &Context, entry: &Entry) -> Result<u64, JobError> {
    const DEFAULT: u64 = 7 * 24;
    let mut shortest = DEFAULT;
    for source in entry.manifest.bigquery() {
        match context.google.bigquery.get_dataset(&source.dataset).await {
            Ok(found) => match number(&found, "maxTimeTravelHours") {
                0 => {}
                hours => shortest = shortest.min(hours),
            },
            Err(Failure::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shortest)
}
