//! Who can open what is sealed: X25519 recipients and identities of the age format, as texts; and what is done to an object
//! on its way into the vault. Does not know where identities are kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{InvalidName, Secret};

/// Who can open an object: `age1...`, the public half of an identity.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Recipient {
    text: String,
    key: age::x25519::Recipient,
}

/// The private half. It prints its recipient only.
#[derive(Clone)]
pub struct Identity {
    recipient: Recipient,
    key: age::x25519::Identity,
}

/// What is done to an object's content before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// RFC 8878.
    Zstd,
    /// age-encryption.org/v1.
    Age,
}

impl Recipient {
    /// As the age crate knows it.
    pub fn key(&self) -> &age::x25519::Recipient {
        &self.key
    }
}

impl Identity {
    /// An identity, as the age crate draws it.
    pub fn new(key: age::x25519::Identity) -> Self {
        let public = key.to_public();
        Self { recipient: Recipient { text: public.to_string(), key: public }, key }
    }

    /// As the age crate knows it.
    pub fn key(&self) -> &age::x25519::Identity {
        &self.key
    }

    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// `AGE-SECRET-KEY-1...`
    pub fn secret(&self) -> Secret {
        use age::secrecy::ExposeSecret;
        Secret::new(self.key.to_string().expose_secret())
    }

    /// The identities of a file as `age-keygen` writes it: one a line, and comments.
    ///
    /// # Errors
    /// When a line is no identity, or there is none; nothing of the text is in the message.
    pub fn read_all(text: &Secret) -> Result<Vec<Self>, String> {
        let mut identities = Vec::new();
        for (n, line) in text.expose().lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.parse().map_err(|_| {
                let n = n + 1;
                format!("line {n} is no identity (AGE-SECRET-KEY-1...); hint: strongroom key generate --sealing FILE")
            })?;
            identities.push(Self::new(key));
        }
        match identities.is_empty() {
            true => Err("holds no identity; hint: strongroom key generate --sealing FILE".into()),
            false => Ok(identities),
        }
    }
}

impl FromStr for Recipient {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        // A private key that was taken for a public one must not be shown.
        let shown = if text.to_ascii_uppercase().starts_with("AGE-SECRET") { "AGE-SECRET-KEY-..." } else { text };
        let wrong = |_| InvalidName {
            what: "recipient",
            text: shown.into(),
            hint: "age1..., as strongroom key generate --sealing prints it",
        };
        let key: age::x25519::Recipient = text.parse().map_err(wrong)?;
        Ok(Self { text: key.to_string(), key })
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.text)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

impl PartialEq for Recipient {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Recipient {}

impl From<Recipient> for String {
    fn from(recipient: Recipient) -> Self {
        recipient.text
    }
}

impl TryFrom<String> for Recipient {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // In the form in which `age-keygen` writes it; the pair is of the age crate's tests.
    const FILE: &str = "# created: 2026-08-01T12:00:00Z\n# public key: age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa\nAGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33\n";

    #[test]
    fn a_file_of_identities_is_read_and_shows_recipients_only() {
        let [identity] = Identity::read_all(&Secret::new(FILE)).unwrap().try_into().unwrap();
        let recipient = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
        assert_eq!(identity.recipient().to_string(), recipient);
        assert_eq!(format!("{identity:?}"), format!("Identity({recipient})"));
        assert!(FILE.contains(identity.secret().expose()));
        assert_eq!(recipient.parse::<Recipient>().unwrap(), *identity.recipient());
        let json = serde_json::to_string(identity.recipient()).unwrap();
        assert_eq!(serde_json::from_str::<Recipient>(&json).unwrap(), *identity.recipient());
    }

    #[test]
    fn what_is_none_is_refused_without_a_word_of_it() {
        for text in ["", "# only this\n", "hunter2", "AGE-SECRET-KEY-1HUNTER2"] {
            let error = Identity::read_all(&Secret::new(text)).unwrap_err();
            assert!(error.contains("hint:") && !error.to_lowercase().contains("hunter2"), "{error}");
        }
        let error = FILE.lines().last().unwrap().parse::<Recipient>().unwrap_err().to_string();
        assert!(error.contains("recipient") && !error.contains("GQ9778"), "{error}");
        assert!("age1qqq".parse::<Recipient>().is_err());
    }
}
