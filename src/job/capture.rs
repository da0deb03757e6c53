//! The capture of a backup: snapshots to files, definitions, sheets, and the results of the validation queries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::backup::{count, job_ids};
use super::inspect::{self, TableReader};
use super::{Context, JobError, parallel, staging};
use crate::codec::digest::Digests;
use crate::codec::seal;
use crate::google::bigquery::QueryOptions;
use crate::manifest::{
    BigQueryRecord, ObjectRecord, QueryResult, RoutineRecord, SealingRecord, SheetsRecord, SourceRecord, StoredForm,
    TabRecord, TableRecord, ViewRecord,
};
use crate::model::schema::Schema;
use crate::model::{Failure, TableId, Totals};
use crate::plan::backup::{BackupPlan, BigQueryPlan, SheetsPlan, TablePlan, meta_key};
use crate::plan::facts::{BackupFacts, BigQueryFacts, SourceFacts, TableFacts, count as number};
use crate::plan::{partitions, proof, queries};
use crate::saga::Done;
use crate::source::bigquery::{self, Definition};
use crate::source::sheets::{self, Grid};
use crate::store::Store;

/// What the capture works on.
pub(super) struct Capture<'a> {
    pub context: &'a Context,
    pub plan: &'a BackupPlan,
    pub facts: &'a BackupFacts,
    pub run: &'a str,
    /// The primary destination.
    pub store: Arc<dyn Store>,
    /// Where BigQuery writes the files first, when not there.
    pub staging: Option<Arc<dyn Store>>,
    /// The tables' resources at the cut.
    pub fresh: &'a BTreeMap<TableId, Value>,
    /// The snapshots' resources, by table.
    pub snapshots: &'a BTreeMap<TableId, Value>,
    /// For whom the objects are sealed.
    pub sealing: Option<&'a SealingRecord>,
}

