//! The settings of a source of kind `postgres`.

use toml::Value;

use super::reader::Reader;
use super::tier::TableFormat;
use crate::model::DatabaseUrl;

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresSource {
    pub url: DatabaseUrl,
    /// Whether roles and tablespaces are saved too, without passwords.
    pub globals: bool,
    /// In which format tables are exported beside the dump, for queries; `None`: not at all.
    pub export: Option<TableFormat>,
    /// Whether sums, least and greatest values of the columns are taken too, which reads every table once more.
    pub totals: bool,
    pub format: DumpFormat,
    /// Jobs of `pg_restore`, and of `pg_dump` in the directory format; `None`: as the size asks for.
    pub jobs: Option<usize>,
    /// Where `pg_dump` and `pg_restore` are; `None`: in PATH, or where Debian puts them.
    pub tools: Option<String>,
    /// The database from which others are made, renamed and dropped.
    pub maintenance_db: String,
    /// Where files lie for a while that parallel jobs need; `None`: the machine's directory for such.
    pub scratch: Option<String>,
}

/// How `pg_dump` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpFormat {
    /// One stream, straight into the vault.
    Custom,
    /// A file a table, written by several jobs at once into a scratch directory first.
    Directory,
}

pub(super) fn read_postgres(reader: &mut Reader) -> Option<PostgresSource> {
    let hint = "url = \"${DATABASE_URL}\", in the form postgresql://user:password@host:5432/database";
    let url = reader.needed_text("url", hint);
    let url = url.and_then(|text| match text.parse::<DatabaseUrl>() {
        Ok(url) => Some(url),
        Err(error) => {
            reader.problem("url", error.to_string());
            None
        }
    });
    let globals = reader.flag("globals").unwrap_or(false);
    let export = match reader.take("export") {
        None | Some(Value::Boolean(false)) => None,
        Some(Value::Boolean(true)) => Some(TableFormat::Parquet),
        Some(Value::String(text)) if text == "parquet" => Some(TableFormat::Parquet),
        Some(Value::String(text)) if text == "avro" => Some(TableFormat::Avro),
        Some(_) => {
            reader.problem("export", "must be true, false, \"parquet\" or \"avro\"");
            None
        }
    };
    let totals = reader.flag("totals").unwrap_or(false);
    let format = match reader.text("format").as_deref() {
        None | Some("custom") => DumpFormat::Custom,
        Some("directory") => DumpFormat::Directory,
        Some(_) => {
            reader.problem("format", "must be \"custom\" or \"directory\", the formats of pg_dump");
            DumpFormat::Custom
        }
    };
    let jobs = reader.count("jobs", 1..=64).and_then(|jobs| usize::try_from(jobs).ok());
    let tools = reader.text("tools");
    let maintenance_db = reader.text("maintenance_db");
    let scratch = reader.text("scratch");
    let url = url?;
    // A database cannot be renamed from within.
    let other = if url.database == "postgres" { "template1" } else { "postgres" };
    let maintenance_db = maintenance_db.unwrap_or_else(|| other.into());
    if url.database == maintenance_db {
        reader.problem("maintenance_db", "must be another database than the one that is backed up; hint: template1");
    }
    Some(PostgresSource { url, globals, export, totals, format, jobs, tools, maintenance_db, scratch })
}
