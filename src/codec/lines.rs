//! Lines of a text file, with a bound on their length.

use std::io::BufRead;

use super::error::CodecError;

/// BigQuery's limit of a row in JSON or CSV (https://cloud.google.com/bigquery/quotas#load_jobs).
pub(super) const MAX_LINE_BYTES: usize = 100 << 20;

pub(super) struct Lines<R> {
    input: R,
    number: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Self { input, number: 0, line: Vec::new() }
    }

    /// The next line with its number from 1, without its end. A byte order mark before the first is passed over.
    pub fn next(&mut self) -> Result<Option<(u64, &[u8])>, CodecError> {
        self.line.clear();
        self.number += 1;
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.into()),
            };
            let end = buffer.iter().position(|b| *b == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            self.line.extend_from_slice(&buffer[..taken]);
            self.input.consume(taken);
            if self.line.len() > MAX_LINE_BYTES {
                let message = format!("the line is longer than {MAX_LINE_BYTES} bytes");
                return Err(CodecError::Row { row: self.number, message });
            }
            if end.is_some() {
                break;
            }
            if taken == 0 {
                if self.line.is_empty() {
                    return Ok(None);
                }
                break;
            }
        }
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        Ok(Some((self.number, line.strip_suffix(b"\r").unwrap_or(line))))
    }
}
