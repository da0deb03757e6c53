//! Size, CRC32C and SHA-256 of a stream of bytes, taken in one pass.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

pub use crate::model::{Digests, crc32c_from_base64, crc32c_to_base64};

/// Takes digests while bytes pass by.
#[derive(Clone)]
pub struct Digester {
    size_bytes: u64,
    crc32c: u32,
    sha256: Context,
}

/// A reader or writer that takes the digests of what passes through it.
pub struct Digesting<T> {
    inner: T,
    digester: Digester,
}

impl Digests {
    /// The digests of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digester = Digester::new();
        digester.update(bytes);
        digester.finish()
    }
}

impl Digester {
    pub fn new() -> Self {
        Self { size_bytes: 0, crc32c: 0, sha256: Context::new(&SHA256) }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.sha256.update(bytes);
    }

    /// Bytes seen so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn finish(self) -> Digests {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.sha256.finish().as_ref());
        Digests { size_bytes: self.size_bytes, crc32c: self.crc32c, sha256 }
    }
}

impl Default for Digester {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl<T> Digesting<T> {
    pub fn new(inner: T) -> Self {
        Self { inner, digester: Digester::new() }
    }

    pub fn size_bytes(&self) -> u64 {
        self.digester.size_bytes
    }

    /// The reader or writer itself, and the digests of what passed.
    pub fn finish(self) -> (T, Digests) {
        (self.inner, self.digester.finish())
    }
}

impl<T: std::io::Write> std::io::Write for Digesting<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digester.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<T: std::io::Read> std::io::Read for Digesting<T> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.digester.update(&bytes[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    // SHA-256 of "abc": FIPS 180-2, B.1. CRC32C of "123456789": RFC 3720, B.4 (as the check value 0xe3069283).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn known_values() {
        assert_eq!(Digests::of(b"abc").sha256_hex(), ABC);
        let digests = Digests::of(b"123456789");
        assert_eq!(digests.crc32c, 0xe306_9283);
        assert_eq!(digests.crc32c_base64(), "4waSgw==");
        assert_eq!(crc32c_from_base64("4waSgw=="), Some(0xe306_9283));
        assert_eq!(crc32c_from_base64("4waS"), None);
    }

    #[test]
    fn pieces_and_the_whole_agree() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 + n / 256) as u8).collect();
        let mut digester = Digester::new();
        for piece in bytes.chunks(777) {
            digester.update(piece);
        }
        assert_eq!(digester.finish(), Digests::of(&bytes));
        let mut writer = Digesting::new(Vec::new());
        writer.write_all(&bytes).unwrap();
        let (written, digests) = writer.finish();
        assert_eq!((written.len(), digests), (bytes.len(), Digests::of(&bytes)));
        let mut reader = Digesting::new(bytes.as_slice());
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(reader.finish().1, digests);
    }

    #[test]
    fn json_goes_there_and_back() {
        let digests = Digests::of(b"abc");
        let text = serde_json::to_string(&digests).unwrap();
        assert_eq!(text, format!(r#"{{"size_bytes":3,"crc32c":"Nks/tw==","sha256":"{ABC}"}}"#));
        assert_eq!(serde_json::from_str::<Digests>(&text).unwrap(), digests);
        assert!(serde_json::from_str::<Digests>(&text.replace("ba78", "ba7")).is_err());
    }
}
