//! Where backups are kept: a bucket or a directory, with a prefix inside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// A destination: `gs://bucket/prefix`, or a local directory (`/path` or `file:///path`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Place {
    /// A Cloud Storage bucket and a prefix without leading or trailing slash, maybe empty.
    Gcs { bucket: String, prefix: String },
    /// A directory of this machine.
    Local { directory: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gcs { bucket, prefix } if prefix.is_empty() => write!(f, "gs://{bucket}"),
            Self::Gcs { bucket, prefix } => write!(f, "gs://{bucket}/{prefix}"),
            Self::Local { directory } => f.write_str(directory),
        }
    }
}

impl FromStr for Place {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = |hint| InvalidName { what: "destination", text: text.into(), hint };
        if let Some(rest) = text.strip_prefix("gs://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // https://cloud.google.com/storage/docs/buckets#naming
            let ok = (3..=222).contains(&bucket.len())
                && bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'));
            if !ok {
                return Err(wrong("a bucket's name has 3 to 222 lowercase letters, digits, '-', '_' and '.'"));
            }
            let prefix = prefix.trim_matches('/');
            if prefix.split('/').any(|part| part == ".." || part == ".") {
                return Err(wrong("the prefix must not hold '.' or '..'"));
            }
            return Ok(Self::Gcs { bucket: bucket.into(), prefix: prefix.into() });
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() || path.contains("://") || path.contains('\0') {
            return Err(wrong("write gs://bucket/prefix, or the path of a directory"));
        }
        Ok(Self::Local { directory: path.trim_end_matches('/').into() })
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_printed() {
        for (text, back) in [
            ("gs://bkt", "gs://bkt"),
            ("gs://bkt/a/b/", "gs://bkt/a/b"),
            ("/backups/", "/backups"),
            ("file:///backups", "/backups"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), back);
        }
        for text in ["", "gs://", "gs://UPPER", "gs://bkt/../x", "ftp://x"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
