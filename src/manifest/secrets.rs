//! A project's secrets in a backup: their names and how many versions. What is in them is in objects, which are sealed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::ObjectRecord;
use super::streamed::{Item, StreamedRecord};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretsRecord {
    pub name: String,
    /// `projects/P`.
    pub origin: String,
    pub taken_at: Timestamp,
    pub secrets: Vec<SecretEntry>,
}

/// A secret of Secret Manager, or a file of secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// `projects/P/secrets/S`, or a file's path.
    pub name: String,
    /// Enabled versions; `None` for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_count: Option<u64>,
    /// All of it, with a random salt: whoever sees the digest cannot try out what the secret may be.
    pub object: ObjectRecord,
}

impl StreamedRecord for SecretsRecord {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "secrets"
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn taken_at(&self) -> Timestamp {
        self.taken_at
    }

    fn objects(&self) -> Vec<&ObjectRecord> {
        self.secrets.iter().map(|secret| &secret.object).collect()
    }

    fn items(&self) -> Vec<Item> {
        let item = |secret: &SecretEntry| Item {
            name: secret.name.clone(),
            row_count: None,
            // How long a secret is nobody is told.
            size_bytes: None,
            proven: None,
            remark: match secret.version_count {
                Some(1) => "1 version, sealed".into(),
                Some(count) => format!("{count} versions, sealed"),
                None => "file, sealed".into(),
            },
        };
        self.secrets.iter().map(item).collect()
    }
}
