//! Archives of files: a tar in zstd frames, and an index that says where in which archive each file lies. FORMAT.md describes both.
//!
//! Nothing that is read here is trusted: a path that could lead out of its root, an entry below what is no folder, or a kind
//! that is not ours is refused, and sizes are bounded. Knows bytes only, no file system.

mod frames;
mod index;
mod path;
mod tar;
#[cfg(test)]
mod tests;

pub use frames::{Compressor, FRAME_BYTES, Frames, MAX_FRAME_BYTES, Table, expand, seek_table, table_length};
pub use index::{Content, Entry, IndexReader, IndexWriter, Indexed, Moment, Order, Place, What};
pub use path::{MAX_DEPTH, MAX_NAME_BYTES, MAX_PATH_BYTES, RelPath};
pub use tar::{BLOCK, END, TarEntry, TarReader, header, padding};

/// Why an archive or its index is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct Hostile {
    /// The path, the line or the byte.
    pub at: String,
    pub message: String,
}

impl Hostile {
    pub(crate) fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { at: at.into(), message: message.into() }
    }
}
