//! Text and environment to a valid [`Config`], or **every** problem at once, each naming its path.
//!
//! Knows nothing of files: the text is an argument, and so is the environment.

mod buckets;
mod cloud;
mod drill;
mod effective;
mod environment;
mod files;
mod interpolate;
mod layers;
mod postgres;
mod prices;
mod reader;
mod sealing;
mod secrets;
mod signing;
mod source;
mod sqlite;
mod tier;
mod usage;
mod valid;
mod worker;

pub use buckets::Buckets;
pub use cloud::{Azure, S3};
pub use drill::{Drill, SecretName, Service};
pub use effective::{Effective, Setting, read};
pub use environment::{VARIABLES, speaks, switch};
pub use files::{FilesSource, Usual};
pub use layers::{Layers, Origin};
pub use postgres::{DumpFormat, PostgresSource};
pub use prices::{ClassPrice, Prices};
pub use reader::{Problem, Problems};
pub use sealing::{Seal, Sealing};
pub use secrets::SecretsSource;
pub use signing::{KeyPlace, Signing};
pub use source::{BigQuerySource, FingerprintSetting, SheetsSource, Source, SourceKind};
pub use sqlite::SqliteSource;
pub use tier::{CopyPolicy, Destination, Keep, TableFormat, Tier};
pub use usage::{Span, UsageSource};
pub use valid::{Config, Credentials, Google, Ingestion, Objectives, Queries, Recover, Retention, Watch};
pub use worker::{Caller, Role, Token, Worker};

/// Reads a configuration. `environment` answers the names in `${NAME}` and `${NAME:-default}`.
///
/// # Errors
/// Every problem of the text, not only the first.
pub fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Problems::syntax(&error, text))?;
    let mut problems = Problems::default();
    let table = interpolate::table(table, environment, &mut problems);
    let config = valid::read(table, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests;
