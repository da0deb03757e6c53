//! Records back into a table: into one beside it first, compared there, and put in place in one transaction.

use serde_json::Value;

use super::database::{Address, Database, Dialect};
use super::document;
use super::sql::{self, Between, Records, TimeForm, instant_of, quoted};
use crate::config::UsageSource;
use crate::manifest::usage::UsageRecord;
use crate::model::Failure;
use crate::plan::Refusal;
use crate::plan::streamed::{ItemFacts, RestoredItem, RestoredSource, StreamedRestore, Wish};
use crate::source::streamed::Vault;

/// Where records go, and what is there.
struct Target {
    address: Address,
    table: String,
    /// The target's own columns: name, type, whether it must be given; empty: there is no such table.
    found: Vec<(String, String, bool)>,
    /// Name and type of the columns that are restored, as the target has them.
    columns: Vec<(String, String)>,
    form: TimeForm,
    settings: UsageSource,
    /// The time of the backup's records.
    between: Between,
    /// How many records of that time are there.
    there: u64,
}

impl Target {
    async fn of(
        address: &Address,
        settings: &UsageSource,
        record: &UsageRecord,
        wish: &Wish,
    ) -> Result<(Self, Database), Failure> {
        let address = wish.target_db.as_ref().map_or_else(|| address.clone(), |name| address.with_database(name));
        let database = Database::open(&address).await?;
        let table = wish.to.as_ref().map_or_else(|| record.table.clone(), |table| table.display().to_string());
        let found = database.rows(&sql::columns(database.dialect(), &table)).await?;
        let cell = |row: &super::Row, i: usize| row.get(i).cloned().flatten().unwrap_or_default();
        let found: Vec<_> = found.iter().map(|row| (cell(row, 0), cell(row, 1), cell(row, 2) == "1")).collect();
        let dialect = database.dialect();
        let same = record.dialect == dialect.name();
        let columns = record.columns.iter().map(|column| {
            let own = found.iter().find(|(name, _, _)| *name == column.name).map(|(_, declared, _)| declared.clone());
            let declared = match column.anonymised || !same {
                true => "text".into(),
                false => column.declared.clone(),
            };
            (column.name.clone(), own.unwrap_or(declared))
        });
        let columns: Vec<(String, String)> = columns.collect();
        let settings = UsageSource {
            table: table.clone(),
            timestamp: columns.first().map(|(name, _)| name.clone()).unwrap_or_default(),
            columns: columns.iter().skip(1).map(|(name, _)| name.clone()).collect(),
            anonymise: vec![],
            ..settings.clone()
        };
        let ranges = record.documents.iter().map(|document| &document.date_range);
        let edges = |edge: &dyn Fn(&crate::manifest::usage::DateRange) -> Option<String>| {
            let all = ranges.clone().filter_map(|range| Some(instant_of(&edge(range)?)?.as_microsecond()));
            all.collect::<Vec<_>>()
        };
        let between = Between {
            from: edges(&|range| range.start.clone()).into_iter().min(),
            before: edges(&|range| range.end.clone()).into_iter().max().map(|end| end + 1),
        };
        let own_form = match same {
            true => TimeForm::of(&record.time_form).unwrap_or(TimeForm::Text),
            false => TimeForm::Text,
        };
        let mut target = Self { address, table, found, columns, form: own_form, settings, between, there: 0 };
        if !target.found.is_empty() && target.missing().is_empty() {
            let types: Vec<String> = target.columns.iter().map(|(_, declared)| declared.clone()).collect();
            let records = target.records(dialect, &types, target.between);
            let facts = database.row(&records.facts()).await?;
            target.there = facts.first().and_then(|text| text.as_ref()?.parse().ok()).unwrap_or(0);
            // A table that holds something says itself how it writes the time; an empty one by its type.
            let sample = facts.get(3).and_then(Option::as_deref);
            let declared = target.columns.first().map_or("", |(_, declared)| declared);
            if sample.is_some() || (dialect == Dialect::Postgres && !same) {
                target.form = TimeForm::seen(dialect, declared, sample);
            }
        }
        Ok((target, database))
    }

    /// Columns of the backup that the target lacks.
    fn missing(&self) -> Vec<&str> {
        let lacks = |name: &&str| !self.found.iter().any(|(found, _, _)| found == name);
        self.columns.iter().map(|(name, _)| name.as_str()).filter(lacks).collect()
    }

    fn records<'a>(&'a self, dialect: Dialect, types: &'a [String], between: Between) -> Records<'a> {
        Records { dialect, table: &self.table, settings: &self.settings, types, between }
    }

