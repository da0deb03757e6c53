//! Avro's object container: header, blocks, markers, compression. Knows nothing of what a block's bytes mean.
//!
//! Every length that a file states is checked against a bound before memory is taken for it.

use std::io::{Read, Write};

use super::{Codec, FORMAT, MAX_BLOCK_BYTES};
use crate::codec::CodecError;

const MAGIC: &[u8; 4] = b"Obj\x01";
/// Metadata holds the schema and little else.
const MAX_METADATA_BYTES: usize = 16 << 20;
const MAX_METADATA_ENTRIES: usize = 10_000;

/// What stands before the blocks.
#[derive(Debug)]
pub(super) struct Header {
    pub schema: Vec<u8>,
    pub codec: Codec,
    pub sync: [u8; 16],
}

/// Reads the header, then block after block.
pub(super) struct Blocks<R> {
    input: Counted<R>,
    pub header: Header,
    compressed: Vec<u8>,
}

/// One block, uncompressed.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Where the block begins in the file.
    pub offset: u64,
    pub rows: u64,
    pub bytes: Vec<u8>,
}

struct Counted<R> {
    inner: R,
    offset: u64,
}

impl<R: Read> Counted<R> {
    /// Fills the whole slice. `Ok(false)` when the input had ended before the first byte.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<bool, CodecError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.inner.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.malformed("the file is cut short")),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    fn must_fill(&mut self, bytes: &mut [u8]) -> Result<(), CodecError> {
        if bytes.is_empty() || self.fill(bytes)? { Ok(()) } else { Err(self.malformed("the file is cut short")) }
    }

    /// Reads `length` bytes, taking memory only as they arrive.
    fn take(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
        const STEP: usize = 1 << 20;
        out.clear();
        while out.len() < length {
            let start = out.len();
            out.resize(start + STEP.min(length - start), 0);
            self.must_fill(&mut out[start..])?;
        }
        Ok(())
    }

    /// A zigzag number; `None` when the input ends before it.
    fn long(&mut self) -> Result<Option<i64>, CodecError> {
        let mut value = 0_u64;
        for shift in 0..10 {
            let mut byte = [0];
            if shift == 0 {
                if !self.fill(&mut byte)? {
                    return Ok(None);
                }
            } else {
                self.must_fill(&mut byte)?;
            }
            value |= u64::from(byte[0] & 0x7f) << (shift * 7).min(63);
            if byte[0] < 0x80 {
                return Ok(Some((value >> 1) as i64 ^ -((value & 1) as i64)));
            }
        }
        Err(self.malformed("a number has more than ten bytes"))
    }

    fn must_long(&mut self) -> Result<i64, CodecError> {
        self.long()?.ok_or_else(|| self.malformed("the file is cut short"))
    }

    fn malformed(&self, message: impl Into<String>) -> CodecError {
        CodecError::Malformed { format: FORMAT, offset: self.offset, message: message.into() }
    }
}

impl<R: Read> Blocks<R> {
    /// Reads the header.
    pub fn new(inner: R) -> Result<Self, CodecError> {
        let mut input = Counted { inner, offset: 0 };
        let mut magic = [0; 4];
        let there = input.fill(&mut magic)?;
        if !there || &magic != MAGIC {
            return Err(CodecError::Malformed {
                format: FORMAT,
                offset: 0,
                message: "it does not begin with `Obj` and version 1".to_owned(),
            });
        }
        let header = read_header(&mut input)?;
        Ok(Self { input, header, compressed: Vec::new() })
    }

    /// Reads the next block into `block`; `false` at the end of the file.
    pub fn next(&mut self, block: &mut Block) -> Result<bool, CodecError> {
        block.offset = self.input.offset;
        let Some(rows) = self.input.long()? else { return Ok(false) };
        block.rows = u64::try_from(rows).map_err(|_| self.input.malformed("a block has a negative count of rows"))?;
        let size = self.input.must_long()?;
        let size = usize::try_from(size).ok().filter(|s| *s <= MAX_BLOCK_BYTES);
        let size =
            size.ok_or_else(|| self.input.malformed(format!("a block states a size beyond {MAX_BLOCK_BYTES}")))?;
        if self.header.codec == Codec::Null {
            self.input.take(size, &mut block.bytes)?;
        } else {
            self.input.take(size, &mut self.compressed)?;
            decompress(self.header.codec, &self.compressed, &mut block.bytes)
                .map_err(|message| CodecError::Malformed { format: FORMAT, offset: block.offset, message })?;
        }
        let mut sync = [0; 16];
        self.input.must_fill(&mut sync)?;
        if sync != self.header.sync {
            return Err(self.input.malformed("the marker after a block is not the file's"));
        }
        Ok(true)
    }
}

