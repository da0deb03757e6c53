//! What buckets are to be like: checked and made so by `strongroom buckets`.

use toml::Table;

use super::reader::{Problems, Reader};
use crate::model::Period;

/// What holds for every bucket that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Buckets {
    /// Where a missing bucket is made; `None`: where the BigQuery datasets are.
    pub location: Option<String>,
    /// How long the provider keeps what was deleted; `None`: as it is.
    pub soft_delete: Option<Period>,
    /// Whether replaced and deleted objects stay as noncurrent versions; `None`: as it is.
    pub versioning: Option<bool>,
    /// How long noncurrent versions stay.
    pub keep_noncurrent: Option<Period>,
}

pub(super) fn read_buckets(path: &str, table: Table, problems: &mut Problems) -> Buckets {
    let mut reader = Reader::new(path, table, problems);
    let buckets = Buckets {
        location: reader.text("location").map(|location| location.to_uppercase()),
        soft_delete: reader.parsed("soft_delete"),
        versioning: reader.flag("versioning"),
        keep_noncurrent: reader.parsed("keep_noncurrent"),
    };
    // https://cloud.google.com/storage/docs/soft-delete#retention-duration
    let seconds = buckets.soft_delete.map_or(0, Period::as_secs);
    if seconds != 0 && !(7 * 86_400..=90 * 86_400).contains(&seconds) {
        reader.problem("soft_delete", "must be 0s (off), or from 7d to 90d");
    }
    if buckets.versioning == Some(true) && buckets.keep_noncurrent.is_none() {
        reader.problem("keep_noncurrent", "is missing: without it removed backups are billed for ever; hint: 30d");
    }
    reader.finish();
    buckets
}
