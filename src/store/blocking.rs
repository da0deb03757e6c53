//! A stream for readers that block.

use std::io::Read;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream::Fuse;
use tokio::runtime::Handle;

use super::ByteStream;
use crate::model::Failure;

/// A stream read by a thread that may block. Whoever reads may ask again after the end, a stream may not be asked.
pub struct Blocking {
    runtime: Handle,
    stream: Fuse<ByteStream>,
    chunk: Bytes,
    failed: Option<Failure>,
}

impl Blocking {
    /// To be made where the runtime is, and read elsewhere.
    pub fn new(stream: ByteStream) -> Self {
        Self { runtime: Handle::current(), stream: stream.fuse(), chunk: Bytes::new(), failed: None }
    }

    /// Why the stream broke off, if it did.
    pub fn failed(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }
}

impl Read for Blocking {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.chunk.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(failure)) => {
                    self.failed = Some(failure.clone());
                    return Err(std::io::Error::other(failure));
                }
            }
        }
        let length = out.len().min(self.chunk.len());
        out[..length].copy_from_slice(&self.chunk[..length]);
        self.chunk.advance(length);
        Ok(length)
    }
}
