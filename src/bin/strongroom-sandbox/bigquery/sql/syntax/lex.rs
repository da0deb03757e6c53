//! Text to tokens, with the places where they stand.

use crate::bigquery::sql::error::{ApiError, Res, invalid, place};

/// A token and where it begins and ends, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub kind: Tok,
    pub start: usize,
    pub end: usize,
}

/// What kinds of tokens there are.
#[derive(Debug, Clone, PartialEq)]
pub enum Tok {
    /// An identifier or keyword as written.
    Word(String),
    /// An identifier in back quotes.
    Quoted(String),
    Int(String),
    Float(String),
    Str(String),
    Bytes(Vec<u8>),
    /// `@name`.
    Param(String),
    /// `@@name`.
    SystemVariable(String),
    Symbol(&'static str),
    End,
}

/// Reserved words: never an alias or a name unless quoted.
pub const RESERVED: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "ASC",
    "ASSERT_ROWS_MODIFIED",
    "AT",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COLLATE",
    "CONTAINS",
    "CREATE",
    "CROSS",
    "CUBE",
    "CURRENT",
    "DEFAULT",
    "DEFINE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "ENUM",
    "ESCAPE",
    "EXCEPT",
    "EXCLUDE",
    "EXISTS",
    "EXTRACT",
    "FALSE",
    "FETCH",
    "FOLLOWING",
    "FOR",
    "FROM",
    "FULL",
    "GROUP",
    "GROUPING",
    "GROUPS",
    "HASH",
    "HAVING",
    "IF",
    "IGNORE",
    "IN",
    "INNER",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOOKUP",
    "MERGE",
    "NATURAL",
    "NEW",
    "NO",
    "NOT",
    "NULL",
    "NULLS",
    "OF",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PRECEDING",
    "PROTO",
    "QUALIFY",
    "RANGE",
    "RECURSIVE",
    "RESPECT",
    "RIGHT",
    "ROLLUP",
    "ROWS",
    "SELECT",
    "SET",
    "SOME",
    "STRUCT",
    "TABLESAMPLE",
    "THEN",
    "TO",
    "TREAT",
    "TRUE",
    "UNBOUNDED",
    "UNION",
    "UNNEST",
    "USING",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
    "WITHIN",
];

const SYMBOLS: &[&str] = &[
    "<<", ">>", "<=", ">=", "<>", "!=", "||", "=>", "->", "+=", "-=", "|>", "(", ")", "[", "]", ",", ".", ";", "+",
    "-", "*", "/", "=", "<", ">", "|", "&", "^", "~", ":", "?", "{", "}", "$",
];

/// Whether a word is reserved.
pub fn is_reserved(word: &str) -> bool {
    RESERVED.iter().any(|r| r.eq_ignore_ascii_case(word))
}

/// All tokens from `start` on, the last being [`Tok::End`].
///
/// # Errors
/// Unclosed literals and comments, bad escapes, characters that SQL does not know.
pub fn tokens(sql: &str, start: usize) -> Res<Vec<Token>> {
    let mut lexer = Lexer { sql, at: start };
    let mut out: Vec<Token> = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let begin = lexer.at;
        let after_dot = matches!(out.last(), Some(Token { kind: Tok::Symbol("."), end, .. }) if *end == begin);
        let kind = lexer.next(after_dot)?;
        let done = kind == Tok::End;
        out.push(Token { kind, start: begin, end: lexer.at });
        if done {
            return Ok(out);
        }
    }
}

