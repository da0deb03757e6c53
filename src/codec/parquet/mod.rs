//! Parquet files, as BigQuery extracts and loads them, over the parquet crate.
//!
//! Reading takes what other writers make (both list forms, INT32/INT64 decimals, INT96, other units of time) as long as
//! no digit is lost; writing makes BigQuery's form: bare repeated fields, decimals as fixed bytes, times in microseconds.

mod int96;
mod parts;
mod read;
mod write;

pub use parts::{Footer, Parts, Statistics};
pub use read::{Inference, ReadOptions, Reader, infer_schema, row_count};
pub use write::{Compression, Writer, WriterOptions};

const FORMAT: &str = "Parquet";

/// Turns the parquet crate's errors into this module's.
fn broken(error: impl std::fmt::Display) -> super::CodecError {
    super::CodecError::Malformed { format: FORMAT, offset: 0, message: error.to_string() }
}

#[cfg(test)]
mod tests;
