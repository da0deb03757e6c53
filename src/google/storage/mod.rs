//! Cloud Storage. Two ways to the service, never both for the same call:
//!
//! - Reads (whole objects, ranges) and writes in one request go through Google's crate google-cloud-storage, which checks
//!   CRC32C in both directions; what breaks is repeated or taken up by our own retry (`read.rs`).
//! - Buckets, lists, metadata, deletions, rewrites and lifecycle go through the REST client: the crate offers them only
//!   over gRPC (`StorageControl`), which a plain HTTP endpoint does not serve, and without some bucket fields.
//! - Uploads from a stream go through the REST client: the crate's own corrupt what they resume (see `upload.rs`).

mod buckets;
mod objects;
mod read;
mod transfer;
mod upload;

use google_cloud_auth::credentials::Credentials;

use super::client_failure;
use super::rest::Rest;
use crate::model::Failure;

pub use buckets::Bucket;
pub use objects::{ListOptions, Object, Page};
pub use transfer::{ByteStream, WHOLE_READS, WriteOptions};

pub(crate) const HOST: &str = "https://storage.googleapis.com";

/// What an upload from a stream holds in memory: one part, until the service has it. A multiple of 256 KiB.
const UPLOAD_PART_BYTES: usize = 8 << 20;

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    rest: Rest,
    /// Repeats and resumes nothing: that is our own retry's.
    once: google_cloud_storage::client::Storage,
}

impl Storage {
    pub(crate) async fn connect(rest: Rest, endpoint: Option<&str>, credentials: Credentials) -> Result<Self, Failure> {
        let builder = google_cloud_storage::client::Storage::builder()
            .with_credentials(credentials)
            // The gRPC side is not used.
            .with_grpc_subchannel_count(1)
            .with_retry_policy(google_cloud_gax::retry_policy::NeverRetry)
            .with_read_resume_policy(google_cloud_storage::read_resume_policy::NeverResume)
            .with_resumable_upload_threshold(usize::MAX);
        let builder = match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint),
            None => builder,
        };
        let once = builder.build().await.map_err(|error| client_failure("storage", &error))?;
        Ok(Self { once, rest })
    }
}

fn object_name(bucket: &str, name: &str) -> String {
    format!("gs://{bucket}/{name}")
}
