//! The parser's machinery: looking ahead, expecting, names, paths, types, and BigQuery's words for what it did not expect.

use super::ast::{ColumnRest, Expr, Name, Path, Query, Stmt, TypeName};
use super::lex::{Tok, Token, is_reserved, tokens};
use crate::bigquery::sql::error::{ApiError, Res, invalid, place};

/// Nested deeper, a statement is refused: the trees are walked recursively.
const MAX_DEPTH: usize = 120;

/// Parses statements separated by semicolons.
///
/// # Errors
/// `Syntax error: ... at [line:column]`.
pub fn parse_script(sql: &str) -> Res<Vec<Stmt>> {
    let mut parser = Parser::new(sql)?;
    let statements = parser.statements(&[])?;
    parser.expect_end()?;
    if statements.is_empty() {
        return Err(parser.error("Unexpected end of statement"));
    }
    Ok(statements)
}

/// Parses one query (a view's).
///
/// # Errors
/// As [`parse_script`].
pub fn parse_query(sql: &str) -> Res<Query> {
    let mut parser = Parser::new(sql)?;
    let query = parser.query()?;
    parser.eat_symbol(";");
    parser.expect_end()?;
    Ok(query)
}

/// Parses one expression (a routine's body, a default).
///
/// # Errors
/// As [`parse_script`].
pub fn parse_expression(sql: &str) -> Res<Expr> {
    let mut parser = Parser::new(sql)?;
    let expr = parser.expr()?;
    parser.expect_end()?;
    Ok(expr)
}

/// Parses a type (`ARRAY<STRUCT<a INT64>>`).
///
/// # Errors
/// As [`parse_script`].
pub fn parse_type(sql: &str) -> Res<TypeName> {
    let mut parser = Parser::new(sql)?;
    let kind = parser.type_name()?;
    parser.expect_end()?;
    Ok(kind)
}

pub struct Parser<'a> {
    pub sql: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    pub positional: usize,
}

impl<'a> Parser<'a> {
    pub fn new(sql: &'a str) -> Res<Self> {
        Ok(Self { sql, tokens: tokens(sql, 0)?, at: 0, depth: 0, positional: 0 })
    }

