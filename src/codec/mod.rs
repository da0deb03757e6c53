//! Rows to bytes and back: Avro, Parquet, JSON Lines, CSV; row JSON, fingerprints, digests; compression and sealing.
//!
//! Works over `std::io` traits and memory only. Does not know where bytes lie or who asks for them.

pub mod archive;
pub mod arrow_schema;
pub mod avro;
mod cast;
pub(crate) mod columns;
pub mod csv;
pub mod digest;
mod error;
pub mod farm;
pub mod fingerprint;
mod lines;
pub mod ndjson;
pub mod parquet;
pub mod pg_dump;
pub mod row_json;
pub mod seal;
pub mod stats;
pub mod text;
pub mod value;

pub use cast::conform;
pub use error::CodecError;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod testing;
