//! Small records with a signature. There is one way of writing each: bytes that differ in a blank are refused.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{PublicKey, Signature, SigningKey};

/// What is signed, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Signed<T> {
    record: T,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

/// What a signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Signed by a key that is trusted.
    Trusted(PublicKey),
    /// Soundly signed, by a key that is not trusted.
    Stranger(PublicKey),
    Unsigned,
}

/// A record that has a kind: so that one is never taken for another.
pub trait Record: Serialize + DeserializeOwned {
    const KIND: &'static str;
}

/// Encodes a record, signed when there is a key.
///
/// # Errors
/// When the record cannot be JSON.
pub fn write<T: Record>(record: T, key: Option<&SigningKey>) -> Result<Vec<u8>, String> {
    let signature = match key {
        Some(key) => Some(key.sign(&message(&record)?)),
        None => None,
    };
    encode(&Signed { record, signature })
}

/// Reads a record, and what its signature says.
///
/// # Errors
/// When the bytes are not such a record to the byte, or the signature is wrong.
pub fn read<T: Record>(bytes: &[u8], trusted: &BTreeSet<PublicKey>) -> Result<(T, Standing), String> {
    let signed: Signed<T> = serde_json::from_slice(bytes).map_err(|error| format!("is no {}: {error}", T::KIND))?;
    if encode(&signed)? != bytes {
        return Err(format!("is a {} written in another way than all are", T::KIND));
    }
    let standing = match &signed.signature {
        None => Standing::Unsigned,
        Some(signature) if !PublicKey::verifies(signature, &message(&signed.record)?) => {
            return Err(format!("has a signature that is not of {} and these words", signature.key));
        }
        Some(signature) if trusted.contains(&signature.key) => Standing::Trusted(signature.key),
        Some(signature) => Standing::Stranger(signature.key),
    };
    Ok((signed.record, standing))
}

/// What is signed: the kind, a zero byte, the record as compact JSON.
fn message<T: Record>(record: &T) -> Result<Vec<u8>, String> {
    let mut message = format!("strongroom {}\0", T::KIND).into_bytes();
    serde_json::to_writer(&mut message, record).map_err(|error| error.to_string())?;
    Ok(message)
}

fn encode<T: Serialize>(signed: &Signed<T>) -> Result<Vec<u8>, String> {
    let mut bytes = serde_json::to_vec_pretty(signed).map_err(|error| error.to_string())?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u64>,
    }

    impl Record for Note {
        const KIND: &'static str = "note";
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Letter(Note);

    impl Record for Letter {
        const KIND: &'static str = "letter";
    }

    #[test]
    fn no_byte_can_be_changed_and_no_length_cut() {
        let (key, _) = SigningKey::from_seed(&[1; 32]).unwrap();
        let note = Note { text: "a \u{e4} \" \\ b".into(), number: Some(7) };
        for key in [None, Some(&key)] {
            let trusted: BTreeSet<PublicKey> = key.iter().map(|key| key.public()).collect();
            let bytes = write(note.clone(), key).unwrap();
            let (read_back, standing) = read::<Note>(&bytes, &trusted).unwrap();
            assert_eq!(read_back, note);
            assert_eq!(standing, key.map_or(Standing::Unsigned, |key| Standing::Trusted(key.public())));
            for at in 0..bytes.len() {
                assert!(read::<Note>(&bytes[..at], &trusted).is_err(), "{at}");
                for mask in [1, 0x20, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= mask;
                    let found = read::<Note>(&changed, &trusted);
                    // Without a signature a word may be another word; never with one.
                    assert!(found.is_err() || (key.is_none() && found.unwrap().0 != note), "{at}");
                }
            }
        }
    }

    #[test]
    fn a_signature_is_of_one_kind_and_a_stranger_is_told_apart() {
        let (key, _) = SigningKey::from_seed(&[1; 32]).unwrap();
        let note = Note { text: "x".into(), number: None };
        let bytes = write(note, Some(&key)).unwrap();
        assert!(read::<Letter>(&bytes, &BTreeSet::new()).unwrap_err().contains("not of ed25519:"));
        assert_eq!(read::<Note>(&bytes, &BTreeSet::new()).unwrap().1, Standing::Stranger(key.public()));
    }
}