fn read_header<R: Read>(input: &mut Counted<R>) -> Result<Header, CodecError> {
    let mut schema = None;
    let mut codec = Codec::Null;
    let mut left_bytes = MAX_METADATA_BYTES;
    let mut left_entries = MAX_METADATA_ENTRIES;
    let mut key = Vec::new();
    let mut value = Vec::new();
    loop {
        let mut count = input.must_long()?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // The size in bytes follows, which this reader has no use for.
            input.must_long()?;
            count = count.checked_neg().unwrap_or(i64::MAX);
        }
        for _ in 0..count {
            left_entries = left_entries.checked_sub(1).ok_or_else(|| input.malformed("too much metadata"))?;
            for part in [&mut key, &mut value] {
                let length = usize::try_from(input.must_long()?).unwrap_or(usize::MAX);
                left_bytes = left_bytes.checked_sub(length).ok_or_else(|| input.malformed("too much metadata"))?;
                input.take(length, part)?;
            }
            match key.as_slice() {
                b"avro.schema" => schema = Some(std::mem::take(&mut value)),
                b"avro.codec" => codec = Codec::of_name(&value)?,
                _ => {}
            }
        }
    }
    let mut sync = [0; 16];
    input.must_fill(&mut sync)?;
    let schema = schema.ok_or_else(|| input.malformed("the metadata holds no schema"))?;
    Ok(Header { schema, codec, sync })
}

fn decompress(codec: Codec, compressed: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let limited = |reader: &mut dyn Read, out: &mut Vec<u8>| {
        out.clear();
        let read = reader.take(MAX_BLOCK_BYTES as u64 + 1).read_to_end(out);
        let read = read.map_err(|e| format!("a block does not decompress: {e}"))?;
        if read > MAX_BLOCK_BYTES { Err(format!("a block is larger than {MAX_BLOCK_BYTES} bytes")) } else { Ok(()) }
    };
    match codec {
        Codec::Null => {
            out.clear();
            out.extend_from_slice(compressed);
            Ok(())
        }
        Codec::Deflate => limited(&mut flate2::read::DeflateDecoder::new(compressed), out),
        Codec::Zstandard => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(|e| e.to_string())?;
            // 2^27 = 128 MiB is the most that zstd's own tools take without being asked.
            decoder.window_log_max(27).map_err(|e| e.to_string())?;
            limited(&mut decoder, out)
        }
        Codec::Snappy => {
            let broken = |e: snap::Error| format!("a block does not decompress: {e}");
            let (body, checksum) =
                compressed.split_last_chunk::<4>().ok_or_else(|| "a block has no checksum".to_owned())?;
            let length = snap::raw::decompress_len(body).map_err(broken)?;
            // Snappy's longest element makes 64 bytes out of three.
            if length > MAX_BLOCK_BYTES || length / 32 > body.len() {
                return Err("a block states an impossible size".to_owned());
            }
            out.clear();
            out.resize(length, 0);
            snap::raw::Decoder::new().decompress(body, out).map_err(broken)?;
            if crc32(out) != u32::from_be_bytes(*checksum) {
                return Err("a block's checksum is wrong".to_owned());
            }
            Ok(())
        }
    }
}

