//! INT96 instants without loss.
//!
//! The crate's Arrow form of them is nanoseconds, which overflow outside the years 1677 to 2262, or microseconds, which
//! drop digits. Both are read: nanoseconds wrap around, so that they equal a thousand times the microseconds exactly
//! when nothing was dropped.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Field, FieldRef, Schema, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::file::reader::ChunkReader;

use super::broken;
use crate::codec::CodecError;

/// The file's INT96 columns as nanoseconds, read beside the microseconds.
pub(super) struct Nanos {
    reader: ParquetRecordBatchReader,
    /// Which leaves of the whole file are INT96, in order.
    leaves: Vec<bool>,
}

impl Nanos {
    /// The metadata that reads INT96 as microseconds, and the second reader; unchanged where there is no INT96.
    pub fn beside<T: ChunkReader + 'static>(
        metadata: &ArrowReaderMetadata,
        open: impl Fn(ArrowReaderMetadata) -> ParquetRecordBatchReaderBuilder<T>,
    ) -> Result<(ArrowReaderMetadata, Option<Self>), CodecError> {
        let columns = metadata.parquet_schema().columns();
        let leaves: Vec<bool> = columns.iter().map(|c| c.physical_type() == PhysicalType::INT96).collect();
        if !leaves.contains(&true) {
            return Ok((metadata.clone(), None));
        }
        let mut rest = leaves.iter().copied();
        let fields: Vec<FieldRef> = metadata.schema().fields().iter().map(|f| in_micros(f, &mut rest)).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let micros = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(broken)?;
        let wanted = (0..leaves.len()).filter(|at| leaves[*at]);
        let mask = ProjectionMask::leaves(metadata.parquet_schema(), wanted);
        let reader = open(metadata.clone()).with_projection(mask).build().map_err(broken)?;
        Ok((micros, Some(Self { reader, leaves })))
    }

    /// Compares the next rows with the batch of microseconds.
    pub fn check(&mut self, micros: &RecordBatch) -> Result<(), CodecError> {
        let nanos = self.reader.next().transpose().map_err(broken)?;
        let nanos = nanos.ok_or_else(|| broken("the columns are of different length"))?;
        let mut exact = Vec::new();
        nanos.columns().iter().for_each(|c| collect(c, &mut exact));
        let mut rounded = Vec::new();
        micros.columns().iter().for_each(|c| collect(c, &mut rounded));
        let rounded = rounded.into_iter().zip(&self.leaves).filter_map(|(array, int96)| int96.then_some(array));
        for (exact, rounded) in exact.iter().zip(rounded) {
            let (Some(exact), Some(rounded)) = (
                exact.as_primitive_opt::<TimestampNanosecondType>(),
                rounded.as_primitive_opt::<TimestampMicrosecondType>(),
            ) else {
                return Err(broken("an INT96 column has an unexpected type"));
            };
            let lossless = exact.len() == rounded.len()
                && (0..exact.len())
                    .all(|at| exact.is_null(at) || exact.value(at) == rounded.value(at).wrapping_mul(1000));
            if !lossless {
                return Err(broken("an INT96 instant is finer than a microsecond"));
            }
        }
        Ok(())
    }
}

fn in_micros(field: &FieldRef, leaves: &mut impl Iterator<Item = bool>) -> FieldRef {
    let changed = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| in_micros(f, leaves)).collect()),
        DataType::List(item) => DataType::List(in_micros(item, leaves)),
        DataType::Map(entries, sorted) => DataType::Map(in_micros(entries, leaves), *sorted),
        leaf => match leaves.next() {
            Some(true) => DataType::Timestamp(TimeUnit::Microsecond, None),
            _ => leaf.clone(),
        },
    };
    Arc::new(Field::new(field.name(), changed, field.is_nullable()))
}

/// The leaves of an array, in the file's order.
fn collect(array: &ArrayRef, leaves: &mut Vec<ArrayRef>) {
    match array.data_type() {
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|c| collect(c, leaves)),
        DataType::List(_) => collect(array.as_list::<i32>().values(), leaves),
        DataType::Map(..) => array.as_map().entries().columns().iter().for_each(|c| collect(c, leaves)),
        _ => leaves.push(array.clone()),
    }
}
