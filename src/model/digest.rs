//! What identifies the contents of an object.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Size, CRC32C and SHA-256 of an object.
///
/// In JSON the CRC32C is written as Cloud Storage writes it (base64 of the big-endian bytes), the SHA-256 in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    pub size_bytes: u64,
    #[serde(serialize_with = "write_crc32c", deserialize_with = "read_crc32c")]
    pub crc32c: u32,
    #[serde(serialize_with = "write_sha256", deserialize_with = "read_sha256")]
    pub sha256: [u8; 32],
}

impl Digests {
    /// The CRC32C as Cloud Storage writes it: base64 of the big-endian bytes.
    pub fn crc32c_base64(&self) -> String {
        crc32c_to_base64(self.crc32c)
    }

    pub fn sha256_hex(&self) -> String {
        use std::fmt::Write;
        self.sha256.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Cloud Storage's spelling of a CRC32C.
pub fn crc32c_to_base64(crc32c: u32) -> String {
    STANDARD.encode(crc32c.to_be_bytes())
}

/// Reads Cloud Storage's spelling of a CRC32C.
pub fn crc32c_from_base64(text: &str) -> Option<u32> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn write_crc32c<S: Serializer>(crc32c: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&crc32c_to_base64(*crc32c))
}

fn read_crc32c<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    crc32c_from_base64(&text).ok_or_else(|| D::Error::custom(format!("'{text}' is no CRC32C in base64")))
}

fn write_sha256<S: Serializer>(sha256: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    let digests = Digests { size_bytes: 0, crc32c: 0, sha256: *sha256 };
    serializer.serialize_str(&digests.sha256_hex())
}

fn read_sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let wrong = || D::Error::custom(format!("'{text}' is no SHA-256 in hex"));
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut sha256 = [0; 32];
    for (i, byte) in sha256.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| wrong())?;
    }
    Ok(sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_stored_as_people_know_them() {
        let digests = Digests { size_bytes: 5, crc32c: 0x9a71_bb4c, sha256: [0xab; 32] };
        let json = serde_json::to_string(&digests).unwrap();
        assert_eq!(json, format!(r#"{{"size_bytes":5,"crc32c":"mnG7TA==","sha256":"{}"}}"#, "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<Digests>(&json).unwrap(), digests);
        assert!(serde_json::from_str::<Digests>(&json.replace("abab", "zz")).is_err());
    }
}
