//! Usage records: rows of a table that says who called what when, without saying who.
//!
//! Off unless a variable switches tracking on; then nothing is read, and that is as it should be. What is not named as a column
//! is never read; who is named becomes a number, which is the same throughout one backup.

mod database;
mod document;
mod file;
mod restore;
mod sql;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::streamed::{Cut, ItemFacts, RestoredSource, Sink, Streamed, StreamedFacts, StreamedRestore, Vault, Wish};
use crate::config::{Span, UsageSource};
use crate::manifest::usage::{Aggregates, DateRange, UsageColumn, UsageDocument, UsageRecord};
use crate::manifest::{ObjectRecord, SourceRecord};
use crate::model::{Failure, Secret};
use crate::plan::Refusal;
use database::{Address, Database, Row};
use document::{Content, Info};
pub use file::FileVault;
use sql::{Between, Records, TimeForm};

/// What the environment says of a source.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The variable that switches tracking on, as it is set.
    pub switch: Option<String>,
    /// The file that switches it off, where it is there.
    pub off_file: Option<String>,
    /// The database's address; `None`: the variable that holds it is not set.
    pub url: Option<Secret>,
    /// What it is now.
    pub now: Timestamp,
}

/// Usage records, ready to be looked at.
pub struct Usage {
    name: String,
    settings: UsageSource,
    around: Surroundings,
}

/// Whether usage is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracking {
    Enabled,
    /// Why it is not.
    Disabled(String),
}

/// What there is to be backed up now.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The database without its password.
    pub database: String,
    /// `sqlite` or `postgres`.
    pub dialect: &'static str,
    pub record_count: u64,
    pub date_range: DateRange,
    pub aggregates: Aggregates,
    /// The documents that a backup would hold.
    pub files: Vec<String>,
}

impl Usage {
    pub fn new(name: &str, settings: &UsageSource, around: Surroundings) -> Self {
        Self { name: name.into(), settings: settings.clone(), around }
    }

    pub fn tracking(&self) -> Tracking {
        if let Some(file) = &self.around.off_file {
            return Tracking::Disabled(format!("{file} switches it off; remove the file to track again"));
        }
        let Some(name) = &self.settings.enabled_by else { return Tracking::Enabled };
        match self.around.switch.as_deref().map(crate::config::switch) {
            Some(Some(true)) => Tracking::Enabled,
            Some(Some(false)) => Tracking::Disabled(format!("{name} is false")),
            Some(None) => Tracking::Disabled(format!("{name} is neither true nor false")),
            None => Tracking::Disabled(format!("{name} is not set")),
        }
    }

    /// Why there is nothing to back up, where that is as it should be.
    pub fn skipped(&self) -> Option<String> {
        match self.tracking() {
            Tracking::Disabled(reason) => Some(format!("usage tracking is off: {reason}")),
            Tracking::Enabled if self.around.url.is_none() => {
                Some(format!("no DB: {} is not set", self.settings.url.trim_start_matches("env:")))
            }
            Tracking::Enabled => None,
        }
    }

    pub fn settings(&self) -> &UsageSource {
        &self.settings
    }

    /// The database without its password; `None` where none is configured.
    pub fn database(&self) -> Option<String> {
        self.around
            .url
            .as_ref()
            .map(|url| Address::of(url).map_or_else(|_| "of no known kind".into(), |a| a.to_string()))
    }

    fn address(&self) -> Result<Address, Failure> {
        let object =
            || format!("source '{}': {}", self.name, self.settings.url.split("://").next().unwrap_or_default());
        let Some(url) = &self.around.url else {
            let message = "is not set, so there is no database; hint: postgresql://user:password@host:5432/database, or sqlite:FILE";
            return Err(Failure::Invalid { object: object(), message: message.into() });
        };
        Address::of(url).map_err(|message| Failure::Invalid { object: object(), message })
    }