    fn refusals(&self, record: &UsageRecord, wish: &Wish) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let object = format!("table '{}'", self.table);
        let beside = "restore beside it: --into-table NAME";
        if self.found.is_empty() {
            return refusals;
        }
        for name in self.missing() {
            refusals.push(Refusal::new(
                object.clone(),
                format!("has no column '{name}', which the backup has"),
                beside,
            ));
        }
        for (name, declared, needed) in &self.found {
            let taken = record.columns.iter().find(|column| column.name == *name);
            if *needed && taken.is_none() {
                let message = format!("needs a value in '{name}', which the backup does not have");
                refusals.push(Refusal::new(object.clone(), message, beside));
            }
            let texts = ["text", "character", "varchar", "clob", "char"];
            let holds = declared.is_empty() || texts.iter().any(|text| declared.to_lowercase().contains(text));
            let strict = matches!(self.address, Address::Postgres(_));
            if strict && !holds && taken.is_some_and(|column| column.anonymised) {
                let message = format!("'{name}' is {declared}, and the backup has anonymised texts for it");
                refusals.push(Refusal::new(object.clone(), message, beside));
            }
        }
        if self.there > 0 && !wish.replace {
            let message = format!("holds {} records of the backup's time", self.there);
            let hint =
                "restore beside it: --into-table NAME, or over them: --replace (they are kept in a table of their own)";
            refusals.push(Refusal::new(object, message, hint));
        }
        refusals
    }
}

pub(super) async fn look(
    name: &str,
    address: &Address,
    settings: &UsageSource,
    record: &UsageRecord,
    wish: &Wish,
) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
    let (target, _) = Target::of(address, settings, record, wish).await?;
    let refusals = target.refusals(record, wish);
    if !refusals.is_empty() {
        return Ok(Err(refusals));
    }
    let item = |document: &crate::manifest::usage::UsageDocument| ItemFacts {
        name: document.file.clone(),
        row_count: Some(document.record_count),
        size_bytes: Some(document.object.digests.size_bytes),
    };
    let mut notes = Vec::new();
    if target.there > 0 {
        notes.push(format!("{} records of the same time are kept in a table of their own", target.there));
    }
    if record.columns.iter().any(|column| column.anonymised) {
        notes.push("who is named stays anonymous: the backup does not know more".into());
    }
    Ok(Ok(StreamedRestore {
        source: name.into(),
        origin: record.origin.clone(),
        target: format!("{} {}", target.address, target.table),
        replaces: target.there > 0,
        items: record.documents.iter().map(item).collect(),
        notes,
    }))
}

/// A name beside the table's that says what it is for and of which run. Within PostgreSQL's 63 bytes.
fn beside(table: &str, what: &str, run: &str) -> String {
    let (schema, name) = match table.rsplit_once('.') {
        Some((schema, name)) => (format!("{schema}."), name),
        None => (String::new(), table),
    };
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let name: String = name.chars().filter(|c| c.is_ascii()).take(26).collect();
    let run = plain(run);
    let run = &run[run.len().saturating_sub(24)..];
    format!("{schema}{name}_{what}_{run}")
}

pub(super) async fn restore(
    name: &str,
    address: &Address,
    settings: &UsageSource,
    record: &UsageRecord,
    vault: &dyn Vault,
    wish: &Wish,
) -> Result<RestoredSource, Failure> {
    let (target, database) = Target::of(address, settings, record, wish).await?;
    if let Some(refusal) = target.refusals(record, wish).first() {
        return Err(Failure::Precondition { object: format!("source '{name}'"), message: refusal.to_string() });
    }
    let scratch = beside(&target.table, "restore", &wish.run);
    let dialect = database.dialect();
    database.run(&format!("DROP TABLE IF EXISTS {}", quoted(&scratch))).await?;
    database.run(&sql::create(&scratch, &target.columns)).await?;
    match fill(&database, &target, record, vault, &scratch).await {
        Ok(()) => {}
        Err(failure) => {
            database.run(&format!("DROP TABLE IF EXISTS {}", quoted(&scratch))).await.ok();
            return Err(failure);
        }
    }

    let expected = record.record_count();
    let types: Vec<String> = target.columns.iter().map(|(_, declared)| declared.clone()).collect();
    let beside_it = Target { table: scratch.clone(), ..target };
    let records = beside_it.records(dialect, &types, Between::default());
    let (sum, count) = super::fingerprint(&database, &records, beside_it.form).await?;
    let target = beside_it;
    let fingerprints = record.documents.iter().map(|document| u64::from_str_radix(&document.fingerprint, 16).ok());
    let fingerprint = fingerprints.sum_wrapping();
    // Another dialect writes the same value otherwise.
    let proven = match record.dialect == dialect.name() {
        true => fingerprint.map(|fingerprint| fingerprint == sum && count == expected),
        false => None,
    };
    let differs = count != expected || proven == Some(false);
    if differs {
        database.run(&format!("DROP TABLE IF EXISTS {}", quoted(&scratch))).await?;
        let message =
            format!("what came back differs from the backup: {count} records of {expected}; nothing was put in place");
        return Err(Failure::Corrupt { object: format!("source '{name}'"), message });
    }
    let final_table = wish.to.as_ref().map_or_else(|| record.table.clone(), |table| table.display().to_string());
    place(&database, &target, &final_table, &scratch, wish).await?;
    let item =
        RestoredItem { name: final_table.clone(), row_count: Some(count), expected_row_count: Some(expected), proven };
    let target = format!("{} {final_table}", target.address);
    Ok(RestoredSource { source: name.into(), target, items: vec![item], differences: vec![] })
}

