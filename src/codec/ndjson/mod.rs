//! JSON Lines (`NEWLINE_DELIMITED_JSON`) as BigQuery loads and extracts it.

mod read;
mod scan;
mod write;

pub use read::{ReadOptions, Reader};
pub use write::Writer;

#[cfg(test)]
mod tests;
