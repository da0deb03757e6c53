//! Streams sealed on their way into a store, and opened on their way out.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc::{Receiver, channel};

use super::{Blocking, ByteStream};
use crate::codec::seal::{Reader, SealError, Sealed, Sealer};
use crate::model::{Digests, Encoding, Failure, Identity, Recipient};

/// Pieces that were opened and wait to be taken.
const WAITING: usize = 2;
const PIECE_BYTES: usize = 256 << 10;

/// How an object lies in the store, and what its content is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    pub content: Digests,
    pub stored: Digests,
    pub encodings: Vec<Encoding>,
}

/// The digests of a stream that was sealed: there when it has come to its end.
#[derive(Clone, Default)]
pub struct Passed(Arc<Mutex<Option<Sealed>>>);

impl Passed {
    pub fn digests(&self) -> Option<Sealed> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seals a stream; `object` is what it is called in errors.
///
/// # Errors
/// `Invalid` when there is nobody to seal it for.
pub fn seal(
    object: &str,
    stream: ByteStream,
    recipients: &[Recipient],
    encodings: &[Encoding],
) -> Result<(ByteStream, Passed), Failure> {
    let object = object.to_string();
    let sealer = Sealer::new(recipients, encodings).map_err(|error| failure(&object, error))?;
    let passed = Passed::default();
    let state = (stream, Some(sealer), passed.clone(), object);
    let sealed = stream::try_unfold(state, async |(mut stream, mut sealer, passed, object)| {
        while let Some(open) = &mut sealer {
            let out = match stream.next().await {
                Some(chunk) => open.push(&chunk?).map_err(|error| failure(&object, error))?,
                None => {
                    let Some(open) = sealer.take() else { break };
                    let (rest, digests) = open.finish().map_err(|error| failure(&object, error))?;
                    *passed.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(digests);
                    rest
                }
            };
            if !out.is_empty() {
                return Ok(Some((out, (stream, sealer, passed, object))));
            }
        }
        Ok(None)
    });
    Ok((sealed.boxed(), passed))
}

/// Opens a stream: `Sealed` without the right identity, `Corrupt` for what was changed or cut off, also where the content is not
/// what the form says. No byte is given out that was not sealed so.
pub fn unseal(object: &str, stream: ByteStream, identities: Arc<[Identity]>, form: Form) -> ByteStream {
    let (send, receive) = channel::<Result<Bytes, Failure>>(WAITING);
    let object = object.to_string();
    let input = Blocking::new(stream);
    tokio::task::spawn_blocking(move || {
        let give = |bytes: Bytes| send.blocking_send(Ok(bytes)).is_ok();
        if let Err(error) = pump(&object, input, &identities, &form, give) {
            let _ = send.blocking_send(Err(error));
        }
    });
    stream::unfold(receive, async |mut receive: Receiver<_>| receive.recv().await.map(|next| (next, receive))).boxed()
}

/// Opens an object piece by piece, on a thread that may block. `give` says whether more is wanted.
pub(super) fn pump(
    object: &str,
    input: Blocking,
    identities: &[Identity],
    form: &Form,
    mut give: impl FnMut(Bytes) -> bool,
) -> Result<(), Failure> {
    let broken: Arc<Mutex<Option<Failure>>> = Arc::default();
    let input = Noting { inner: input, broken: broken.clone() };
    // What the store itself says is wrong counts more than what follows from it.
    let told = |error: SealError| {
        let broken = broken.lock().unwrap_or_else(PoisonError::into_inner).take();
        broken.unwrap_or_else(|| failure(object, error))
    };
    let reader = Reader::new(input, identities, &form.encodings, Some(form.stored.size_bytes));
    let mut reader = reader.map_err(told)?;
    let mut digester = crate::codec::digest::Digester::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let message = error.to_string();
                    return Err(told(SealError::of(&error).cloned().unwrap_or(SealError::Io { message })));
                }
            }
        }
        digester.update(&buffer[..filled]);
        let corrupt = |message: String| Failure::Corrupt { object: object.into(), message };
        if digester.size_bytes() > form.content.size_bytes {
            return Err(corrupt(format!("holds more than the {} bytes that were written", form.content.size_bytes)));
        }
        if filled == 0 {
            return match digester.finish() == form.content {
                true => Ok(()),
                false => Err(corrupt("its content is not what was written".into())),
            };
        }
        if !give(Bytes::copy_from_slice(&buffer[..filled])) {
            return Ok(()); // nobody wants more
        }
    }
}

/// Keeps what the stream itself failed with: on its way through readers it would become a text.
struct Noting {
    inner: Blocking,
    broken: Arc<Mutex<Option<Failure>>>,
}

impl Read for Noting {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(out);
        if read.is_err() {
            *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = self.inner.failed().cloned();
        }
        read
    }
}

/// What a caller can do about it.
pub fn failure(object: &str, error: SealError) -> Failure {
    let (object, message) = (object.to_string(), error.to_string());
    match error {
        SealError::NoIdentity | SealError::OtherIdentity { .. } => Failure::Sealed { object, message },
        SealError::NotSealed | SealError::Truncated { .. } | SealError::Changed { .. } => {
            Failure::Corrupt { object, message }
        }
        SealError::Unfit { .. } => Failure::Invalid { object, message },
        SealError::Io { .. } => Failure::Transient { object, message },
    }
}
