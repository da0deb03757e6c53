//! Sealing: bytes to an age file (age-encryption.org/v1), compressed before where that pays, and back. One pass takes the
//! digests of content and of stored form. Memory is a few hundred kilobytes, whatever the size.
//!
//! age encrypts pieces of 64 KiB, each with its own tag: of a piece that was changed nothing is given out. Each file has a
//! key of its own, which the age crate draws. Does not know where bytes lie, nor where keys are kept.

use std::io::{self, BufReader, Chain, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::digest::{Digester, Digesting};
use crate::model::{Digests, Encoding, Identity, Recipient};

/// The first line of every age file.
const FIRST_LINE: &[u8] = b"age-encryption.org/v1\n";
/// A header of more is none of ours: it holds some hundred bytes a recipient.
const MAX_HEADER_BYTES: u64 = 64 << 10;
const LEVEL: i32 = 3;
/// What is compressed by us needs a window of 2 MiB; a stream that asks for more than 8 MiB was made to fill memory.
const MAX_WINDOW_LOG: u32 = 23;
/// What is compressed already, and gains nothing.
const COMPRESSED: [&str; 12] = ["avro", "parquet", "orc", "zst", "gz", "bz2", "xz", "zip", "7z", "png", "jpg", "jpeg"];

/// Why bytes cannot be sealed or opened. The caller names the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("is no age file: it does not begin as one")]
    NotSealed,
    #[error("is cut off after {size_bytes} bytes")]
    Truncated { size_bytes: u64 },
    #[error("was changed after it was sealed: {message}")]
    Changed { message: String },
    #[error("is sealed, and there is no identity to open it; hint: --identity FILE, or STRONGROOM_IDENTITY")]
    NoIdentity,
    #[error("is sealed for others: {}; hint: --identity with one of its recipients' private keys", tried(*.identities))]
    OtherIdentity { identities: usize },
    #[error("cannot be sealed: {message}")]
    Unfit { message: String },
    /// The reader or writer underneath failed; the bytes themselves were not judged.
    #[error("{message}")]
    Io { message: String },
}

fn tried(identities: usize) -> String {
    if identities == 1 {
        "the identity does not open it".into()
    } else {
        format!("none of {identities} identities opens it")
    }
}

/// What is done to an object of this name on its way into the vault, in this order: the one rule.
pub fn encodings(name: &str) -> Vec<Encoding> {
    let ending = name.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map(|(_, ending)| ending);
    match ending.is_some_and(|ending| COMPRESSED.iter().any(|known| ending.eq_ignore_ascii_case(known))) {
        true => vec![Encoding::Age],
        false => vec![Encoding::Zstd, Encoding::Age],
    }
}

/// The name under which the object is stored: its endings say what was done to it.
pub fn stored_name(name: &str, encodings: &[Encoding]) -> String {
    encodings.iter().fold(name.to_string(), |name, encoding| match encoding {
        Encoding::Zstd => name + ".zst",
        Encoding::Age => name + ".age",
    })
}

/// Digests of what was sealed, and of what that became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    pub content: Digests,
    pub stored: Digests,
}

/// Seals what is written to it. Without [`Writer::finish`] there is no whole file.
pub struct Writer<W: Write> {
    content: Digester,
    output: Output<W>,
}

type Piecewise<W> = age::stream::StreamWriter<Digesting<W>>;

