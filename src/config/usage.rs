//! The settings of a source of kind `usage`: which columns of which table are taken, and which of them name people.

use jiff::civil::Date;

use super::reader::Reader;

/// Records of usage, in a table of PostgreSQL or SQLite.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageSource {
    /// The variable of the environment that switches tracking on; `None`: it is on.
    pub enabled_by: Option<String>,
    /// A file beside the configuration that switches tracking off while it is there, whatever the variable says.
    pub off_file: String,
    /// `postgresql://...`, `sqlite:FILE`, or `env:NAME` of a variable that holds one.
    pub url: String,
    pub table: String,
    /// The column that says when.
    pub timestamp: String,
    /// The columns that are taken as they are. What is neither here nor in `anonymise` is not read.
    pub columns: Vec<String>,
    /// The columns that name people: `usr_anonymized_001` takes the place of each value.
    pub anonymise: Vec<String>,
    /// The columns that are summed up; `None`: there is none.
    pub tokens: Option<String>,
    pub response_time: Option<String>,
    pub status: Option<String>,
    pub span: Span,
    /// One document a month.
    pub split_by_month: bool,
    /// Documents are `.json.gz`.
    pub compress: bool,
}

/// Which records are taken, by their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Those of so many days before now.
    pub days: Option<u32>,
    /// From this day's beginning, UTC.
    pub start: Option<Date>,
    /// To this day's end, UTC.
    pub end: Option<Date>,
}

impl UsageSource {
    /// Every column that is read, in the order of the document.
    pub fn taken(&self) -> impl Iterator<Item = &str> {
        let first = std::iter::once(&self.timestamp);
        let all = first.chain(self.columns.iter().filter(|column| **column != self.timestamp)).chain(&self.anonymise);
        all.map(String::as_str)
    }

    pub fn is_anonymised(&self, column: &str) -> bool {
        self.anonymise.iter().any(|name| name == column)
    }
}

pub(super) fn read_usage(reader: &mut Reader) -> Option<UsageSource> {
    let enabled_by = reader.text("enabled_by");
    let off_file = reader.text("off_file").unwrap_or_else(|| "usage-tracking.off".into());
    let url = reader.needed_text("url", "env:DATABASE_URL, or sqlite:FILE");
    if url.as_ref().is_some_and(|url| url.contains("://") && url.split('@').count() > 1 && has_password(url)) {
        reader.problem("url", "has a password in it; hint: put it into a variable and write env:DATABASE_URL");
    }
    let table = reader.needed_text("table", "the table of the records, such as usage_records");
    let timestamp = reader.text("timestamp").unwrap_or_else(|| "timestamp".into());
    let columns = reader.texts("columns").unwrap_or_default();
    let anonymise = reader.texts("anonymise").unwrap_or_default();
    if columns.is_empty() {
        reader.problem("columns", "is missing; hint: name what is taken: what is not named is not read");
    }
    for (i, column) in anonymise.iter().enumerate() {
        if columns.contains(column) || *column == timestamp || anonymise[..i].contains(column) {
            reader.problem("anonymise", format!("'{column}' is named twice; hint: take it from columns"));
        }
    }
    let column = |reader: &mut Reader, key: &'static str| {
        let name = reader.text(key)?;
        if !columns.contains(&name) {
            reader.problem(key, format!("'{name}' is none of the columns; hint: add it to columns"));
        }
        Some(name)
    };
    let (tokens, response_time) = (column(reader, "tokens"), column(reader, "response_time"));
    let status = column(reader, "status");
    let days = reader.count("days", 1..=36_500).and_then(|days| u32::try_from(days).ok());
    let span = Span { days, start: reader.parsed("start"), end: reader.parsed("end") };
    if span.start.zip(span.end).is_some_and(|(start, end)| end < start) {
        reader.problem("end", "is before start");
    }
    let split_by_month = reader.flag("split_by_month").unwrap_or(false);
    let compress = reader.flag("compress").unwrap_or(false);
    Some(UsageSource {
        enabled_by,
        off_file,
        url: url?,
        table: table?,
        timestamp,
        columns,
        anonymise,
        tokens,
        response_time,
        status,
        span,
        split_by_month,
        compress,
    })
}

fn has_password(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.password().is_some())
}
