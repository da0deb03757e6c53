//! Typed expressions, and what names mean where an expression stands.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use datafusion::common::Column;
use datafusion::logical_expr::Expr;

use super::aggregate::Aggregates;
use super::window::Windows;
use crate::bigquery::sql::error::{ApiError, Res, invalid, place};
use crate::bigquery::sql::syntax::ast;
use crate::bigquery::sql::ty::Ty;
use crate::bigquery::sql::value::Value;

/// An expression of a plan with its type.
#[derive(Debug, Clone)]
pub struct Tx {
    pub e: Expr,
    pub ty: Ty,
    /// The value of a literal or parameter.
    pub lit: Option<Value>,
    /// A literal, a parameter or NULL: it may become more types than a column of its type may.
    pub soft: bool,
    /// The text of a floating point literal.
    pub image: Option<Arc<str>>,
}

impl Tx {
    pub fn new(e: Expr, ty: Ty) -> Self {
        Self { e, ty, lit: None, soft: false, image: None }
    }

    pub fn column(id: &str, ty: Ty) -> Self {
        Self::new(column(id), ty)
    }

    pub fn is_null_literal(&self) -> bool {
        self.soft && self.lit == Some(Value::Null)
    }

    pub fn pair(self) -> (Expr, Ty) {
        (self.e, self.ty)
    }
}

/// A column of a plan: every column of every plan has a name of its own.
pub fn column(id: &str) -> Expr {
    Expr::Column(Column::new_unqualified(id))
}

/// A column that a FROM clause offers.
#[derive(Debug, Clone)]
pub struct ScopeCol {
    pub name: String,
    pub tx: Tx,
    /// Not in `SELECT *` (`_PARTITIONTIME`), or merged by USING.
    pub hidden: bool,
    /// Merged by USING: only found with its table's name.
    pub merged: bool,
}

/// One item of a FROM clause.
#[derive(Debug, Clone)]
pub struct Source {
    pub alias: Option<String>,
    pub cols: Vec<ScopeCol>,
    /// The row itself, where it is a value (UNNEST, SELECT AS VALUE).
    pub value: Option<Tx>,
}

/// Everything that a FROM clause offers.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    pub sources: Vec<Source>,
    /// Columns of USING, first in `SELECT *`.
    pub using: Vec<ScopeCol>,
}

/// What stands around a query: text, WITH, the dataset for bare names.
#[derive(Debug, Clone)]
pub struct Names {
    pub sql: Rc<str>,
    pub project: String,
    pub dataset: Option<(String, String)>,
    pub ctes: Option<Rc<Cte>>,
    /// How many views and functions are around.
    pub depth: usize,
}

/// A named query of WITH; those before it hang on.
#[derive(Debug)]
pub struct Cte {
    pub name: String,
    pub query: Rc<ast::Query>,
    pub before: Option<Rc<Cte>>,
    /// Under WITH RECURSIVE.
    pub recursive: bool,
    /// The rows so far of a recursive query, while its recursive part is bound.
    pub working: Option<super::query::Bound>,
}

impl Names {
    pub fn place(&self, at: usize) -> String {
        place(&self.sql, at)
    }

    pub fn cte(&self, name: &str) -> Option<Rc<Cte>> {
        let mut next = self.ctes.as_ref();
        while let Some(cte) = next {
            if cte.name.eq_ignore_ascii_case(name) {
                return Some(cte.clone());
            }
            next = cte.before.as_ref();
        }
        None
    }

    #[must_use]
    pub fn with_cte(&self, cte: Cte) -> Names {
        Names { ctes: Some(Rc::new(Cte { before: self.ctes.clone(), ..cte })), ..self.clone() }
    }
}

/// References from a subquery to what is around it: an expression there, a column here.
#[derive(Debug, Default)]
pub struct Captures {
    pub list: Vec<(Tx, String)>,
    /// How often they were used.
    pub uses: usize,
}

/// The reason of the error that makes a subquery be bound again, as it refers to something around it that its base lacks.
pub const RETRY: &str = "bindAgain";

/// Where an expression stands.
#[derive(Clone, Copy)]
pub struct Env<'e> {
    pub names: &'e Names,
    pub scope: &'e Scope,
    /// Names before those of the scope: select aliases, arguments of functions.
    pub overlay: &'e [(String, Tx)],
    pub parent: Option<&'e Env<'e>>,
    /// Where references to `parent` are noted.
    pub captures: Option<&'e RefCell<Captures>>,
    pub aggregates: Option<&'e RefCell<Aggregates>>,
    pub windows: Option<&'e RefCell<Windows>>,
    /// For messages: `WHERE clause`.
    pub clause: &'static str,
}

impl<'e> Env<'e> {
    pub fn new(names: &'e Names, scope: &'e Scope, clause: &'static str) -> Self {
        Self { names, scope, overlay: &[], parent: None, captures: None, aggregates: None, windows: None, clause }
    }

    pub fn error(&self, at: usize, message: &str) -> ApiError {
        invalid(format!("{message} at {}", self.names.place(at)))
    }

