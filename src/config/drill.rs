//! What a drill needs to know beyond the backup: another project, the ingestion service, the secrets.

use toml::Table;

use super::reader::{Problems, Reader};
use crate::model::Period;

/// How drills are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// Where `project-loss` restores into.
    pub recovery_project: Option<String>,
    /// The query that searches the usage for what is unusual: `builtin`, or a file beside the configuration.
    pub anomalies: Option<String>,
    /// How long after an accident it is taken to be noticed: decides whether BigQuery's own memory still reaches back.
    pub noticed_after: Period,
}

impl Default for Drill {
    fn default() -> Self {
        Self { recovery_project: None, anomalies: None, noticed_after: Period::seconds(3600) }
    }
}

/// The Cloud Run service that brings in new data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `projects/P/locations/L/services/S`.
    pub name: String,
    /// The path that answers 200 when all is well.
    pub health: String,
    /// The path that is called with `dry_run_body`, when there is one.
    pub dry_run: Option<String>,
    /// JSON.
    pub dry_run_body: String,
    /// The service account in whose name it is called, where it asks who calls.
    pub caller: Option<String>,
}

/// `projects/P/secrets/S` of Secret Manager.
pub type SecretName = String;

pub(super) fn read_drill(path: &str, table: Table, problems: &mut Problems) -> Drill {
    let mut reader = Reader::new(path, table, problems);
    let drill = Drill {
        recovery_project: reader.text("recovery_project"),
        anomalies: reader.text("anomalies"),
        noticed_after: reader.parsed("noticed_after").unwrap_or(Drill::default().noticed_after),
    };
    reader.finish();
    drill
}

pub(super) fn read_service(path: &str, table: Table, problems: &mut Problems) -> Option<Service> {
    let mut reader = Reader::new(path, table, problems);
    let name = reader.needed_text("name", "projects/P/locations/L/services/S");
    if let Some(name) = &name
        && !is_name(name, &["projects", "locations", "services"])
    {
        reader.problem(
            "name",
            format!("'{name}' is no Cloud Run service's name; hint: projects/P/locations/L/services/S"),
        );
    }
    let health = reader.text("health").unwrap_or_else(|| "/health".into());
    let dry_run = reader.text("dry_run");
    for (key, text) in [("health", Some(&health)), ("dry_run", dry_run.as_ref())] {
        if text.is_some_and(|text| !text.starts_with('/')) {
            reader.problem(key, "must be a path of the service, beginning with '/'");
        }
    }
    let dry_run_body = reader.text("dry_run_body").unwrap_or_else(|| r#"{"mode": "dry_run"}"#.into());
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&dry_run_body) {
        reader.problem("dry_run_body", format!("is no JSON: {error}"));
    }
    let caller = reader.text("caller");
    reader.finish();
    Some(Service { name: name?, health, dry_run, dry_run_body, caller })
}

pub(super) fn read_secrets(path: &str, table: Table, problems: &mut Problems) -> Vec<SecretName> {
    let mut reader = Reader::new(path, table, problems);
    let names = reader.texts("names").unwrap_or_default();
    for (i, name) in names.iter().enumerate().filter(|(_, name)| !is_name(name, &["projects", "secrets"])) {
        let path = format!("{}[{i}]", reader.path_of("names"));
        reader.problems().add(&path, format!("'{name}' is no secret's name; hint: projects/P/secrets/S"));
    }
    reader.finish();
    names
}

/// Whether a name is made of these collections, each followed by an id.
pub(super) fn is_name(name: &str, collections: &[&str]) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() == 2 * collections.len()
        && parts.chunks(2).zip(collections).all(|(pair, collection)| pair[0] == *collection && !pair[1].is_empty())
}
