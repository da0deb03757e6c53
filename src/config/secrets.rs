//! The settings of a source of kind `secrets`.

use super::reader::Reader;
use crate::model::Pattern;

/// Secrets of a project's Secret Manager, and files that hold secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretsSource {
    pub project: String,
    /// Of the secrets' ids; none: files only.
    pub secrets: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
    /// Such as `.env`; paths from where the program is started.
    pub files: Vec<String>,
}

pub(super) fn read_secrets(reader: &mut Reader, project: Option<&str>) -> Option<SecretsSource> {
    let own = reader.text("project");
    let patterns = |texts: Vec<String>| texts.iter().map(|text| Pattern::new(text)).collect();
    let files = reader.texts("files").unwrap_or_default();
    let secrets = reader.texts("secrets").unwrap_or_else(|| vec!["*".into()]);
    let exclude = patterns(reader.texts("exclude").unwrap_or_default());
    if secrets.is_empty() && files.is_empty() {
        reader.problem("secrets", "is empty, and so is 'files'; hint: secrets = [\"*\"] for all of the project's");
    }
    Some(SecretsSource { project: own.or(project.map(String::from))?, secrets: patterns(secrets), exclude, files })
}
