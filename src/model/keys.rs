//! Keys that sign the catalog: Ed25519, as texts and as PEM. Does not know what is signed, nor where keys are kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::{InvalidName, Secret};

const PREFIX: &str = "ed25519:";

/// A public key: `ed25519:` and 32 bytes in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey([u8; 32]);

/// A signature, and the key that it is said to be of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub key: PublicKey,
    /// Base64 of 64 bytes.
    value: String,
}

/// A private key. It prints its public half only.
#[derive(Clone)]
pub struct SigningKey(Arc<Ed25519KeyPair>);

impl PublicKey {
    /// Whether the signature is of these bytes and of the key that it names.
    pub fn verifies(signature: &Signature, bytes: &[u8]) -> bool {
        let Ok(value) = STANDARD.decode(&signature.value) else { return false };
        UnparsedPublicKey::new(&ED25519, signature.key.0).verify(bytes, &value).is_ok()
    }
}

impl SigningKey {
    /// The key of 32 random bytes, and its PEM, which is all that needs to be kept.
    ///
    /// # Errors
    /// When the cryptographic library refuses.
    pub fn from_seed(seed: &[u8; 32]) -> Result<(Self, Secret), String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| error.to_string())?;
        // Version 1 is what every other program reads.
        let document = pair.to_pkcs8v1().map_err(|error| error.to_string())?;
        let body = STANDARD.encode(document.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        Ok((Self(Arc::new(pair)), Secret::new(pem)))
    }

    /// Reads a PKCS#8 PEM, as `strongroom key generate` and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// When it is none, or of another kind of key; nothing of the text is in the message.
    pub fn from_pem(pem: &Secret) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.expose().as_bytes());
        let der = der.map_err(|_| "is no PEM with a PRIVATE KEY; hint: strongroom key generate".to_string())?;
        let pair = Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der());
        let pair = pair.map_err(|_| "is no Ed25519 key; hint: strongroom key generate".to_string())?;
        Ok(Self(Arc::new(pair)))
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature { key: self.public(), value: STANDARD.encode(self.0.sign(bytes)) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = || InvalidName {
            what: "public key",
            text: text.into(),
            hint: "ed25519:..., as strongroom key show prints it",
        };
        let bytes = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok()).ok_or_else(wrong)?;
        bytes.try_into().map(Self).map_err(|_| wrong())
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_and_signs() {
        let (key, pem) = SigningKey::from_seed(&[7; 32]).unwrap();
        let again = SigningKey::from_pem(&pem).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
        let signature = again.sign(b"bytes");
        assert!(PublicKey::verifies(&signature, b"bytes"));
        assert!(!PublicKey::verifies(&signature, b"byte"));
        let other = SigningKey::from_seed(&[8; 32]).unwrap().0;
        assert!(!PublicKey::verifies(&Signature { key: other.public(), ..signature.clone() }, b"bytes"));
        assert!(!PublicKey::verifies(&Signature { value: "?".into(), ..signature }, b"bytes"));
    }

    #[test]
    fn keys_of_openssl_are_read() {
        // openssl genpkey -algorithm ed25519; openssl pkey -pubout
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIL005RT/agqHQ74BRU2E9OLs1PB8CK8M5a0ERvms4NwE\n-----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pem(&Secret::new(pem)).unwrap();
        assert_eq!(key.public().to_string(), "ed25519:tD2paGOpHIZOQWvJTQBMN48FWaw7AP1M+LD/jnYEh0k=");
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_word_of_it() {
        for pem in ["", "hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"] {
            let error = SigningKey::from_pem(&Secret::new(pem)).unwrap_err();
            assert!(error.contains("hint:") && !error.contains("hunter2"), "{error}");
        }
        assert!("ed25519:AA==".parse::<PublicKey>().is_err() && "AA==".parse::<PublicKey>().is_err());
    }
}
