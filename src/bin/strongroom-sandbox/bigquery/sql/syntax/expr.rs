//! Expressions, by descending precedence.

use super::ast::{Bound, Call, Cast, Expr, Frame, InSet, Kind, Name, OrderItem, TypeName, Window};
use super::lex::Tok;
use super::parser::Parser;
use crate::bigquery::sql::error::Res;

/// Types whose name before a string makes a literal.
const LITERAL_TYPES: [&str; 9] =
    ["DATE", "DATETIME", "TIME", "TIMESTAMP", "NUMERIC", "DECIMAL", "BIGNUMERIC", "BIGDECIMAL", "JSON"];
/// Reserved words that are functions when a parenthesis follows.
const RESERVED_FUNCTIONS: [&str; 8] = ["IF", "LEFT", "RIGHT", "GROUPING", "RANGE", "COLLATE", "LOOKUP", "CONTAINS"];

/// Binary operators by level, weakest first.
const LEVELS: [&[&str]; 6] = [&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "||"]];

pub fn node(at: usize, kind: Kind) -> Expr {
    Expr { at, kind: Box::new(kind) }
}

impl Parser<'_> {
    pub fn expr(&mut self) -> Res<Expr> {
        self.deeper(Self::or)
    }

    fn or(&mut self) -> Res<Expr> {
        let mut left = self.and()?;
        while self.is_word("OR") {
            let at = self.pos();
            self.advance();
            left = node(at, Kind::Binary("OR", left, self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Res<Expr> {
        let mut left = self.not()?;
        while self.is_word("AND") {
            let at = self.pos();
            self.advance();
            left = node(at, Kind::Binary("AND", left, self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Res<Expr> {
        let at = self.pos();
        if self.eat_words("NOT") {
            return self.deeper(|p| Ok(node(at, Kind::Unary("NOT", p.not()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Res<Expr> {
        let mut left = self.binary(0)?;
        loop {
            let at = self.pos();
            let symbol = ["=", "!=", "<>", "<=", ">=", "<", ">"].into_iter().find(|s| self.is_symbol(s));
            if let Some(symbol) = symbol {
                self.advance();
                let right = self.binary(0)?;
                left = node(at, Kind::Binary(if symbol == "<>" { "!=" } else { symbol }, left, right));
                continue;
            }
            if self.eat_words("IS") {
                let not = self.eat_words("NOT");
                if self.eat_words("DISTINCT FROM") {
                    let right = self.binary(0)?;
                    let op = if not { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" };
                    left = node(at, Kind::Binary(op, left, right));
                    continue;
                }
                let word = ["NULL", "TRUE", "FALSE", "UNKNOWN"].into_iter().find(|w| self.eat_words(w));
                let word = word.ok_or_else(|| self.unexpected())?;
                left = node(at, Kind::Is(left, word, not));
                continue;
            }
            let follows = |p: &Self, n| ["IN", "LIKE", "BETWEEN"].iter().any(|w| p.word_at(n, w));
            let not = self.is_word("NOT") && follows(self, 1);
            if not {
                self.advance();
            }
            if self.eat_words("BETWEEN") {
                let low = self.binary(0)?;
                self.expect_words("AND")?;
                let high = self.binary(0)?;
                left = node(at, Kind::Between(left, low, high, not));
            } else if self.eat_words("IN") {
                left = node(at, Kind::In(left, self.in_set()?, not));
            } else if self.eat_words("LIKE") {
                let quantifier = ["ANY", "SOME", "ALL"].into_iter().find(|w| self.eat_words(w));
                let (quantifier, patterns) = match quantifier {
                    None => ("", vec![self.binary(0)?]),
                    Some(word) => {
                        let word = if word == "ALL" { "ALL" } else { "ANY" };
                        if self.is_word("UNNEST") {
                            return Err(self.error("LIKE ANY|ALL UNNEST(...) is not supported by the sandbox"));
                        }
                        (word, self.parenthesised(Self::expr)?)
                    }
                };
                left = node(at, Kind::Like(left, quantifier, patterns, not));
            } else {
                return Ok(left);
            }
        }
    }

    fn in_set(&mut self) -> Res<InSet> {
        if self.eat_words("UNNEST") {
            self.expect_symbol("(")?;
            let value = self.expr()?;
            self.expect_symbol(")")?;
            return Ok(InSet::Unnest(value));
        }
        if !self.is_symbol("(") {
            if matches!(self.token(0), Tok::Param(_)) {
                return Err(self.expected("\"(\" or keyword UNNEST"));
            }
            return Err(self.expected("\"(\""));
        }
        if self.query_follows() {
            let mark = self.mark();
            self.advance();
            if let Ok(query) = self.query()
                && self.eat_symbol(")")
            {
                return Ok(InSet::Query(Box::new(query)));
            }
            self.reset(mark);
        }
        Ok(InSet::List(self.parenthesised(Self::expr)?))
    }

    /// Whether `(`, any number of times, and then SELECT or WITH come next.
    pub fn query_follows(&self) -> bool {
        let mut n = 0;
        while self.symbol_at(n, "(") {
            n += 1;
        }
        n > 0
            && (self.word_at(n, "SELECT")
                || (self.word_at(n, "WITH") && !self.symbol_at(n + 1, "("))
                || self.word_at(n, "FROM"))
    }

    fn binary(&mut self, level: usize) -> Res<Expr> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(op) = operators.iter().find(|op| self.is_symbol(op)) {
            let at = self.pos();
            self.advance();
            left = node(at, Kind::Binary(op, left, self.binary(level + 1)?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Res<Expr> {
        let at = self.pos();
        for op in ["-", "+", "~"] {
            if self.eat_symbol(op) {
                return self.deeper(|p| {
                    let value = p.unary()?;
                    Ok(match (op, *value.kind) {
                        // The smallest INT64 has no positive counterpart.
                        ("-", Kind::Int(text)) if !text.starts_with('-') => node(at, Kind::Int(format!("-{text}"))),
                        ("-", Kind::Float(text)) if !text.starts_with('-') => node(at, Kind::Float(format!("-{text}"))),
                        ("+", kind) => node(value.at, kind),
                        (op, kind) => node(at, Kind::Unary(op, node(value.at, kind))),
                    })
                });
            }
        }
        self.postfix()
    }

    fn postfix(&mut self) -> Res<Expr> {
        let mut value = self.primary()?;
        loop {
            let at = self.pos();
            if self.is_symbol(".") && !self.symbol_at(1, "*") {
                self.advance();
                let name = self.any_name()?;
                value = node(at, Kind::Field(value, name));
            } else if self.eat_symbol("[") {
                let word = ["OFFSET", "ORDINAL", "SAFE_OFFSET", "SAFE_ORDINAL"]
                    .into_iter()
                    .find(|w| self.is_word(w) && self.symbol_at(1, "("));
                let index = if word.is_some() {
                    self.advance();
                    self.expect_symbol("(")?;
                    let index = self.expr()?;
                    self.expect_symbol(")")?;
                    index
                } else {
                    self.expr()?
                };
                self.expect_symbol("]")?;
                value = node(at, Kind::Index(value, word.unwrap_or("").to_owned(), index));
            } else {
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Res<Expr> {
        let at = self.pos();
        let kind = match self.token(0).clone() {
            Tok::Int(text) => self.took(Kind::Int(text)),
            Tok::Float(text) => self.took(Kind::Float(text)),
            Tok::Str(text) => self.took(Kind::Str(text)),
            Tok::Bytes(bytes) => self.took(Kind::Bytes(bytes)),
            Tok::Param(name) => self.took(Kind::Param(name)),
            Tok::SystemVariable(name) => {
                self.advance();
                let mut name = name;
                while self.is_symbol(".") {
                    self.advance();
                    name = format!("{name}.{}", self.any_name()?.text);
                }
                Kind::SystemVariable(name)
            }
            Tok::Symbol("?") => {
                self.positional += 1;
                let n = self.positional - 1;
                self.took(Kind::Positional(n))
            }
            Tok::Symbol("(") => return self.parentheses(),
            Tok::Symbol("[") => Kind::Array(None, self.elements()?),
            Tok::Word(word) => return self.word_expr(at, &word),
            Tok::Quoted(_) => return self.path_expr(at),
            _ => return Err(self.unexpected()),
        };
        Ok(node(at, kind))
    }

    fn took(&mut self, kind: Kind) -> Kind {
        self.advance();
        kind
    }

    fn elements(&mut self) -> Res<Vec<Expr>> {
        self.expect_symbol("[")?;
        let elements = if self.is_symbol("]") { vec![] } else { self.list(Self::expr)? };
        self.expect_symbol("]")?;
        Ok(elements)
    }

    fn parentheses(&mut self) -> Res<Expr> {
        let at = self.pos();
        if self.query_follows() {
            let mark = self.mark();
            self.advance();
            let error = match self.query() {
                Ok(query) if self.eat_symbol(")") => return Ok(node(at, Kind::Query(Box::new(query)))),
                Ok(_) => self.expected("\")\""),
                Err(error) => error,
            };
            self.reset(mark);
            if !self.symbol_at(1, "(") {
                return Err(error);
            }
        }
        let mut items = self.parenthesised(Self::expr)?;
        if items.len() == 1 {
            return Ok(items.remove(0));
        }
        Ok(node(at, Kind::Struct(None, items.into_iter().map(|e| (e, None)).collect())))
    }

    fn word_expr(&mut self, at: usize, word: &str) -> Res<Expr> {
        let upper = word.to_uppercase();
        let parenthesis = self.symbol_at(1, "(");
        let kind = match upper.as_str() {
            "NULL" => self.took(Kind::Null),
            "TRUE" => self.took(Kind::Bool(true)),
            "FALSE" => self.took(Kind::Bool(false)),
            "DEFAULT" => self.took(Kind::Default),
            "CASE" => self.case()?,
            "CAST" | "SAFE_CAST" if parenthesis => self.cast(upper == "SAFE_CAST")?,
            "EXTRACT" if parenthesis => self.extract()?,
            "EXISTS" if parenthesis => {
                self.advance();
                self.expect_symbol("(")?;
                let query = self.query()?;
                self.expect_symbol(")")?;
                Kind::Exists(Box::new(query))
            }
            "INTERVAL" => self.interval()?,
            "ARRAY" => self.array()?,
            "STRUCT" => self.structure()?,
            "RANGE" if self.symbol_at(1, "<") => {
                let kind = self.type_name()?;
                Kind::Typed(kind, self.string()?)
            }
            name if LITERAL_TYPES.contains(&name) && matches!(self.token(1), Tok::Str(_)) => {
                self.advance();
                let text = self.string()?;
                let name = if name == "DECIMAL" { "NUMERIC" } else { name };
                let name = if name == "BIGDECIMAL" { "BIGNUMERIC" } else { name };
                Kind::Typed(TypeName::Simple(name.into(), vec![]), text)
            }
            name if RESERVED_FUNCTIONS.contains(&name) && parenthesis => return self.path_expr(at),
            _ if super::lex::is_reserved(word) => return Err(self.unexpected()),
            _ => return self.path_expr(at),
        };
        Ok(node(at, kind))
    }

    /// A name with what follows it: fields, or the parentheses of a call.
    fn path_expr(&mut self, at: usize) -> Res<Expr> {
        let mut names = vec![self.any_name()?];
        while self.is_symbol(".") && matches!(self.token(1), Tok::Word(_) | Tok::Quoted(_)) {
            self.advance();
            names.push(self.any_name()?);
        }
        if self.is_symbol("(") {
            return Ok(node(at, Kind::Call(self.call(names)?)));
        }
        Ok(node(at, Kind::Path(names)))
    }

    fn call(&mut self, mut name: Vec<Name>) -> Res<Call> {
        let safe = name.len() > 1 && name[0].text.eq_ignore_ascii_case("SAFE");
        if safe {
            name.remove(0);
        }
        self.expect_symbol("(")?;
        let mut call = Call {
            name,
            safe,
            distinct: self.eat_words("DISTINCT"),
            args: vec![],
            ignore_nulls: None,
            having: None,
            order_by: vec![],
            limit: None,
            over: None,
        };
        if !call.distinct {
            // `COUNT(ALL x)` is not GoogleSQL; nothing to skip.
        }
        if self.is_symbol("*") && (self.symbol_at(1, ")")) {
            let at = self.pos();
            self.advance();
            call.args.push(node(at, Kind::Star));
        } else if !self.is_symbol(")") && !self.modifier_follows() {
            call.args = self.list(Self::argument)?;
        }
        self.modifiers(&mut call)?;
        self.expect_symbol(")")?;
        if self.are_words("IGNORE NULLS") || self.are_words("RESPECT NULLS") {
            call.ignore_nulls = Some(self.is_word("IGNORE"));
            self.advance();
            self.advance();
        }
        if self.eat_words("OVER") {
            call.over = Some(if self.is_symbol("(") {
                self.window()?
            } else {
                Window { base: Some(self.name()?), partition_by: vec![], order_by: vec![], frame: None }
            });
        }
        Ok(call)
    }

    fn modifier_follows(&self) -> bool {
        self.are_words("ORDER BY") || self.is_word("LIMIT") || self.is_word("HAVING")
    }

    fn modifiers(&mut self, call: &mut Call) -> Res<()> {
        if self.are_words("IGNORE NULLS") || self.are_words("RESPECT NULLS") {
            call.ignore_nulls = Some(self.is_word("IGNORE"));
            self.advance();
            self.advance();
        }
        if self.eat_words("HAVING") {
            let max = self.eat_words("MAX");
            if !max {
                self.expect_words("MIN")?;
            }
            call.having = Some((max, self.expr()?));
        }
        if self.eat_words("ORDER BY") {
            call.order_by = self.list(Self::order_item)?;
        }
        if self.eat_words("LIMIT") {
            call.limit = Some(self.expr()?);
        }
        Ok(())
    }

    fn argument(&mut self) -> Res<Expr> {
        let at = self.pos();
        if self.is_name() && self.symbol_at(1, "=>") {
            let name = self.name()?;
            self.advance();
            return Ok(node(at, Kind::Named(name, self.expr()?)));
        }
        if self.is_name() && self.symbol_at(1, "->") {
            let name = self.name()?;
            self.advance();
            return Ok(node(at, Kind::Lambda(vec![name], self.expr()?)));
        }
        if self.is_symbol("(") && self.name_at(1) && self.symbol_at(2, ",") {
            let mark = self.mark();
            if let Ok(names) = self.parenthesised(Self::name)
                && self.eat_symbol("->")
            {
                return Ok(node(at, Kind::Lambda(names, self.expr()?)));
            }
            self.reset(mark);
        }
        // A query may be an argument without parentheses of its own: ARRAY_LENGTH(SELECT ...) is not GoogleSQL.
        self.expr()
    }

    pub fn order_item(&mut self) -> Res<OrderItem> {
        let expr = self.expr()?;
        if self.eat_words("COLLATE") {
            return Err(self.error("COLLATE is not supported by the sandbox"));
        }
        let desc = self.eat_words("DESC");
        if !desc {
            self.eat_words("ASC");
        }
        let nulls_first = if self.eat_words("NULLS") {
            let first = self.eat_words("FIRST");
            if !first {
                self.expect_words("LAST")?;
            }
            Some(first)
        } else {
            None
        };
        Ok(OrderItem { expr, desc, nulls_first })
    }

    /// `( [name] [PARTITION BY ...] [ORDER BY ...] [frame] )`.
    pub fn window(&mut self) -> Res<Window> {
        self.expect_symbol("(")?;
        let base = if self.is_name() { Some(self.name()?) } else { None };
        let partition_by = if self.eat_words("PARTITION BY") { self.list(Self::expr)? } else { vec![] };
        let order_by = if self.eat_words("ORDER BY") { self.list(Self::order_item)? } else { vec![] };
        let frame = if self.is_word("ROWS") || self.is_word("RANGE") { Some(self.frame()?) } else { None };
        self.expect_symbol(")")?;
        Ok(Window { base, partition_by, order_by, frame })
    }

    fn frame(&mut self) -> Res<Frame> {
        let rows = self.eat_words("ROWS");
        if !rows {
            self.expect_words("RANGE")?;
        }
        if self.eat_words("BETWEEN") {
            let start = self.bound()?;
            self.expect_words("AND")?;
            return Ok(Frame { rows, start, end: self.bound()? });
        }
        Ok(Frame { rows, start: self.bound()?, end: Bound::CurrentRow })
    }

    fn bound(&mut self) -> Res<Bound> {
        if self.eat_words("UNBOUNDED PRECEDING") {
            return Ok(Bound::UnboundedPreceding);
        }
        if self.eat_words("UNBOUNDED FOLLOWING") {
            return Ok(Bound::UnboundedFollowing);
        }
        if self.eat_words("CURRENT ROW") {
            return Ok(Bound::CurrentRow);
        }
        let value = self.expr()?;
        if self.eat_words("PRECEDING") {
            return Ok(Bound::Preceding(value));
        }
        self.expect_words("FOLLOWING")?;
        Ok(Bound::Following(value))
    }

    fn case(&mut self) -> Res<Kind> {
        self.advance();
        let operand = if self.is_word("WHEN") { None } else { Some(self.expr()?) };
        let mut branches = Vec::new();
        while self.eat_words("WHEN") {
            let when = self.expr()?;
            self.expect_words("THEN")?;
            branches.push((when, self.expr()?));
        }
        if branches.is_empty() {
            return Err(self.expected("keyword WHEN"));
        }
        let otherwise = if self.eat_words("ELSE") { Some(self.expr()?) } else { None };
        self.expect_words("END")?;
        Ok(Kind::Case(operand, branches, otherwise))
    }

    fn cast(&mut self, safe: bool) -> Res<Kind> {
        self.advance();
        self.expect_symbol("(")?;
        let value = self.expr()?;
        self.expect_words("AS")?;
        let to = self.type_name()?;
        let format = if self.eat_words("FORMAT") { Some(self.expr()?) } else { None };
        let zone = if self.eat_words("AT TIME ZONE") { Some(self.expr()?) } else { None };
        self.expect_symbol(")")?;
        Ok(Kind::Cast(Cast { value, to, safe, format, zone }))
    }

    fn extract(&mut self) -> Res<Kind> {
        self.advance();
        self.expect_symbol("(")?;
        let part = self.date_part()?;
        self.expect_words("FROM")?;
        let value = self.expr()?;
        let zone = if self.eat_words("AT TIME ZONE") { Some(self.expr()?) } else { None };
        self.expect_symbol(")")?;
        Ok(Kind::Extract(part, value, zone))
    }

    /// DAY, WEEK(MONDAY): in upper case.
    pub fn date_part(&mut self) -> Res<String> {
        let part = self.any_name()?.text.to_uppercase();
        if self.eat_symbol("(") {
            let day = self.any_name()?.text.to_uppercase();
            self.expect_symbol(")")?;
            return Ok(format!("{part}({day})"));
        }
        Ok(part)
    }

    fn interval(&mut self) -> Res<Kind> {
        self.advance();
        let value = self.binary(0)?;
        let from = self.any_name()?.text.to_uppercase();
        let to = if self.eat_words("TO") { Some(self.any_name()?.text.to_uppercase()) } else { None };
        Ok(Kind::Interval(value, from, to))
    }

    fn array(&mut self) -> Res<Kind> {
        if self.symbol_at(1, "<") {
            let TypeName::Array(element) = self.type_name()? else { return Err(self.unexpected()) };
            return Ok(Kind::Array(Some(*element), self.elements()?));
        }
        self.advance();
        if self.is_symbol("[") {
            return Ok(Kind::Array(None, self.elements()?));
        }
        self.expect_symbol("(")?;
        let query = self.query()?;
        self.expect_symbol(")")?;
        Ok(Kind::ArrayQuery(Box::new(query)))
    }

    fn structure(&mut self) -> Res<Kind> {
        let kind = if self.symbol_at(1, "<") || self.symbol_at(1, "<>") {
            Some(self.type_name()?)
        } else {
            self.advance();
            None
        };
        self.expect_symbol("(")?;
        let fields = if self.is_symbol(")") {
            vec![]
        } else {
            self.list(|p| {
                let value = p.expr()?;
                let alias = if p.eat_words("AS") { Some(p.any_name()?) } else { None };
                Ok((value, alias))
            })?
        };
        self.expect_symbol(")")?;
        Ok(Kind::Struct(kind, fields))
    }
}