enum Output<W: Write> {
    Plain(Box<Piecewise<W>>),
    Compressed(Box<zstd::stream::write::Encoder<'static, Piecewise<W>>>),
}

impl<W: Write> Writer<W> {
    /// # Errors
    /// `Unfit` without a recipient, or for encodings that are none of [`encodings`]'s; the writer's own.
    pub fn new(inner: W, recipients: &[Recipient], encodings: &[Encoding]) -> Result<Self, SealError> {
        let compressed = is_compressed(encodings).ok_or_else(|| unfit("no such encodings".into()))?;
        let keys = recipients.iter().map(|recipient| recipient.key() as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(keys).map_err(|error| unfit(one_line(&error.to_string())))?;
        let output = encryptor.wrap_output(Digesting::new(inner)).map_err(failed)?;
        let output = match compressed {
            true => {
                let encoder = zstd::stream::write::Encoder::new(output, LEVEL).map_err(failed)?;
                Output::Compressed(Box::new(encoder))
            }
            false => Output::Plain(Box::new(output)),
        };
        Ok(Self { content: Digester::new(), output })
    }

    /// Writes what is left, and gives the writer back.
    ///
    /// # Errors
    /// The writer's own.
    pub fn finish(self) -> Result<(W, Sealed), SealError> {
        let output = match self.output {
            Output::Plain(output) => *output,
            Output::Compressed(encoder) => encoder.finish().map_err(failed)?,
        };
        let (inner, stored) = output.finish().map_err(failed)?.finish();
        Ok((inner, Sealed { content: self.content.finish(), stored }))
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.output {
            Output::Plain(output) => output.write(bytes)?,
            Output::Compressed(encoder) => encoder.write(bytes)?,
        };
        self.content.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::Plain(output) => output.flush(),
            Output::Compressed(encoder) => encoder.flush(),
        }
    }
}

/// Seals bytes that come in pieces, for who has no thread to block.
pub struct Sealer {
    writer: Writer<Shared>,
    output: Shared,
}

impl Sealer {
    /// # Errors
    /// As [`Writer::new`].
    pub fn new(recipients: &[Recipient], encodings: &[Encoding]) -> Result<Self, SealError> {
        let output = Shared::default();
        Ok(Self { writer: Writer::new(output.clone(), recipients, encodings)?, output })
    }

    /// Takes a piece in, and gives what has come of it and of those before; often nothing.
    ///
    /// # Errors
    /// `Io` when the compressor fails.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Bytes, SealError> {
        self.writer.write_all(bytes).map_err(failed)?;
        Ok(self.output.take())
    }

    /// The last bytes, and the digests of all.
    ///
    /// # Errors
    /// `Io` when the compressor fails.
    pub fn finish(self) -> Result<(Bytes, Sealed), SealError> {
        let (output, sealed) = self.writer.finish()?;
        Ok((output.take(), sealed))
    }
}

/// Seals bytes in memory.
///
/// # Errors
/// As [`Writer::new`].
pub fn seal(bytes: &[u8], recipients: &[Recipient], encodings: &[Encoding]) -> Result<(Bytes, Sealed), SealError> {
    let mut sealer = Sealer::new(recipients, encodings)?;
    sealer.writer.write_all(bytes).map_err(failed)?;
    sealer.finish()
}

/// Where a writer's output waits to be taken.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what is sealed. What it gives out was sealed so; whether it was all is known at its end only.
pub struct Reader<R: Read> {
    input: Input<R>,
    failed: Option<SealError>,
}

enum Input<R: Read> {
    Plain(Box<Pieces<R>>),
    Compressed(Box<zstd::stream::read::Decoder<'static, BufReader<Pieces<R>>>>),
}

impl<R: Read> Reader<R> {
    /// Reads the header. With `stored_size_bytes`, the size as it was written, what is cut off is told from what was changed.
    ///
    /// # Errors
    /// `NotSealed`, `NoIdentity`, `OtherIdentity`; `Truncated` and `Changed` as far as the header goes; the reader's own.
    pub fn new(
        inner: R,
        identities: &[Identity],
        encodings: &[Encoding],
        stored_size_bytes: Option<u64>,
    ) -> Result<Self, SealError> {
        let compressed = is_compressed(encodings).ok_or_else(|| unfit("no such encodings".into()))?;
        let seen = Arc::new(Seen { limit: AtomicU64::new(MAX_HEADER_BYTES), stored_size_bytes, ..Seen::default() });
        let mut input = Gauge { inner, seen: seen.clone() };
        let mut first = Vec::new();
        input.by_ref().take(FIRST_LINE.len() as u64).read_to_end(&mut first).map_err(|error| seen.judge(&error))?;
        if first != FIRST_LINE {
            let cut = FIRST_LINE.starts_with(&first);
            return Err(if cut { seen.cut_off() } else { SealError::NotSealed });
        }
        let decryptor = age::Decryptor::new_buffered(BufReader::new(FIRST_LINE.chain(input)));
        let decryptor = decryptor.map_err(|error| seen.judge_header(&error))?;
        if identities.is_empty() {
            return Err(SealError::NoIdentity);
        }
        let keys = identities.iter().map(|identity| identity.key() as &dyn age::Identity);
        let stream = decryptor.decrypt(keys).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => SealError::OtherIdentity { identities: identities.len() },
            other => seen.judge_header(&other),
        })?;
        seen.limit.store(u64::MAX, Ordering::Relaxed);
        let pieces = Pieces { stream, seen };
        let input = match compressed {
            true => {
                let mut decoder = zstd::stream::read::Decoder::new(pieces).map_err(failed)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(failed)?;
                Input::Compressed(Box::new(decoder))
            }
            false => Input::Plain(Box::new(pieces)),
        };
        Ok(Self { input, failed: None })
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
        }
        let read = match &mut self.input {
            Input::Plain(pieces) => pieces.read(out),
            Input::Compressed(decoder) => decoder.read(out),
        };
        read.map_err(|error| {
            // All that lies under the decompressor says what it is.
            let error = SealError::of(&error)
                .cloned()
                .unwrap_or_else(|| SealError::Changed { message: format!("what was sealed is no zstd ({error})") });
            self.failed = Some(error.clone());
            io::Error::other(error)
        })
    }
}

