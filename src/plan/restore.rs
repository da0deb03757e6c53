//! The plan of a restore.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::facts::{DestinationFacts, IngestionFacts};
use super::streamed::StreamedRestore;
use super::{Refusal, partitions, staging};
use crate::manifest::{BigQueryRecord, Manifest, SourceRecord, TabRecord, TableRecord, ViewRecord};
use crate::model::{BackupName, DatasetId, Pattern, Place, TableId};

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RestoreRequest {
    /// Patterns of tables and views; empty: everything, the spreadsheet too.
    pub tables: Vec<Pattern>,
    /// Another dataset instead of the backup's own.
    pub into: Option<DatasetId>,
    /// Existing data may be replaced.
    pub replace: bool,
    /// Another spreadsheet instead of the backup's own.
    pub into_spreadsheet: Option<String>,
    /// Only these sources, by their names; empty: all.
    pub sources: Vec<String>,
    /// Another database instead of the backup's own.
    pub target_db: Option<String>,
    /// Another directory or file instead of the backup's own.
    pub to: Option<PathBuf>,
    /// Only these files.
    pub paths: Vec<Pattern>,
    /// For a drill: the scratch dataset that stands for each of the backup's.
    pub scratch: BTreeMap<DatasetId, DatasetId>,
}

impl RestoreRequest {
    fn target<'a>(&'a self, source: &'a DatasetId) -> &'a DatasetId {
        self.scratch.get(source).or(self.into.as_ref()).unwrap_or(source)
    }

    fn in_scratch(&self) -> bool {
        !self.scratch.is_empty()
    }
}

/// What stands where the restore would write.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TargetFacts {
    /// Datasets that exist: their whole resources.
    pub datasets: BTreeMap<DatasetId, Value>,
    /// Tables and views that exist: their whole resources.
    pub tables: BTreeMap<TableId, Value>,
    /// Spreadsheets that exist: for each tab whether it holds values.
    pub spreadsheets: BTreeMap<String, BTreeMap<String, bool>>,
    pub ingestion: Vec<IngestionFacts>,
    /// Of sources whose data passes through this process: where each would go.
    pub streamed: Vec<StreamedRestore>,
    /// What stands against those.
    pub refusals: Vec<Refusal>,
    /// Where the backup is read.
    pub read_from: Option<Place>,
    /// The staging bucket, where BigQuery cannot read the backup itself and one is named.
    pub staging: Option<DestinationFacts>,
}

