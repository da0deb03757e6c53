//! Opens the sources whose data passes through this process.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::rehearsal;
use crate::config::{Config, Source, SourceKind, UsageSource};
use crate::google::Google;
use crate::model::{Failure, Secret};
use crate::source::files::Files;
use crate::source::postgres::Postgres;
use crate::source::secrets::Secrets;
use crate::source::sqlite::Sqlite;
use crate::source::streamed::Streamed;
use crate::source::usage::{Surroundings, Usage};

/// The source, ready to be looked at; `None` for what Google's services read and write themselves.
///
/// # Errors
/// When the environment lacks what the configuration says is there.
pub(super) fn open(google: &Google, source: &Source, path: &Path) -> Result<Option<Arc<dyn Streamed>>, Failure> {
    let name = source.name.as_str();
    Ok(Some(match &source.kind {
        SourceKind::BigQuery(_) | SourceKind::Sheets(_) => return Ok(None),
        SourceKind::Postgres(settings) => Arc::new(Postgres::new(name, settings)),
        SourceKind::Sqlite(settings) => Arc::new(Sqlite::new(name, settings)),
        SourceKind::Files(settings) => Arc::new(Files::new(name, settings)),
        SourceKind::Secrets(settings) => Arc::new(Secrets::new(name, settings, &google.secrets)),
        SourceKind::Usage(settings) => Arc::new(Usage::new(name, settings, surroundings(settings, path))),
    }))
}

/// The first source of usage records, without anything else of the configuration.
pub fn usage(config: &Config, path: &Path) -> Option<Usage> {
    config.sources.iter().find_map(|source| match &source.kind {
        SourceKind::Usage(settings) => Some(Usage::new(&source.name, settings, surroundings(settings, path))),
        _ => None,
    })
}

/// The file that switches tracking off while it is there, beside the configuration.
pub fn off_file(settings: &UsageSource, path: &Path) -> std::path::PathBuf {
    path.parent().unwrap_or_else(|| Path::new("")).join(&settings.off_file)
}

fn surroundings(settings: &UsageSource, path: &Path) -> Surroundings {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let off_file = off_file(settings, path);
    let now = rehearsal::ahead(Timestamp::now());
    Surroundings {
        switch: settings.enabled_by.as_deref().and_then(variable),
        off_file: off_file.exists().then(|| off_file.display().to_string()),
        url: match settings.url.strip_prefix("env:") {
            Some(name) => variable(name).map(Secret::new),
            None => Some(Secret::new(settings.url.clone())),
        },
        now: Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now),
    }
}
