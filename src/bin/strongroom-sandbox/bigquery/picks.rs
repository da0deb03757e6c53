//! A choice of columns, also of those within structs, cut out of Arrow batches in the schema's order. Knows names and arrays.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::datatypes::{DataType, Schema};
use strongroom::model::schema::Field;

use crate::core::ApiError;

/// The positions of the chosen fields, with what is chosen of each; None stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picks(pub Option<Vec<(usize, Picks)>>);

/// Reads dotted names.
///
/// # Errors
/// The first name that no field has.
pub fn picked(fields: &[Field], names: &[&str], above: &str) -> Result<Picks, String> {
    let mut found: BTreeMap<usize, Option<Vec<&str>>> = BTreeMap::new();
    for name in names {
        let (first, rest) = name.split_once('.').map_or((*name, None), |(first, rest)| (first, Some(rest)));
        let at = fields.iter().position(|f| f.name.eq_ignore_ascii_case(first));
        let at = at.ok_or_else(|| format!("{above}{name}"))?;
        match (found.entry(at).or_insert_with(|| Some(vec![])), rest) {
            (Some(inner), Some(rest)) => inner.push(rest),
            (all, None) => *all = None,
            (None, Some(_)) => {}
        }
    }
    let picks = found.into_iter().map(|(at, inner)| {
        let below = format!("{above}{}.", fields[at].name);
        Ok((at, inner.map_or(Ok(Picks(None)), |inner| picked(&fields[at].fields, &inner, &below))?))
    });
    Ok(Picks(Some(picks.collect::<Result<_, String>>()?)))
}

impl Picks {
    /// The chosen columns of a batch.
    ///
    /// # Errors
    /// 500 when the batch is not of the schema that the names were read for.
    pub fn of(&self, batch: &RecordBatch) -> Result<RecordBatch, ApiError> {
        let Some(picks) = &self.0 else { return Ok(batch.clone()) };
        let failed = |e: arrow::error::ArrowError| ApiError::internal(e.to_string());
        let schema = batch.schema();
        let mut fields = vec![];
        let mut columns = vec![];
        for (at, inner) in picks {
            let column = inner.cut(batch.column(*at)).map_err(failed)?;
            fields.push(Arc::new(schema.field(*at).clone().with_data_type(column.data_type().clone())));
            columns.push(column);
        }
        let how = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &how).map_err(failed)
    }

    fn cut(&self, array: &ArrayRef) -> Result<ArrayRef, arrow::error::ArrowError> {
        let Some(picks) = &self.0 else { return Ok(array.clone()) };
        match array.data_type() {
            DataType::Struct(known) => {
                let whole = array.as_struct();
                let mut fields = vec![];
                let mut columns = vec![];
                for (at, inner) in picks {
                    let column = inner.cut(whole.column(*at))?;
                    fields.push(known[*at].as_ref().clone().with_data_type(column.data_type().clone()));
                    columns.push(column);
                }
                Ok(Arc::new(StructArray::try_new(fields.into(), columns, whole.nulls().cloned())?))
            }
            DataType::List(item) => {
                let whole = array.as_list::<i32>();
                let values = self.cut(whole.values())?;
                let item = Arc::new(item.as_ref().clone().with_data_type(values.data_type().clone()));
                let cut = ListArray::try_new(item, whole.offsets().clone(), values, whole.nulls().cloned())?;
                Ok(Arc::new(cut))
            }
            _ => Ok(array.clone()),
        }
    }
}
