//! Contents of archives for a thread that cannot wait: frame by frame, by ranges where that is less, else in one stream.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::ops::Range;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::pack::broken;
use crate::codec::archive::{Hostile, MAX_FRAME_BYTES, Place, Table, expand, table_length};
use crate::manifest::ArchiveRecord;
use crate::model::Failure;
use crate::source::streamed::Vault;
use crate::store::ByteStream;

/// Bytes that are fetched at once where ranges are read.
const AHEAD_BYTES: u64 = 8 << 20;
/// What holds a table's length, at an archive's end.
const LAST_BYTES: u64 = 9;

/// What a thread asks for.
pub enum Ask {
    Range {
        archive: usize,
        range: Range<u64>,
        reply: oneshot::Sender<Result<Option<Bytes>, Failure>>,
    },
    /// The next piece of the whole; from its beginning where `again`.
    Next {
        archive: usize,
        again: bool,
        reply: oneshot::Sender<Result<Option<Bytes>, Failure>>,
    },
}

/// Answers until nobody asks any more.
pub async fn serve(vault: &dyn Vault, archives: &[ArchiveRecord], mut asked: mpsc::Receiver<Ask>) {
    let mut streams: HashMap<usize, ByteStream> = HashMap::new();
    while let Some(ask) = asked.recv().await {
        match ask {
            Ask::Range { archive, range, reply } => {
                let answer = match archives.get(archive) {
                    Some(archive) => vault.read_range(&archive.object, range).await,
                    None => Err(no_archive(archive)),
                };
                let _ = reply.send(answer);
            }
            Ask::Next { archive, again, reply } => {
                let _ = reply.send(next(vault, archives, &mut streams, (archive, again)).await);
            }
        }
    }
}

async fn next(
    vault: &dyn Vault,
    archives: &[ArchiveRecord],
    streams: &mut HashMap<usize, ByteStream>,
    (archive, again): (usize, bool),
) -> Result<Option<Bytes>, Failure> {
    if again || !streams.contains_key(&archive) {
        let record = archives.get(archive).ok_or_else(|| no_archive(archive))?;
        streams.insert(archive, vault.read(&record.object).await?);
    }
    match streams.get_mut(&archive) {
        Some(stream) => stream.next().await.transpose(),
        None => Ok(None),
    }
}

fn no_archive(archive: usize) -> Failure {
    Failure::Corrupt { object: format!("archive {archive}"), message: "the record has no such archive".into() }
}

/// Reads contents out of archives, each archive from its beginning to its end.
pub struct Contents {
    ask: mpsc::Sender<Ask>,
    archives: Vec<ArchiveRecord>,
    /// Whether most of what the archives hold is wanted.
    most: bool,
    open: HashMap<usize, Cursor>,
}

impl Contents {
    pub fn new(ask: mpsc::Sender<Ask>, archives: Vec<ArchiveRecord>, most: bool) -> Self {
        Self { ask, archives, most, open: HashMap::new() }
    }

    /// Gives out a content piece by piece.
    ///
    /// # Errors
    /// When it cannot be read, or does not lie there.
    pub fn copy(
        &mut self,
        place: Place,
        size_bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let at = place.archive as usize;
        if !self.open.contains_key(&at) {
            let record = self.archives.get(at).ok_or_else(|| no_archive(at))?;
            let cursor = Cursor::new(&self.ask, at, record, self.most)?;
            self.open.insert(at, cursor);
        }
        let Some(cursor) = self.open.get_mut(&at) else { return Err(no_archive(at)) };
        let (mut number, mut skip, mut left) = (place.frame, place.skip, size_bytes);
        while left > 0 {
            let frame = cursor.frame(number)?;
            let from = usize::try_from(skip).unwrap_or(usize::MAX);
            let Some(content) = frame.get(from..).filter(|content| !content.is_empty()) else {
                let message = format!("frame {number} has no byte {skip}, where a file is to lie");
                return Err(Failure::Corrupt { object: cursor.object.clone(), message });
            };
            let length = content.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&content[..length])?;
            left -= length as u64;
            (number, skip) = (number + 1, 0);
        }
        Ok(())
    }

    /// Reads what is left of the archives that are read in whole: only then are they known to be what was written. Gives their
    /// numbers.
    ///
    /// # Errors
    /// `Corrupt` when one is not.
    pub fn finish(self) -> Result<Vec<usize>, Failure> {
        let mut whole = vec![];
        for (archive, mut cursor) in self.open {
            if cursor.drain()? {
                whole.push(archive);
            }
        }
        Ok(whole)
    }
}

/// One archive while it is read.
struct Cursor {
    object: String,
    way: Way,
    /// The frame that was read last.
    number: Option<u64>,
    content: Vec<u8>,
}

enum Way {
    Ranges { ask: mpsc::Sender<Ask>, archive: usize, table: Table, end: u64, ahead_at: u64, ahead: Bytes },
    Stream { pieces: Pieces, next: u64 },
}

impl Cursor {
    fn new(ask: &mpsc::Sender<Ask>, archive: usize, record: &ArchiveRecord, most: bool) -> Result<Self, Failure> {
        let object = record.object.key.clone();
        let size = record.object.digests.size_bytes;
        let whole = most && record.needed_bytes.saturating_mul(2) >= record.content_bytes;
        let table = if whole { None } else { table(ask, archive, size).map_err(|failure| named(failure, &object))? };
        let way = match table {
            Some((table, end)) => {
                Way::Ranges { ask: ask.clone(), archive, table, end, ahead_at: 0, ahead: Bytes::new() }
            }
            None => Way::Stream { pieces: Pieces::new(ask.clone(), archive), next: 0 },
        };
        Ok(Self { object, way, number: None, content: vec![] })
    }

