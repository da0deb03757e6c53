//! Avro object container files, as BigQuery extracts and loads them.
//!
//! Reading casts what the file holds into the table's Arrow mapping and never loses a digit silently; writing makes the
//! file that BigQuery's extract makes. Decoding is this module's own: it goes straight from bytes to columns, and every
//! length in a file is bounded, which neither Avro library offers.

mod container;
mod read;
mod schema;
mod write;

pub use read::{ReadOptions, Reader, infer_schema};
pub use schema::Inference;
pub use write::{Writer, WriterOptions};

use super::CodecError;
use crate::model::schema::Schema;

const FORMAT: &str = "Avro";
/// No block of a file may be larger, compressed or not. BigQuery's rows have at most 100 MB.
pub(crate) const MAX_BLOCK_BYTES: usize = 128 << 20;

/// How the blocks of a file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    #[default]
    Null,
    Deflate,
    Snappy,
    /// Not among BigQuery's extract codecs; for files of this program's own.
    Zstandard,
}

impl Codec {
    pub const ALL: [Codec; 4] = [Self::Null, Self::Deflate, Self::Snappy, Self::Zstandard];

    /// The name in a file's metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstandard => "zstandard",
        }
    }

    fn of_name(name: &[u8]) -> Result<Self, CodecError> {
        let found = Self::ALL.into_iter().find(|c| c.name().as_bytes() == name);
        found.ok_or_else(|| {
            let name: String = String::from_utf8_lossy(name).chars().take(40).collect();
            CodecError::Unsupported { format: FORMAT, message: format!("the codec '{name}' is not read") }
        })
    }
}

/// The Avro schema, as JSON text, that an extract of the table has.
///
/// # Errors
/// A RANGE column, or a name that Avro does not allow: such tables are extracted as Parquet.
pub fn avro_schema(table: &Schema, logical_types: bool) -> Result<String, CodecError> {
    Ok(schema::of_table(table, logical_types)?.to_string())
}

#[cfg(test)]
mod tests;
