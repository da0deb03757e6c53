//! Cloud KMS v1, by REST: Google's crate is not worth its build for three calls. Checksums go with every payload in both
//! directions, as <https://cloud.google.com/kms/docs/data-integrity-guidelines> asks; an answer whose checksum is wrong is
//! discarded and asked for again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::rest::{Call, Rest};
use super::retry::Effect;
use crate::model::{Failure, Secret};

pub(super) const HOST: &str = "https://cloudkms.googleapis.com";

/// How often an answer is asked for that does not have its checksum.
const WHOLE_ANSWERS: u32 = 4;

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Kms {
    rest: Rest,
}

/// What a key can be used for, and whether it can be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptoKey {
    /// `ENCRYPT_DECRYPT`, `ASYMMETRIC_SIGN`, ...
    pub purpose: String,
    /// The state of the version that encrypts: `ENABLED`, `DISABLED`, `DESTROYED`, ...; `None` when there is none.
    pub primary_state: Option<String>,
}

impl Kms {
    pub(crate) fn new(rest: Rest) -> Self {
        Self { rest }
    }

    /// `projects/P/locations/L/keyRings/R/cryptoKeys/K`.
    ///
    /// # Errors
    /// `NotFound`, and as mapped by `error.rs`.
    pub async fn get(&self, key: &str) -> Result<CryptoKey, Failure> {
        let answer = self.rest.call(&Call::get(object(key), &path(key))).await?;
        Ok(CryptoKey {
            purpose: answer["purpose"].as_str().unwrap_or_default().into(),
            primary_state: answer["primary"]["state"].as_str().map(String::from),
        })
    }

    /// Encrypts a text of at most 64 KiB; `context` must be said again to decrypt it. Gives base64.
    ///
    /// # Errors
    /// `Precondition` or `Invalid` for a key that cannot encrypt now; `Corrupt` when no answer has its checksum.
    pub async fn encrypt(&self, key: &str, text: &Secret, context: &str) -> Result<String, Failure> {
        let (plain, context) = (text.expose().as_bytes(), context.as_bytes());
        let body = json!({
            "plaintext": STANDARD.encode(plain),
            "plaintextCrc32c": crc32c(plain),
            "additionalAuthenticatedData": STANDARD.encode(context),
            "additionalAuthenticatedDataCrc32c": crc32c(context),
        });
        // To encrypt twice harms nobody.
        let call = Call::post(object(key), &path(&format!("{key}:encrypt")), Effect::Idempotent, body);
        self.whole(&call, |answer| {
            // The version that encrypted: of this key and no other.
            let own =
                answer["name"].as_str().is_some_and(|name| name.starts_with(&format!("{key}/cryptoKeyVersions/")));
            let heard = answer["verifiedPlaintextCrc32c"] == json!(true)
                && answer["verifiedAdditionalAuthenticatedDataCrc32c"] == json!(true);
            let text = answer["ciphertext"].as_str()?;
            let bytes = STANDARD.decode(text).ok()?;
            (own && heard && sum(&answer["ciphertextCrc32c"]) == Some(crc32c::crc32c(&bytes))).then(|| text.into())
        })
        .await
    }

    /// Decrypts what `encrypt` gave under the same context.
    ///
    /// # Errors
    /// `Denied`; `Invalid` when it is not of this key and context; `Corrupt` when no answer has its checksum.
    pub async fn decrypt(&self, key: &str, ciphertext: &str, context: &str) -> Result<Secret, Failure> {
        let invalid =
            || Failure::Invalid { object: object(key), message: "what is to be decrypted is no base64".into() };
        let (bytes, context) = (STANDARD.decode(ciphertext).map_err(|_| invalid())?, context.as_bytes());
        let body = json!({
            "ciphertext": ciphertext,
            "ciphertextCrc32c": crc32c(&bytes),
            "additionalAuthenticatedData": STANDARD.encode(context),
            "additionalAuthenticatedDataCrc32c": crc32c(context),
        });
        let call = Call::post(object(key), &path(&format!("{key}:decrypt")), Effect::Read, body);
        self.whole(&call, |answer| {
            let bytes = STANDARD.decode(answer["plaintext"].as_str()?).ok()?;
            let whole = sum(&answer["plaintextCrc32c"]) == Some(crc32c::crc32c(&bytes));
            whole.then(|| String::from_utf8(bytes).ok()).flatten().map(Secret::new)
        })
        .await
    }

    async fn whole<T>(&self, call: &Call, read: impl Fn(&Value) -> Option<T>) -> Result<T, Failure> {
        for _ in 0..WHOLE_ANSWERS {
            if let Some(found) = read(&self.rest.call(call).await?) {
                return Ok(found);
            }
        }
        let message = format!("{WHOLE_ANSWERS} answers in a row did not have their checksums");
        Err(Failure::Corrupt { object: call.object.clone(), message })
    }
}

/// int64 values are texts in Google's JSON.
fn crc32c(bytes: &[u8]) -> String {
    crc32c::crc32c(bytes).to_string()
}

fn sum(value: &Value) -> Option<u32> {
    value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64().and_then(|sum| sum.try_into().ok()))
}

fn object(key: &str) -> String {
    format!("KMS key {key}")
}

fn path(name: &str) -> Vec<&str> {
    std::iter::once("v1").chain(name.split('/')).collect()
}
