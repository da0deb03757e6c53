//! Syntax trees to DataFusion's plans: names, types, coercion. Every column of every plan has a name of its own, so that no
//! name can mean two things; BigQuery's names live in scopes.
//!
//! A subquery that refers to what is around it is planned once over a table of the rows around it (a "base"), with a row number
//! carried through every operator, and run for each batch of those rows.

pub mod aggregate;
pub mod call;
pub mod coerce;
pub mod expr;
pub mod from;
pub mod operators;
pub mod pivot;
pub mod query;
pub mod scope;
pub mod select;
pub mod subquery;
pub mod table;
pub mod window;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use super::error::Res;
use super::syntax::ast;
use super::ty::Ty;
use super::value::Value;
use super::{Catalog, Query, Rows, TablePath};
use scope::Names;

/// What a script keeps from statement to statement.
#[derive(Debug, Default, Clone)]
pub struct Session {
    /// Temporary tables by name in lower case.
    pub tables: HashMap<String, Rows>,
    /// Temporary functions by name in lower case.
    pub functions: HashMap<String, ast::Function>,
    /// Variables by name in lower case.
    pub variables: HashMap<String, (Ty, Value)>,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Reads {
    pub tables: BTreeSet<TablePath>,
    /// Logical bytes by column (id) of each table that is in a plan.
    pub columns: BTreeMap<String, i64>,
    pub rows: usize,
}

/// What a statement's binding shares.
pub struct Context<'a> {
    pub catalog: &'a Arc<dyn Catalog>,
    pub query: &'a Query,
    pub session: &'a Session,
    pub named: &'a HashMap<String, (Ty, Value)>,
    pub positional: &'a [(Ty, Value)],
    pub reads: RefCell<Reads>,
    pub loaded: RefCell<Vec<Rc<table::LoadedTable>>>,
    pub next_id: &'a Cell<usize>,
}

impl Context<'_> {
    /// A name that no other column of this script has.
    pub fn id(&self) -> String {
        let n = self.next_id.get();
        self.next_id.set(n + 1);
        format!("c{n}")
    }

    /// The names around a statement of the script itself.
    pub fn names(&self) -> Names {
        self.names_for(&self.query.sql)
    }

    pub fn names_for(&self, sql: &str) -> Names {
        Names {
            sql: Rc::from(sql),
            project: self.query.project.clone(),
            dataset: self.query.default_dataset.clone(),
            ctes: None,
            depth: 0,
        }
    }

    /// A table's full name.
    ///
    /// # Errors
    /// A bare name without a default dataset.
    pub fn table_path(&self, path: &ast::Path, names: &Names) -> Res<TablePath> {
        let parts: Vec<&str> = path.parts.iter().map(String::as_str).collect();
        let (project, dataset, table) = match parts.as_slice() {
            [table] => {
                let Some((project, dataset)) = &names.dataset else {
                    return Err(super::error::invalid(format!(
                        "Table \"{table}\" must be qualified with a dataset (e.g. dataset.table)."
                    )));
                };
                (project.clone(), dataset.clone(), (*table).to_owned())
            }
            [dataset, table] => (names.project.clone(), (*dataset).to_owned(), (*table).to_owned()),
            [project, dataset, table] => ((*project).to_owned(), (*dataset).to_owned(), (*table).to_owned()),
            _ => {
                return Err(super::error::invalid(format!("Invalid table name: `{}`", path.parts.join("."))));
            }
        };
        Ok(TablePath { project, dataset, table })
    }
}
