//! Parquet files there and back, files of BigQuery and of others, and broken ones.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type};
use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::prelude::*;

use super::*;
use crate::codec::CodecError;
use crate::codec::testing::{all_types, files, random_batch, shared_data};
use crate::model::schema::{Field, FieldType, Mode, Schema};

fn written(table: &Schema, batch: &RecordBatch, options: WriterOptions) -> Bytes {
    let mut writer = Writer::with_options(Vec::new(), table, options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap().into()
}

fn read(table: &Schema, file: Bytes) -> Result<RecordBatch, CodecError> {
    let reader = Reader::new(file, table)?;
    let schema = reader.arrow_schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

#[test]
fn every_type_and_compression_comes_back() {
    let table = all_types(true);
    let batch = random_batch(&table, 3, 500);
    for compression in Compression::ALL {
        let options = WriterOptions { compression, group_rows: 130, ..WriterOptions::default() };
        let file = written(&table, &batch, options);
        assert_eq!(read(&table, file).unwrap(), batch, "{compression:?}");
    }
}

#[test]
fn the_file_has_bigquerys_form() {
    let inner = vec![Field::required("n", FieldType::BigNumeric)];
    let table = Schema::new(vec![
        Field::required("a", FieldType::Numeric),
        Field { precision: Some(10), scale: Some(2), ..Field::nullable("p", FieldType::Numeric) },
        Field::repeated("f", FieldType::Float64),
        Field::nullable("d", FieldType::DateTime),
        Field::nullable("t", FieldType::Timestamp),
        Field::record("r", Mode::Repeated, inner),
    ]);
    let file = written(&table, &random_batch(&Schema::new(table.fields.clone()), 1, 0), WriterOptions::default());
    let reader = SerializedFileReader::new(file).unwrap();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, reader.metadata().file_metadata().schema());
    let want = "message schema {\n  \
        REQUIRED FIXED_LEN_BYTE_ARRAY (16) a (DECIMAL(38,9));\n  \
        OPTIONAL FIXED_LEN_BYTE_ARRAY (5) p (DECIMAL(10,2));\n  \
        REPEATED DOUBLE f;\n  \
        OPTIONAL INT64 d (TIMESTAMP(MICROS,false));\n  \
        OPTIONAL INT64 t (TIMESTAMP(MICROS,false));\n  \
        REPEATED group r {\n    REQUIRED FIXED_LEN_BYTE_ARRAY (32) n (DECIMAL(76,38));\n  }\n}\n";
    assert_eq!(String::from_utf8(text).unwrap(), want);
    assert!(reader.metadata().file_metadata().key_value_metadata().is_none());
}

#[test]
fn parameters_of_decimals_come_back() {
    let number = |mode| Field { precision: Some(6), scale: Some(2), ..Field::new("n", FieldType::Numeric, mode) };
    let big = Field { precision: Some(40), scale: Some(5), ..Field::nullable("b", FieldType::BigNumeric) };
    let inner = vec![number(Mode::Repeated), big];
    let table = Schema::new(vec![number(Mode::Required), Field::record("r", Mode::Nullable, inner)]);
    let mut columns = crate::codec::columns::Columns::new(&table);
    columns.columns[0].push_text("-1234.56").unwrap();
    columns.columns[1].push_null().unwrap();
    columns.end_row();
    columns.columns[0].push_text("1.5").unwrap();
    let crate::codec::columns::Data::Struct(fields) = &mut columns.columns[1].data else { panic!() };
    let crate::codec::columns::Data::List { item, .. } = &mut fields[0].data else { panic!() };
    item.push_text("0.07").unwrap();
    fields[0].end_list().unwrap();
    fields[1].push_text("99999999999999999999999999999999999.99999").unwrap();
    columns.columns[1].mark(true);
    columns.end_row();
    let batch = columns.finish().unwrap();
    assert_eq!(read(&table, written(&table, &batch, WriterOptions::default())).unwrap(), batch);
}

#[test]
fn bigquerys_own_file() {
    let Some(directory) = shared_data("bigquery-real-exports") else { return };
    let file = std::fs::File::open(directory.join("shakespeare.parquet")).unwrap();
    let table = infer_schema(file.try_clone().unwrap(), &Inference::default()).unwrap();
    assert!(table.fields.iter().all(|f| f.mode == Mode::Required));
    let (mut rows, mut total) = (0, 0);
    for batch in Reader::new(file, &table).unwrap() {
        let batch = batch.unwrap();
        rows += batch.num_rows();
        total += batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>();
    }
    assert_eq!((rows, total), (164_656, 945_845));
}

/// Rows read, or the error.
fn try_file(file: Bytes) -> Result<usize, CodecError> {
    let table = infer_schema(file.clone(), &Inference::default())?;
    let mut rows = 0;
    for batch in Reader::new(file, &table)? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

#[test]
fn files_of_others_give_rows_or_an_error() {
    let mut told = Vec::new();
    let mut good = 0;
    for directory in ["parquet-testing", "arrow-testing/parquet", "python-bigquery-testdata"] {
        let Some(directory) = shared_data(directory) else { return };
        for path in files(&directory) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match try_file(std::fs::read(&path).unwrap().into()) {
                Ok(rows) => {
                    good += 1;
                    told.push(format!("{name}: {rows} rows"));
                }
                Err(error) => told.push(format!("{name}: {error}")),
            }
        }
    }
    told.iter().for_each(|line| println!("{line}"));
    let rows = |name: &str| told.iter().find(|l| l.starts_with(name)).unwrap().clone();
    for (name, count) in [
        ("alltypes_plain.parquet", 8),
        ("int64_decimal.parquet", 24),
        ("byte_array_decimal.parquet", 24),
        ("fixed_length_decimal.parquet", 24),
        ("repeated_primitive_no_list.parquet", 4),
        ("numeric_38_12.parquet", 2),
    ] {
        assert_eq!(rows(name), format!("{name}: {count} rows"));
    }
    // Its footer says that it has no rows; its columns hold six.
    assert!(rows("repeated_no_annotation").contains("states 0 rows"));
    assert!(rows("list_columns").contains("an array holds a null"));
    assert!(good >= 43, "{good}");
}

#[test]
fn spark_instants_beyond_nanoseconds() {
    let Some(directory) = shared_data("parquet-testing/data") else { return };
    let file: Bytes = std::fs::read(directory.join("int96_from_spark.parquet")).unwrap().into();
    let table = infer_schema(file.clone(), &Inference::default()).unwrap();
    assert_eq!(table.fields[0].kind, FieldType::Timestamp);
    // The file holds an instant of the year 290000, which no TIMESTAMP can be (see parquet-testing's notes).
    let error = read(&table, file).unwrap_err().to_string();
    assert!(error.contains("year 1 to 9999") || error.contains("out of range"), "{error}");
}

/// A file of one INT96 column: day of the Julian calendar, nanoseconds of the day.
fn int96_file(instants: &[(u32, u64)]) -> Bytes {
    use ::parquet::data_type::{Int96, Int96Type};
    use ::parquet::file::writer::SerializedFileWriter;
    let schema = ::parquet::schema::parser::parse_message_type("message m { REQUIRED INT96 t; }").unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<Int96> = instants
        .iter()
        .map(|(day, nanos)| {
            let mut value = Int96::new();
            value.set_data(*nanos as u32, (*nanos >> 32) as u32, *day);
            value
        })
        .collect();
    column.typed::<Int96Type>().write_batch(&values, None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap().into()
}

#[test]
fn int96_loses_nothing() {
    let table = Schema::new(vec![Field::required("t", FieldType::Timestamp)]);
    // 1970-01-01, 0001-01-01 and 9999-12-31 as Julian days.
    let days = [2_440_588, 1_721_426, 5_373_484];
    let whole: Vec<_> = days.iter().map(|day| (*day, 86_399_999_999_000)).collect();
    let batch = read(&table, int96_file(&whole)).unwrap();
    let micros = batch.column(0).as_primitive::<arrow::datatypes::TimestampMicrosecondType>().values().to_vec();
    let last = |day: i64| (day + 1) * 86_400_000_000 - 1;
    assert_eq!(micros, [last(0), last(-719_162), last(2_932_896)]);
    for day in days {
        let error = read(&table, int96_file(&[(day, 1_001)])).unwrap_err().to_string();
        assert!(error.contains("finer than a microsecond"), "{error}");
    }
}

#[test]
fn lists_of_other_writers_and_missing_columns() {
    let list = arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        None,
        Some(vec![]),
    ]);
    let extra = Int64Array::from(vec![7, 8, 9]);
    let batch = RecordBatch::try_from_iter([
        ("Numbers", Arc::new(list) as arrow::array::ArrayRef),
        ("extra", Arc::new(extra) as arrow::array::ArrayRef),
    ])
    .unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let file: Bytes = writer.into_inner().unwrap().into();
    let table = Schema::new(vec![
        Field::nullable("absent", FieldType::Json),
        Field::repeated("absent_list", FieldType::Date),
        Field::repeated("numbers", FieldType::Numeric),
    ]);
    let error = read(&table, file.clone()).unwrap_err().to_string();
    assert_eq!(error, "column 'extra': is not a column of the table");
    let lenient = ReadOptions { ignore_unknown: true, ..ReadOptions::default() };
    let batch = Reader::with_options(file.clone(), &table, &lenient).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.column(0).null_count(), 3);
    let numbers = batch.column(2).as_list::<i32>();
    assert_eq!(numbers.value(0).as_primitive::<Decimal128Type>().values().to_vec(), [1_000_000_000, 2_000_000_000]);
    assert_eq!((numbers.value_length(1), numbers.null_count()), (0, 0));
    let strict = Schema::new(vec![Field::required("absent", FieldType::Json)]);
    let error = Reader::with_options(file, &strict, &lenient).unwrap().next().unwrap().unwrap_err().to_string();
    assert_eq!(error, "column 'absent': is REQUIRED but missing");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_rows_come_back(seed: u64, rows in 0_usize..40, compression in 0_usize..4) {
        let table = all_types(true);
        let batch = random_batch(&table, seed, rows);
        let options = WriterOptions { compression: Compression::ALL[compression], group_rows: 17, ..WriterOptions::default() };
        prop_assert_eq!(read(&table, written(&table, &batch, options)).unwrap(), batch);
    }

    #[test]
    fn a_damaged_file_does_not_panic(seed: u64, spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let table = all_types(true);
        let options = WriterOptions { compression: Compression::None, ..WriterOptions::default() };
        let mut file = written(&table, &random_batch(&table, seed, 5), options).to_vec();
        for (at, byte) in spots {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let file = Bytes::from(file);
        let _ = read(&table, file.clone());
        let _ = try_file(file);
    }
}
