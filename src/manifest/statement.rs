//! What is stated of a manifest, beside it: whose it is, where it lies, and the digest of its bytes, signed where there is a
//! key. A manifest that is put under another name, folder or system is not what was stated.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Manifest;
use super::chronicle::Head;
use super::doubt::{Doubt, DoubtKind};
use super::signed::{self, Record, Standing};
use crate::model::{BackupName, PublicKey, SigningKey, TierName};

/// The version of this record.
const STATEMENT_FORMAT: u32 = 1;

/// What is signed of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    pub format: u32,
    /// The configuration's `name`.
    pub system: String,
    pub backup: BackupName,
    pub tier: TierName,
    /// The backup's folder below the destination's root.
    pub folder: String,
    pub commit_id: String,
    pub manifest_format: u32,
    pub manifest_size_bytes: u64,
    /// SHA-256 of the manifest's bytes, in hex.
    pub manifest_sha256: String,
    /// The chronicle's last entry when this was written: the chronicle never ends before it.
    pub chronicle: Option<Head>,
}

impl Record for Statement {
    const KIND: &'static str = "statement";
}

impl Statement {
    /// What is to be stated of a manifest that lies there.
    pub fn of(found: &Found<'_>, chronicle: Option<Head>) -> Self {
        Self {
            format: STATEMENT_FORMAT,
            system: found.system.into(),
            backup: found.manifest.name.clone(),
            tier: found.manifest.tier.clone(),
            folder: found.folder.into(),
            commit_id: found.manifest.commit_id.clone(),
            manifest_format: found.manifest.format,
            manifest_size_bytes: found.size_bytes,
            manifest_sha256: found.sha256.into(),
            chronicle,
        }
    }

    /// # Errors
    /// When it cannot be encoded.
    pub fn write(&self, key: Option<&SigningKey>) -> Result<Vec<u8>, String> {
        signed::write(self.clone(), key)
    }
}

/// Where a manifest was found, and whose it should be.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The configuration's `name`.
    pub system: &'a str,
    /// The folder below the destination's root.
    pub folder: &'a str,
    /// The whole address of the manifest, for people.
    pub place: &'a str,
    pub manifest: &'a Manifest,
    pub size_bytes: u64,
    pub sha256: &'a str,
}

/// Judges a manifest by its statement. `trusted` is `None` where no signature is asked for. Gives the statement, or `None`
/// for a backup of before statements were written.
///
/// # Errors
/// The doubt.
pub fn judge(
    found: &Found<'_>,
    statement: Option<&[u8]>,
    trusted: Option<&BTreeSet<PublicKey>>,
) -> Result<Option<Statement>, Doubt> {
    let doubt = |kind, message: String| Err(Doubt::new(kind, found.place, message));
    let unsigned = |what: &str| {
        let message = format!("{what}; hint: if it is yours: strongroom sign {}", found.manifest.name);
        doubt(DoubtKind::Unsigned, message)
    };
    let manifest = found.manifest;
    let Some(bytes) = statement else {
        return match (trusted, &manifest.system) {
            (Some(_), _) => unsigned("it has no statement, so it is not signed"),
            (None, Some(_)) => doubt(DoubtKind::Changed, "its statement is gone".into()),
            (None, None) => Ok(None),
        };
    };
    let none = BTreeSet::new();
    let (statement, standing) = match signed::read::<Statement>(bytes, trusted.unwrap_or(&none)) {
        Ok(read) => read,
        Err(message) => return doubt(DoubtKind::Changed, format!("its statement {message}")),
    };
    // A system may be renamed; its signed backups stay those of the old name.
    let system = if trusted.is_some() { found.system } else { statement.system.as_str() };
    let named = manifest.system.as_deref().unwrap_or(system);
    if statement.system != system || named != system {
        let message =
            format!("it is stated of the system '{}', says '{named}', and should be of '{system}'", statement.system);
        return doubt(DoubtKind::Changed, message);
    }
    let now = Statement::of(&Found { system, ..*found }, statement.chronicle.clone());
    if statement != now {
        let what = if statement.manifest_sha256 != now.manifest_sha256 {
            format!("its SHA-256 is {}, stated was {}", now.manifest_sha256, statement.manifest_sha256)
        } else {
            format!("what is stated is of {} in {}", statement.backup, statement.folder)
        };
        return doubt(DoubtKind::Changed, what);
    }
    match (trusted, standing) {
        (None, _) | (Some(_), Standing::Trusted(_)) => Ok(Some(statement)),
        (Some(_), Standing::Unsigned) => unsigned("its statement is not signed"),
        (Some(_), Standing::Stranger(key)) => {
            let message =
                format!("it is signed by {key}, which signing.trusted does not name; hint: name it, if it is yours");
            doubt(DoubtKind::Changed, message)
        }
    }
}
