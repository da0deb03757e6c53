//! Where BigQuery writes and reads files when it cannot do so where a backup lies: in a staging bucket, which is emptied
//! afterwards.

use super::Refusal;
use super::facts::DestinationFacts;
use crate::config::{Destination, Tier};
use crate::model::{DatasetId, Place};

/// Whether a tier's backups go by way of staging: BigQuery cannot write them where they lie, or not as they lie there, or nobody
/// could look there at what it has written.
pub fn needs_staging(tier: &Tier) -> bool {
    let out_of_reach = |primary: &Destination| primary.create_only || !reaches(&primary.place);
    tier.seal.is_some() || tier.destinations.first().is_some_and(out_of_reach)
}

/// Whether BigQuery writes and reads files there by itself.
pub fn reaches(place: &Place) -> bool {
    matches!(place, Place::Gcs { .. })
}

/// The folder of a restore below staging's root; a backup's is its own.
pub fn restore_folder(run: &str) -> String {
    format!("{RESTORES}/{run}")
}

/// Holds a folder for each restore under way. No tier's folder: those hold days.
pub const RESTORES: &str = "_restores";

/// A dataset and its location.
pub(super) type Dataset<'a> = (&'a DatasetId, &'a str);

/// What stands against staging for files that lie, or shall lie, in `place`.
pub(super) fn check(
    place: &Place,
    dataset: Dataset<'_>,
    staging: Option<&DestinationFacts>,
    refusals: &mut Vec<Refusal>,
) {
    let Some(staging) = staging else {
        let hint = "name a bucket in the dataset's location for files on their way: staging = \"gs://bucket/prefix\"";
        let message = match reaches(place) {
            true => format!("BigQuery neither writes nor reads what is sealed, and {} has no staging", dataset.0),
            false => format!("BigQuery works with files in Cloud Storage only, and {} has no staging", dataset.0),
        };
        refusals.push(Refusal::new(place, message, hint));
        return;
    };
    if staging.location.is_none() {
        let hint = "create it, or correct 'staging'";
        refusals.push(Refusal::new(&staging.place, "does not exist, or may not be seen", hint));
    }
    if staging.retention_locked {
        let hint = "name a bucket without a lock as 'staging': it is emptied after every run";
        refusals.push(Refusal::new(&staging.place, "has a locked retention policy", hint));
    }
    check_location(dataset, staging, refusals);
}

/// What stands against a bucket that BigQuery writes into, or reads from.
pub(super) fn check_location((dataset, location): Dataset<'_>, bucket: &DestinationFacts, refusals: &mut Vec<Refusal>) {
    if let Some(found) = &bucket.location
        && !exportable(location, found)
    {
        refusals.push(Refusal::new(
            &bucket.place,
            format!("is in {found}, but {dataset} is in {location}: BigQuery extracts into its own location only"),
            "use a bucket in the dataset's location",
        ));
    }
}

/// Whether BigQuery extracts from a dataset's location into a bucket's.
///
/// https://cloud.google.com/bigquery/docs/exporting-data#data-locations: the same location, or, for the multi-regions,
/// a region within it.
fn exportable(dataset: &str, bucket: &str) -> bool {
    let (dataset, bucket) = (dataset.to_uppercase(), bucket.to_uppercase());
    dataset == bucket
        || (dataset == "US" && (bucket.starts_with("US-") || bucket == "NAM4"))
        || (dataset == "EU" && (bucket.starts_with("EUROPE-") || bucket == "EUR4"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_must_be_where_bigquery_extracts_to() {
        for (dataset, bucket, expected) in [
            ("US", "us", true),
            ("US", "US-CENTRAL1", true),
            ("US", "EU", false),
            ("EU", "EUROPE-WEST4", true),
            ("us-central1", "US", false),
            ("europe-west1", "EUROPE-WEST1", true),
        ] {
            assert_eq!(exportable(dataset, bucket), expected, "{dataset} {bucket}");
        }
    }
}