    /// Counts and sums up what would be backed up.
    ///
    /// # Errors
    /// As the database says.
    pub async fn overview(&self) -> Result<Overview, Failure> {
        let address = self.address()?;
        let database = Database::open(&address).await?;
        let look = Look::at(&database, &self.settings, self.between(self.around.now)?).await?;
        let look = look.map_err(|refusals| Failure::Invalid {
            object: format!("source '{}'", self.name),
            message: refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        let records = look.records(&self.settings);
        let aggregates = document::aggregates(&database.row(&records.aggregates(records.between)).await?);
        let files = parts(&database, &records, self.around.now).await?.into_iter().map(|part| part.file).collect();
        let (dialect, database) = (address.dialect().name(), address.to_string());
        let (record_count, date_range) = (look.record_count, look.date_range);
        Ok(Overview { database, dialect, record_count, date_range, aggregates, files })
    }

    fn between(&self, now: Timestamp) -> Result<Between, Failure> {
        let Span { days, start, end } = self.settings.span;
        let invalid =
            |error: jiff::Error| Failure::Invalid { object: "the span of days".into(), message: error.to_string() };
        let midnight = |day: Date| day.to_zoned(TimeZone::UTC).map(|day| day.timestamp().as_microsecond());
        let from = match days {
            Some(days) => {
                let hours = SignedDuration::from_hours(24 * i64::from(days));
                Some(now.checked_sub(hours).map_err(invalid)?.as_microsecond())
            }
            None => None,
        };
        let start = start.map(midnight).transpose().map_err(invalid)?;
        let end = end.map(|day| midnight(day.tomorrow()?)).transpose().map_err(invalid)?;
        Ok(Between { from: from.max(start), before: end })
    }
}

/// What a table was found to be.
struct Look {
    dialect: database::Dialect,
    types: Vec<String>,
    form: TimeForm,
    between: Between,
    record_count: u64,
    date_range: DateRange,
}

impl Look {
    /// What stands against it is given as refusals.
    async fn at(
        database: &Database,
        settings: &UsageSource,
        between: Between,
    ) -> Result<Result<Self, Vec<Refusal>>, Failure> {
        let dialect = database.dialect();
        let found = database.rows(&sql::columns(dialect, &settings.table)).await?;
        let object = format!("table '{}'", settings.table);
        if found.is_empty() {
            let hint = "create it, or name another in the source's table";
            return Ok(Err(vec![Refusal::new(object, "is not in the database", hint)]));
        }
        let (mut types, mut refusals) = (Vec::new(), Vec::new());
        for name in settings.taken() {
            match found.iter().find(|row| row.first().is_some_and(|found| found.as_deref() == Some(name))) {
                Some(row) => types.push(row.get(1).cloned().flatten().unwrap_or_default()),
                None => refusals.push(Refusal::new(
                    object.clone(),
                    format!("has no column '{name}'"),
                    "name its columns as the database does, in timestamp, columns and anonymise",
                )),
            }
        }
        if !refusals.is_empty() {
            return Ok(Err(refusals));
        }
        let records = Records { dialect, table: &settings.table, settings, types: &types, between };
        let facts = database.row(&records.facts()).await?;
        let cell = |i: usize| facts.get(i).and_then(Option::as_deref);
        let form = TimeForm::seen(dialect, types.first().map_or("", String::as_str), cell(3));
        let record_count = cell(0).and_then(|text| text.parse().ok()).unwrap_or(0);
        let date_range = DateRange { start: at(cell(1)), end: at(cell(2)) };
        Ok(Ok(Self { dialect, types, form, between, record_count, date_range }))
    }

    fn records<'a>(&'a self, settings: &'a UsageSource) -> Records<'a> {
        let (dialect, types, between) = (self.dialect, self.types.as_slice(), self.between);
        Records { dialect, table: &settings.table, settings, types, between }
    }
}

/// Microseconds as a time.
fn at(microseconds: Option<&str>) -> Option<String> {
    let number = microseconds?.parse::<f64>().ok()?;
    Some(Timestamp::from_microsecond(number as i64).ok()?.to_string())
}

/// A document to be.
struct Part {
    file: String,
    between: Between,
}

/// One document, or one of each month that has records.
async fn parts(database: &Database, records: &Records<'_>, now: Timestamp) -> Result<Vec<Part>, Failure> {
    let ending = if records.settings.compress { "json.gz" } else { "json" };
    let whole =
        || Part { file: format!("usage-backup-{}.{ending}", now.strftime("%Y-%m-%d")), between: records.between };
    if !records.settings.split_by_month {
        return Ok(vec![whole()]);
    }
    let mut parts = Vec::new();
    for row in database.rows(&records.months()).await? {
        let Some(month) = row.into_iter().next().flatten() else {
            let message = "has records without a time, which are in no month; hint: back up without --split-by-month";
            return Err(Failure::Invalid { object: format!("table '{}'", records.table), message: message.into() });
        };
        let invalid = || Failure::Corrupt { object: format!("month '{month}'"), message: "is none".into() };
        let first: Date = format!("{month}-01").parse().map_err(|_| invalid())?;
        let midnight = |day: Date| day.to_zoned(TimeZone::UTC).map(|day| day.timestamp().as_microsecond()).ok();
        let from = midnight(first).ok_or_else(invalid)?;
        let before = first.last_of_month().tomorrow().ok().and_then(midnight).ok_or_else(invalid)?;
        let whole = records.between;
        let before = whole.before.map_or(before, |end| end.min(before));
        let between = Between { from: Some(from.max(whole.from.unwrap_or(from))), before: Some(before) };
        parts.push(Part { file: format!("usage-backup-{month}.{ending}"), between });
    }
    if parts.is_empty() {
        parts.push(whole());
    }
    Ok(parts)
}

#[async_trait]
impl Streamed for Usage {
    async fn inventory(&self) -> Result<StreamedFacts, Failure> {
        let origin = self.database().unwrap_or_else(|| "no database".into());
        let mut facts = StreamedFacts { name: self.name.clone(), origin, ..StreamedFacts::default() };
        facts.skipped = self.skipped();
        if facts.skipped.is_some() {
            return Ok(facts);
        }
        let database = Database::open(&self.address()?).await?;
        match Look::at(&database, &self.settings, self.between(self.around.now)?).await? {
            Ok(look) => {
                let records = look.records(&self.settings);
                for part in parts(&database, &records, self.around.now).await? {
                    let row = database.row(&records.aggregates(part.between)).await?;
                    let row_count = Some(document::aggregates(&row).total_requests);
                    facts.items.push(ItemFacts { name: part.file, row_count, size_bytes: None });
                }
                if !self.settings.anonymise.is_empty() {
                    let names = self.settings.anonymise.join(", ");
                    facts.notes.push(format!(
                        "{}: {names} anonymised; other columns than those named are not read",
                        self.name
                    ));
                }
            }
            Err(refusals) => facts.refusals = refusals,
        }
        Ok(facts)
    }

    async fn cut(&self) -> Result<Box<dyn Cut>, Failure> {
        let address = self.address()?;
        let database = Database::open(&address).await?;
        let begin = match address.dialect() {
            database::Dialect::Sqlite => "BEGIN",
            database::Dialect::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        database.run(begin).await?;
        let taken_at = self.around.now;
        // The first look fixes what all that follow will see.
        let look = Look::at(&database, &self.settings, self.between(taken_at)?).await?;
        let look = look.map_err(|refusals| Failure::Precondition {
            object: format!("source '{}'", self.name),
            message: refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        let (name, settings) = (self.name.clone(), self.settings.clone());
        Ok(Box::new(UsageCut { name, settings, origin: address.to_string(), database, look, taken_at }))
    }

    async fn look(&self, record: &SourceRecord, wish: &Wish) -> Result<Result<StreamedRestore, Vec<Refusal>>, Failure> {
        restore::look(&self.name, &self.address()?, &self.settings, usage_of(record)?, wish).await
    }

    async fn restore(&self, record: &SourceRecord, vault: &dyn Vault, wish: &Wish) -> Result<RestoredSource, Failure> {
        restore::restore(&self.name, &self.address()?, &self.settings, usage_of(record)?, vault, wish).await
    }

    async fn take_back(&self, record: &SourceRecord, wish: &Wish) -> Result<(), Failure> {
        restore::take_back(&self.address()?, usage_of(record)?, wish).await
    }
}

fn usage_of(record: &SourceRecord) -> Result<&UsageRecord, Failure> {
    match record {
        SourceRecord::Usage(record) => Ok(record),
        other => Err(Failure::Invalid { object: other.name().into(), message: "holds no usage records".into() }),
    }
}

/// A state of the table that stays as it is: a transaction that reads.
struct UsageCut {
    name: String,
    settings: UsageSource,
    origin: String,
    database: Database,
    look: Look,
    taken_at: Timestamp,
}

#[async_trait]
impl Cut for UsageCut {
    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    async fn capture(self: Box<Self>, sink: &dyn Sink) -> Result<SourceRecord, Failure> {
        let records = self.look.records(&self.settings);
        let parts = parts(&self.database, &records, self.taken_at).await?;
        let mut documents = Vec::new();
        for (done, part) in parts.iter().enumerate() {
            let within = Records { between: part.between, ..records.clone() };
            let facts = self.database.row(&within.facts()).await?;
            let cell = |i: usize| facts.get(i).and_then(Option::as_deref);
            let info = Info {
                timestamp: self.taken_at.to_string(),
                source_db: self.origin.clone(),
                record_count: cell(0).and_then(|text| text.parse().ok()).unwrap_or(0),
                date_range: DateRange { start: at(cell(1)), end: at(cell(2)) },
            };
            let date_range = info.date_range.clone();
            let content = Content::of(self.database.clone(), &records, part.between, self.look.form, info);
            let (stream, told) = content.stream();
            let object: ObjectRecord = sink.stream(&part.file, stream).await?;
            let written = told.await.map_err(|_| Failure::Unknown {
                object: part.file.clone(),
                message: "was written, and nothing was told of it".into(),
            })?;
            sink.progress(done + 1, parts.len(), &part.file);
            documents.push(UsageDocument {
                file: part.file.clone(),
                object: ObjectRecord { row_count: Some(written.record_count), ..object },
                record_count: written.record_count,
                date_range,
                aggregates: written.aggregates,
                fingerprint: format!("{:016x}", written.fingerprint),
            });
        }
        self.database.run("COMMIT").await?;
        let column = |(name, declared): (&str, &String)| UsageColumn {
            name: name.into(),
            declared: declared.clone(),
            anonymised: self.settings.is_anonymised(name),
        };
        Ok(SourceRecord::Usage(UsageRecord {
            name: self.name.clone(),
            origin: format!("{} {}", self.origin, self.settings.table),
            taken_at: self.taken_at,
            table: self.settings.table.clone(),
            dialect: self.look.dialect.name().into(),
            columns: self.settings.taken().zip(&self.look.types).map(column).collect(),
            time_form: self.look.form.name().into(),
            documents,
        }))
    }
}

/// The sum of the fingerprints of a table's records, and how many there are: as a document of them has it.
async fn fingerprint(database: &Database, records: &Records<'_>, form: TimeForm) -> Result<(u64, u64), Failure> {
    use futures::TryStreamExt;
    let columns = document::cells(records, form, false);
    let rows = database.stream(&records.rows(records.between, false)).await?;
    let add = async |(sum, count): (u64, u64), row: Row| {
        let text = document::record(&columns, &row);
        Ok((sum.wrapping_add(crate::codec::farm::fingerprint64(text.as_bytes())), count + 1))
    };
    rows.try_fold((0, 0), add).await
}
