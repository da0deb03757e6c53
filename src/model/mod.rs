//! The field's words as types. Knows nothing of files, clocks, networks or configuration.

mod backup_name;
mod buckets;
mod database_url;
mod digest;
mod failure;
mod keys;
mod names;
mod occasion;
mod path_pattern;
mod pattern;
mod period;
mod place;
mod schedule;
pub mod schema;
mod sealing;
mod secret;
mod storage_class;
mod totals;

pub use backup_name::{BackupName, TierName};
pub use buckets::{Bucket, Buckets};
pub use database_url::{DatabaseUrl, InvalidDatabaseUrl, SslMode};
pub use digest::{Digests, crc32c_from_base64, crc32c_to_base64};
pub use failure::Failure;
pub use keys::{PublicKey, Signature, SigningKey};
pub use names::{DatasetId, InvalidName, TableId};
pub use occasion::{Kind, Terms};
pub use path_pattern::PathPattern;
pub use pattern::Pattern;
pub use period::Period;
pub use place::Place;
pub use schedule::Schedule;
pub use sealing::{Encoding, Identity, Recipient};
pub use secret::Secret;
pub use storage_class::StorageClass;
pub use totals::{ColumnTotals, Fingerprint, Totals};
