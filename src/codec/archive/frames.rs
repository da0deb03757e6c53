//! zstd frames that can be read one by one: each is whole in itself, and a table at the end says how long they are.
//!
//! The table is a skippable frame in the form of zstd's seekable format
//! (<https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md>): `zstd -d` passes it over.

use super::Hostile;

/// A frame is closed after so many bytes of content where a file ends ...
pub const FRAME_BYTES: usize = 1 << 20;
/// ... and within a file after so many.
pub const MAX_FRAME_BYTES: usize = 4 << 20;
const LEVEL: i32 = 3;

const SKIPPABLE_MAGIC: u32 = 0x184D_2A5E;
const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Number of frames, a byte of flags, the magic number.
const FOOTER_BYTES: usize = 9;
/// Magic number and length before what is skipped.
const HEADER_BYTES: usize = 8;
/// A table of more is not read in one piece: 8 bytes for each MiB of content.
const MAX_TABLE_BYTES: u64 = 256 << 20;

/// Makes frames.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// # Errors
    /// When memory is at its end.
    pub fn new() -> std::io::Result<Self> {
        let mut inner = zstd::bulk::Compressor::new(LEVEL)?;
        inner.include_checksum(true)?;
        Ok(Self(inner))
    }

    /// One frame of this content.
    ///
    /// # Errors
    /// When memory is at its end.
    pub fn frame(&mut self, content: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.compress(content)
    }
}

/// The content of one frame, which must be of that many bytes.
///
/// # Errors
/// When it is no whole frame, or has another length.
pub fn expand(frame: &[u8], content_bytes: usize) -> Result<Vec<u8>, Hostile> {
    let content =
        zstd::bulk::decompress(frame, content_bytes).map_err(|error| Hostile::new("zstd frame", error.to_string()))?;
    if content.len() != content_bytes {
        let message = format!("holds {} bytes, its archive's table says {content_bytes}", content.len());
        return Err(Hostile::new("zstd frame", message));
    }
    Ok(content)
}

/// The frames of an archive while it is written: stored and content bytes of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frames(pub Vec<(u32, u32)>);

/// The frames of an archive that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where each begins, and how long its content is; in the end where the last one ends.
    starts: Vec<u64>,
    contents: Vec<u32>,
}

/// The table as it stands at the archive's end.
pub fn seek_table(frames: &Frames) -> Vec<u8> {
    let mut table = Vec::with_capacity(HEADER_BYTES + frames.0.len() * 8 + FOOTER_BYTES);
    table.extend(SKIPPABLE_MAGIC.to_le_bytes());
    table.extend(((frames.0.len() * 8 + FOOTER_BYTES) as u32).to_le_bytes());
    for (stored, content) in &frames.0 {
        table.extend(stored.to_le_bytes());
        table.extend(content.to_le_bytes());
    }
    table.extend((frames.0.len() as u32).to_le_bytes());
    table.push(0); // no checksums in the table: the frames have their own
    table.extend(SEEKABLE_MAGIC.to_le_bytes());
    table
}

/// How many bytes at an archive's end are its table, by its last nine.
///
/// # Errors
/// When there is no table.
pub fn table_length(last: &[u8], archive_bytes: u64) -> Result<u64, Hostile> {
    let refused = |message: &str| Err(Hostile::new("archive", message));
    let Some(footer) = last.len().checked_sub(FOOTER_BYTES).map(|from| &last[from..]) else {
        return refused("is too short to have a table of its frames");
    };
    if word(footer, 5) != SEEKABLE_MAGIC {
        return refused("has no table of its frames at its end");
    }
    if footer[4] != 0 {
        return refused("has a table of its frames with flags that are not ours");
    }
    let length = u64::from(word(footer, 0)) * 8 + (HEADER_BYTES + FOOTER_BYTES) as u64;
    if length > archive_bytes || length > MAX_TABLE_BYTES {
        return refused("has a table of its frames that is longer than the archive");
    }
    Ok(length)
}

impl Table {
    /// From the bytes at an archive's end that are its table.
    ///
    /// # Errors
    /// When they are none, or do not fit the archive.
    pub fn read(bytes: &[u8], archive_bytes: u64) -> Result<Self, Hostile> {
        let refused = |message: &str| Err(Hostile::new("archive", message));
        if table_length(bytes, archive_bytes)? != bytes.len() as u64
            || word(bytes, 0) != SKIPPABLE_MAGIC
            || word(bytes, 4) as usize != bytes.len() - HEADER_BYTES
        {
            return refused("has a table of its frames that is none");
        }
        let (mut starts, mut contents, mut at) = (Vec::new(), Vec::new(), 0_u64);
        for frame in bytes[HEADER_BYTES..bytes.len() - FOOTER_BYTES].chunks_exact(8) {
            starts.push(at);
            let (stored, content) = (word(frame, 0), word(frame, 4));
            // Twice the most that is written: an entry's header may be added to a frame that is nearly full.
            if content as usize > 2 * MAX_FRAME_BYTES || stored as usize > 2 * MAX_FRAME_BYTES {
                return refused("has a frame that is larger than frames are");
            }
            at += u64::from(stored);
            contents.push(content);
        }
        if at + bytes.len() as u64 != archive_bytes {
            return refused("has a table of its frames that does not add up to its size");
        }
        starts.push(at);
        Ok(Self { starts, contents })
    }

    pub fn len(&self) -> usize {
        self.contents.len()
    }

    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Where a frame lies, and how long its content is.
    pub fn frame(&self, number: u64) -> Option<(std::ops::Range<u64>, usize)> {
        let number = usize::try_from(number).ok()?;
        let content = *self.contents.get(number)?;
        Some((self.starts[number]..self.starts[number + 1], content as usize))
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
}