struct Lexer<'a> {
    sql: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    fn error(&self, at: usize, message: &str) -> ApiError {
        invalid(format!("Syntax error: {message} at {}", place(self.sql, at)))
    }

    fn skip_blanks(&mut self) -> Res<()> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}');
            let mut skip = rest.len() - trimmed.len();
            if trimmed.starts_with('#') || trimmed.starts_with("--") {
                skip += trimmed.find('\n').map_or(trimmed.len(), |n| n + 1);
            } else if trimmed.starts_with("/*") {
                let close = trimmed.find("*/").ok_or_else(|| self.error(self.at + skip, "Unclosed comment"))?;
                skip += close + 2;
            }
            if skip == 0 {
                return Ok(());
            }
            self.at += skip;
        }
    }

    fn next(&mut self, after_dot: bool) -> Res<Tok> {
        let start = self.at;
        let Some(first) = self.rest().chars().next() else { return Ok(Tok::End) };
        if first == '`' {
            return self.back_quoted();
        }
        if let Some(token) = self.literal()? {
            return Ok(token);
        }
        if first.is_alphabetic() || first == '_' || (after_dot && first.is_ascii_digit()) {
            return Ok(Tok::Word(self.word()));
        }
        if first.is_ascii_digit() || (first == '.' && !after_dot && self.digit_at(1)) {
            return self.number();
        }
        if first == '@' {
            let system = self.rest().starts_with("@@");
            self.at += if system { 2 } else { 1 };
            let name = if self.rest().starts_with('`') {
                match self.back_quoted()? {
                    Tok::Quoted(name) => name,
                    _ => String::new(),
                }
            } else {
                self.word()
            };
            if name.is_empty() {
                return Err(self.error(start, "Unexpected \"@\""));
            }
            return Ok(if system { Tok::SystemVariable(name) } else { Tok::Param(name) });
        }
        match SYMBOLS.iter().find(|s| self.rest().starts_with(**s)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Tok::Symbol(symbol))
            }
            None => Err(self.error(start, &format!("Illegal input character \"{first}\""))),
        }
    }

    fn digit_at(&self, n: usize) -> bool {
        self.rest().as_bytes().get(n).is_some_and(u8::is_ascii_digit)
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        word
    }

    fn back_quoted(&mut self) -> Res<Tok> {
        let start = self.at;
        let rest = self.rest().as_bytes();
        let mut end = 1;
        while let Some(byte) = rest.get(end) {
            match byte {
                b'`' => break,
                b'\n' => return Err(self.error(start, "Unclosed identifier literal")),
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        if let Some(inner) = self.rest().get(1..end).map(str::to_owned)
            && end < self.rest().len()
        {
            if inner.is_empty() {
                return Err(self.error(start, "Invalid empty identifier"));
            }
            let text = self.unescape(&inner, start + 1, false)?;
            self.at += end + 1;
            return String::from_utf8(text).map(Tok::Quoted).map_err(|_| self.error(start, "Invalid identifier"));
        }
        Err(self.error(start, "Unclosed identifier literal"))
    }

    fn number(&mut self) -> Res<Tok> {
        let start = self.at;
        let rest = self.rest();
        if rest.starts_with("0x") || rest.starts_with("0X") {
            let end = rest[2..].find(|c: char| !c.is_ascii_hexdigit()).map_or(rest.len(), |n| n + 2);
            self.at += end;
            return Ok(Tok::Int(self.sql[start..self.at].to_owned()));
        }
        let bytes = rest.as_bytes();
        let digits =
            |from: usize| from + bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        let mut float = false;
        if bytes.get(end) == Some(&b'.') {
            float = true;
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > end + 1 + sign {
                float = true;
                end = exponent;
            }
        }
        self.at += end;
        if self.rest().starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return Err(self.error(self.at, "Missing whitespace between literal and alias"));
        }
        let text = self.sql[start..self.at].to_owned();
        Ok(if float { Tok::Float(text) } else { Tok::Int(text) })
    }

    /// String and bytes literals with their prefixes.
    fn literal(&mut self) -> Res<Option<Tok>> {
        let rest = self.rest();
        let prefix = rest.chars().take_while(|c| matches!(c, 'r' | 'R' | 'b' | 'B')).count().min(3);
        let (mut raw, mut bytes) = (false, false);
        for c in rest[..prefix].chars() {
            let flag = if c.eq_ignore_ascii_case(&'r') { &mut raw } else { &mut bytes };
            if std::mem::replace(flag, true) {
                return Ok(None);
            }
        }
        let body = &rest[prefix..];
        let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| body.starts_with(q)) else {
            return Ok(None);
        };
        let start = self.at;
        let from = prefix + quote.len();
        let mut at = from;
        let source = rest.as_bytes();
        let close = loop {
            match source.get(at) {
                None => return Err(self.unclosed(start, bytes, quote)),
                Some(b'\n') if quote.len() == 1 => return Err(self.unclosed(start, bytes, quote)),
                Some(b'\\') => at += 2,
                Some(_) if source[at..].starts_with(quote.as_bytes()) => break at,
                Some(_) => at += 1,
            }
        };
        let text = rest.get(from..close).ok_or_else(|| self.unclosed(start, bytes, quote))?.to_owned();
        self.at += close + quote.len();
        let value =
            if raw { text.replace("\r\n", "\n").into_bytes() } else { self.unescape(&text, start + from, bytes)? };
        if bytes {
            return Ok(Some(Tok::Bytes(value)));
        }
        match String::from_utf8(value) {
            Ok(text) => Ok(Some(Tok::Str(text))),
            Err(_) => Err(self.error(start, "Invalid UTF-8 in a string literal")),
        }
    }

    fn unclosed(&self, at: usize, bytes: bool, quote: &str) -> ApiError {
        let triple = if quote.len() == 3 { "triple-quoted " } else { "" };
        self.error(at, &format!("Unclosed {triple}{} literal", if bytes { "bytes" } else { "string" }))
    }

    fn unescape(&self, text: &str, origin: usize, bytes: bool) -> Res<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['\\', '\r']) {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            if rest[at..].starts_with('\r') {
                out.push(b'\n');
                rest = rest[at + 1..].strip_prefix('\n').unwrap_or(&rest[at + 1..]);
                continue;
            }
            let escape = &rest[at + 1..];
            let bad = |what: &str| self.error(origin + (text.len() - rest.len()) + at, what);
            let code = escape.chars().next().ok_or_else(|| bad("Illegal escape sequence: \\"))?;
            let number = |digits: usize, radix: u32, skip: usize| {
                escape.get(skip..skip + digits).and_then(|d| u32::from_str_radix(d, radix).ok())
            };
            let mut used = code.len_utf8();
            match code {
                'a' => out.push(7),
                'b' => out.push(8),
                'f' => out.push(12),
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                't' => out.push(b'\t'),
                'v' => out.push(11),
                '\\' | '?' | '"' | '\'' | '`' => out.push(code as u8),
                '0'..='3' => {
                    let n = number(3, 8, 0)
                        .ok_or_else(|| bad("Illegal escape sequence: octal escapes have three digits"))?;
                    push_code(&mut out, n, bytes);
                    used = 3;
                }
                'x' | 'X' => {
                    let n = number(2, 16, 1).ok_or_else(|| bad("Illegal escape sequence: \\x needs two hex digits"))?;
                    push_code(&mut out, n, bytes);
                    used = 3;
                }
                'u' | 'U' if !bytes => {
                    let digits = if code == 'u' { 4 } else { 8 };
                    let c = number(digits, 16, 1).and_then(char::from_u32);
                    let c =
                        c.ok_or_else(|| bad(&format!("Illegal escape sequence: \\{code} needs {digits} hex digits")))?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    used = 1 + digits;
                }
                other => return Err(bad(&format!("Illegal escape sequence: \\{other}"))),
            }
            rest = &escape[used..];
        }
        out.extend_from_slice(rest.as_bytes());
        Ok(out)
    }
}

fn push_code(out: &mut Vec<u8>, code: u32, bytes: bool) {
    match char::from_u32(code) {
        Some(c) if !bytes => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => out.push(code as u8),
    }
}
