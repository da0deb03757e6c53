//! A scanner over one line of JSON that keeps numbers as text, so that no digit of a NUMERIC is lost.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// What is wrong with the JSON itself.
pub(super) type Broken = &'static str;

pub(super) struct Scan<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Scan<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space, without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    /// Takes a punctuation mark if it is next.
    pub fn eat(&mut self, mark: u8) -> bool {
        let there = self.peek() == Some(mark);
        self.at += usize::from(there);
        there
    }

    pub fn expect(&mut self, mark: u8, missing: Broken) -> Result<(), Broken> {
        if self.eat(mark) { Ok(()) } else { Err(missing) }
    }

    /// Takes `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text[self.at..].starts_with(word);
        if there {
            self.at += word.len();
        }
        there
    }

    /// Takes a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Broken> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
                }
                Some(b'\\') => break,
                Some(0..=0x1f) => return Err("a control character stands in a string"),
                Some(_) => self.at += 1,
                None => return Err("a string does not end"),
            }
        }
        // With escapes: find the end, and leave the decoding to serde_json.
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    let whole = &self.text[start - 1..self.at];
                    return serde_json::from_str(whole).map(Cow::Owned).map_err(|_| "a string has a wrong escape");
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        Err("a string does not end")
    }

    /// Takes a number as it is written.
    pub fn number(&mut self) -> Result<&'a str, Broken> {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - from
        };
        let mut at = start;
        at += usize::from(bytes.get(at) == Some(&b'-'));
        let first = at;
        let whole = digits(&mut at);
        if whole == 0 || (whole > 1 && bytes[first] == b'0') {
            return Err("expected a value");
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            if digits(&mut at) == 0 {
                return Err("a number ends with a point");
            }
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            if digits(&mut at) == 0 {
                return Err("a number has an empty exponent");
            }
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Takes any value as it is written, checked.
    pub fn raw(&mut self) -> Result<&'a str, Broken> {
        self.peek();
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let length = values.byte_offset();
                self.at += length;
                Ok(&rest[..length])
            }
            _ => Err("expected a value"),
        }
    }
}
