//! Keys that sign the catalog or open what is sealed, made and shown: files and randomness.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::{Failure, Identity, PublicKey, Recipient, Secret, SigningKey};

/// Makes a key and writes it to a file that only its owner reads. Never over another.
///
/// # Errors
/// When the file is there already, or cannot be written.
pub fn new_key(file: &Path) -> Result<PublicKey, Failure> {
    let failed = |message: String| Failure::Invalid { object: file.display().to_string(), message };
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| failed("this machine has no randomness".into()))?;
    let (key, pem) = SigningKey::from_seed(&seed).map_err(failed)?;
    write(file, &pem)?;
    Ok(key.public())
}

/// Makes an identity that opens what is sealed, and writes it to a file as `age-keygen` does. Never over another.
///
/// # Errors
/// When the file is there already, or cannot be written.
pub fn new_identity(file: &Path) -> Result<Recipient, Failure> {
    let identity = Identity::new(age::x25519::Identity::generate());
    let made = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (recipient, secret) = (identity.recipient(), identity.secret());
    let text = Secret::new(format!("# created: {made}\n# public key: {recipient}\n{}\n", secret.expose()));
    write(file, &text)?;
    Ok(recipient.clone())
}

/// The recipients of the identities in a file.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn recipients(file: &Path) -> Result<Vec<Recipient>, Failure> {
    let failed = |message: String| Failure::Invalid { object: file.display().to_string(), message };
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let identities = Identity::read_all(&Secret::new(text)).map_err(failed)?;
    Ok(identities.iter().map(|identity| identity.recipient().clone()).collect())
}

fn write(file: &Path, key: &Secret) -> Result<(), Failure> {
    let failed = |message: String| Failure::Invalid { object: file.display().to_string(), message };
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(|error| {
        let hint =
            if file.exists() { "; hint: name another file: a key that is lost cannot be made again" } else { "" };
        failed(format!("{error}{hint}"))
    })?;
    out.write_all(key.expose().as_bytes()).and_then(|()| out.sync_all()).map_err(|error| failed(error.to_string()))
}

/// The public half of the key in a file.
///
/// # Errors
/// When it cannot be read, or is no key.
pub fn public_key(file: &Path) -> Result<PublicKey, Failure> {
    let failed = |message: String| Failure::Invalid { object: file.display().to_string(), message };
    let pem = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    Ok(SigningKey::from_pem(&Secret::new(pem)).map_err(failed)?.public())
}
