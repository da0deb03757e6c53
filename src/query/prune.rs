//! Which row groups of a Parquet file can hold rows that a query asks for, by what the footer says of their columns.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::catalog::Session;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder, PruningStatistics};

use crate::codec::arrow_schema::arrow_schema;
use crate::codec::parquet::Footer;
use crate::model::schema::Schema;

/// What must be true of a row; `None` when row groups cannot be told apart by it.
pub fn predicate(session: &dyn Session, filters: &[Expr], table: &Schema) -> Option<Arc<PruningPredicate>> {
    let schema = arrow_schema(table);
    let names = DFSchema::try_from(schema.as_ref().clone()).ok()?;
    let filter = session.create_physical_expr(conjunction(filters.to_vec())?, &names).ok()?;
    PruningPredicateBuilder::new().with_file_schema(schema).build(filter)
}

/// Of every row group, whether it may hold such rows.
pub fn wanted(predicate: &PruningPredicate, footer: &Footer, row_counts: &[u64], table: &Schema) -> Vec<bool> {
    let groups = Groups { footer, row_counts, table };
    predicate.prune(&groups).unwrap_or_else(|_| vec![true; row_counts.len()])
}

struct Groups<'a> {
    footer: &'a Footer,
    row_counts: &'a [u64],
    table: &'a Schema,
}

impl Groups<'_> {
    fn of(&self, column: &Column) -> Option<crate::codec::parquet::Statistics> {
        let field = self.table.fields.iter().find(|field| field.name == column.name)?;
        self.footer.statistics(field)
    }
}

impl PruningStatistics for Groups<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|statistics| statistics.least)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|statistics| statistics.greatest)
    }

    fn num_containers(&self) -> usize {
        self.row_counts.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column).map(|statistics| statistics.nulls)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from(self.row_counts.to_vec())))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
