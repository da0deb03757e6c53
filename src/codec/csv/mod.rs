//! CSV as BigQuery loads and extracts it. Only flat tables have this form.

mod read;
mod records;
mod write;

pub use read::{ReadOptions, Reader};
pub use write::{Writer, WriterOptions};

#[cfg(test)]
mod tests;