    /// What a name stands for, here or around: an alias, a row, a column.
    ///
    /// # Errors
    /// When it is ambiguous.
    pub fn lookup(&self, name: &ast::Name, id: &dyn Fn() -> String) -> Res<Option<Tx>> {
        if let Some((_, tx)) = self.overlay.iter().find(|(n, _)| same_name(n, &name.text)) {
            return Ok(Some(tx.clone()));
        }
        if let Some(found) = self.scope.lookup(&name.text) {
            return match found {
                Found::One(tx) => Ok(Some(tx)),
                Found::Ambiguous => Err(self.error(name.at, &format!("Column name {} is ambiguous", name.text))),
            };
        }
        let Some(parent) = self.parent else { return Ok(None) };
        parent.lookup(name, id)?.map(|tx| self.capture(tx, id)).transpose()
    }

    /// The row of a table by its alias, here or around: for `t.x`, `t.*`, `TO_JSON_STRING(t)`.
    pub fn source(&self, alias: &str) -> Option<Source> {
        self.scope.sources.iter().find(|s| s.alias.as_deref().is_some_and(|a| same_name(a, alias))).cloned()
    }

    /// `alias.name` as a column, here or around.
    ///
    /// # Errors
    /// When a subquery must be bound again.
    pub fn qualified(&self, alias: &str, name: &str, id: &dyn Fn() -> String) -> Res<Option<Qualified>> {
        if self.overlay.iter().any(|(n, _)| same_name(n, alias)) {
            return Ok(None);
        }
        if let Some(source) = self.source(alias) {
            let column = source.cols.iter().find(|c| same_name(&c.name, name));
            return Ok(match column {
                // The only column of UNNEST is the row itself: a name after it is a field.
                _ if source.value.is_some() => None,
                Some(column) => Some(Qualified::Column(column.tx.clone())),
                None => Some(Qualified::NoSuchColumn),
            });
        }
        if self.scope.lookup(alias).is_some() {
            return Ok(None);
        }
        let Some(parent) = self.parent else { return Ok(None) };
        Ok(match parent.qualified(alias, name, id)? {
            Some(Qualified::Column(tx)) => Some(Qualified::Column(self.capture(tx, id)?)),
            other => other,
        })
    }

    /// Whether the name is a table's alias here or around.
    pub fn has_source(&self, alias: &str) -> bool {
        self.source(alias).is_some() || self.parent.is_some_and(|p| p.has_source(alias))
    }

    /// Makes an expression of what is around available here.
    ///
    /// # Errors
    /// [`RETRY`] when the subquery's base does not have it yet.
    pub fn capture(&self, outer: Tx, id: &dyn Fn() -> String) -> Res<Tx> {
        let Some(captures) = self.captures else { return Ok(outer) };
        // A literal is the same everywhere.
        if outer.lit.is_some() {
            return Ok(outer);
        }
        let mut captures = captures.borrow_mut();
        captures.uses += 1;
        if let Some((tx, id)) = captures.list.iter().find(|(tx, _)| tx.e == outer.e) {
            return Ok(Tx::column(id, tx.ty.clone()));
        }
        captures.list.push((outer, id()));
        Err(ApiError::new(400, RETRY, "a subquery must be bound again"))
    }
}

/// What `alias.name` led to.
#[expect(clippy::large_enum_variant, reason = "lives for one look-up, never in a collection")]
pub enum Qualified {
    Column(Tx),
    NoSuchColumn,
}

#[expect(clippy::large_enum_variant, reason = "lives for one look-up, never in a collection")]
enum Found {
    One(Tx),
    Ambiguous,
}

impl Scope {
    fn lookup(&self, name: &str) -> Option<Found> {
        // A table's alias hides columns of that name.
        if let Some(source) = self.sources.iter().find(|s| s.alias.as_deref().is_some_and(|a| same_name(a, name))) {
            return Some(Found::One(source.row()));
        }
        if let Some(column) = self.using.iter().find(|c| same_name(&c.name, name)) {
            return Some(Found::One(column.tx.clone()));
        }
        let mut found = None;
        for column in self.sources.iter().flat_map(|s| &s.cols) {
            if same_name(&column.name, name) && !column.merged {
                if found.is_some() {
                    return Some(Found::Ambiguous);
                }
                found = Some(column.tx.clone());
            }
        }
        found.map(Found::One)
    }

    /// Every name, for "did you mean".
    pub fn column_names(&self) -> Vec<&str> {
        self.sources.iter().flat_map(|s| &s.cols).map(|c| c.name.as_str()).collect()
    }
}

impl Source {
    /// The row as a value: a struct of the visible columns, unless the row is a value itself.
    pub fn row(&self) -> Tx {
        if let Some(value) = &self.value {
            return value.clone();
        }
        let visible: Vec<&ScopeCol> = self.cols.iter().filter(|c| !c.hidden).collect();
        super::expr::make_struct(visible.iter().map(|c| (c.name.clone(), c.tx.clone())).collect())
    }
}

/// BigQuery's names of columns and aliases do not distinguish case.
pub fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || (!a.is_ascii() && a.to_lowercase() == b.to_lowercase())
}