impl Capture<'_> {
    pub async fn bigquery(&self) -> Result<Done<Vec<SourceRecord>>, JobError> {
        let mut records = Vec::new();
        let (mut rows, mut files) = (0, 0);
        for plan in self.plan.bigquery() {
            let record = self.dataset(plan).await?;
            rows += record.tables.iter().map(|table| table.row_count).sum::<u64>();
            files += record.tables.iter().map(|table| table.objects.len()).sum::<usize>();
            records.push(SourceRecord::BigQuery(record));
        }
        Ok(Done::new(records).note(format!("{rows} rows in {}", count(files, "file"))))
    }

    async fn dataset(&self, plan: &BigQueryPlan) -> Result<BigQueryRecord, JobError> {
        let facts = self.facts_of(&plan.name)?;
        let done = AtomicUsize::new(0);
        let at_once = self.context.config.parallel;
        let mut tables = parallel::each(plan.tables.iter().enumerate(), at_once, async |(index, table)| {
            let record = self.table(plan, facts, index, table).await?;
            let n = done.fetch_add(1, Ordering::Relaxed) + 1;
            self.context.observer.progress("capture", n, plan.tables.len(), table.table.table());
            Ok::<_, JobError>(record)
        })
        .await?;
        tables.sort_by(|a, b| a.table.cmp(&b.table));

        let mut views = Vec::new();
        for view in &plan.views {
            let facts = fact(facts, view)?;
            let meta = self.definition(&plan.name, view.table(), &of_facts(facts)).await?;
            views.push(ViewRecord { view: view.clone(), kind: facts.kind.clone(), meta });
        }
        let mut routines = Vec::new();
        for (name, resource) in &facts.routines {
            let definition = Definition { resource: resource.clone(), row_access_policies: vec![], iam_policy: None };
            let meta = self.definition(&plan.name, &format!("routine {name}"), &definition).await?;
            routines.push(RoutineRecord { name: name.clone(), meta });
        }
        let dataset = Definition { resource: facts.resource.clone(), row_access_policies: vec![], iam_policy: None };
        Ok(BigQueryRecord {
            name: plan.name.clone(),
            dataset: plan.dataset.clone(),
            location: plan.location.clone(),
            meta: self.definition(&plan.name, "dataset ", &dataset).await?,
            tables,
            views,
            routines,
        })
    }

    /// Extracts one table, reads every file back, and has BigQuery count it.
    async fn table(
        &self,
        source: &BigQueryPlan,
        facts: &BigQueryFacts,
        index: usize,
        plan: &TablePlan,
    ) -> Result<TableRecord, JobError> {
        let lost =
            || Failure::Corrupt { object: plan.table.to_string(), message: "was planned but not snapshotted".into() };
        let snapshot = self.snapshots.get(&plan.table).ok_or_else(lost)?;
        let fresh = self.fresh.get(&plan.table).ok_or_else(lost)?;
        let definition = Definition { resource: fresh.clone(), ..of_facts(fact(facts, &plan.table)?) };
        // The snapshot's own schema: the table's may have changed since.
        let schema = Schema::from_json(&snapshot["schema"])
            .map_err(|error| Failure::Corrupt { object: plan.snapshot.to_string(), message: error.to_string() })?;
        let row_count = number(snapshot, "numRows");

        let mut reader = TableReader::new(&schema, plan.format);
        let mut objects = Vec::new();
        if schema.fields.is_empty() {
            // Nothing to extract: BigQuery refuses a table without columns.
        } else if plan.partitions.is_empty() {
            objects.extend(self.extract(source, index, plan, None, &mut reader).await?);
        } else {
            for (i, partition) in plan.partitions.iter().enumerate() {
                // Job ids of partitions must not meet those of tables.
                let index = 1_000_000 + index * 20_000 + i;
                objects.extend(self.extract(source, index, plan, Some(partition), &mut reader).await?);
            }
        }
        let read = reader.finish();
        if read.row_count != row_count {
            let message = format!("the files hold {} rows, the snapshot {row_count}", read.row_count);
            return Err(Failure::Corrupt { object: plan.table.to_string(), message }.into());
        }
        let proof = if plan.proof && !schema.fields.is_empty() {
            let proof = self.proof(source, plan, (fresh, &schema)).await?;
            if let Some(difference) = proof.difference(&read) {
                let message = format!("the files differ from the snapshot: {difference}");
                return Err(Failure::Corrupt { object: plan.table.to_string(), message }.into());
            }
            Some(proof)
        } else {
            None
        };
        Ok(TableRecord {
            table: plan.table.clone(),
            snapshot: Some(plan.snapshot.clone()),
            snapshot_expires_at: Some(source.snapshots_expire_at),
            meta: self.definition(&source.name, plan.table.table(), &definition).await?,
            row_count,
            logical_bytes: number(snapshot, "numBytes"),
            format: plan.format.extension().into(),
            format_reason: plan.format_reason.clone(),
            objects,
            partition_count: partition_count(plan, fresh),
            proof,
        })
    }

    async fn extract(
        &self,
        source: &BigQueryPlan,
        index: usize,
        plan: &TablePlan,
        partition: Option<&str>,
        reader: &mut TableReader,
    ) -> Result<Vec<ObjectRecord>, JobError> {
        let root = self.plan.extracted_to();
        // A folder of its own for each attempt: what a failed one left cannot be taken for this one's.
        let part = partition.map(|partition| format!("partition={partition}/")).unwrap_or_default();
        let folder = |attempt: u32| format!("{}/{}/{attempt}/{part}", self.plan.folder, plan.folder);
        let extension = plan.format.extension();
        let uri = |attempt: u32| format!("{root}/{}part-*.{extension}", folder(attempt));
        let ids = job_ids(self.run, source);
        let from = (&plan.snapshot, partition);
        let (used, files) = bigquery::extract(&self.context.google, &ids, index, from, plan.format, &uri).await?;

        let below_root = used.strip_prefix(&format!("{root}/")).unwrap_or(&used);
        let found = self.staging.as_ref().unwrap_or(&self.store).as_ref();
        let listed = found.list(below_root.trim_end_matches(&format!("*.{extension}"))).await?;
        if listed.len() as u64 != files {
            let message = format!("{} files lie at {used}, BigQuery says it wrote {files}", listed.len());
            return Err(Failure::Corrupt { object: plan.table.to_string(), message }.into());
        }
        let mut objects = Vec::new();
        for info in listed {
            let (digests, rows) = reader.read(found, &info.key).await?;
            let mut object = ObjectRecord { key: info.key, digests, row_count: Some(rows), stored: None };
            if self.staging.is_some() {
                object = staging::move_on(found, self.store.as_ref(), &object, self.sealing).await?;
            }
            objects.push(object);
        }
        Ok(objects)
    }

    /// Has BigQuery count, fingerprint and sum the snapshot.
    async fn proof(
        &self,
        source: &BigQueryPlan,
        plan: &TablePlan,
        (resource, schema): (&Value, &Schema),
    ) -> Result<Totals, JobError> {
        let sql = proof::sql(&plan.snapshot, schema, &partitions::every_row(resource));
        let options = QueryOptions { location: Some(source.location.clone()), ..QueryOptions::default() };
        let result = self.context.google.bigquery.query(source.dataset.project(), &sql, &options).await?;
        Ok(inspect::totals(&plan.table, schema, &result)?)
    }

    async fn definition(&self, source: &str, object: &str, definition: &Definition) -> Result<ObjectRecord, JobError> {
        let key = format!("{}/{}", self.plan.folder, meta_key(source, object));
        self.put(&key, definition.to_bytes()).await
    }

    /// Writes a small object and reads it back.
    async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<ObjectRecord, JobError> {
        let content = Digests::of(&bytes);
        let (key, bytes, stored) = match self.sealing {
            Some(sealing) => {
                let encodings = seal::encodings(key);
                let (bytes, sealed) = seal::seal(&bytes, &sealing.recipients, &encodings)
                    .map_err(|error| crate::store::sealed::failure(key, error))?;
                let stored = Box::new(StoredForm { digests: sealed.stored, encodings });
                (seal::stored_name(key, &stored.encodings), bytes, Some(stored))
            }
            None => (key.to_string(), Bytes::from(bytes), None),
        };
        match self.store.put_if_absent(&key, bytes.clone()).await {
            // What is there is compared below.
            Ok(_) | Err(Failure::Exists { .. } | Failure::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let (found, _) = self.store.get(&key).await?;
        if found != bytes {
            let object = format!("{}/{key}", self.store.describe());
            return Err(Failure::Corrupt { object, message: "reads back changed".into() }.into());
        }
        Ok(ObjectRecord { key, digests: content, row_count: None, stored })
    }

    pub async fn sheets(&self) -> Result<Done<Vec<SourceRecord>>, JobError> {
        let mut records = Vec::new();
        let mut tabs = 0;
        for plan in self.plan.sheets() {
            let record = self.spreadsheet(plan).await?;
            tabs += record.tabs.len();
            records.push(SourceRecord::Sheets(record));
        }
        Ok(Done::new(records).note(count(tabs, "tab")))
    }

    async fn spreadsheet(&self, plan: &SheetsPlan) -> Result<SheetsRecord, JobError> {
        let taken_at = self.context.now();
        let mut tabs = Vec::new();
        for tab in &plan.tabs {
            let grid = sheets::read(&self.context.google, &plan.spreadsheet, tab).await?;
            tabs.push(self.tab(plan, tab, &grid).await?);
        }
        let (name, spreadsheet, title) = (plan.name.clone(), plan.spreadsheet.clone(), plan.title.clone());
        Ok(SheetsRecord { name, spreadsheet, title, taken_at, tabs })
    }

    async fn tab(&self, plan: &SheetsPlan, tab: &str, grid: &Grid) -> Result<TabRecord, JobError> {
        let key = |ending: &str| {
            let object = crate::plan::backup::object_folder(tab);
            format!("{}/data/{}/{object}/0/part-000000000000.{ending}", self.plan.folder, plan.name)
        };
        let object = || format!("spreadsheet '{}', tab '{tab}'", plan.title);
        let (row_count, column_count) = grid.size();
        let cells = serde_json::to_vec(grid)
            .map_err(|error| Failure::Invalid { object: object(), message: error.to_string() })?;
        let table = grid.table()?;
        let files = inspect::sheet_files(&table).map_err(|message| Failure::Invalid { object: object(), message })?;
        Ok(TabRecord {
            title: tab.into(),
            row_count: row_count as u64,
            column_count: column_count as u64,
            cells: self.put(&key("json"), cells).await?,
            csv: self.put(&key("csv"), files.csv).await?,
            parquet: self.put(&key("parquet"), files.parquet).await?,
        })
    }

    /// Runs the validation queries on the snapshots: what they give is what a restored dataset must give.
    pub async fn validation(&self) -> Result<Done<Vec<QueryResult>>, JobError> {
        let Some(source) = self.plan.bigquery().next() else { return Ok(Done::new(vec![])) };
        let facts = self.facts_of(&source.name)?;
        let instead = |id: &TableId| self.relation(source, facts, id, 0);
        let mut results = Vec::new();
        for query in self.context.queries.iter() {
            let sql = queries::redirect(&queries::on_dataset(&query.sql, &source.dataset), &instead);
            results.push(
                super::validate::run_query(self.context, source.dataset.project(), &source.location, query, &sql)
                    .await?,
            );
        }
        Ok(Done::new(results).note(count(self.context.queries.len(), "query result")))
    }

    /// What to read instead of a table or view, so that the query sees the cut.
    fn relation(&self, source: &BigQueryPlan, facts: &BigQueryFacts, id: &TableId, depth: usize) -> Option<String> {
        if let Some(table) = source.tables.iter().find(|table| table.table == *id) {
            return Some(table.snapshot.sql());
        }
        let view = facts.tables.iter().find(|table| table.id == *id && table.kind == "VIEW")?;
        let sql = view.resource["view"]["query"].as_str()?;
        // BigQuery itself allows 16 levels of views.
        (depth < 16).then(|| format!("({})", queries::redirect(sql, &|id| self.relation(source, facts, id, depth + 1))))
    }

    fn facts_of(&self, name: &str) -> Result<&BigQueryFacts, JobError> {
        let found = self.facts.sources.iter().find_map(|source| match source {
            SourceFacts::BigQuery(facts) if facts.name == name => Some(facts),
            _ => None,
        });
        let missing = || Failure::NotFound { object: name.into(), message: "the inventory lacks it".into() };
        Ok(found.ok_or_else(missing)?)
    }
}

fn fact<'a>(facts: &'a BigQueryFacts, id: &TableId) -> Result<&'a TableFacts, JobError> {
    let missing = || Failure::NotFound { object: id.to_string(), message: "the inventory lacks it".into() };
    Ok(facts.tables.iter().find(|table| table.id == *id).ok_or_else(missing)?)
}

fn of_facts(facts: &TableFacts) -> Definition {
    Definition {
        resource: facts.resource.clone(),
        row_access_policies: facts.row_policies.clone(),
        iam_policy: facts.iam.clone(),
    }
}

/// How many partitions a table has, by BigQuery's own count.
fn partition_count(plan: &TablePlan, resource: &Value) -> Option<u64> {
    let partitioned = resource["timePartitioning"].is_object() || resource["rangePartitioning"].is_object();
    partitioned.then(|| number(resource, "numPartitions").max(plan.partitions.len() as u64))
}

/// The instant that a backup's data is of, for people.
pub(super) fn instant(cut_at: Option<Timestamp>, started_at: Timestamp) -> Timestamp {
    cut_at.unwrap_or(started_at)
}
