//! A CSV file as records of fields; knows nothing of columns or types.

use std::io::BufRead;

use crate::codec::CodecError;
use crate::codec::lines::MAX_LINE_BYTES;

/// What separates and quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialect {
    pub delimiter: u8,
    /// `None`: quotes are ordinary characters.
    pub quote: Option<u8>,
    pub quoted_newlines: bool,
}

/// One record; reused for the next.
#[derive(Debug, Default)]
pub(super) struct Record {
    bytes: Vec<u8>,
    /// Where each field ends in `bytes`, and whether it stood in quotes.
    ends: Vec<(usize, bool)>,
}

impl Record {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// A field's bytes and whether it stood in quotes.
    pub fn field(&self, at: usize) -> (&[u8], bool) {
        let start = if at == 0 { 0 } else { self.ends[at - 1].0 };
        let (end, quoted) = self.ends[at];
        (&self.bytes[start..end], quoted)
    }

    /// Nothing at all stood on the line.
    pub fn is_blank(&self) -> bool {
        self.ends.len() <= 1 && self.bytes.is_empty() && !self.ends.first().is_some_and(|(_, quoted)| *quoted)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Reads record after record.
pub(super) struct Records<R> {
    input: R,
    dialect: Dialect,
    line: u64,
    begun: bool,
    /// A `\r` ended the last record: a `\n` right after it belongs to the same end.
    skip_newline: bool,
}

/// Where in a field the scan is.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Start,
    Plain,
    Quoted,
    /// A quote within quotes: either doubled or the end.
    Closing,
}

impl<R: BufRead> Records<R> {
    pub fn new(input: R, dialect: Dialect) -> Self {
        Self { input, dialect, line: 1, begun: false, skip_newline: false }
    }

    /// Reads the next record and the line on which it begins; the inner error is that of this record alone.
    #[allow(clippy::type_complexity)]
    pub fn next(&mut self, record: &mut Record) -> Result<Option<(u64, Result<(), &'static str>)>, CodecError> {
        record.clear();
        let first_line = self.line;
        let mut state = State::Start;
        let mut wrong = None;
        let mut quoted = false;
        let mut any = false;
        loop {
            let Some(byte) = self.byte()? else {
                if !any {
                    return Ok(None);
                }
                if state == State::Quoted {
                    wrong = wrong.or(Some("a quote is not closed"));
                }
                break;
            };
            any = true;
            if record.bytes.len() > MAX_LINE_BYTES {
                let message = format!("the record is longer than {MAX_LINE_BYTES} bytes");
                return Err(CodecError::Row { row: first_line, message });
            }
            if byte == b'\n' || byte == b'\r' {
                let inside = state == State::Quoted && self.dialect.quoted_newlines;
                if inside {
                    self.line += u64::from(byte == b'\n');
                    record.bytes.push(byte);
                    continue;
                }
                if state == State::Quoted {
                    wrong = wrong.or(Some("a quote is not closed; hint: allowQuotedNewlines"));
                }
                self.skip_newline = byte == b'\r';
                self.line += 1;
                break;
            }
            let is_quote = Some(byte) == self.dialect.quote;
            match state {
                State::Quoted if is_quote => state = State::Closing,
                State::Quoted => record.bytes.push(byte),
                State::Closing if is_quote => {
                    record.bytes.push(byte);
                    state = State::Quoted;
                }
                _ if byte == self.dialect.delimiter => {
                    record.ends.push((record.bytes.len(), quoted));
                    quoted = false;
                    state = State::Start;
                }
                State::Start if is_quote => {
                    quoted = true;
                    state = State::Quoted;
                }
                State::Closing => {
                    wrong = wrong.or(Some("characters stand between a closing quote and the end of its field"));
                    state = State::Plain;
                }
                State::Start | State::Plain => {
                    record.bytes.push(byte);
                    state = State::Plain;
                }
            }
        }
        record.ends.push((record.bytes.len(), quoted));
        Ok(Some((first_line, wrong.map_or(Ok(()), Err))))
    }

    fn byte(&mut self) -> Result<Option<u8>, CodecError> {
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            if !self.begun {
                self.begun = true;
                if buffer.starts_with(b"\xef\xbb\xbf") {
                    self.input.consume(3);
                    continue;
                }
            }
            let Some(byte) = buffer.first().copied() else { return Ok(None) };
            self.input.consume(1);
            if std::mem::take(&mut self.skip_newline) && byte == b'\n' {
                continue;
            }
            return Ok(Some(byte));
        }
    }
}
