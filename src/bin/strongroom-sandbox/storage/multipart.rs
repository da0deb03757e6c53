//! A streaming reader of `multipart/related` and `multipart/mixed` bodies. Lines may end in CRLF or a bare LF (some
//! clients do that); the first line decides. Knows nothing of uploads.

use std::io::BufRead;

use crate::core::ApiError;

/// Headers of one part may take this much.
const MAX_HEADER_BYTES: usize = 64 << 10;

/// What came out of the bytes fed so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A part begins; its headers, names in lower case.
    Part(Vec<(String, String)>),
    /// Bytes of the current part.
    Data(Vec<u8>),
    /// The current part is complete.
    PartEnd,
    /// The closing delimiter was seen.
    End,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Preamble,
    Headers,
    /// `skip` bytes at the front of the buffer are not data.
    Data {
        skip: usize,
    },
    /// After a delimiter: `--` ends it all, a line break begins the next part.
    AfterDelimiter,
    Done,
}

/// The push parser.
pub struct Parser {
    opening: Vec<u8>,
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    state: State,
}

impl Parser {
    /// Takes the boundary from a content type.
    ///
    /// # Errors
    /// 400 when there is none.
    pub fn new(content_type: &str) -> Result<Self, ApiError> {
        let boundary = boundary(content_type)
            .ok_or_else(|| ApiError::new(400, "badContent", "Missing boundary in the multipart Content-Type"))?;
        let opening = format!("--{boundary}").into_bytes();
        Ok(Self { delimiter: Vec::new(), opening, buffer: Vec::new(), state: State::Preamble })
    }

    /// Takes more of the body and says what is in it.
    ///
    /// # Errors
    /// 400 when the bytes are no multipart body.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ApiError> {
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while self.step(&mut events)? {}
        Ok(events)
    }

    /// # Errors
    /// 400 when the body ended before its closing delimiter.
    pub fn finish(&self) -> Result<(), ApiError> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(ApiError::new(400, "badContent", "The multipart body ended before its closing delimiter")),
        }
    }

    /// One step; false when more bytes are needed.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<bool, ApiError> {
        match self.state {
            State::Preamble => {
                let Some(at) = find(&self.buffer, &self.opening) else {
                    return if self.buffer.len() > MAX_HEADER_BYTES { Err(no_delimiter()) } else { Ok(false) };
                };
                // The line end after the first delimiter tells CRLF from LF for the whole body.
                let after = at + self.opening.len();
                let Some(line_end) = find(&self.buffer[after..], b"\n") else {
                    return if self.buffer.len() > MAX_HEADER_BYTES { Err(no_delimiter()) } else { Ok(false) };
                };
                let crlf = self.buffer[after..after + line_end].ends_with(b"\r");
                self.delimiter = if crlf { b"\r\n".to_vec() } else { b"\n".to_vec() };
                self.delimiter.extend_from_slice(&self.opening);
                self.buffer.drain(..after);
                self.state = State::AfterDelimiter;
                Ok(true)
            }
            State::AfterDelimiter => {
                if self.buffer.len() < 2 {
                    return Ok(false);
                }
                if self.buffer.starts_with(b"--") {
                    self.state = State::Done;
                    self.buffer.clear();
                    events.push(Event::End);
                    return Ok(true);
                }
                let Some(at) = find(&self.buffer, b"\n") else { return Ok(false) };
                self.buffer.drain(..=at);
                self.state = State::Headers;
                Ok(true)
            }
            State::Headers => {
                let Some((headers, used)) = parse_headers(&self.buffer) else {
                    if self.buffer.len() > MAX_HEADER_BYTES {
                        return Err(ApiError::new(400, "badContent", "The headers of a part are too large"));
                    }
                    return Ok(false);
                };
                // The end of the blank line stays: it may belong to the delimiter right after an empty part.
                let skip = if self.buffer[..used].ends_with(b"\r\n") { 2 } else { 1 };
                self.buffer.drain(..used - skip);
                events.push(Event::Part(headers));
                self.state = State::Data { skip };
                Ok(true)
            }
            State::Data { skip } => {
                if let Some(at) = find(&self.buffer, &self.delimiter) {
                    if at > skip {
                        events.push(Event::Data(self.buffer[skip..at].to_vec()));
                    }
                    events.push(Event::PartEnd);
                    self.buffer.drain(..at + self.delimiter.len());
                    self.state = State::AfterDelimiter;
                    return Ok(true);
                }
                let safe = self.buffer.len().saturating_sub(self.delimiter.len());
                if safe > skip {
                    events.push(Event::Data(self.buffer[skip..safe].to_vec()));
                    self.buffer.drain(..safe);
                    self.state = State::Data { skip: 0 };
                }
                Ok(false)
            }
            State::Done => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }
}

