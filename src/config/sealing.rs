//! Who can open what is sealed.

use toml::Table;

use super::drill::is_name;
use super::reader::{Problems, Reader};
use super::signing::KeyPlace;
use crate::model::Recipient;

/// What holds for the sealing of all tiers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sealing {
    pub recipients: Vec<Recipient>,
    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K` of Cloud KMS: wraps an identity of each backup's own.
    pub kms_key: Option<String>,
    /// Where the private key is. Needed by whoever reads, never by whoever takes backups.
    pub identity: Option<KeyPlace>,
}

/// For whom a tier's backups are sealed. Never empty: recipients, a key, or both.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Seal {
    pub recipients: Vec<Recipient>,
    pub kms_key: Option<String>,
}

pub(super) fn read_sealing(path: &str, table: Table, problems: &mut Problems) -> Sealing {
    let mut reader = Reader::new(path, table, problems);
    let recipients = read_recipients(&mut reader).unwrap_or_default();
    let kms_key = reader.text("kms_key");
    if let Some(name) = &kms_key
        && !is_name(name, &["projects", "locations", "keyRings", "cryptoKeys"])
    {
        let hint = "hint: projects/P/locations/L/keyRings/R/cryptoKeys/K, without a version";
        reader.problem("kms_key", format!("'{name}' is no Cloud KMS key's name; {hint}"));
    }
    let identity = KeyPlace::read(&mut reader, "identity", "STRONGROOM_IDENTITY_TEXT");
    reader.finish();
    Sealing { recipients, kms_key, identity }
}

/// `None`: nothing was said.
pub(super) fn read_recipients(reader: &mut Reader) -> Option<Vec<Recipient>> {
    let texts = reader.texts("recipients")?;
    let mut recipients: Vec<Recipient> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let path = format!("{}[{i}]", reader.path_of("recipients"));
        match text.parse() {
            Ok(recipient) if recipients.contains(&recipient) => {
                reader.problems().add(&path, format!("{recipient} is named twice"));
            }
            Ok(recipient) => recipients.push(recipient),
            Err(error) => reader.problems().add(&path, error.to_string()),
        }
    }
    Some(recipients)
}

/// What a tier says of its own.
pub(super) fn read_seal(reader: &mut Reader, sealing: Option<&Sealing>) -> Option<Seal> {
    let own = read_recipients(reader);
    let said = reader.flag("sealed");
    if !said.unwrap_or(sealing.is_some()) {
        if own.is_some() {
            let key = if said.is_some() { "recipients" } else { "sealed" };
            reader.problem(key, "the tier has recipients and is not sealed; hint: sealed = true");
        }
        return None;
    }
    let shared = sealing.cloned().unwrap_or_default();
    let seal = Seal { recipients: own.unwrap_or(shared.recipients), kms_key: shared.kms_key };
    if seal.recipients.is_empty() && seal.kms_key.is_none() {
        let hint = "hint: sealing.recipients = [\"age1...\"], as strongroom key generate --sealing FILE prints it, or sealing.kms_key";
        reader.problem("sealed", format!("nobody could open it; {hint}"));
    }
    Some(seal)
}
