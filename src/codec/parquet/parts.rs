//! A Parquet file of which only parts are at hand: the footer, and the column chunks that a reader will ask for.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::broken;
use super::read::{guarded, options};
use crate::codec::CodecError;
use crate::codec::arrow_schema::arrow_field;
use crate::model::schema::{Field, Schema};

/// A file ends with the footer's length and a magic number.
pub const TAIL_BYTES: u64 = 8;
/// A longer footer is taken for damage.
const MAX_FOOTER_BYTES: u64 = 256 << 20;

/// Bytes of a file by their place in it. Reading what is not at hand is an error.
#[derive(Debug, Clone)]
pub struct Parts {
    size_bytes: u64,
    parts: BTreeMap<u64, Bytes>,
}

/// What a file's footer says about where its columns lie.
#[derive(Debug, Clone)]
pub struct Footer {
    metadata: ArrowReaderMetadata,
}

/// A column's figures, one for each row group; null where one is not told.
#[derive(Debug, Clone)]
pub struct Statistics {
    pub least: ArrayRef,
    pub greatest: ArrayRef,
    pub nulls: ArrayRef,
}

impl Parts {
    /// A file of which nothing is at hand yet.
    pub fn new(size_bytes: u64) -> Self {
        Self { size_bytes, parts: BTreeMap::new() }
    }

    /// Where the tail lies.
    pub fn tail(&self) -> Range<u64> {
        self.size_bytes.saturating_sub(TAIL_BYTES)..self.size_bytes
    }

    /// Where the footer lies, as the tail says; the tail must be at hand.
    ///
    /// # Errors
    /// When the file does not end as a Parquet file does.
    pub fn footer(&self) -> Result<Range<u64>, CodecError> {
        let tail = self.slice(self.tail().start, TAIL_BYTES as usize).map_err(broken)?;
        let (length, magic) = tail.split_at(4);
        if magic != b"PAR1" {
            return Err(broken("it does not end as a Parquet file does"));
        }
        let length = u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
        let end = self.tail().start;
        if length > end || length > MAX_FOOTER_BYTES {
            return Err(broken(format!("its footer would be {length} bytes long")));
        }
        Ok(end - length..end)
    }

    /// Adds what was read from `start` on.
    pub fn add(&mut self, start: u64, bytes: Bytes) {
        self.parts.insert(start, bytes);
    }

    fn slice(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let missing = || ParquetError::General(format!("bytes {start} to {} are not at hand", start + length as u64));
        let (first, bytes) = self.parts.range(..=start).next_back().ok_or_else(missing)?;
        let from = usize::try_from(start - first).map_err(|_| missing())?;
        let to = from.checked_add(length).filter(|to| *to <= bytes.len()).ok_or_else(missing)?;
        Ok(bytes.slice(from..to))
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Parts {
    type T = Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let missing = || ParquetError::General(format!("bytes from {start} on are not at hand"));
        let (first, bytes) = self.parts.range(..=start).next_back().ok_or_else(missing)?;
        let from = usize::try_from(start - first).ok().filter(|from| *from <= bytes.len()).ok_or_else(missing)?;
        Ok(Cursor::new(bytes.slice(from..)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.slice(start, length)
    }
}

impl Footer {
    /// Reads the footer of a file; only the footer and the tail need to be at hand.
    ///
    /// # Errors
    /// When it is no Parquet file.
    pub fn read<T: ChunkReader + 'static>(file: &T) -> Result<Self, CodecError> {
        Ok(Self { metadata: guarded(|| ArrowReaderMetadata::load(file, options()).map_err(broken))? })
    }

    /// How many rows each row group has.
    ///
    /// # Errors
    /// When a count is negative.
    pub fn row_groups(&self) -> Result<Vec<u64>, CodecError> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|g| u64::try_from(g.num_rows()).map_err(|_| broken("a count of rows is negative"))).collect()
    }

    /// The least and greatest value and the count of nulls of a column in every row group, where the footer tells them and
    /// the file holds the column in the table's own type. Text is left out: writers cut it, and have ordered it differently;
    /// so is FLOAT64, for NaN.
    pub fn statistics(&self, field: &Field) -> Option<Statistics> {
        let target = arrow_field(field).data_type().clone();
        let schema = self.metadata.schema();
        let known =
            matches!(target, DataType::Int64 | DataType::Date32 | DataType::Timestamp(..) | DataType::Decimal128(..));
        if !known || *schema.field_with_name(&field.name).ok()?.data_type() != target {
            return None;
        }
        let groups = || self.metadata.metadata().row_groups().iter();
        let converter = StatisticsConverter::try_new(&field.name, schema, self.metadata.parquet_schema()).ok()?;
        let converter = converter.with_missing_null_counts_as_zero(false);
        Some(Statistics {
            least: converter.row_group_mins(groups()).ok()?,
            greatest: converter.row_group_maxes(groups()).ok()?,
            nulls: Arc::new(converter.row_group_null_counts(groups()).ok()?),
        })
    }

    /// Where the columns of `table` lie in a row group; neighbours are one range.
    pub fn ranges(&self, row_group: usize, table: &Schema) -> Vec<Range<u64>> {
        let mask = mask(&self.metadata, table);
        let group = self.metadata.metadata().row_group(row_group);
        let wanted = group.columns().iter().enumerate().filter(|(leaf, _)| mask.leaf_included(*leaf));
        let mut ranges: Vec<Range<u64>> = wanted
            .map(|(_, chunk)| chunk.byte_range())
            .map(|(start, length)| start..start.saturating_add(length))
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, range| {
            let touches = next.start <= range.end;
            if touches {
                range.end = range.end.max(next.end);
            }
            touches
        });
        ranges
    }
}

/// The file's columns that the table has; all where there are INT96 ones, which are read twice and compared.
pub(super) fn mask(metadata: &ArrowReaderMetadata, table: &Schema) -> ProjectionMask {
    if metadata.parquet_schema().columns().iter().any(|column| column.physical_type() == PhysicalType::INT96) {
        return ProjectionMask::all();
    }
    let root = metadata.parquet_schema().root_schema().get_fields();
    let known = |name: &str| table.fields.iter().any(|field| field.name.eq_ignore_ascii_case(name));
    let wanted = root.iter().enumerate().filter(|(_, column)| known(column.name())).map(|(at, _)| at);
    ProjectionMask::roots(metadata.parquet_schema(), wanted)
}
