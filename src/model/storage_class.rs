//! Storage classes: what a place stores cheaply and gives back dearly.

use std::fmt;

use serde::Serialize;

use super::{InvalidName, Place};

/// A storage class of a kind of storage, by the provider's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "&'static str")]
pub struct StorageClass {
    name: &'static str,
    /// What is deleted or replaced earlier is billed for so long all the same.
    pub min_days: u32,
}

/// <https://cloud.google.com/storage/docs/storage-classes>
const GCS: [(&str, u32); 4] = [("STANDARD", 0), ("NEARLINE", 30), ("COLDLINE", 90), ("ARCHIVE", 365)];
/// <https://aws.amazon.com/s3/storage-classes/>; without GLACIER and DEEP_ARCHIVE, of which nothing is read within hours.
const S3: [(&str, u32); 5] =
    [("STANDARD", 0), ("INTELLIGENT_TIERING", 0), ("STANDARD_IA", 30), ("ONEZONE_IA", 30), ("GLACIER_IR", 90)];
/// <https://learn.microsoft.com/azure/storage/blobs/access-tiers-overview>; without Archive, for the same reason.
const AZURE: [(&str, u32); 3] = [("Hot", 0), ("Cool", 30), ("Cold", 90)];

impl StorageClass {
    /// A class of the kind of storage that a place is.
    ///
    /// # Errors
    /// What is none there, or cannot be read back at once: what was written must be verified, and restored from.
    pub fn of(place: &Place, text: &str) -> Result<Self, InvalidName> {
        let (classes, hint): (&[(&'static str, u32)], _) = match place {
            Place::Gcs { .. } => (&GCS, "STANDARD, NEARLINE, COLDLINE or ARCHIVE"),
            Place::S3 { .. } => (
                &S3,
                "STANDARD, INTELLIGENT_TIERING, STANDARD_IA, ONEZONE_IA or GLACIER_IR; others cannot be read at once",
            ),
            Place::Azure { .. } => (&AZURE, "Hot, Cool or Cold; Archive cannot be read at once"),
            Place::Local { .. } => (&[], "a directory has no storage classes"),
        };
        let found = classes.iter().find(|(name, _)| *name == text);
        let (name, min_days) = found.ok_or(InvalidName { what: "storage class", text: text.into(), hint })?;
        Ok(Self { name, min_days: *min_days })
    }

    pub const fn as_str(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl From<StorageClass> for &'static str {
    fn from(class: StorageClass) -> Self {
        class.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_belongs_to_its_kind_of_storage() {
        let class = |place: &str, text: &str| StorageClass::of(&place.parse().unwrap(), text);
        assert_eq!(class("gs://bkt", "ARCHIVE").unwrap().min_days, 365);
        assert_eq!(class("s3://bkt", "GLACIER_IR").unwrap().as_str(), "GLACIER_IR");
        for (place, text) in
            [("gs://bkt", "archive"), ("s3://bkt", "DEEP_ARCHIVE"), ("az://bkt", "Archive"), ("/b", "STANDARD")]
        {
            assert!(class(place, text).is_err(), "{place} {text}");
        }
    }
}
