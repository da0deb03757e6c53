//! Keys that sign the catalog, made and shown: files and randomness.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::{Failure, PublicKey, Secret, SigningKey};

/// Makes a key and writes it to a file that only its owner reads. Never over another.
///
/// # Errors
/// When the file is there already, or cannot be written.
pub fn new_key(file: &Path) -> Result<PublicKey, Failure> {
    let failed = |message: String| Failure::Invalid { object: file.display().to_string(), message };
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| failed("this machine has no randomness".into()))?;
    let (key, pem) = SigningKey::from_seed(&seed).map_err(failed)?;
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(|error| {
        let hint =
            if file.exists() { "; hint: name another file: a key that is lost cannot be made again" } else { "" };
        failed(format!("{error}{hint}"))
    })?;
    out.write_all(pem.expose().as_bytes()).and_then(|()| out.sync_all()).map_err(|error| failed(error.to_string()))?;
    Ok(key.public())
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