/// What a restore will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestorePlan {
    pub backup: BackupName,
    /// Where BigQuery finds the files, when it cannot read them where they lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_way_of: Option<Place>,
    /// Jobs that run and will be paused meanwhile: only when the backup's own dataset is written.
    pub pause: Vec<String>,
    pub datasets: Vec<DatasetRestore>,
    pub sheets: Vec<SheetRestore>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub streamed: Vec<StreamedRestore>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetRestore {
    pub source: DatasetId,
    pub target: DatasetId,
    pub location: String,
    /// The dataset does not exist and is made.
    pub make: bool,
    /// It belongs to a drill, which removes it.
    pub scratch: bool,
    pub tables: Vec<TableRestore>,
    /// In dependency order.
    pub views: Vec<ViewRestore>,
    pub routines: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableRestore {
    pub source: TableId,
    pub target: TableId,
    pub row_count: u64,
    pub file_count: usize,
    pub size_bytes: u64,
    pub existing: Existing,
    /// By way of this table, in parts: it has more partitions than one job may write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staging: Option<TableId>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewRestore {
    pub source: TableId,
    pub target: TableId,
    pub existing: Existing,
}

/// What is done about an object that stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// There is none.
    None,
    /// It holds no rows and is made anew.
    Empty,
    /// It holds data: a snapshot of it is taken, then it is replaced.
    Replaced,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SheetRestore {
    pub source: String,
    pub target: String,
    /// Title of the tab, and whether it is made.
    pub tabs: Vec<(String, bool)>,
}

impl RestorePlan {
    /// Whether what ingestion writes into is written: then it stands still meanwhile.
    pub fn pauses(&self) -> bool {
        self.datasets.iter().any(|dataset| dataset.source == dataset.target)
            || self.sheets.iter().any(|sheet| sheet.source == sheet.target)
            || (!self.pause.is_empty() && self.streamed.iter().any(|source| source.replaces))
    }

    pub fn tables(&self) -> impl Iterator<Item = &TableRestore> {
        self.datasets.iter().flat_map(|dataset| &dataset.tables)
    }

    /// Tables and views that are there and will be made anew.
    pub fn in_the_way(&self) -> impl Iterator<Item = &TableId> {
        self.datasets.iter().flat_map(|dataset| {
            let tables = dataset.tables.iter().map(|table| (&table.target, table.existing));
            let views = dataset.views.iter().map(|view| (&view.target, view.existing));
            tables.chain(views).filter(|(_, existing)| *existing != Existing::None).map(|(id, _)| id)
        })
    }
}

/// Which datasets, tables and spreadsheets the plan needs to know about.
pub fn targets(manifest: &Manifest, request: &RestoreRequest) -> (Vec<DatasetId>, Vec<TableId>, Vec<String>) {
    let mut datasets = BTreeSet::new();
    let mut tables = BTreeSet::new();
    for source in manifest.bigquery().filter(|source| google_wanted(request, &source.name)) {
        let target = request.target(&source.dataset);
        datasets.insert(target.clone());
        for id in wanted_tables(source, request).map(|t| &t.table).chain(wanted_views(source, request).map(|v| &v.view))
        {
            tables.extend(target.table(id.table()));
        }
    }
    let spreadsheets = manifest
        .sheets()
        .filter(|sheet| sheets_wanted(request, &sheet.name))
        .map(|sheet| request.into_spreadsheet.clone().unwrap_or_else(|| sheet.spreadsheet.clone()))
        .collect();
    (datasets.into_iter().collect(), tables.into_iter().collect(), spreadsheets)
}

/// Plans a restore.
///
/// # Errors
/// Everything that stands against it.
pub fn plan(manifest: &Manifest, request: &RestoreRequest, facts: &TargetFacts) -> Result<RestorePlan, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut notes = Vec::new();
    for name in &request.sources {
        if !manifest.sources.iter().any(|source| source.name() == name) {
            let names: Vec<&str> = manifest.sources.iter().map(SourceRecord::name).collect();
            refusals.push(Refusal::new(
                format!("--source {name}"),
                format!("is no source of backup {}", manifest.name),
                format!("one of: {}", names.join(", ")),
            ));
        }
    }
    refusals.extend(facts.refusals.iter().cloned());
    let sources: Vec<&BigQueryRecord> =
        manifest.bigquery().filter(|source| google_wanted(request, &source.name)).collect();
    if request.into.is_some() && sources.len() > 1 {
        let names: Vec<String> = sources.iter().map(|source| source.dataset.to_string()).collect();
        refusals.push(Refusal::new(
            &manifest.name,
            format!("holds {} datasets ({}), which cannot go into one", names.len(), names.join(", ")),
            "restore it without --into",
        ));
    }
    for pattern in &request.tables {
        let known = sources.iter().any(|source| {
            source.tables.iter().any(|t| pattern.matches(t.table.table()))
                || source.views.iter().any(|v| pattern.matches(v.view.table()))
        });
        if !known {
            refusals.push(Refusal::new(
                format!("--table {pattern}"),
                format!("matches no table or view of backup {}", manifest.name),
                format!("strongroom show {} lists them", manifest.name),
            ));
        }
    }
    let datasets: Vec<DatasetRestore> =
        sources.iter().map(|source| dataset(source, request, facts, &mut refusals)).collect();
    let datasets: Vec<DatasetRestore> = datasets
        .into_iter()
        .filter(|d| request.tables.is_empty() || !(d.tables.is_empty() && d.views.is_empty()))
        .collect();
    let (taken, left): (Vec<_>, Vec<_>) = manifest.sheets().partition(|sheet| sheets_wanted(request, &sheet.name));
    let sheets: Vec<SheetRestore> = taken
        .into_iter()
        .filter_map(|sheet| {
            let target = request.into_spreadsheet.as_ref().unwrap_or(&sheet.spreadsheet);
            sheet_plan(&sheet.spreadsheet, target, &sheet.tabs, request, facts, &mut refusals)
        })
        .collect();
    if !left.is_empty() && request.sources.is_empty() {
        notes.push("spreadsheets are left alone".into());
    }
    let streamed = facts.streamed.clone();
    for source in manifest.streamed().filter(|_| request.sources.is_empty()) {
        if !wanted_streamed(manifest, request).any(|wanted| wanted.name() == source.name()) {
            let (name, kind) = (source.name(), source.kind());
            notes.push(format!("source '{name}' ({kind}) is left alone; --source {name} restores it"));
        }
    }
    notes.extend(streamed.iter().flat_map(|source| &source.notes).cloned());
    if datasets.is_empty() && sheets.is_empty() && streamed.is_empty() && refusals.is_empty() {
        refusals.push(Refusal::new(
            &manifest.name,
            "holds nothing of what is asked for",
            format!("strongroom show {} lists what it holds", manifest.name),
        ));
    }
    let loads = |dataset: &&DatasetRestore| dataset.tables.iter().any(|table| table.file_count > 0);
    let by_way_of = match &facts.read_from {
        Some(place)
            if (manifest.sealing.is_some() || !staging::reaches(place))
                && datasets.iter().any(|dataset| loads(&dataset)) =>
        {
            for dataset in datasets.iter().filter(loads) {
                let target = (&dataset.target, dataset.location.as_str());
                staging::check(place, target, facts.staging.as_ref(), &mut refusals);
            }
            facts.staging.as_ref().map(|staging| staging.place.clone())
        }
        _ => None,
    };
    let in_place = datasets.iter().any(|dataset| dataset.source == dataset.target)
        || sheets.iter().any(|sheet| sheet.source == sheet.target)
        || streamed.iter().any(|source| source.replaces);
    let pause = if in_place {
        facts
            .ingestion
            .iter()
            .filter(|job| job.state.as_deref() == Some("ENABLED"))
            .map(|job| job.job.clone())
            .collect()
    } else {
        vec![]
    };
    if refusals.is_empty() {
        Ok(RestorePlan { backup: manifest.name.clone(), by_way_of, pause, datasets, sheets, streamed, notes })
    } else {
        Err(refusals)
    }
}