fn compress(codec: Codec, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.clear();
    match codec {
        Codec::Null => out.extend_from_slice(bytes),
        Codec::Deflate => {
            let mut encoder = flate2::write::DeflateEncoder::new(&mut *out, flate2::Compression::default());
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
        Codec::Zstandard => zstd::stream::copy_encode(bytes, &mut *out, 3)?,
        Codec::Snappy => {
            out.resize(snap::raw::max_compress_len(bytes.len()), 0);
            let length = snap::raw::Encoder::new().compress(bytes, out).map_err(std::io::Error::other)?;
            out.truncate(length);
            out.extend_from_slice(&crc32(bytes).to_be_bytes());
        }
    }
    Ok(())
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Writes header and blocks.
pub(super) struct BlockWriter<W> {
    output: W,
    codec: Codec,
    sync: [u8; 16],
    compressed: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    /// Writes the header. The marker is derived from the schema: the same rows make the same file.
    pub fn new(mut output: W, schema: &str, codec: Codec) -> Result<Self, CodecError> {
        let digest = crate::codec::digest::Digests::of(schema.as_bytes()).sha256;
        let mut sync = [0; 16];
        sync.copy_from_slice(&digest[..16]);
        let mut header = MAGIC.to_vec();
        put_long(2, &mut header);
        for (key, value) in [("avro.codec", codec.name()), ("avro.schema", schema)] {
            put_bytes(key.as_bytes(), &mut header);
            put_bytes(value.as_bytes(), &mut header);
        }
        put_long(0, &mut header);
        header.extend_from_slice(&sync);
        output.write_all(&header)?;
        Ok(Self { output, codec, sync, compressed: Vec::new() })
    }

    pub fn write(&mut self, rows: u64, bytes: &[u8]) -> Result<(), CodecError> {
        let mut head = Vec::with_capacity(20);
        let body = if self.codec == Codec::Null {
            bytes
        } else {
            compress(self.codec, bytes, &mut self.compressed)?;
            &self.compressed
        };
        put_long(rows as i64, &mut head);
        put_long(body.len() as i64, &mut head);
        self.output.write_all(&head)?;
        self.output.write_all(body)?;
        self.output.write_all(&self.sync)?;
        Ok(())
    }

    pub fn finish(mut self) -> Result<W, CodecError> {
        self.output.flush()?;
        Ok(self.output)
    }
}

/// A zigzag number of variable length.
#[inline]
pub(super) fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A length and as many bytes.
#[inline]
pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_brings_the_blocks_back() {
        let text = b"Wisdom begins in wonder. ".repeat(1000);
        for codec in Codec::ALL {
            let mut writer = BlockWriter::new(Vec::new(), "\"bytes\"", codec).unwrap();
            writer.write(3, &text).unwrap();
            writer.write(0, b"").unwrap();
            let file = writer.finish().unwrap();
            let mut blocks = Blocks::new(file.as_slice()).unwrap();
            assert_eq!(blocks.header.codec, codec);
            let mut block = Block::default();
            assert!(blocks.next(&mut block).unwrap());
            assert_eq!((block.rows, block.bytes.as_slice()), (3, text.as_slice()));
            assert!(blocks.next(&mut block).unwrap());
            assert!(!blocks.next(&mut block).unwrap());
            // Cut anywhere, it is an error or a shorter file that ends at a block.
            for cut in (0..file.len()).step_by(7) {
                let all = Blocks::new(&file[..cut]).and_then(|mut b| {
                    while b.next(&mut block)? {}
                    Ok(())
                });
                assert!(all.is_err() || cut > 60, "{codec:?} {cut}");
            }
        }
    }

    #[test]
    fn stated_sizes_are_not_believed() {
        let writer = BlockWriter::new(Vec::new(), "\"bytes\"", Codec::Snappy).unwrap();
        let header = writer.finish().unwrap();
        for size in [i64::MAX, -1, 1 << 40, MAX_BLOCK_BYTES as i64] {
            let mut file = header.clone();
            put_long(1, &mut file);
            put_long(size, &mut file);
            file.extend([0; 100]);
            assert!(Blocks::new(file.as_slice()).unwrap().next(&mut Block::default()).is_err());
        }
        // A snappy block of six bytes that claims 100 MB.
        let mut file = header;
        put_long(1, &mut file);
        let body = [0x80, 0xc2, 0xd7, 0x2f, 0, 0, 0, 0, 0];
        put_long(body.len() as i64, &mut file);
        file.extend(body);
        let error = Blocks::new(file.as_slice()).unwrap().next(&mut Block::default()).unwrap_err();
        assert!(error.to_string().contains("impossible size"), "{error}");
    }
}
