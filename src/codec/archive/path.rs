//! A path below a root. There is no value of it that leads out of that root.

use std::cmp::Ordering;
use std::fmt;

use super::Hostile;

/// What a name may be long on every file system that counts.
pub const MAX_NAME_BYTES: usize = 255;
/// What a path may be long in one call to the system.
pub const MAX_PATH_BYTES: usize = 4095;
/// Folders that are open at once while a tree is written; more are no tree of a person's.
pub const MAX_DEPTH: usize = 200;

/// A relative path: parts divided by `/`, none empty, `.` or `..`. Need not be UTF-8. Ordered as a tree is walked: a folder, what is
/// in it, what follows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// # Errors
    /// When it is absolute, or has a part that is no name.
    pub fn new(bytes: &[u8]) -> Result<Self, Hostile> {
        let refused = |message: &str| Err(Hostile::new(format!("path '{}'", shown(bytes)), message));
        if bytes.is_empty() {
            return refused("is empty");
        }
        if bytes[0] == b'/' {
            return refused("is absolute");
        }
        if bytes.len() > MAX_PATH_BYTES {
            return refused("is longer than 4095 bytes");
        }
        if bytes.contains(&0) {
            return refused("has a zero byte in it");
        }
        for (depth, part) in bytes.split(|byte| *byte == b'/').enumerate() {
            match part {
                b"" => return refused("has an empty part"),
                b"." => return refused("has a part '.'"),
                b".." => return refused("has a part '..'"),
                part if part.len() > MAX_NAME_BYTES => return refused("has a name of more than 255 bytes"),
                _ if depth >= MAX_DEPTH => return refused("lies more than 200 folders deep"),
                _ => {}
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The folder that it lies in, none for the root, and its name there.
    pub fn split(&self) -> (Option<&[u8]>, &[u8]) {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (Some(&self.0[..at]), &self.0[at + 1..]),
            None => (None, &self.0),
        }
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Bytes for people: no control characters, not endless.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let mut text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)])
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if bytes.len() > SHOWN {
        text.push_str("...");
    }
    text
}
