//! Who signs the catalog, and whose signatures are believed.

use std::collections::BTreeSet;

use toml::Table;

use super::drill::is_name;
use super::reader::{Problems, Reader};
use crate::model::PublicKey;

/// The keys of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// The key that signs; `None`: this machine only reads.
    pub key: Option<KeyPlace>,
    /// Never empty.
    pub trusted: BTreeSet<PublicKey>,
}

/// Where a private key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file, relative to the configuration's.
    File(String),
    /// The name of a variable of the environment that holds the key's text.
    Environment(String),
    /// `projects/P/secrets/S/versions/V` of Secret Manager, which holds the key's text.
    Secret(String),
}

impl KeyPlace {
    /// `env:NAME`, `projects/P/secrets/S[/versions/V]`, or the path of a file.
    pub(super) fn read(reader: &mut Reader, key: &'static str, example: &str) -> Option<Self> {
        let text = reader.text(key)?;
        Some(match text.strip_prefix("env:") {
            Some("") => {
                reader.problem(key, format!("names no variable; hint: env:{example}"));
                return None;
            }
            Some(name) => Self::Environment(name.into()),
            None if is_name(&text, &["projects", "secrets"]) => Self::Secret(format!("{text}/versions/latest")),
            None if is_name(&text, &["projects", "secrets", "versions"]) => Self::Secret(text),
            None => Self::File(text),
        })
    }
}

pub(super) fn read_signing(path: &str, table: Table, problems: &mut Problems) -> Option<Signing> {
    let mut reader = Reader::new(path, table, problems);
    let key = KeyPlace::read(&mut reader, "key", "STRONGROOM_SIGNING_KEY");
    let texts = reader.texts("trusted").unwrap_or_default();
    if texts.is_empty() {
        reader.problem("trusted", "is missing; hint: strongroom key generate FILE prints the public key");
    }
    let mut trusted = BTreeSet::new();
    for (i, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(key) => drop(trusted.insert(key)),
            Err(error) => {
                let path = format!("{}[{i}]", reader.path_of("trusted"));
                reader.problems().add(&path, format!("{error}"));
            }
        }
    }
    reader.finish();
    Some(Signing { key, trusted })
}
