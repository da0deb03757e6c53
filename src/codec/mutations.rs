//! A fingerprint must see every single change. Tested with as many random ones as `STRONGROOM_MUTATIONS` says:
//!
//!     STRONGROOM_MUTATIONS=1000000 cargo test --lib mutations
//!
//! A mutation changes one value (into any other, or by the least step that its type has), swaps two values of a column
//! or of a row, drops a row or doubles one. Whether a value was truly changed is asked of Arrow, not of the row's JSON.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray, make_comparator};
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, i256,
};

use super::farm::farm_fingerprint;
use super::fingerprint::TableFingerprint;
use super::row_json::RowJson;
use super::testing::{Seeded, all_types, random_batch};
use super::value;
use crate::model::schema::{FieldType, Mode, Schema};

const ROWS: usize = 256;
/// Kinds of columns in one table: all of them would make rows of kilobytes.
const KINDS: usize = 4;

#[derive(Default, Debug)]
struct Seen {
    replaced: u64,
    stepped: u64,
    swapped_in_column: u64,
    swapped_in_row: u64,
    dropped: u64,
    doubled: u64,
}

impl Seen {
    fn all(&self) -> u64 {
        self.replaced + self.stepped + self.swapped_in_column + self.swapped_in_row + self.dropped + self.doubled
    }
}

