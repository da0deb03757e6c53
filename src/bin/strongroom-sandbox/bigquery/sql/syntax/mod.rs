//! GoogleSQL's grammar: text to syntax trees. Knows no tables and no types.
//!
//! sqlparser's BigQuery dialect stops at snapshots, row access policies, EXPORT DATA, typed arrays, `SAFE.`, aggregate modifiers
//! and BigQuery's places of errors; the binder needs a tree that says no more than GoogleSQL can, so the grammar is here.

pub mod ast;
mod ddl;
mod dml;
mod expr;
mod lex;
mod parser;
mod query;

pub use parser::{parse_expression, parse_query, parse_script, split_path};
