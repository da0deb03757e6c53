//! The keys of sealed backups: whom one is sealed for, and what opens it.
//!
//! Where Cloud KMS is asked to guard a backup, an identity is drawn for it alone, and KMS encrypts the identity's text: one
//! call a backup. The objects are plain age files in any case.

use std::sync::Arc;

use async_trait::async_trait;

use super::backup::count;
use super::{Context, JobError};
use crate::catalog::Entry;
use crate::config::Seal;
use crate::manifest::{Manifest, SealingRecord, WrappedIdentity};
use crate::model::{BackupName, Failure, Identity, Recipient};
use crate::plan::facts::SealingKeyFacts;
use crate::saga::Done;
use crate::store::UnsealedStore;

/// Gets the private keys from where they are kept, when they are first needed: whoever takes backups needs none.
#[async_trait]
pub trait IdentitySource: Send + Sync {
    /// # Errors
    /// When they cannot be read.
    async fn identities(&self) -> Result<Vec<Identity>, Failure>;
}

/// What Cloud KMS is told the wrapped identity is for: it unwraps it for this backup only.
fn purpose(backup: &BackupName) -> String {
    format!("strongroom identity of {backup}")
}

/// Says for whom a backup will be sealed, after Cloud KMS has wrapped its identity.
pub(super) async fn begin(
    context: &Context,
    seal: &Seal,
    backup: &BackupName,
) -> Result<Done<SealingRecord>, JobError> {
    let mut record = SealingRecord { recipients: seal.recipients.clone(), kms: vec![] };
    if let Some(key) = &seal.kms_key {
        let identity = Identity::new(age::x25519::Identity::generate());
        let ciphertext = context.google.kms.encrypt(key, &identity.secret(), &purpose(backup)).await?;
        let recipient = identity.recipient().clone();
        record.recipients.push(recipient.clone());
        record.kms.push(WrappedIdentity { key: key.clone(), backup: backup.clone(), recipient, ciphertext });
    }
    let note = count(record.recipients.len(), "recipient");
    Ok(Done::new(record).note(note))
}

/// What the plan must know of the key.
pub(super) async fn look_at(context: &Context, key: &str) -> Result<SealingKeyFacts, Failure> {
    match context.google.kms.get(key).await {
        Ok(found) => Ok(SealingKeyFacts::Found { purpose: found.purpose, state: found.primary_state }),
        Err(Failure::NotFound { .. }) => Ok(SealingKeyFacts::Missing),
        Err(Failure::Denied { .. }) => Ok(SealingKeyFacts::Hidden),
        Err(error) => Err(error),
    }
}

/// The backup with its objects open; one that is not sealed as it is. Not for what is open already.
///
/// # Errors
/// `Sealed` when no key at hand opens it.
pub async fn open(context: &Context, entry: &Entry) -> Result<Entry, Failure> {
    let Some(sealing) = &entry.manifest.sealing else { return Ok(entry.clone()) };
    let identities = identities(context, &entry.manifest, sealing).await?;
    let store = UnsealedStore::new(entry.store.clone(), &entry.manifest, identities);
    Ok(Entry { store: Arc::new(store), ..entry.clone() })
}

async fn identities(context: &Context, manifest: &Manifest, sealing: &SealingRecord) -> Result<Vec<Identity>, Failure> {
    let given = match &context.identity {
        Some(source) => source.identities().await?,
        None => vec![],
    };
    if given.iter().any(|identity| sealing.recipients.contains(identity.recipient())) {
        return Ok(given);
    }
    let sealed = |message: String| Failure::Sealed { object: manifest.name.to_string(), message };
    let wrapped = |one: &&Recipient| sealing.kms.iter().any(|kms| kms.recipient == **one);
    let others = names(sealing.recipients.iter().filter(|one| !wrapped(one)));
    if !sealing.kms.is_empty() {
        let mut identities = given;
        for kms in &sealing.kms {
            match context.google.kms.decrypt(&kms.key, &kms.ciphertext, &purpose(&kms.backup)).await {
                Ok(text) => {
                    let read = Identity::read_all(&text).unwrap_or_default();
                    if !read.iter().any(|identity| *identity.recipient() == kms.recipient) {
                        return Err(sealed(format!("{} unwraps what is no identity of {}", kms.key, kms.backup)));
                    }
                    identities.extend(read);
                }
                Err(error @ (Failure::Transient { .. } | Failure::Unknown { .. })) => return Err(error),
                Err(error) => {
                    let mut hint = "hint: ask as somebody who may use that key to decrypt".to_string();
                    if !others.is_empty() {
                        hint += &format!(", or --identity with the key of {others}");
                    }
                    return Err(sealed(format!("Cloud KMS does not unwrap its key ({error}); {hint}")));
                }
            }
        }
        return Ok(identities);
    }
    Err(sealed(match given.is_empty() {
        true => format!("there is no identity to open it; hint: --identity with the private key of {others}"),
        false => {
            let given = names(given.iter().map(Identity::recipient));
            format!(
                "the identity given is {given}'s, and it is sealed for {others}; hint: --identity with the private key of that"
            )
        }
    }))
}

fn names<'a>(recipients: impl Iterator<Item = &'a Recipient>) -> String {
    recipients.map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}
