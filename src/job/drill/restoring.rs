//! The drills that bring data back: set up, break, find, recover, prove, tear down.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::restore::{self, Restored, RestoredTable};
use super::super::run::{self, Undo};
use super::super::verify::checked;
use super::super::{Context, JobError, backup::count};
use super::Subject;
use super::evidence::Findings;
use crate::catalog::Entry;
use crate::google::bigquery::QueryOptions;
use crate::model::{DatasetId, Failure, TableId, Totals};
use crate::plan::drill::checklist::Point;
use crate::plan::drill::recovery::Way;
use crate::plan::drill::{Scenario, Victim};
use crate::report::TableLine;
use crate::saga::{Done, Saga};
use crate::source::bigquery::{self, JobIds};
use crate::source::sheets::{self, Grid};

pub(super) struct Work<'a> {
    pub context: &'a Context,
    pub subject: &'a Subject,
    pub id: &'a str,
}

impl Work<'_> {
    pub async fn steps(&self, saga: &mut Saga<'_>, findings: &mut Findings) -> Result<(), JobError> {
        let plan = &self.subject.plan;
        let entry = self.subject.entry.as_ref().ok_or_else(no_backup)?;
        saga.step("scratch", self.scratch()).await?;
        let everything = plan.restore(false);
        if let Some(victim) = &plan.victim {
            restore::within(self.context, saga, entry, &everything, (self.id, "setup")).await?;
            let known_good = saga.step("setup_instant", self.instant(entry, victim)).await?;
            saga.step("break", self.break_table(entry, victim)).await?;
            saga.step("assess", self.assess(entry, findings)).await?;
            match victim.recovery.way {
                Way::TimeTravel => saga.step("put_back", self.put_back(entry, victim, known_good)).await?,
                Way::Files => {
                    let id = format!("{}_back", self.id);
                    restore::within(self.context, saga, entry, &plan.restore(true), (&id, "again")).await.map(drop)?;
                }
            }
            let compared = saga.step("compare", self.compare(entry)).await?;
            findings.take_compared(compared);
            let validated = saga.step("validate", self.validate(entry)).await?;
            findings.checks.extend(validated);
        } else {
            if plan.scenario == Scenario::DatasetLoss {
                restore::within(self.context, saga, entry, &everything, (self.id, "setup")).await?;
                saga.step("break", self.lose_datasets()).await?;
                saga.step("assess", self.see_that_it_is_gone()).await?;
            }
            let id = format!("{}_back", self.id);
            let restored = restore::within(self.context, saga, entry, &everything, (&id, "")).await?;
            findings.take_restored(restored);
        }
        let dashboards = saga.step("dashboards", self.dashboards(entry)).await?;
        findings.view_count = dashboards.len();
        for (view, asked) in dashboards {
            match asked {
                Ok(rows) => findings.evidence.add(Point::Dashboards, true, format!("{view} gave {rows} rows")),
                Err(message) => findings.evidence.add(Point::Dashboards, false, format!("{view}: {message}")),
            }
        }
        let mut scratch_tabs = Vec::new();
        if entry.manifest.sheets().next().is_some() {
            let tabs = saga.step("scratch_tabs", self.scratch_tabs(entry)).await?;
            let (notes, differences) = saga.step("mappings", self.mappings(entry, &tabs)).await?;
            findings.notes.extend(notes);
            findings.differences.extend(differences);
            scratch_tabs = tabs.into_values().flatten().collect();
        }
        saga.step("teardown", self.teardown(&scratch_tabs)).await?;
        Ok(())
    }

    /// Journals what is to be removed, before any of it is made.
    async fn scratch(&self) -> Result<Done<()>, JobError> {
        let datasets = self.datasets();
        let note = datasets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(Done::new(()).undo(Undo::DropScratch { datasets }.to_value()).note(note))
    }

    fn datasets(&self) -> Vec<DatasetId> {
        self.subject.plan.scratch.values().cloned().collect()
    }

    async fn teardown(&self, tabs: &[(String, String)]) -> Result<Done<()>, JobError> {
        let datasets = self.datasets();
        run::drop_scratch(self.context, self.id, &datasets).await?;
        run::drop_tabs(self.context, self.id, tabs).await?;
        // With the datasets, all that any step made in them is gone.
        let done = Done::new(()).note(format!("{} removed", count(datasets.len(), "dataset")));
        let steps = [
            "scratch",
            "scratch_tabs",
            "setup_prepare",
            "prepare",
            "again_arm_safeguard",
            "again_safeguard",
            "again_prepare",
        ];
        Ok(steps.into_iter().fold(done, Done::discharges))
    }

    async fn lose_datasets(&self) -> Result<Done<()>, JobError> {
        run::drop_scratch(self.context, self.id, &self.datasets()).await?;
        Ok(Done::new(()).note("everything deleted"))
    }

    async fn see_that_it_is_gone(&self) -> Result<Done<()>, JobError> {
        for dataset in self.datasets() {
            match self.context.google.bigquery.get_dataset(&dataset).await {
                Err(Failure::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let message = "was deleted, but is there".into();
                    return Err(Failure::Precondition { object: dataset.to_string(), message }.into());
                }
            }
        }
        Ok(Done::new(()).note("nothing is left"))
    }

    /// BigQuery's time when all was still well.
    async fn instant(&self, entry: &Entry, victim: &Victim) -> Result<Done<jiff::Timestamp>, JobError> {
        let at =
            bigquery::cut_instant(&self.context.google, victim.scratch.project(), &location(entry, victim)).await?;
        Ok(Done::new(at).note(format!("all was well at {at}")))
    }

    async fn break_table(&self, entry: &Entry, victim: &Victim) -> Result<Done<()>, JobError> {
        let table = &victim.scratch;
        if self.subject.plan.scenario == Scenario::TableLoss {
            self.context.google.bigquery.delete_table(table).await?;
            return Ok(Done::new(()).note(format!("{table} deleted")));
        }
        let resource = self.context.google.bigquery.get_table(table).await?;
        let sql = match self.subject.plan.scenario {
            Scenario::AccidentalDeletion => deletion(table, &resource),
            _ => corruption(table, &resource)?,
        };
        self.query(table.project(), &location(entry, victim), &sql).await?;
        Ok(Done::new(()).note(sql))
    }

    /// Finds the damage: a drill whose damage goes unnoticed has failed.
    async fn assess(&self, entry: &Entry, findings: &mut Findings) -> Result<Done<()>, JobError> {
        let (_, differences) = restore::examine(self.context, entry, &self.subject.plan.restore(false)).await?;
        let Some(first) = differences.first() else {
            let object = self.subject.plan.scenario.to_string();
            return Err(Failure::Corrupt { object, message: "the damage was not noticed".into() }.into());
        };
        let note = format!("found: {first}");
        findings.notes.push(note.clone());
        Ok(Done::new(()).note(note))
    }

    /// Takes a snapshot of the table as it was, and puts it in the table's place.
    async fn put_back(&self, entry: &Entry, victim: &Victim, at: jiff::Timestamp) -> Result<Done<()>, JobError> {
        let google = &self.context.google;
        let table = &victim.scratch;
        let name = format!("{}_as_it_was", table.table());
        let invalid = |error: crate::model::InvalidName| Failure::Invalid {
            object: table.to_string(),
            message: error.to_string(),
        };
        let snapshot = table.dataset_id().table(&name).map_err(invalid)?;
        let ids = JobIds { run: self.id.into(), project: table.project().into(), location: location(entry, victim) };
        let expires = self.context.now().checked_add(jiff::SignedDuration::from_hours(24)).unwrap_or(at);
        bigquery::snapshot(google, &ids, 0, (table, Some(at)), (&snapshot, expires)).await?;
        let before = google.bigquery.get_table(table).await?;
        bigquery::put_back(google, &ids, 0, &snapshot, table).await?;
        let saved = self.definition(entry, &victim.source).await?;
        bigquery::repair(google, table, &before, &saved).await?;
        Ok(Done::new(()).note(format!("{table} as it was at {at}")))
    }

    async fn definition(&self, entry: &Entry, table: &TableId) -> Result<bigquery::Definition, JobError> {
        let record = entry.manifest.bigquery().flat_map(|source| &source.tables).find(|record| record.table == *table);
        let record = record.ok_or_else(no_backup)?;
        Ok(super::super::verify::definition(entry, &record.meta).await?)
    }

    async fn compare(&self, entry: &Entry) -> Result<Done<(Vec<RestoredTable>, Vec<String>)>, JobError> {
        let compared = restore::examine(self.context, entry, &self.subject.plan.restore(false)).await?;
        let note = format!("{}, {}", count(compared.0.len(), "table"), count(compared.1.len(), "difference"));
        Ok(Done::new(compared).note(note))
    }

    async fn validate(&self, entry: &Entry) -> Result<Done<Vec<crate::plan::compare::Verdict>>, JobError> {
        let mut verdicts = Vec::new();
        for dataset in self.datasets() {
            let manifest = &entry.manifest;
            let validation = super::super::validate::run(self.context, &dataset, Some(manifest), manifest.data_of());
            verdicts.extend(validation.await?.verdicts);
        }
        let note = count(verdicts.len(), "check");
        Ok(Done::new(verdicts).note(note))
    }

    /// Asks every view how many rows it gives: what stands behind the dashboards works.
    async fn dashboards(&self, entry: &Entry) -> Result<Done<Vec<(String, Result<u64, String>)>>, JobError> {
        let mut asked = Vec::new();
        for source in entry.manifest.bigquery() {
            let Some(dataset) = self.subject.plan.scratch.get(&source.dataset) else { continue };
            for view in source.views.iter().filter(|view| view.kind != "EXTERNAL") {
                let Ok(id) = dataset.table(view.view.table()) else { continue };
                let sql = format!("SELECT COUNT(*) AS n FROM {}", id.sql());
                let outcome = match self.query(id.project(), &source.location, &sql).await {
                    Ok(n) => Ok(n.as_str().and_then(|n| n.parse().ok()).unwrap_or(0)),
                    Err(Failure::Invalid { message, .. } | Failure::NotFound { message, .. }) => Err(message),
                    Err(error) => return Err(error.into()),
                };
                asked.push((view.view.table().to_string(), outcome));
            }
        }
        let note = count(asked.len(), "view");
        Ok(Done::new(asked).note(note))
    }

    /// Journals the tabs that are to be removed, before any is made. A spreadsheet that is gone has none.
    async fn scratch_tabs(&self, entry: &Entry) -> Result<Done<ScratchTabs>, JobError> {
        const LONGEST: usize = 100; // of a tab's title
        let suffix = run::scratch_suffix(self.id);
        let mut tabs = ScratchTabs::new();
        for source in entry.manifest.sheets() {
            let there = match self.context.google.sheets.get(&source.spreadsheet).await {
                Ok(_) => true,
                Err(Failure::NotFound { .. } | Failure::Denied { .. }) => false,
                Err(error) => return Err(error.into()),
            };
            for tab in &source.tabs {
                let kept: String = tab.title.chars().take(LONGEST.saturating_sub(suffix.len())).collect();
                let scratch = there.then(|| (source.spreadsheet.clone(), format!("{kept}{suffix}")));
                tabs.insert((source.spreadsheet.clone(), tab.title.clone()), scratch);
            }
        }
        let made: Vec<(String, String)> = tabs.values().flatten().cloned().collect();
        let note = count(made.len(), "tab");
        Ok(Done::new(tabs).undo(Undo::DropTabs { tabs: made }.to_value()).note(note))
    }

    /// Reads the cells of the backup's tabs, writes them to scratch tabs as a restore would, and holds what is there then
    /// against them: what was done, and what differs.
    async fn mappings(
        &self,
        entry: &Entry,
        scratch: &ScratchTabs,
    ) -> Result<Done<(Vec<String>, Vec<String>)>, JobError> {
        let google = &self.context.google;
        let (mut lines, mut differences) = (Vec::new(), Vec::new());
        for (source, tab) in entry.manifest.sheets().flat_map(|s| s.tabs.iter().map(move |tab| (s, tab))) {
            let bytes = checked(entry, &tab.cells).await?;
            let corrupt = |message: String| Failure::Corrupt { object: tab.cells.key.clone(), message };
            let grid: Grid = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
            let rows = grid.size().0 as u64;
            if rows != tab.row_count {
                return Err(corrupt(format!("holds {rows} rows, written were {}", tab.row_count)).into());
            }
            let about = format!("tab '{}' of spreadsheet '{}': {rows} rows", tab.title, source.title);
            let target = scratch.get(&(source.spreadsheet.clone(), tab.title.clone())).and_then(Option::as_ref);
            let Some((spreadsheet, title)) = target else {
                lines.push(format!("{about} read and checked; the spreadsheet is not there to write them to"));
                continue;
            };
            match sheets::write(google, spreadsheet, title, true, &grid).await {
                Ok(()) => {}
                Err(Failure::Denied { .. }) => {
                    lines.push(format!("{about} read and checked, not written: the spreadsheet may only be read"));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            match sheets::read(google, spreadsheet, title).await?.same(&grid) {
                true => lines.push(format!("{about} written to a new tab and found the same there")),
                false => differences.push(format!("{about}: written to a new tab, its cells differ")),
            }
        }
        let note = format!("{}, {}", count(lines.len(), "tab"), count(differences.len(), "difference"));
        Ok(Done::new((lines, differences)).note(note))
    }

    /// The first cell of what a query gives.
    async fn query(&self, project: &str, location: &str, sql: &str) -> Result<Value, Failure> {
        let options = QueryOptions { location: Some(location.into()), ..QueryOptions::default() };
        let result = self.context.google.bigquery.query(project, sql, &options).await?;
        Ok(result.rows.first().and_then(|row| row.first()).cloned().unwrap_or_default())
    }
}

/// By spreadsheet and title, the tab that stands for it; none where the spreadsheet is gone.
type ScratchTabs = BTreeMap<(String, String), Option<(String, String)>>;

impl Findings {
    fn take_restored(&mut self, restored: Restored) {
        self.checks.extend(restored.validations.into_iter().flat_map(|validation| validation.verdicts));
        self.take_compared((restored.tables, restored.differences));
    }

    fn take_compared(&mut self, (tables, differences): (Vec<RestoredTable>, Vec<String>)) {
        self.differences.extend(differences);
        self.tables.extend(tables.into_iter().map(|table| TableLine {
            table: table.table.table().into(),
            rows_before: table.expected_row_count,
            rows_after: table.row_count,
            proven: table.proven,
            before: table.expected.map(Totals::without_buckets),
            after: table.found.map(Totals::without_buckets),
        }));
    }
}

fn no_backup() -> Failure {
    Failure::NotFound { object: "drill".into(), message: "the backup does not hold what is drilled".into() }
}

fn location(entry: &Entry, victim: &Victim) -> String {
    let source = entry.manifest.bigquery().find(|source| source.dataset == *victim.source.dataset_id());
    source.map(|source| source.location.clone()).unwrap_or_default()
}

/// Deletes about half of the rows. A filter on the partitioning column is given to tables that insist on one.
fn deletion(table: &TableId, resource: &Value) -> String {
    let half = "MOD(FARM_FINGERPRINT(TO_JSON_STRING(t)), 2) = 0";
    format!("DELETE FROM {} AS t WHERE {half}{}", table.sql(), any_partition(resource))
}

/// Changes the figures of a column, or, where there is none, the rows themselves.
fn corruption(table: &TableId, resource: &Value) -> Result<String, Failure> {
    let fields = resource["schema"]["fields"].as_array().cloned().unwrap_or_default();
    let figures = |field: &&Value| {
        let kind = field["type"].as_str().unwrap_or_default();
        field["mode"] != "REPEATED"
            && matches!(kind, "INTEGER" | "INT64" | "FLOAT" | "FLOAT64" | "NUMERIC" | "BIGNUMERIC")
    };
    let Some(name) = fields.iter().find(figures).and_then(|field| field["name"].as_str()) else {
        let message = "has no numeric column to change; hint: name another one with --table".into();
        return Err(Failure::Invalid { object: table.to_string(), message });
    };
    let column = format!("`{name}`");
    let some = format!("{column} IS NOT NULL AND MOD(FARM_FINGERPRINT(TO_JSON_STRING(t)), 3) = 0");
    Ok(format!("UPDATE {} AS t SET {column} = {column} + 1 WHERE {some}{}", table.sql(), any_partition(resource)))
}

fn any_partition(resource: &Value) -> String {
    if resource["requirePartitionFilter"] != true {
        return String::new();
    }
    let column = ["timePartitioning", "rangePartitioning"]
        .iter()
        .find_map(|kind| resource[kind]["field"].as_str())
        .unwrap_or("_PARTITIONTIME");
    format!(" AND (`{column}` IS NULL OR `{column}` IS NOT NULL)")
}