/// What is asked for is about databases, directories and files only.
fn elsewhere_only(request: &RestoreRequest) -> bool {
    request.target_db.is_some() || request.to.is_some() || !request.paths.is_empty()
}

fn named(request: &RestoreRequest, source: &str) -> bool {
    request.sources.is_empty() || request.sources.iter().any(|name| name == source)
}

fn google_wanted(request: &RestoreRequest, source: &str) -> bool {
    named(request, source) && !elsewhere_only(request)
}

fn sheets_wanted(request: &RestoreRequest, source: &str) -> bool {
    let beside = request.into.is_some() || request.in_scratch();
    google_wanted(request, source) && request.tables.is_empty() && (!beside || request.into_spreadsheet.is_some())
}

/// Sources whose data passes through this process and that are asked for: all, unless something else is named.
pub fn wanted_streamed<'a>(
    manifest: &'a Manifest,
    request: &'a RestoreRequest,
) -> impl Iterator<Item = &'a SourceRecord> {
    let google_only = !request.tables.is_empty() || request.into.is_some() || request.in_scratch();
    manifest.sources.iter().filter(move |source| {
        let fits = match source {
            SourceRecord::BigQuery(_) | SourceRecord::Sheets(_) => false,
            SourceRecord::Postgres(_) => request.to.is_none() && request.paths.is_empty(),
            SourceRecord::Usage(_) => request.paths.is_empty(),
            SourceRecord::Sqlite(_) => request.target_db.is_none() && request.paths.is_empty(),
            SourceRecord::Files(_) => request.target_db.is_none(),
            // Who gets a secret says so.
            SourceRecord::Secrets(_) => !elsewhere_only(request) && !request.sources.is_empty(),
        };
        fits && !google_only && named(request, source.name())
    })
}

