//! The columns in which two states of a table can be compared.

use crate::model::schema::{Field, Mode, Schema};
use crate::plan::proof;

/// Columns that have no canonical form.
pub(super) fn not_compared(schema: &Schema) -> Vec<String> {
    let kept = proof::fingerprinted(schema).unwrap_or_default();
    let left = schema.fields.iter().enumerate().filter(|(at, _)| !kept.contains(at));
    left.map(|(_, field)| field.name.clone()).collect()
}

/// The columns that both sides have.
pub(super) struct Common {
    /// In the first one's order.
    pub schema: Schema,
    /// How the others differ, and what differs besides values.
    pub changes: Vec<String>,
    /// They are not all columns of both, in the same order.
    pub part: bool,
}

impl Common {
    pub fn of(saved: &Schema, found: &Schema) -> Self {
        let (mut kept, mut changes) = (Vec::new(), Vec::new());
        for field in &saved.fields {
            let (name, was) = (&field.name, field.sql_type());
            match found.fields.iter().find(|other| other.name == *name) {
                None => changes.push(format!("{name} ({was}) is gone")),
                Some(other) if !same_values(field, other) => {
                    changes.push(format!("{name} was {was}, is {}", other.sql_type()));
                }
                Some(other) => {
                    if other.sql_type() != was {
                        changes.push(format!("{name} was {was}, is {}", other.sql_type()));
                    } else if other.mode != field.mode {
                        let mode = |field: &Field| if field.mode == Mode::Required { "REQUIRED" } else { "NULLABLE" };
                        changes.push(format!("{name} was {}, is {}", mode(field), mode(other)));
                    }
                    kept.push(field.clone());
                }
            }
        }
        let known = |field: &&Field| saved.fields.iter().any(|other| other.name == field.name);
        changes
            .extend(found.fields.iter().filter(|f| !known(f)).map(|f| format!("{} ({}) is new", f.name, f.sql_type())));
        let there = found.fields.iter().filter(|field| kept.iter().any(|kept| kept.name == field.name));
        let ordered = there.map(|field| &field.name).eq(kept.iter().map(|field| &field.name));
        if !ordered {
            changes.push("order is another".into());
        }
        let part = !ordered || kept.len() != saved.fields.len() || kept.len() != found.fields.len();
        Self { schema: Schema::new(kept), changes, part }
    }
}

/// Whether values of the two columns are written alike: parameters and REQUIRED do not matter for that.
fn same_values(a: &Field, b: &Field) -> bool {
    a.name == b.name
        && a.kind == b.kind
        && a.range_element == b.range_element
        && (a.mode == Mode::Repeated) == (b.mode == Mode::Repeated)
        && a.fields.len() == b.fields.len()
        && a.fields.iter().zip(&b.fields).all(|(a, b)| same_values(a, b))
}