trait SumWrapping {
    fn sum_wrapping(self) -> Option<u64>;
}

impl<I: Iterator<Item = Option<u64>>> SumWrapping for I {
    fn sum_wrapping(mut self) -> Option<u64> {
        self.try_fold(0_u64, |sum, each| Some(sum.wrapping_add(each?)))
    }
}

/// Reads every document into the table.
async fn fill(
    database: &Database,
    target: &Target,
    record: &UsageRecord,
    vault: &dyn Vault,
    table: &str,
) -> Result<(), Failure> {
    let insert = sql::insert(database.dialect(), table, &target.columns, target.form);
    for document in &record.documents {
        let content = vault.read(&document.object).await?;
        let (mut batches, task) = document::read(&document.file, content);
        database.run("BEGIN").await?;
        while let Some(batch) = batches.recv().await {
            let text = Value::Array(batch.into_iter().map(Value::Object).collect()).to_string();
            database.execute(&insert, text).await?;
        }
        database.run("COMMIT").await?;
        let seen = task.await.map_err(|error| Failure::Unknown {
            object: document.file.clone(),
            message: format!("the work was interrupted: {error}"),
        })??;
        if seen.record_count != document.record_count {
            let message = format!("{} records, where the backup was of {}", seen.record_count, document.record_count);
            return Err(Failure::Corrupt { object: document.file.clone(), message });
        }
    }
    Ok(())
}

/// Puts the records where they belong, all or none of them.
async fn place(database: &Database, target: &Target, table: &str, scratch: &str, wish: &Wish) -> Result<(), Failure> {
    let last = table.rsplit('.').next().unwrap_or(table);
    if target.found.is_empty() {
        return database.run(&format!("ALTER TABLE {} RENAME TO {}", quoted(scratch), quoted_part(last))).await;
    }
    let types: Vec<String> = target.columns.iter().map(|(_, declared)| declared.clone()).collect();
    let settings = UsageSource { table: table.into(), ..target.settings.clone() };
    let records =
        Records { dialect: database.dialect(), table, settings: &settings, types: &types, between: target.between };
    let names: Vec<String> = target.columns.iter().map(|(name, _)| quoted_part(name)).collect();
    let names = names.join(", ");
    let mut statements = vec!["BEGIN".to_string()];
    if target.there > 0 {
        statements.push(records.keep(target.between, &beside(table, "before", &wish.run)));
        statements.push(records.delete(target.between));
    }
    statements.push(format!("INSERT INTO {} ({names}) SELECT {names} FROM {}", quoted(table), quoted(scratch)));
    statements.push(format!("DROP TABLE {}", quoted(scratch)));
    statements.push("COMMIT".into());
    let done = database.run(&statements.join(";\n")).await;
    if done.is_err() {
        database.run("ROLLBACK").await.ok();
        database.run(&format!("DROP TABLE IF EXISTS {}", quoted(scratch))).await.ok();
    }
    done
}

fn quoted_part(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub(super) async fn take_back(address: &Address, record: &UsageRecord, wish: &Wish) -> Result<(), Failure> {
    let address = wish.target_db.as_ref().map_or_else(|| address.clone(), |name| address.with_database(name));
    let database = match Database::open(&address).await {
        Ok(database) => database,
        Err(Failure::NotFound { .. }) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let table = wish.to.as_ref().map_or_else(|| record.table.clone(), |table| table.display().to_string());
    database.run(&format!("DROP TABLE IF EXISTS {}", quoted(&beside(&table, "restore", &wish.run)))).await
}

/// How many records of the backup's time are in the table, and the sum of their fingerprints where it can be compared.
pub(super) async fn compare(
    address: &Address,
    settings: &UsageSource,
    record: &UsageRecord,
    table: Option<&str>,
) -> Result<(u64, Option<bool>, crate::manifest::usage::Aggregates), Failure> {
    let wish = Wish { to: table.map(Into::into), ..Wish::default() };
    let (target, database) = Target::of(address, settings, record, &wish).await?;
    if target.found.is_empty() {
        let message = "there is no such table; hint: --table NAME".into();
        return Err(Failure::NotFound { object: format!("table '{}'", target.table), message });
    }
    if let Some(name) = target.missing().first() {
        let message = format!("has no column '{name}', which the backup has; hint: --table NAME");
        return Err(Failure::Precondition { object: format!("table '{}'", target.table), message });
    }
    let types: Vec<String> = target.columns.iter().map(|(_, declared)| declared.clone()).collect();
    let records = target.records(database.dialect(), &types, target.between);
    let (sum, count) = super::fingerprint(&database, &records, target.form).await?;
    let aggregates = document::aggregates(&database.row(&records.aggregates(target.between)).await?);
    let fingerprints = record.documents.iter().map(|document| u64::from_str_radix(&document.fingerprint, 16).ok());
    let proven = match record.dialect == database.dialect().name() {
        true => fingerprints.sum_wrapping().map(|fingerprint| fingerprint == sum),
        false => None,
    };
    Ok((count, proven, aggregates))
}