fn matches(request: &RestoreRequest, table: &TableId) -> bool {
    request.tables.is_empty() || request.tables.iter().any(|pattern| pattern.matches(table.table()))
}

fn wanted_tables<'a>(source: &'a BigQueryRecord, request: &'a RestoreRequest) -> impl Iterator<Item = &'a TableRecord> {
    source.tables.iter().filter(|table| matches(request, &table.table))
}

fn wanted_views<'a>(source: &'a BigQueryRecord, request: &'a RestoreRequest) -> impl Iterator<Item = &'a ViewRecord> {
    source.views.iter().filter(|view| matches(request, &view.view))
}

fn dataset(
    source: &BigQueryRecord,
    request: &RestoreRequest,
    facts: &TargetFacts,
    refusals: &mut Vec<Refusal>,
) -> DatasetRestore {
    let target = request.target(&source.dataset).clone();
    let existing = facts.datasets.get(&target);
    if let Some(location) = existing.and_then(|resource| resource["location"].as_str())
        && !location.eq_ignore_ascii_case(&source.location)
    {
        refusals.push(Refusal::new(
            &target,
            format!("is in {location}, the backup's files are in {}", source.location),
            "name a dataset in the same location, or one that does not exist yet",
        ));
    }
    let mut place = |id: &TableId| -> Option<TableId> {
        match target.table(id.table()) {
            Ok(target) => Some(target),
            Err(error) => {
                refusals.push(Refusal::new(id, error.to_string(), "the backup names a table that cannot be"));
                None
            }
        }
    };
    let tables: Vec<(&TableRecord, TableId)> =
        wanted_tables(source, request).filter_map(|t| Some((t, place(&t.table)?))).collect();
    let views: Vec<(&ViewRecord, TableId)> =
        wanted_views(source, request).filter_map(|v| Some((v, place(&v.view)?))).collect();
    let tables = tables
        .into_iter()
        .map(|(record, target)| TableRestore {
            source: record.table.clone(),
            existing: table_in_the_way(&target, request, facts, refusals),
            staging: staging(record, &target, refusals),
            target,
            row_count: record.row_count,
            file_count: record.objects.len(),
            size_bytes: record.objects.iter().map(|object| object.digests.size_bytes).sum(),
        })
        .collect();
    let views = views
        .into_iter()
        .map(|(record, target)| ViewRestore {
            source: record.view.clone(),
            existing: view_in_the_way(&target, request, facts, refusals),
            target,
        })
        .collect();
    let routines =
        if request.tables.is_empty() { source.routines.iter().map(|r| r.name.clone()).collect() } else { vec![] };
    DatasetRestore {
        source: source.dataset.clone(),
        location: source.location.clone(),
        make: existing.is_none(),
        scratch: request.in_scratch(),
        target,
        tables,
        views,
        routines,
    }
}

/// Where a table is loaded first when one job may not write all its partitions. Those of ingestion time are loaded each
/// by itself.
fn staging(record: &TableRecord, target: &TableId, refusals: &mut Vec<Refusal>) -> Option<TableId> {
    let alone = record.objects.iter().any(|object| object.key.contains("/partition="));
    if alone || !partitions::must_split(record.partition_count.unwrap_or(0)) {
        return None;
    }
    match target.dataset_id().table(&format!("{}_strongroom_staging", target.table())) {
        Ok(staging) => Some(staging),
        Err(error) => {
            refusals.push(Refusal::new(target, error.to_string(), "its name is too long for a staging table's"));
            None
        }
    }
}