impl SealError {
    /// What an error of [`Reader`] says.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

/// age's pieces of 64 KiB, each given out when its tag is right.
struct Pieces<R: Read> {
    stream: age::stream::StreamReader<BufReader<Chain<&'static [u8], Gauge<R>>>>,
    seen: Arc<Seen>,
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.read(out).map_err(|error| io::Error::other(self.seen.judge(&error)))
    }
}

/// What was read of the sealed bytes, for whoever must say what is wrong with them.
#[derive(Default)]
struct Seen {
    size_bytes: AtomicU64,
    ended: AtomicBool,
    /// The reader itself failed.
    broken: AtomicBool,
    limit: AtomicU64,
    stored_size_bytes: Option<u64>,
}

impl Seen {
    fn cut_off(&self) -> SealError {
        SealError::Truncated { size_bytes: self.size_bytes.load(Ordering::Relaxed) }
    }

    fn is_cut_off(&self) -> bool {
        let size_bytes = self.size_bytes.load(Ordering::Relaxed);
        self.ended.load(Ordering::Relaxed) && self.stored_size_bytes.is_some_and(|stored| size_bytes < stored)
    }

    fn judge(&self, error: &io::Error) -> SealError {
        let at = self.size_bytes.load(Ordering::Relaxed);
        match error.kind() {
            _ if self.broken.load(Ordering::Relaxed) => SealError::Io { message: error.to_string() },
            _ if self.is_cut_off() => self.cut_off(),
            io::ErrorKind::UnexpectedEof => self.cut_off(),
            _ if self.ended.load(Ordering::Relaxed) && self.stored_size_bytes.is_none() => SealError::Changed {
                message: format!("its last piece, which ends at byte {at}, was changed or cut off"),
            },
            _ => SealError::Changed { message: format!("the piece that ends at byte {at} does not have its tag") },
        }
    }

    fn judge_header(&self, error: &age::DecryptError) -> SealError {
        let changed = || SealError::Changed { message: "its header is not what was written".into() };
        match error {
            age::DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.cut_off(),
            age::DecryptError::Io(error) if self.broken.load(Ordering::Relaxed) => {
                SealError::Io { message: error.to_string() }
            }
            _ if self.is_cut_off() => self.cut_off(),
            _ => changed(),
        }
    }
}

struct Gauge<R> {
    inner: R,
    seen: Arc<Seen>,
}

impl<R: Read> Read for Gauge<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.seen.size_bytes.load(Ordering::Relaxed) > self.seen.limit.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the header does not end"));
        }
        match self.inner.read(out) {
            Ok(0) if !out.is_empty() => {
                self.seen.ended.store(true, Ordering::Relaxed);
                Ok(0)
            }
            Ok(read) => {
                self.seen.size_bytes.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.seen.broken.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}

/// Whether zstd comes before age; `None` for encodings that are none of ours.
fn is_compressed(encodings: &[Encoding]) -> Option<bool> {
    match encodings {
        [Encoding::Age] => Some(false),
        [Encoding::Zstd, Encoding::Age] => Some(true),
        _ => None,
    }
}

fn unfit(message: String) -> SealError {
    SealError::Unfit { message }
}

fn failed(error: io::Error) -> SealError {
    SealError::Io { message: error.to_string() }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "seal_tests.rs"]
mod tests;
