//! Cloud Storage. Two ways to the service, never both for the same call:
//!
//! - Reads (whole objects, ranges, resumed where they broke) and writes in one request go through Google's crate
//!   google-cloud-storage, which checks CRC32C in both directions.
//! - Buckets, lists, metadata, deletions, rewrites and lifecycle go through the REST client: the crate offers them only
//!   over gRPC (`StorageControl`), which a plain HTTP endpoint does not serve, and without some bucket fields.
//! - Uploads from a stream go through the REST client: the crate's own corrupt what they resume (see `upload.rs`).

mod buckets;
mod objects;
mod policy;
mod transfer;
mod upload;

use google_cloud_auth::credentials::Credentials;

use super::client_failure;
use super::rest::Rest;
use crate::model::Failure;

pub use buckets::Bucket;
pub use objects::{ListOptions, Object, Page};
pub use transfer::{ByteStream, WriteOptions};

pub(crate) const HOST: &str = "https://storage.googleapis.com";

/// What an upload from a stream holds in memory: one part, until the service has it. A multiple of 256 KiB.
const UPLOAD_PART_BYTES: usize = 8 << 20;

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    rest: Rest,
    /// Repeats nothing: for writes under our own retry.
    once: google_cloud_storage::client::Storage,
    /// Repeats by our policy, for reads, which only the crate can resume in their middle.
    reading: google_cloud_storage::client::Storage,
}

impl Storage {
    pub(crate) async fn connect(rest: Rest, endpoint: Option<&str>, credentials: Credentials) -> Result<Self, Failure> {
        let builder = || {
            let builder = google_cloud_storage::client::Storage::builder()
                .with_credentials(credentials.clone())
                // The gRPC side is not used.
                .with_grpc_subchannel_count(1);
            match endpoint {
                Some(endpoint) => builder.with_endpoint(endpoint),
                None => builder,
            }
        };
        let once = builder()
            .with_retry_policy(google_cloud_gax::retry_policy::NeverRetry)
            .with_resumable_upload_threshold(usize::MAX);
        let repeat = policy::Repeat(rest.retry.clone());
        let reading = builder()
            .with_retry_policy(repeat.clone())
            .with_backoff_policy(repeat.clone())
            .with_read_resume_policy(repeat);
        let failed = |error| client_failure("storage", &error);
        Ok(Self { once: once.build().await.map_err(failed)?, reading: reading.build().await.map_err(failed)?, rest })
    }
}

fn object_name(bucket: &str, name: &str) -> String {
    format!("gs://{bucket}/{name}")
}