fn table_in_the_way(
    target: &TableId,
    request: &RestoreRequest,
    facts: &TargetFacts,
    refusals: &mut Vec<Refusal>,
) -> Existing {
    let Some(resource) = facts.tables.get(target) else { return Existing::None };
    let rows = super::facts::count(resource, "numRows");
    let buffered = super::facts::count(&resource["streamingBuffer"], "estimatedRows");
    let holds_data = rows > 0 || buffered > 0 || resource.get("streamingBuffer").is_some();
    if resource["type"].as_str().unwrap_or("TABLE") != "TABLE" {
        refusals.push(Refusal::new(
            target,
            format!("exists and is a {}, not a table", resource["type"].as_str().unwrap_or_default()),
            "restore --into another dataset",
        ));
    } else if holds_data && !request.replace {
        refusals.push(Refusal::new(
            target,
            format!("exists and holds {} rows; a restore never overwrites data unasked", rows + buffered),
            "restore --into another dataset and compare, or add --replace",
        ));
    } else if !holds_data {
        return Existing::Empty;
    }
    Existing::Replaced
}

fn view_in_the_way(
    target: &TableId,
    request: &RestoreRequest,
    facts: &TargetFacts,
    refusals: &mut Vec<Refusal>,
) -> Existing {
    let Some(resource) = facts.tables.get(target) else { return Existing::None };
    if resource["type"].as_str() == Some("TABLE") {
        refusals.push(Refusal::new(target, "exists and is a table, not a view", "restore --into another dataset"));
    } else if !request.replace {
        refusals.push(Refusal::new(
            target,
            "exists; a restore never overwrites a view unasked",
            "restore --into another dataset, or add --replace",
        ));
    }
    Existing::Replaced
}