    /// Runs a part of the grammar that can nest.
    pub fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Res<T>) -> Res<T> {
        if self.depth >= MAX_DEPTH {
            return Err(invalid("Query is too complex: expressions and subqueries are nested too deeply"));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    pub fn token(&self, ahead: usize) -> &Tok {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].kind
    }

    /// Where the next token begins.
    pub fn pos(&self) -> usize {
        self.tokens[self.at].start
    }

    /// Where the last token ended.
    pub fn last_end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |n| self.tokens[n].end)
    }

    pub fn advance(&mut self) -> Tok {
        let token = self.tokens[self.at].kind.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    pub fn mark(&self) -> (usize, usize) {
        (self.at, self.positional)
    }

    pub fn reset(&mut self, mark: (usize, usize)) {
        (self.at, self.positional) = mark;
    }

    pub fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.token(0), Tok::Symbol(s) if *s == symbol)
    }

    pub fn symbol_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.token(ahead), Tok::Symbol(s) if *s == symbol)
    }

    pub fn eat_symbol(&mut self, symbol: &str) -> bool {
        // `>>` closes two type brackets.
        if symbol == ">" && self.is_symbol(">>") {
            let start = self.tokens[self.at].start;
            self.tokens[self.at] = Token { kind: Tok::Symbol(">"), start: start + 1, end: start + 2 };
            return true;
        }
        let found = self.is_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect_symbol(&mut self, symbol: &str) -> Res<()> {
        if self.eat_symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("\"{symbol}\""))) }
    }

    pub fn word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.token(ahead), Tok::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.word_at(0, word)
    }

    /// Whether the next tokens are these words, separated by blanks in `words`.
    pub fn are_words(&self, words: &str) -> bool {
        words.split(' ').enumerate().all(|(n, word)| self.word_at(n, word))
    }

    pub fn eat_words(&mut self, words: &str) -> bool {
        let found = self.are_words(words);
        if found {
            for _ in words.split(' ') {
                self.advance();
            }
        }
        found
    }

    pub fn expect_words(&mut self, words: &str) -> Res<()> {
        for word in words.split(' ') {
            if !self.eat_words(word) {
                return Err(self.expected(&format!("keyword {word}")));
            }
        }
        Ok(())
    }

    pub fn expect_end(&self) -> Res<()> {
        if *self.token(0) == Tok::End { Ok(()) } else { Err(self.expected("end of input")) }
    }

    pub fn describe(&self) -> String {
        match self.token(0) {
            Tok::End => "end of script".into(),
            Tok::Word(w) if is_reserved(w) => format!("keyword {}", w.to_uppercase()),
            Tok::Word(w) => format!("identifier \"{w}\""),
            Tok::Quoted(w) => format!("identifier `{w}`"),
            Tok::Int(t) => format!("integer literal \"{t}\""),
            Tok::Float(t) => format!("floating point literal \"{t}\""),
            Tok::Str(t) => format!("string literal \"{t}\""),
            Tok::Bytes(_) => "bytes literal".into(),
            Tok::Param(name) => format!("\"@{name}\""),
            Tok::SystemVariable(name) => format!("\"@@{name}\""),
            Tok::Symbol(s) => format!("\"{s}\""),
        }
    }

    pub fn error(&self, message: &str) -> ApiError {
        self.error_at(self.pos(), message)
    }

    pub fn error_at(&self, at: usize, message: &str) -> ApiError {
        invalid(format!("Syntax error: {message} at {}", place(self.sql, at)))
    }

    pub fn expected(&self, what: &str) -> ApiError {
        self.error(&format!("Expected {what} but got {}", self.describe()))
    }

    pub fn unexpected(&self) -> ApiError {
        self.error(&format!("Unexpected {}", self.describe()))
    }

    /// Whether the next token can be a name without quotes.
    pub fn is_name(&self) -> bool {
        self.name_at(0)
    }

    pub fn name_at(&self, ahead: usize) -> bool {
        match self.token(ahead) {
            Tok::Word(word) => !is_reserved(word),
            Tok::Quoted(_) => true,
            _ => false,
        }
    }

    pub fn name(&mut self) -> Res<Name> {
        if self.is_name() { self.any_name() } else { Err(self.unexpected()) }
    }

    /// A name where also reserved words may stand (after a dot).
    pub fn any_name(&mut self) -> Res<Name> {
        let at = self.pos();
        match self.token(0).clone() {
            Tok::Word(text) | Tok::Quoted(text) => {
                self.advance();
                Ok(Name { text, at })
            }
            _ => Err(self.unexpected()),
        }
    }

    /// `[AS] name`, where a name without AS must not be one of the words that go on with the statement.
    pub fn alias(&mut self) -> Res<Option<Name>> {
        if self.eat_words("AS") {
            return self.name().map(Some);
        }
        const GO_ON: [&str; 8] = ["PIVOT", "UNPIVOT", "WINDOW", "OFFSET", "SAMPLE", "FOR", "WITH", "TABLESAMPLE"];
        let follows = GO_ON.iter().any(|w| self.is_word(w));
        let goes_on = follows && (self.symbol_at(1, "(") || !self.is_name());
        if self.is_name() && !goes_on { self.name().map(Some) } else { Ok(None) }
    }

    pub fn string(&mut self) -> Res<String> {
        match self.token(0).clone() {
            Tok::Str(text) => {
                self.advance();
                Ok(text)
            }
            _ => Err(self.expected("string literal")),
        }
    }

    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Res<T>) -> Res<Vec<T>> {
        let mut out = vec![item(self)?];
        while self.eat_symbol(",") {
            out.push(item(self)?);
        }
        Ok(out)
    }

    pub fn parenthesised<T>(&mut self, item: impl FnMut(&mut Self) -> Res<T>) -> Res<Vec<T>> {
        self.expect_symbol("(")?;
        let out = self.list(item)?;
        self.expect_symbol(")")?;
        Ok(out)
    }

    /// A dotted name of an object: parts may be quoted together, projects may have dashes, tables may begin with digits.
    pub fn path(&mut self) -> Res<Path> {
        Ok(self.path_with_names()?.0)
    }

    /// The path, and the names as they stand (for paths into a row: `t.items`).
    pub fn path_with_names(&mut self) -> Res<(Path, Vec<Name>)> {
        if !self.is_name() {
            return Err(self.unexpected());
        }
        let at = self.pos();
        let mut names: Vec<Name> = Vec::new();
        loop {
            let start = self.pos();
            if let Tok::Quoted(text) = self.token(0).clone() {
                self.advance();
                names.push(Name { text, at: start });
            } else {
                let text = self.dashed_word(names.is_empty())?;
                names.push(Name { text, at: start });
            }
            if !self.is_symbol(".") {
                break;
            }
            self.advance();
        }
        let parts = split_path(&names.iter().map(|n| n.text.as_str()).collect::<Vec<_>>());
        Ok((Path { parts, at }, names))
    }

    /// A word with dashes (`my-project`); the tokens after it are read again, as `-1.x` is otherwise a number.
    fn dashed_word(&mut self, first: bool) -> Res<String> {
        let start = self.pos();
        let rest = &self.sql[start..];
        let mut end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.unexpected());
        }
        if first {
            let dashed =
                rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | ':'))).unwrap_or(rest.len());
            let comment = rest[..dashed].contains("--");
            if dashed > end && !comment && rest[dashed..].starts_with('.') && !rest[..dashed].ends_with('-') {
                end = dashed;
            }
        } else {
            // Table names may have dashes too.
            let dashed = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).unwrap_or(rest.len());
            if dashed > end && !rest[..dashed].contains("--") && !rest[..dashed].ends_with('-') {
                end = dashed;
            }
        }
        let stop = start + end;
        if self.tokens[self.at].end == stop {
            self.advance();
        } else if let Some(n) = self.tokens.iter().position(|t| t.start >= stop && t.end >= stop)
            && self.tokens[..n].last().is_none_or(|t| t.end <= stop)
        {
            self.at = n;
        } else {
            self.tokens.truncate(self.at);
            self.tokens.extend(tokens(self.sql, stop)?);
        }
        Ok(rest[..end].to_owned())
    }

    pub fn type_name(&mut self) -> Res<TypeName> {
        self.deeper(Self::type_name_inner)
    }

    fn type_name_inner(&mut self) -> Res<TypeName> {
        let at = self.pos();
        let Tok::Word(word) = self.advance() else {
            return Err(self.error_at(at, "Expected a type name"));
        };
        let word = word.to_uppercase();
        match word.as_str() {
            "ANY" => {
                self.expect_words("TYPE")?;
                Ok(TypeName::Any)
            }
            "ARRAY" => {
                self.expect_symbol("<")?;
                let element = self.type_name()?;
                self.expect_symbol(">")?;
                Ok(TypeName::Array(Box::new(element)))
            }
            "RANGE" => {
                self.expect_symbol("<")?;
                let element = self.type_name()?;
                self.expect_symbol(">")?;
                Ok(TypeName::Range(Box::new(element)))
            }
            "STRUCT" | "RECORD" => {
                if self.eat_symbol("<>") {
                    return Ok(TypeName::Struct(vec![]));
                }
                self.expect_symbol("<")?;
                if self.eat_symbol(">") {
                    return Ok(TypeName::Struct(vec![]));
                }
                let fields = self.list(Self::struct_field)?;
                self.expect_symbol(">")?;
                Ok(TypeName::Struct(fields))
            }
            _ => {
                let mut params = Vec::new();
                if self.is_symbol("(") {
                    params = self.parenthesised(|p| match p.advance() {
                        Tok::Int(n) => n.parse().map_err(|_| p.error("Invalid type parameter")),
                        Tok::Word(w) if w.eq_ignore_ascii_case("MAX") => Ok(u64::MAX),
                        _ => Err(p.error("Expected a type parameter")),
                    })?;
                }
                Ok(TypeName::Simple(word, params))
            }
        }
    }

    fn struct_field(&mut self) -> Res<(Option<String>, TypeName, ColumnRest)> {
        // `a INT64` or just `INT64`; `ARRAY <`, `STRUCT <` begin a type.
        let named = match (self.token(0), self.token(1)) {
            (Tok::Quoted(_), _) => true,
            (Tok::Word(_), Tok::Word(w)) => {
                !matches!(w.to_uppercase().as_str(), "NOT" | "OPTIONS" | "DEFAULT" | "COLLATE")
            }
            _ => false,
        };
        let name = if named { Some(self.any_name()?.text) } else { None };
        let kind = self.type_name()?;
        let rest = self.column_rest()?;
        Ok((name, kind, rest))
    }

    pub fn skip_to_text(&self, start: usize) -> String {
        self.sql[start..self.last_end().max(start)].to_owned()
    }
}

/// Splits names at dots, but for the dot of a domain-scoped project (`example.com:project`).
pub fn split_path(names: &[&str]) -> Vec<String> {
    let joined = names.join(".");
    let (head, tail) = match joined.find(':') {
        Some(colon) if joined[..colon].contains('.') => match joined[colon..].find('.') {
            Some(dot) => (Some(joined[..colon + dot].to_owned()), joined[colon + dot + 1..].to_owned()),
            None => return vec![joined],
        },
        _ => (None, joined),
    };
    head.into_iter().chain(tail.split('.').map(str::to_owned)).collect()
}
