//! What went wrong while turning rows into bytes or bytes into rows, and where.

/// A failed conversion. Knows nothing of where the bytes came from: the caller names the object.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The reader or writer underneath failed; the bytes themselves were not judged.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The bytes are not what the format promises (truncated, wrong marker, length out of bounds, bad checksum).
    #[error("not a valid {format} file at byte {offset}: {message}")]
    Malformed { format: &'static str, offset: u64, message: String },
    /// The file or the batch does not have the shape of the table's schema.
    #[error("column '{column}': {message}")]
    Schema { column: String, message: String },
    /// One value cannot be held by its column without loss. `row` counts from 1 (for text formats: the line).
    #[error("row {row}, column '{column}': {message}")]
    Value { row: u64, column: String, message: String },
    /// One row as a whole is wrong. `row` counts from 1 (for text formats: the line).
    #[error("row {row}: {message}")]
    Row { row: u64, message: String },
    /// The format cannot carry it, or this program does not know how to.
    #[error("{format}: {message}")]
    Unsupported { format: &'static str, message: String },
}

impl CodecError {
    pub(crate) fn schema(column: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Schema { column: column.into(), message: message.into() }
    }

    /// The number of the row (or line) at which it happened, where there is one.
    pub fn row(&self) -> Option<u64> {
        match self {
            Self::Value { row, .. } | Self::Row { row, .. } => Some(*row),
            _ => None,
        }
    }
}
