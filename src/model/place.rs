//! Where backups are kept: a bucket, a container or a directory, with a prefix inside it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// A destination: `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix`, or a local directory (`/path` or
/// `file:///path`). A prefix has no leading or trailing slash and may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Place {
    /// A bucket of Cloud Storage.
    Gcs { bucket: String, prefix: String },
    /// A bucket of S3, or of a service that speaks its protocol.
    S3 { bucket: String, prefix: String },
    /// A container of Azure Blob Storage; the account is the configuration's.
    Azure { container: String, prefix: String },
    /// A directory of this machine.
    Local { directory: String },
}

/// The kinds of storage, by the name that reports give them: two copies on one kind may be lost by one fault of it.
impl Place {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gcs { .. } => "gcs",
            Self::S3 { .. } => "s3",
            Self::Azure { .. } => "azure",
            Self::Local { .. } => "local",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, bucket, prefix) = match self {
            Self::Gcs { bucket, prefix } => ("gs", bucket, prefix),
            Self::S3 { bucket, prefix } => ("s3", bucket, prefix),
            Self::Azure { container, prefix } => ("az", container, prefix),
            Self::Local { directory } => return f.write_str(directory),
        };
        let slash = if prefix.is_empty() { "" } else { "/" };
        write!(f, "{scheme}://{bucket}{slash}{prefix}")
    }
}

impl FromStr for Place {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = |hint| InvalidName { what: "destination", text: text.into(), hint };
        let Some((scheme, rest)) = text.split_once("://") else { return directory(text, text) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |allowed: &str| {
            bucket.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || allowed.contains(c))
                && bucket.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let (ok, hint) = match scheme {
            "file" => return directory(text, rest),
            // https://cloud.google.com/storage/docs/buckets#naming
            "gs" => (
                (3..=222).contains(&bucket.len()) && plain("-_."),
                "a bucket's name has 3 to 222 lowercase letters, digits, '-', '_' and '.'",
            ),
            // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
            "s3" => (
                (3..=63).contains(&bucket.len()) && plain("-."),
                "a bucket's name has 3 to 63 lowercase letters, digits, '-' and '.'",
            ),
            // https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
            "az" => (
                (3..=63).contains(&bucket.len()) && plain("-") && !bucket.contains("--"),
                "a container's name has 3 to 63 lowercase letters, digits and single '-'",
            ),
            _ => (false, PLACES),
        };
        if !ok {
            return Err(wrong(hint));
        }
        let prefix = prefix.trim_matches('/');
        if prefix.split('/').any(|part| part == ".." || part == ".") {
            return Err(wrong("the prefix must not hold '.' or '..'"));
        }
        let (bucket, prefix) = (bucket.to_string(), prefix.to_string());
        Ok(match scheme {
            "gs" => Self::Gcs { bucket, prefix },
            "s3" => Self::S3 { bucket, prefix },
            _ => Self::Azure { container: bucket, prefix },
        })
    }
}

const PLACES: &str = "write gs://bucket/prefix, s3://bucket/prefix, az://container/prefix, or the path of a directory";

fn directory(text: &str, path: &str) -> Result<Place, InvalidName> {
    if path.trim_end_matches('/').is_empty() || path.contains('\0') {
        return Err(InvalidName { what: "destination", text: text.into(), hint: PLACES });
    }
    Ok(Place::Local { directory: path.trim_end_matches('/').into() })
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
            ("s3://bkt/a", "s3://bkt/a"),
            ("az://container", "az://container"),
            ("/backups/", "/backups"),
            ("file:///backups", "/backups"),
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), back);
        }
        for text in ["", "gs://", "gs://UPPER", "gs://bkt/../x", "s3://under_score", "az://a--b", "ftp://x", "file://"]
        {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
