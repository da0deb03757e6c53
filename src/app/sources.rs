//! Opens the sources whose data passes through this process.

use std::sync::Arc;

use crate::config::{Source, SourceKind};
use crate::google::Google;
use crate::model::Failure;
use crate::source::files::Files;
use crate::source::postgres::Postgres;
use crate::source::secrets::Secrets;
use crate::source::sqlite::Sqlite;
use crate::source::streamed::Streamed;
use crate::source::usage::Usage;

/// The source, ready to be looked at; `None` for what Google's services read and write themselves.
///
/// # Errors
/// When the environment lacks what the configuration says is there.
pub(super) fn open(google: &Google, source: &Source) -> Result<Option<Arc<dyn Streamed>>, Failure> {
    let name = source.name.as_str();
    Ok(Some(match &source.kind {
        SourceKind::BigQuery(_) | SourceKind::Sheets(_) => return Ok(None),
        SourceKind::Postgres(settings) => Arc::new(Postgres::new(name, settings)),
        SourceKind::Sqlite(settings) => Arc::new(Sqlite::new(name, settings)),
        SourceKind::Files(settings) => Arc::new(Files::new(name, settings)),
        SourceKind::Secrets(settings) => Arc::new(Secrets::new(name, settings, &google.secrets)),
        SourceKind::Usage(settings) => Arc::new(Usage::new(name, settings)),
    }))
}