fn sheet_plan(
    source: &str,
    target: &str,
    tabs: &[TabRecord],
    request: &RestoreRequest,
    facts: &TargetFacts,
    refusals: &mut Vec<Refusal>,
) -> Option<SheetRestore> {
    let object = format!("spreadsheet {target}");
    let Some(existing) = facts.spreadsheets.get(target) else {
        refusals.push(Refusal::new(
            object,
            "does not exist, or may not be seen",
            "make a new spreadsheet, share it with the worker's account, and name it: --into-spreadsheet ID",
        ));
        return None;
    };
    for tab in tabs.iter().filter(|tab| existing.get(&tab.title) == Some(&true) && !request.replace) {
        refusals.push(Refusal::new(
            format!("{object}, tab '{}'", tab.title),
            "holds values; a restore never overwrites them unasked",
            "add --replace, or --into-spreadsheet ID",
        ));
    }
    let tabs = tabs.iter().map(|tab| (tab.title.clone(), !existing.contains_key(&tab.title))).collect();
    Some(SheetRestore { source: source.into(), target: target.into(), tabs })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::{ObjectRecord, SheetsRecord, SourceRecord};
    use crate::model::Digests;

    fn object(key: &str) -> ObjectRecord {
        ObjectRecord {
            key: key.into(),
            digests: Digests { size_bytes: 9, crc32c: 1, sha256: [0; 32] },
            row_count: None,
            stored: None,
        }
    }

    fn manifest() -> Manifest {
        let at: jiff::Timestamp = "2026-08-01T02:00:00Z".parse().unwrap();
        let table = |name: &str| TableRecord {
            table: format!("p-1.sales.{name}").parse().unwrap(),
            snapshot: format!("p-1.snaps.{name}").parse().ok(),
            snapshot_expires_at: Some(at),
            meta: object("m"),
            row_count: 5,
            logical_bytes: 50,
            format: "avro".into(),
            format_reason: None,
            objects: vec![object("o")],
            partition_count: None,
            proof: None,
        };
        let view = ViewRecord { view: "p-1.sales.v".parse().unwrap(), kind: "VIEW".into(), meta: object("v") };
        let tab = TabRecord {
            title: "keys".into(),
            row_count: 2,
            column_count: 2,
            cells: object("c"),
            csv: object("c"),
            parquet: object("c"),
        };
        let tier: crate::model::TierName = "daily".parse().unwrap();
        Manifest {
            system: None,
            format: 1,
            name: BackupName::scheduled("x", &tier, at).unwrap(),
            tier,
            purpose: None,
            terms: None,
            commit_id: String::new(),
            tool: String::new(),
            run: String::new(),
            generation: 1,
            started_at: at,
            cut_at: Some(at),
            committed_at: at,
            sources: vec![
                SourceRecord::BigQuery(BigQueryRecord {
                    name: "warehouse".into(),
                    dataset: "p-1.sales".parse().unwrap(),
                    location: "US".into(),
                    meta: object("d"),
                    tables: vec![table("a"), table("b")],
                    views: vec![view],
                    routines: vec![],
                }),
                SourceRecord::Sheets(SheetsRecord {
                    name: "mappings".into(),
                    spreadsheet: "s-1".into(),
                    title: "Keys".into(),
                    taken_at: at,
                    tabs: vec![tab],
                }),
            ],
            validation: vec![],
            pause: None,
            timings: vec![],
            previous: None,
            notes: vec![],
            attention: vec![],
            sealing: None,
        }
    }

    fn facts(tables: &[(&str, Value)], cells: bool) -> TargetFacts {
        let mut facts = TargetFacts {
            ingestion: vec![IngestionFacts { job: "j".into(), state: Some("ENABLED".into()) }],
            ..TargetFacts::default()
        };
        facts.datasets.insert("p-1.sales".parse().unwrap(), json!({"location": "US"}));
        for (table, resource) in tables {
            facts.tables.insert(format!("p-1.sales.{table}").parse().unwrap(), resource.clone());
        }
        facts.spreadsheets.insert("s-1".into(), [("keys".to_string(), cells)].into());
        facts
    }

    fn told(outcome: Result<RestorePlan, Vec<Refusal>>) -> Vec<String> {
        outcome.unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn data_in_the_way_is_refused_and_replaced_only_when_asked() {
        let there = [
            ("a", json!({"type": "TABLE", "numRows": "3"})),
            ("b", json!({"type": "TABLE", "numRows": "0"})),
            ("v", json!({"type": "VIEW"})),
        ];
        let refusals = told(plan(&manifest(), &RestoreRequest::default(), &facts(&there, true)));
        assert_eq!(refusals.len(), 3, "{refusals:?}");
        assert!(refusals[0].contains("p-1.sales.a: exists and holds 3 rows"), "{refusals:?}");
        let replace = RestoreRequest { replace: true, ..RestoreRequest::default() };
        let plan = plan(&manifest(), &replace, &facts(&there, true)).unwrap();
        let existing: Vec<Existing> = plan.tables().map(|table| table.existing).collect();
        assert_eq!(existing, [Existing::Replaced, Existing::Empty]);
        assert_eq!(plan.pause, ["j"]);
    }

    #[test]
    fn rows_that_are_only_buffered_count_as_data() {
        let there = [("a", json!({"type": "TABLE", "numRows": "0", "streamingBuffer": {"estimatedRows": "7"}}))];
        let refusals = told(plan(&manifest(), &RestoreRequest::default(), &facts(&there, false)));
        assert!(refusals[0].contains("holds 7 rows"), "{refusals:?}");
    }

    #[test]
    fn another_dataset_leaves_the_source_the_sheet_and_ingestion_alone() {
        let into = RestoreRequest { into: Some("p-1.scratch".parse().unwrap()), ..RestoreRequest::default() };
        let there = [("a", json!({"type": "TABLE", "numRows": "3"}))];
        let plan = plan(&manifest(), &into, &facts(&there, true)).unwrap();
        assert!(plan.datasets[0].make && plan.sheets.is_empty() && plan.pause.is_empty());
        assert!(plan.tables().all(|table| table.target.dataset() == "scratch" && table.existing == Existing::None));
    }

    #[test]
    fn a_pattern_that_matches_nothing_and_another_location_are_refused() {
        let mut facts = facts(&[], false);
        facts.datasets.insert("p-1.sales".parse().unwrap(), json!({"location": "EU"}));
        let request = RestoreRequest { tables: vec![Pattern::new("zz*")], ..RestoreRequest::default() };
        let refusals = told(plan(&manifest(), &request, &facts));
        assert_eq!(refusals.len(), 2, "{refusals:?}");
    }
}
