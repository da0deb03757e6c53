//! Bytes that a thread writes, as a stream: in bounded memory, and never taken for whole when the thread gave up.

use std::io::{self, Write};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::model::Failure;
use crate::store::ByteStream;

const PIECE_BYTES: usize = 256 << 10;
/// Pieces that were written and wait to be taken.
const WAITING: usize = 8;

enum Piece {
    Data(Bytes),
    Failed(Failure),
    End,
}

/// The end that is written to. Without [`PipeWriter::end`] the stream ends with a failure.
pub(super) struct PipeWriter {
    send: Sender<Piece>,
    buffer: Vec<u8>,
}

/// A pipe; `object` is what the stream is called when its writer is lost.
pub(super) fn pipe(object: String) -> (PipeWriter, ByteStream) {
    let (send, receive) = channel(WAITING);
    let stream = futures::stream::unfold(Some((receive, object)), next).boxed();
    (PipeWriter { send, buffer: Vec::with_capacity(PIECE_BYTES) }, stream)
}

type State = Option<(Receiver<Piece>, String)>;

async fn next(state: State) -> Option<(Result<Bytes, Failure>, State)> {
    let (mut receive, object) = state?;
    match receive.recv().await {
        Some(Piece::Data(bytes)) => Some((Ok(bytes), Some((receive, object)))),
        Some(Piece::End) => None,
        Some(Piece::Failed(failure)) => Some((Err(failure), None)),
        None => {
            let message = "what wrote it gave up".into();
            Some((Err(Failure::Transient { object, message }), None))
        }
    }
}

impl PipeWriter {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.send.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Says that this was all.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody reads any more.
    pub fn end(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Piece::End)
    }

    /// Ends the stream with a failure.
    pub fn fail(self, failure: Failure) {
        let _ = self.send(Piece::Failed(failure)); // nobody reads any more: nobody is told
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.send(Piece::Data(full.into()))
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_not_ended_fails() {
        let (mut writer, stream) = pipe("thing".into());
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let sent = content.clone();
        let thread = tokio::task::spawn_blocking(move || writer.write_all(&sent).and_then(|()| writer.end()));
        let read: Vec<Bytes> = stream.try_collect().await.unwrap();
        thread.await.unwrap().unwrap();
        assert_eq!(read.concat(), content);

        let (mut writer, stream) = pipe("thing".into());
        tokio::task::spawn_blocking(move || writer.write_all(b"half")).await.unwrap().unwrap();
        let read: Result<Vec<Bytes>, Failure> = stream.try_collect().await;
        assert_eq!(read.unwrap_err().to_string(), "thing: unavailable: what wrote it gave up");
    }
}