/// The `boundary` parameter of a content type, quoted or not.
pub fn boundary(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty() && value.len() <= 256)
            .then(|| value.to_string())
    })
}

/// A header of a part by its lower-case name.
pub fn part_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// Header lines up to a blank one, and how many bytes they and the blank line take.
fn parse_headers(bytes: &[u8]) -> Option<(Vec<(String, String)>, usize)> {
    let mut headers = Vec::new();
    let mut at = 0;
    loop {
        let end = at + find(&bytes[at..], b"\n")?;
        let line = String::from_utf8_lossy(&bytes[at..end]);
        let line = line.trim();
        at = end + 1;
        if line.is_empty() {
            return Some((headers, at));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_string()));
        }
    }
}

/// Where `needle` begins. `skip_until` brings the standard library's optimised byte search, which matters in
/// unoptimised builds.
fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    while at < haystack.len() {
        let mut rest = &haystack[at..];
        let used = rest.skip_until(first).ok()?;
        let hit = at + used.checked_sub(1)?;
        if haystack[hit..].starts_with(needle) {
            return Some(hit);
        }
        if haystack[hit] != first {
            return None;
        }
        at = hit + 1;
    }
    None
}

fn no_delimiter() -> ApiError {
    ApiError::new(400, "badContent", "The multipart body does not begin with its boundary")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers and data of a part.
    type Part = (Vec<(String, String)>, Vec<u8>);

    /// Every part, fed in pieces of `step` bytes.
    fn parts(body: &[u8], step: usize) -> Vec<Part> {
        let mut parser = Parser::new("multipart/related; boundary=\"b=_1\"").unwrap();
        let mut parts: Vec<Part> = Vec::new();
        let mut ended = 0;
        for piece in body.chunks(step) {
            for event in parser.feed(piece).unwrap() {
                match event {
                    Event::Part(headers) => parts.push((headers, Vec::new())),
                    Event::Data(data) => parts.last_mut().unwrap().1.extend(data),
                    Event::PartEnd => ended += 1,
                    Event::End => {}
                }
            }
        }
        parser.finish().unwrap();
        assert_eq!(ended, parts.len());
        parts
    }

    #[test]
    fn both_kinds_of_line_ends_and_any_piecing_give_the_same_parts() {
        let data = b"x\r\n--b=_\r\n\n-\r";
        for (end, closing) in [("\r\n", "\r\n"), ("\n", "")] {
            let mut body = format!(
                "--b=_1{end}content-type: application/json{end}Content-Disposition: form-data; name=\"m\"{end}{end}{{}}{end}--b=_1{end}Content-Type: text/plain{end}{end}"
            )
            .into_bytes();
            body.extend_from_slice(data);
            body.extend_from_slice(format!("{end}--b=_1--{closing}").as_bytes());
            for step in [1, 2, 3, 7, 1000] {
                let parts = parts(&body, step);
                assert_eq!(parts.len(), 2);
                assert_eq!(parts[0].1, b"{}");
                assert_eq!(part_header(&parts[0].0, "content-disposition"), Some("form-data; name=\"m\""));
                assert_eq!(parts[1].1, data, "step {step}");
            }
        }
    }

    #[test]
    fn empty_parts_and_absent_headers_are_read() {
        for body in [
            "--b=_1\r\nA: b\r\n\r\n\r\n--b=_1\r\n\r\nx\r\n--b=_1--",
            "--b=_1\r\nA: b\r\n\r\n--b=_1\r\n\r\nx\r\n--b=_1--",
        ] {
            for step in [1, 4, 100] {
                let parts = parts(body.as_bytes(), step);
                assert_eq!((parts.len(), parts[0].1.len(), parts[1].1.as_slice()), (2, 0, b"x".as_slice()));
            }
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let mut parser = Parser::new("multipart/related; boundary=b").unwrap();
        parser.feed(b"--b\r\n\r\nx").unwrap();
        assert!(parser.finish().is_err());
        assert!(Parser::new("multipart/related").is_err());
    }
}