    fn frame(&mut self, number: u64) -> Result<&[u8], Failure> {
        if self.number != Some(number) {
            self.number = None;
            self.content = self.read(number).map_err(|failure| named(failure, &self.object))?;
            self.number = Some(number);
        }
        Ok(&self.content)
    }

    fn read(&mut self, number: u64) -> Result<Vec<u8>, Failure> {
        let none = || broken(Hostile::new("archive", format!("has no frame {number}")));
        match &mut self.way {
            Way::Ranges { ask, archive, table, end, ahead_at, ahead } => {
                let (range, content_bytes) = table.frame(number).ok_or_else(none)?;
                if range.start < *ahead_at || range.end > *ahead_at + ahead.len() as u64 {
                    let until = range.end.max((range.start + AHEAD_BYTES).min(*end));
                    let bytes = by_range(ask, *archive, range.start..until)?.ok_or_else(none)?;
                    (*ahead_at, *ahead) = (range.start, bytes);
                }
                let from = (range.start - *ahead_at) as usize;
                let stored = ahead.get(from..from + (range.end - range.start) as usize).ok_or_else(none)?;
                expand(stored, content_bytes).map_err(broken)
            }
            Way::Stream { pieces, next } => {
                if number < *next {
                    *pieces = Pieces::again(pieces);
                    *next = 0;
                }
                loop {
                    let content = pieces.frame()?.ok_or_else(none)?;
                    *next += 1;
                    if *next == number + 1 {
                        return Ok(content);
                    }
                }
            }
        }
    }

    /// Whether it was read from its beginning, and so is known to be what was written.
    fn drain(&mut self) -> Result<bool, Failure> {
        let Way::Stream { pieces, .. } = &mut self.way else { return Ok(false) };
        loop {
            let left = pieces.left()?;
            if left == 0 {
                return Ok(true);
            }
            pieces.consume(left);
        }
    }
}

/// The table at an archive's end, and where it begins; `None` where ranges cannot be read.
fn table(ask: &mpsc::Sender<Ask>, archive: usize, size: u64) -> Result<Option<(Table, u64)>, Failure> {
    let Some(last) = by_range(ask, archive, size.saturating_sub(LAST_BYTES)..size)? else { return Ok(None) };
    let length = table_length(&last, size).map_err(broken)?;
    let Some(bytes) = by_range(ask, archive, size - length..size)? else { return Ok(None) };
    let table = Table::read(&bytes, size).map_err(broken)?;
    Ok(Some((table, size - length)))
}

fn by_range(ask: &mpsc::Sender<Ask>, archive: usize, range: Range<u64>) -> Result<Option<Bytes>, Failure> {
    let (reply, answer) = oneshot::channel();
    ask.blocking_send(Ask::Range { archive, range, reply }).map_err(|_| gone())?;
    answer.blocking_recv().map_err(|_| gone())?
}

fn gone() -> Failure {
    Failure::Transient { object: "archive".into(), message: "nobody reads it any more".into() }
}

fn named(failure: Failure, archive: &str) -> Failure {
    match failure {
        Failure::Corrupt { object, message } => {
            Failure::Corrupt { object: archive.into(), message: format!("{object}: {message}") }
        }
        other => other,
    }
}

/// An archive as a stream of bytes.
pub struct Pieces {
    ask: mpsc::Sender<Ask>,
    archive: usize,
    again: bool,
    current: Bytes,
    failure: Option<Failure>,
}

impl Pieces {
    pub fn new(ask: mpsc::Sender<Ask>, archive: usize) -> Self {
        Self { ask, archive, again: true, current: Bytes::new(), failure: None }
    }

    fn again(&self) -> Self {
        Self::new(self.ask.clone(), self.archive)
    }

    /// The content of the next frame; `None` at the end.
    fn frame(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if self.left()? == 0 {
                return Ok(None);
            }
            let mut content = Vec::new();
            let read = {
                let decoder = zstd::stream::read::Decoder::with_buffer(&mut *self);
                decoder.and_then(|decoder| {
                    decoder.single_frame().take(2 * MAX_FRAME_BYTES as u64 + 1).read_to_end(&mut content)
                })
            };
            read.map_err(|error| self.failed(&error))?;
            if content.len() > 2 * MAX_FRAME_BYTES {
                return Err(broken(Hostile::new("archive", "has a frame that is larger than frames are")));
            }
            // The table at the end has no content.
            if !content.is_empty() {
                return Ok(Some(content));
            }
        }
    }

    /// Bytes that are at hand; none at the end.
    fn left(&mut self) -> Result<usize, Failure> {
        let left = self.fill_buf().map(<[u8]>::len);
        left.map_err(|error| self.failed(&error))
    }

    /// What went wrong, where an error of reading only says that something did.
    pub fn failed(&mut self, error: &io::Error) -> Failure {
        let undecodable = || broken(Hostile::new("archive", error.to_string()));
        self.failure.take().unwrap_or_else(undecodable)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            let (reply, answer) = oneshot::channel();
            let ask = Ask::Next { archive: self.archive, again: std::mem::take(&mut self.again), reply };
            let sent = self.ask.blocking_send(ask).map_err(|_| gone());
            match sent.and_then(|()| answer.blocking_recv().map_err(|_| gone())?) {
                Ok(Some(piece)) => self.current = piece,
                Ok(None) => break,
                Err(failure) => {
                    let error = io::Error::other(failure.to_string());
                    self.failure = Some(failure);
                    return Err(error);
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, length: usize) {
        self.current.advance(length);
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(out.len());
        out[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}
