//! Queries: WITH, set operations, SELECT, FROM.

use super::ast::{From, GroupBy, GroupItem, Item, JoinKind, Name, Query, Select, SelectAs, SetExpr};
use super::parser::Parser;
use crate::bigquery::sql::error::Res;

impl Parser<'_> {
    pub fn query(&mut self) -> Res<Query> {
        self.deeper(Self::query_inner)
    }

    fn query_inner(&mut self) -> Res<Query> {
        let at = self.pos();
        let mut recursive = false;
        let mut with = Vec::new();
        if self.eat_words("WITH") {
            recursive = self.eat_words("RECURSIVE");
            loop {
                let name = self.name()?;
                self.expect_words("AS")?;
                self.expect_symbol("(")?;
                let query = self.query()?;
                self.expect_symbol(")")?;
                with.push((name, query));
                if !self.eat_symbol(",") || self.is_word("SELECT") {
                    break;
                }
            }
        }
        let body = self.set_expr()?;
        let order_by = if self.eat_words("ORDER BY") { self.list(Self::order_item)? } else { vec![] };
        let limit = if self.eat_words("LIMIT") { Some(self.expr()?) } else { None };
        let offset = if self.eat_words("OFFSET") { Some(self.expr()?) } else { None };
        if self.is_symbol("|>") {
            return Err(self.error("pipe syntax is not supported by the sandbox"));
        }
        Ok(Query { at, recursive, with, body, order_by, limit, offset })
    }

    fn set_expr(&mut self) -> Res<SetExpr> {
        let mut left = self.set_operand()?;
        let mut seen: Option<(&str, bool)> = None;
        loop {
            let at = self.pos();
            let Some(op) = ["UNION", "INTERSECT", "EXCEPT"].into_iter().find(|w| self.is_word(w)) else {
                return Ok(left);
            };
            self.advance();
            let all = self.eat_words("ALL");
            if !all {
                self.expect_words("DISTINCT")?;
            }
            if seen.is_some_and(|s| s != (op, all)) {
                return Err(self.error_at(
                    at,
                    "Different set operations cannot be used in the same query without using parentheses for grouping",
                ));
            }
            seen = Some((op, all));
            if self.is_word("CORRESPONDING") || self.are_words("BY NAME") {
                return Err(self.error("set operations by name are not supported by the sandbox"));
            }
            let right = self.set_operand()?;
            left = SetExpr::Set { op, all, left: Box::new(left), right: Box::new(right), at };
        }
    }

    fn set_operand(&mut self) -> Res<SetExpr> {
        if self.is_symbol("(") {
            self.advance();
            let query = self.query()?;
            self.expect_symbol(")")?;
            return Ok(SetExpr::Query(Box::new(query)));
        }
        Ok(SetExpr::Select(Box::new(self.select()?)))
    }

    fn select(&mut self) -> Res<Select> {
        let at = self.pos();
        if !self.is_word("SELECT") {
            return Err(if self.is_word("FROM") {
                self.error("Unexpected FROM")
            } else {
                self.expected("\"(\" or keyword SELECT or keyword WITH")
            });
        }
        self.advance();
        let distinct = self.eat_words("DISTINCT");
        if !distinct {
            self.eat_words("ALL");
        }
        let mut select_as = SelectAs::Plain;
        if self.is_word("AS") {
            self.advance();
            select_as = if self.eat_words("STRUCT") {
                SelectAs::Struct
            } else if self.eat_words("VALUE") {
                SelectAs::Value
            } else {
                return Err(self.expected("keyword STRUCT or VALUE"));
            };
        }
        if self.is_word("FROM") {
            return Err(self.error("SELECT list must not be empty"));
        }
        let mut items = vec![self.item()?];
        while self.eat_symbol(",") {
            // A trailing comma is allowed.
            const AFTER: [&str; 13] = [
                "FROM",
                "WHERE",
                "GROUP",
                "HAVING",
                "QUALIFY",
                "WINDOW",
                "ORDER",
                "LIMIT",
                "UNION",
                "INTERSECT",
                "EXCEPT",
                "FOR",
                "END",
            ];
            if AFTER.iter().any(|w| self.is_word(w))
                || self.is_symbol(")")
                || self.is_symbol(";")
                || *self.token(0) == super::lex::Tok::End
            {
                break;
            }
            items.push(self.item()?);
        }
        let from = if self.eat_words("FROM") { Some(self.from()?) } else { None };
        let filter = if self.eat_words("WHERE") { Some(self.expr()?) } else { None };
        let group_by = self.group_by()?;
        let having = if self.eat_words("HAVING") { Some(self.expr()?) } else { None };
        let mut qualify = if self.eat_words("QUALIFY") { Some(self.expr()?) } else { None };
        let mut windows = Vec::new();
        if self.eat_words("WINDOW") {
            windows = self.list(|p| {
                let name = p.name()?;
                p.expect_words("AS")?;
                let window = if p.is_symbol("(") {
                    p.window()?
                } else {
                    super::ast::Window { base: Some(p.name()?), partition_by: vec![], order_by: vec![], frame: None }
                };
                Ok((name, window))
            })?;
        }
        if qualify.is_none() && self.eat_words("QUALIFY") {
            qualify = Some(self.expr()?);
        }
        Ok(Select { at, distinct, select_as, items, from, filter, group_by, having, qualify, windows })
    }

    fn item(&mut self) -> Res<Item> {
        let at = self.pos();
        if self.eat_symbol("*") {
            return self.star(None, at);
        }
        let expr = self.expr()?;
        if self.is_symbol(".") && self.symbol_at(1, "*") {
            self.advance();
            self.advance();
            return self.star(Some(expr), at);
        }
        let alias = self.alias()?;
        Ok(Item::Expr(expr, alias))
    }

    fn star(&mut self, of: Option<super::ast::Expr>, at: usize) -> Res<Item> {
        let except = if self.is_word("EXCEPT") && self.symbol_at(1, "(") {
            self.advance();
            self.parenthesised(Self::any_name)?
        } else {
            vec![]
        };
        let replace = if self.is_word("REPLACE") && self.symbol_at(1, "(") {
            self.advance();
            self.parenthesised(|p| {
                let value = p.expr()?;
                p.eat_words("AS");
                Ok((value, p.any_name()?))
            })?
        } else {
            vec![]
        };
        Ok(Item::Star { of, except, replace, at })
    }

    fn group_by(&mut self) -> Res<GroupBy> {
        if !self.eat_words("GROUP BY") {
            return Ok(GroupBy::None);
        }
        if self.eat_words("ALL") {
            return Ok(GroupBy::All);
        }
        Ok(GroupBy::Keys(self.list(Self::group_item)?))
    }

    fn group_item(&mut self) -> Res<GroupItem> {
        if self.is_word("ROLLUP") && self.symbol_at(1, "(") {
            self.advance();
            return Ok(GroupItem::Rollup(self.parenthesised(Self::key_set)?));
        }
        if self.is_word("CUBE") && self.symbol_at(1, "(") {
            self.advance();
            return Ok(GroupItem::Cube(self.parenthesised(Self::key_set)?));
        }
        if self.eat_words("GROUPING SETS") {
            return Ok(GroupItem::Sets(self.parenthesised(|p| {
                if p.is_symbol("(") {
                    return Ok(GroupItem::Tuple(p.key_set()?));
                }
                p.group_item()
            })?));
        }
        if self.is_symbol("(") && self.symbol_at(1, ")") {
            self.advance();
            self.advance();
            return Ok(GroupItem::Tuple(vec![]));
        }
        Ok(GroupItem::Key(self.expr()?))
    }

    /// `a` or `(a, b)`.
    fn key_set(&mut self) -> Res<Vec<super::ast::Expr>> {
        if !self.is_symbol("(") {
            return Ok(vec![self.expr()?]);
        }
        self.advance();
        let keys = if self.is_symbol(")") { vec![] } else { self.list(Self::expr)? };
        self.expect_symbol(")")?;
        Ok(keys)
    }

    pub fn from(&mut self) -> Res<From> {
        let mut left = self.joins()?;
        loop {
            let at = self.pos();
            if !self.eat_symbol(",") {
                return Ok(left);
            }
            let right = self.joins()?;
            left = From::Join {
                kind: JoinKind::Comma,
                left: Box::new(left),
                right: Box::new(right),
                on: None,
                using: vec![],
                at,
            };
        }
    }

    fn joins(&mut self) -> Res<From> {
        let mut left = self.table()?;
        // Joins whose ON comes later: `a JOIN b JOIN c ON ... ON ...`.
        let mut pending: Vec<(From, JoinKind, usize)> = Vec::new();
        loop {
            let at = self.pos();
            if let Some(kind) = self.join_kind()? {
                let right = self.table()?;
                if kind == JoinKind::Cross || self.is_word("ON") || self.is_word("USING") {
                    left = self.finish_join(left, right, kind, at)?;
                } else if self.join_follows() {
                    pending.push((left, kind, at));
                    left = right;
                } else if kind == JoinKind::Inner || matches!(right, From::Unnest { .. } | From::Table { .. }) {
                    // INNER JOIN without ON is a cross join; LEFT JOIN UNNEST(...) needs none.
                    left =
                        From::Join { kind, left: Box::new(left), right: Box::new(right), on: None, using: vec![], at };
                } else {
                    return Err(self.expected("keyword ON or keyword USING"));
                }
            } else if !pending.is_empty() && (self.is_word("ON") || self.is_word("USING")) {
                if let Some((first, kind, at)) = pending.pop() {
                    left = self.finish_join(first, left, kind, at)?;
                }
            } else {
                if !pending.is_empty() {
                    return Err(self.expected("keyword ON"));
                }
                return Ok(left);
            }
        }
    }

    fn join_follows(&self) -> bool {
        ["JOIN", "INNER", "LEFT", "RIGHT", "FULL", "CROSS"].iter().any(|w| self.is_word(w))
    }

    fn finish_join(&mut self, left: From, right: From, kind: JoinKind, at: usize) -> Res<From> {
        let mut on = None;
        let mut using = vec![];
        if kind != JoinKind::Cross {
            if self.eat_words("ON") {
                on = Some(self.expr()?);
            } else if self.eat_words("USING") {
                using = self.parenthesised(Self::name)?;
            }
        }
        Ok(From::Join { kind, left: Box::new(left), right: Box::new(right), on, using, at })
    }

    fn join_kind(&mut self) -> Res<Option<JoinKind>> {
        let kind = if self.eat_words("JOIN") {
            return Ok(Some(JoinKind::Inner));
        } else if self.eat_words("INNER") {
            JoinKind::Inner
        } else if self.eat_words("CROSS") {
            JoinKind::Cross
        } else if self.eat_words("LEFT") {
            JoinKind::Left
        } else if self.eat_words("RIGHT") {
            JoinKind::Right
        } else if self.eat_words("FULL") {
            JoinKind::Full
        } else {
            return Ok(None);
        };
        if matches!(kind, JoinKind::Left | JoinKind::Right | JoinKind::Full) {
            self.eat_words("OUTER");
        }
        self.expect_words("JOIN")?;
        Ok(Some(kind))
    }

    fn table(&mut self) -> Res<From> {
        let at = self.pos();
        let mut table = if self.is_word("UNNEST") && self.symbol_at(1, "(") {
            self.advance();
            self.expect_symbol("(")?;
            let value = self.expr()?;
            self.expect_symbol(")")?;
            let alias = self.alias()?;
            let offset = self.with_offset()?;
            From::Unnest { value, alias, offset, at }
        } else if self.is_symbol("(") {
            self.parenthesised_table()?
        } else {
            self.named_table(at)?
        };
        loop {
            if self.is_word("PIVOT") && self.symbol_at(1, "(") {
                table = self.pivot(table)?;
            } else if self.is_word("UNPIVOT") {
                table = self.unpivot(table)?;
            } else {
                return Ok(table);
            }
        }
    }

    fn parenthesised_table(&mut self) -> Res<From> {
        if self.query_follows() {
            let mark = self.mark();
            self.advance();
            match self.query() {
                Ok(query) if self.is_symbol(")") => {
                    self.advance();
                    let alias = self.alias()?;
                    return Ok(From::Query { query: Box::new(query), alias });
                }
                Err(error) if self.sql_at_mark_is_select(mark) => return Err(error),
                _ => self.reset(mark),
            }
        }
        self.expect_symbol("(")?;
        let from = self.from()?;
        self.expect_symbol(")")?;
        Ok(from)
    }

    /// Whether after the mark's parenthesis a query begins at once, so that nothing but a query was meant.
    fn sql_at_mark_is_select(&mut self, mark: (usize, usize)) -> bool {
        let here = self.mark();
        self.reset(mark);
        let select = self.word_at(1, "SELECT") || self.word_at(1, "WITH");
        self.reset(here);
        select
    }

    fn named_table(&mut self, at: usize) -> Res<From> {
        let (path, names) = self.path_with_names()?;
        if self.is_symbol("(") {
            self.advance();
            let args = if self.is_symbol(")") { vec![] } else { self.list(Self::expr)? };
            self.expect_symbol(")")?;
            let alias = self.alias()?;
            return Ok(From::Function { name: names, args, alias, at });
        }
        let mut as_of = self.as_of()?;
        let alias = self.alias()?;
        if as_of.is_none() {
            as_of = self.as_of()?;
        }
        let offset = self.with_offset()?;
        let sample = if self.eat_words("TABLESAMPLE") {
            self.any_name()?;
            self.expect_symbol("(")?;
            let percent = self.expr()?;
            self.any_name()?;
            self.expect_symbol(")")?;
            Some(percent)
        } else {
            None
        };
        Ok(From::Table { path, names, alias, as_of, offset, sample })
    }

    /// `FOR SYSTEM_TIME AS OF expr`, `FOR SYSTEM TIME AS OF expr`.
    pub fn as_of(&mut self) -> Res<Option<super::ast::Expr>> {
        if self.eat_words("FOR SYSTEM_TIME AS OF") || self.eat_words("FOR SYSTEM TIME AS OF") {
            return self.expr().map(Some);
        }
        Ok(None)
    }

    fn with_offset(&mut self) -> Res<Option<Name>> {
        let at = self.pos();
        if !self.eat_words("WITH OFFSET") {
            return Ok(None);
        }
        Ok(Some(self.alias()?.unwrap_or(Name { text: "offset".into(), at })))
    }

    fn pivot(&mut self, input: From) -> Res<From> {
        self.advance();
        self.expect_symbol("(")?;
        let aggregates = self.list(|p| {
            let value = p.expr()?;
            let alias = p.alias()?;
            Ok((value, alias))
        })?;
        self.expect_words("FOR")?;
        let column = self.pivot_column()?;
        self.expect_words("IN")?;
        let values = self.parenthesised(|p| {
            let value = p.expr()?;
            let alias = p.alias()?;
            Ok((value, alias))
        })?;
        self.expect_symbol(")")?;
        let alias = self.alias()?;
        Ok(From::Pivot { input: Box::new(input), aggregates, column, values, alias })
    }

    /// The column of `FOR column IN (...)`: a name with fields, as an expression would take IN for its own.
    fn pivot_column(&mut self) -> Res<super::ast::Expr> {
        let at = self.pos();
        let mut names = vec![self.name()?];
        while self.eat_symbol(".") {
            names.push(self.any_name()?);
        }
        Ok(super::expr::node(at, super::ast::Kind::Path(names)))
    }

    fn unpivot(&mut self, input: From) -> Res<From> {
        self.advance();
        let mut nulls = false;
        if self.eat_words("INCLUDE NULLS") {
            nulls = true;
        } else {
            self.eat_words("EXCLUDE NULLS");
        }
        self.expect_symbol("(")?;
        let values = if self.is_symbol("(") { self.parenthesised(Self::name)? } else { vec![self.name()?] };
        self.expect_words("FOR")?;
        let name = self.name()?;
        self.expect_words("IN")?;
        let columns = self.parenthesised(|p| {
            let names = if p.is_symbol("(") { p.parenthesised(Self::name)? } else { vec![p.name()?] };
            let label = if p.eat_words("AS") { Some(p.expr()?) } else { None };
            Ok((names, label))
        })?;
        self.expect_symbol(")")?;
        let alias = self.alias()?;
        Ok(From::Unpivot { input: Box::new(input), values, name, columns, nulls, alias })
    }
}
