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
    /// A PKCS#8 PEM file, relative to the configuration's.
    File(String),
    /// The name of a variable of the environment that holds the PEM.
    Environment(String),
    /// `projects/P/secrets/S/versions/V` of Secret Manager, which holds the PEM.
    Secret(String),
}

pub(super) fn read_signing(path: &str, table: Table, problems: &mut Problems) -> Option<Signing> {
    let mut reader = Reader::new(path, table, problems);
    let key = reader.text("key").map(|text| match text.strip_prefix("env:") {
        Some(name) => KeyPlace::Environment(name.into()),
        None if is_name(&text, &["projects", "secrets"]) => KeyPlace::Secret(format!("{text}/versions/latest")),
        None if is_name(&text, &["projects", "secrets", "versions"]) => KeyPlace::Secret(text),
        None => KeyPlace::File(text),
    });
    if key == Some(KeyPlace::Environment(String::new())) {
        reader.problem("key", "names no variable; hint: env:STRONGROOM_SIGNING_KEY");
    }
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