#[test]
fn no_single_mutation_is_missed() {
    let wanted = std::env::var("STRONGROOM_MUTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let mut seen = Seen::default();
    let mut seeded = Seeded(7);
    while seen.all() < wanted {
        round(&mut seeded, &mut seen);
    }
    println!("{} mutations, none missed: {seen:?}", seen.all());
    let each = [seen.replaced, seen.stepped, seen.swapped_in_column, seen.swapped_in_row, seen.dropped, seen.doubled];
    assert!(each.iter().all(|count| *count > 0), "{seen:?}");
}

/// One table of a few kinds of columns, each NULLABLE, REQUIRED and REPEATED, and all mutations of it.
fn round(seeded: &mut Seeded, seen: &mut Seen) {
    let all = all_types(true);
    let start = seeded.below(FieldType::ALL.len() as u64) as usize;
    let kinds: Vec<FieldType> = (0..KINDS).map(|n| FieldType::ALL[(start + n * 5) % FieldType::ALL.len()]).collect();
    // JSON and GEOGRAPHY have no canonical form and no part in a table's fingerprint.
    let fields = all
        .fields
        .iter()
        .filter(|field| kinds.contains(&field.kind) && !matches!(field.kind, FieldType::Json | FieldType::Geography));
    let schema = Schema::new(fields.cloned().collect());
    if schema.fields.is_empty() {
        return;
    }
    let base = random_batch(&schema, seeded.next(), ROWS);
    let other = random_batch(&schema, seeded.next(), ROWS);
    let before = hashes(&base);
    let whole = fingerprint(&base);
    for (at, field) in schema.fields.iter().enumerate() {
        let column = base.column(at);
        seen.replaced += changed(&base, &before, at, other.column(at), &whole);
        if field.mode != Mode::Repeated
            && let Some(stepped) = step(column, field.kind)
        {
            seen.stepped += changed(&base, &before, at, &stepped, &whole);
        }
        let rotated: Vec<u32> = (0..ROWS as u32).map(|row| row ^ 1).collect();
        let swapped = take(column.as_ref(), &arrow::array::UInt32Array::from(rotated), None).unwrap();
        seen.swapped_in_column += swapped_pairs(&base, &before, at, &swapped);
        let twin = schema
            .fields
            .iter()
            .position(|twin| twin.kind == field.kind && twin.mode == Mode::Nullable && field.mode == Mode::Required);
        if let Some(twin) = twin {
            seen.swapped_in_row += swapped_in_row(&base, &before, at, twin);
        }
    }
    for row in [0, seeded.below(ROWS as u64) as usize, ROWS - 1] {
        let mut without = fingerprint(&base.slice(0, row));
        without.merge(&fingerprint(&base.slice(row + 1, ROWS - row - 1)));
        assert_ne!(without, whole, "a dropped row");
        assert_eq!(without.differing_buckets(&whole), [usize::from(before[row] as u8)]);
        let mut twice = fingerprint(&base.slice(row, 1));
        twice.merge(&whole);
        assert_ne!(twice, whole, "a doubled row");
        assert_eq!(twice.differing_buckets(&whole), [usize::from(before[row] as u8)]);
    }
    seen.dropped += 3;
    seen.doubled += 3;
}

fn fingerprint(batch: &RecordBatch) -> TableFingerprint {
    let mut fingerprint = TableFingerprint::new();
    fingerprint.add(batch).unwrap();
    fingerprint
}

fn hashes(batch: &RecordBatch) -> Vec<i64> {
    let rows = RowJson::new(batch).unwrap();
    let mut text = Vec::new();
    let hash = |row| {
        text.clear();
        rows.write(row, &mut text);
        farm_fingerprint(&text)
    };
    (0..batch.num_rows()).map(hash).collect()
}

/// Which rows truly have another value in the column.
fn differing(a: &ArrayRef, b: &ArrayRef) -> Vec<bool> {
    let compare = make_comparator(a, b, SortOptions::default()).unwrap();
    let zero = |array: &ArrayRef, row| array.as_primitive_opt::<Float64Type>().is_some_and(|f| f.value(row) == 0.0);
    let same = |row| {
        let nulls = (a.is_null(row), b.is_null(row));
        // 0 and -0 are one value to BigQuery.
        nulls == (true, true)
            || (nulls == (false, false) && (compare(row, row) == Ordering::Equal || (zero(a, row) && zero(b, row))))
    };
    (0..a.len()).map(|row| !same(row)).collect()
}

fn with_column(base: &RecordBatch, at: usize, column: &ArrayRef) -> RecordBatch {
    let mut columns = base.columns().to_vec();
    columns[at] = column.clone();
    RecordBatch::try_new(base.schema(), columns).unwrap()
}

/// Each row is one mutation: only its value in this column is another.
fn changed(base: &RecordBatch, before: &[i64], at: usize, column: &ArrayRef, whole: &TableFingerprint) -> u64 {
    let mutated = with_column(base, at, column);
    let after = hashes(&mutated);
    let differing = differing(base.column(at), column);
    let mut count = 0;
    for row in (0..ROWS).filter(|row| differing[*row]) {
        // Exclusive or and sum with one hash replaced differ exactly when the hashes do.
        assert_ne!(before[row], after[row], "{}, row {row}: {:?}", base.schema().field(at), base.slice(row, 1));
        count += 1;
    }
    // Once as the product does it, with the whole table.
    if let Some(row) = (0..ROWS).find(|row| differing[*row]) {
        let mut one = fingerprint(&base.slice(0, row));
        one.merge(&fingerprint(&mutated.slice(row, 1)));
        one.merge(&fingerprint(&base.slice(row + 1, ROWS - row - 1)));
        assert_ne!(one, *whole);
        let buckets = [usize::from(before[row] as u8), usize::from(after[row] as u8)];
        assert!(one.differing_buckets(whole).iter().all(|bucket| buckets.contains(bucket)));
    }
    count
}

/// Neighbours have swapped their values: two rows are changed.
fn swapped_pairs(base: &RecordBatch, before: &[i64], at: usize, column: &ArrayRef) -> u64 {
    let after = hashes(&with_column(base, at, column));
    let differing = differing(base.column(at), column);
    let others: Vec<bool> = {
        let swapped: Vec<u32> = (0..ROWS as u32).map(|row| row ^ 1).collect();
        let swapped = arrow::array::UInt32Array::from(swapped);
        let rest: Vec<Vec<bool>> = (0..base.num_columns())
            .filter(|other| *other != at)
            .map(|other| {
                let column = base.column(other);
                self::differing(column, &take(column.as_ref(), &swapped, None).unwrap())
            })
            .collect();
        (0..ROWS).map(|row| rest.iter().any(|column| column[row])).collect()
    };
    let mut count = 0;
    for row in (0..ROWS).step_by(2).filter(|row| differing[*row] && others[*row]) {
        let total = |a: i64, b: i64| (a ^ b, i128::from(a) + i128::from(b));
        assert_ne!(total(before[row], before[row + 1]), total(after[row], after[row + 1]), "row {row}");
        count += 1;
    }
    count
}

/// Two columns of one type have swapped their values within a row.
fn swapped_in_row(base: &RecordBatch, before: &[i64], required: usize, nullable: usize) -> u64 {
    let (a, b) = (base.column(required), base.column(nullable));
    // A REQUIRED column takes no NULL: those rows keep what they have.
    let there = BooleanArray::from((0..ROWS).map(|row| b.is_valid(row)).collect::<Vec<_>>());
    let select = |mine: &ArrayRef, theirs: &ArrayRef| arrow::compute::kernels::zip::zip(&there, theirs, mine).unwrap();
    let mut columns = base.columns().to_vec();
    columns[required] = select(a, b);
    columns[nullable] = select(b, a);
    let Ok(mutated) = RecordBatch::try_new(base.schema(), columns) else { return 0 };
    let after = hashes(&mutated);
    let differing = differing(a, b);
    let mut count = 0;
    for row in (0..ROWS).filter(|row| differing[*row] && b.is_valid(*row)) {
        assert_ne!(before[row], after[row], "row {row}");
        count += 1;
    }
    count
}

/// Every value moved by the least step that its type has; `None` where a step is no value of the type.
fn step(array: &ArrayRef, kind: FieldType) -> Option<ArrayRef> {
    fn up(value: i64, greatest: i64) -> i64 {
        if value < greatest { value + 1 } else { value - 1 }
    }
    Some(match (array.data_type(), kind) {
        (DataType::Boolean, _) => Arc::new(arrow::compute::not(array.as_boolean()).unwrap()),
        (DataType::Int64, _) => Arc::new(array.as_primitive::<Int64Type>().unary::<_, Int64Type>(|v| up(v, i64::MAX))),
        (DataType::Float64, _) => {
            let next = |v: f64| if v.is_finite() { v.next_up() } else { 0.0 };
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(next))
        }
        (DataType::Decimal128(..), _) => {
            let next = |v: i128| if v < value::NUMERIC_MAX { v + 1 } else { v - 1 };
            let stepped = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(next);
            Arc::new(stepped.with_data_type(array.data_type().clone()))
        }
        (DataType::Decimal256(..), _) => {
            let next = |v: i256| if v < i256::MAX { v.wrapping_add(i256::ONE) } else { v.wrapping_sub(i256::ONE) };
            let stepped = array.as_primitive::<Decimal256Type>().unary::<_, Decimal256Type>(next);
            Arc::new(stepped.with_data_type(array.data_type().clone()))
        }
        (DataType::Date32, _) => {
            let next = |v: i32| up(i64::from(v), i64::from(value::DATE_MAX)) as i32;
            Arc::new(array.as_primitive::<Date32Type>().unary::<_, Date32Type>(next))
        }
        (DataType::Time64(_), _) => {
            let next = |v| up(v, value::MICROS_PER_DAY - 1);
            Arc::new(array.as_primitive::<Time64MicrosecondType>().unary::<_, Time64MicrosecondType>(next))
        }
        (DataType::Timestamp(..), _) => {
            let next = |v| up(v, value::MICROS_MAX);
            let stepped = array.as_primitive::<TimestampMicrosecondType>().unary::<_, TimestampMicrosecondType>(next);
            Arc::new(stepped.with_data_type(array.data_type().clone()))
        }
        (DataType::Utf8, FieldType::String) => {
            let texts = array.as_string::<i32>().iter();
            Arc::new(texts.map(|text| text.map(|text| format!("{text} "))).collect::<StringArray>())
        }
        (DataType::Binary, _) => {
            let bytes = array.as_binary::<i32>().iter();
            Arc::new(bytes.map(|bytes| bytes.map(|bytes| [bytes, &[0]].concat())).collect::<BinaryArray>())
        }
        _ => return None,
    })
}
