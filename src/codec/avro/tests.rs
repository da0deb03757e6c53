//! Avro files there and back, read by two other libraries, written by BigQuery and others, and broken ones.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::container::BlockWriter;
use super::*;
use crate::codec::testing::{all_types, files, random_batch, shared_data};
use crate::codec::{conform, value};
use crate::model::schema::{Field, FieldType};

fn written(table: &Schema, batch: &RecordBatch, options: WriterOptions) -> Vec<u8> {
    let mut writer = Writer::with_options(Vec::new(), table, options).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap()
}

fn read(table: &Schema, file: &[u8]) -> Result<RecordBatch, CodecError> {
    let reader = Reader::new(file, table)?;
    let schema = reader.arrow_schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

#[test]
fn every_type_and_codec_comes_back() {
    let table = all_types(false);
    let batch = random_batch(&table, 7, 500);
    for codec in Codec::ALL {
        for logical_types in [true, false] {
            let options = WriterOptions { codec, logical_types, block_bytes: 10_000 };
            let file = written(&table, &batch, options);
            assert_eq!(read(&table, &file).unwrap(), batch, "{codec:?} {logical_types}");
        }
    }
}

#[test]
fn batches_are_bounded_and_nothing_is_lost_between_them() {
    let table = all_types(false);
    let batch = random_batch(&table, 8, 300);
    let file = written(&table, &batch, WriterOptions { block_bytes: 3000, ..WriterOptions::default() });
    for (batch_rows, batch_bytes) in [(7, usize::MAX), (usize::MAX, 2000), (1, 1)] {
        let options = ReadOptions { batch_rows, batch_bytes, ..ReadOptions::default() };
        let reader = Reader::with_options(file.as_slice(), &table, options).unwrap();
        let schema = reader.arrow_schema();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        assert!(batches.len() > 10);
        assert!(batches.iter().all(|b| b.num_rows() <= batch_rows));
        assert_eq!(concat_batches(&schema, &batches).unwrap(), batch);
    }
}

#[test]
fn the_apache_libraries_read_what_is_written() {
    let mut table = all_types(false);
    // Neither library knows decimals of 77 digits.
    table.fields.retain(|f| f.kind != FieldType::BigNumeric);
    let batch = random_batch(&table, 9, 200);
    for codec in [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard] {
        let file = written(&table, &batch, WriterOptions { codec, logical_types: true, block_bytes: 5000 });
        let reader = arrow_avro::reader::ReaderBuilder::new().build(std::io::Cursor::new(&file)).unwrap();
        let batches: Vec<_> = reader.map(|b| conform(&b.unwrap(), &table).unwrap()).collect();
        let together = concat_batches(&batch.schema(), &batches).unwrap();
        assert_eq!(together, batch, "{codec:?}");
    }
    let file = written(&table, &batch, WriterOptions { codec: Codec::Null, ..WriterOptions::default() });
    let rows = apache_avro::Reader::new(file.as_slice()).unwrap().map(Result::unwrap).count();
    assert_eq!(rows, 200);
}

#[test]
fn values_of_other_writers_are_cast() {
    use apache_avro::types::Value as V;
    let text = r#"{"type":"record","name":"R","fields":[
        {"name":"small","type":"int"},
        {"name":"ratio","type":["float","null"]},
        {"name":"ms","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"dt","type":{"type":"string","logicalType":"datetime"}},
        {"name":"dec","type":{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":6,"scale":3}},
        {"name":"suit","type":{"type":"enum","name":"E","symbols":["S","H"]}},
        {"name":"pairs","type":{"type":"map","values":"long"}}]}"#;
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    let record = V::Record(vec![
        ("small".into(), V::Int(-5)),
        ("ratio".into(), V::Union(0, Box::new(V::Float(0.5)))),
        ("ms".into(), V::TimestampMillis(1500)),
        ("dt".into(), V::String("2020-01-02T03:04:05.6".into())),
        ("dec".into(), V::Decimal(vec![0xff, 0xff, 0xff, 0xfe].into())),
        ("suit".into(), V::Enum(1, "H".into())),
        ("pairs".into(), V::Map([("k".to_owned(), V::Long(9))].into())),
    ]);
    writer.append_value(record).unwrap();
    let file = writer.into_inner().unwrap();
    let pair = vec![Field::required("key", FieldType::String), Field::required("value", FieldType::Int64)];
    let table = Schema::new(vec![
        Field::required("MS", FieldType::Timestamp),
        Field::required("small", FieldType::BigNumeric),
        Field::nullable("ratio", FieldType::Float64),
        Field::nullable("dt", FieldType::DateTime),
        Field::nullable("dec", FieldType::Numeric),
        Field::nullable("suit", FieldType::String),
        Field::record("pairs", crate::model::schema::Mode::Repeated, pair),
        Field::nullable("absent", FieldType::Json),
        Field::repeated("absent_list", FieldType::Date),
    ]);
    let batch = read(&table, &file).unwrap();
    assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 1_500_000);
    let big = batch.column(1).as_primitive::<arrow::datatypes::Decimal256Type>().value(0);
    assert_eq!(value::to_text(|out| value::write_bignumeric(big, out)), "-5");
    let datetime = batch.column(3).as_primitive::<TimestampMicrosecondType>().value(0);
    assert_eq!(value::parse_datetime("2020-01-02 03:04:05.6"), Ok(datetime));
    assert_eq!(batch.column(4).as_primitive::<Decimal128Type>().value(0), -2_000_000);
    assert_eq!(batch.column(5).as_string::<i32>().value(0), "H");
    assert_eq!(batch.column(6).as_list::<i32>().value(0).as_struct().column(1).as_primitive::<Int64Type>().value(0), 9);
    assert!(batch.column(7).is_null(0));

    let refuse = |field: Field| {
        let mut table = table.clone();
        table.fields.retain(|f| f.name != field.name);
        table.fields.push(field);
        read(&table, &file).unwrap_err().to_string()
    };
    assert_eq!(
        refuse(Field::nullable("suit", FieldType::Int64)),
        "column 'suit': Configured schema: int64; Avro file: enum."
    );
    assert!(refuse(Field::required("other", FieldType::Int64)).contains("REQUIRED but not in the file"));
    let strict = ReadOptions { text_times: false, ..ReadOptions::default() };
    let error = Reader::with_options(file.as_slice(), &table, strict).err().unwrap().to_string();
    assert!(error.contains("Configured schema: datetime; Avro file: string"), "{error}");
    let mut fewer = table.clone();
    fewer.fields.remove(1);
    assert!(read(&fewer, &file).unwrap_err().to_string().contains("not in the table"));
    let lenient = ReadOptions { ignore_unknown: true, ..ReadOptions::default() };
    let rows: usize =
        Reader::with_options(file.as_slice(), &fewer, lenient).unwrap().map(|b| b.unwrap().num_rows()).sum();
    assert_eq!(rows, 1);
}

#[test]
fn loss_is_an_error_with_row_and_column() {
    use apache_avro::types::Value as V;
    let text = r#"{"type":"record","name":"R","fields":[{"name":"r","type":{"type":"record","name":"I","fields":[
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":12}}]}}]}"#;
    let schema = apache_avro::Schema::parse_str(text).unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    for bytes in [vec![0x0f, 0x42, 0x40], vec![1]] {
        let inner = V::Record(vec![("d".into(), V::Decimal(bytes.into()))]);
        writer.append_value(V::Record(vec![("r".into(), inner)])).unwrap();
    }
    let file = writer.into_inner().unwrap();
    let inner = vec![Field::nullable("d", FieldType::Numeric)];
    let table = Schema::new(vec![Field::record("r", crate::model::schema::Mode::Nullable, inner)]);
    let error = read(&table, &file).unwrap_err();
    assert_eq!(error.to_string(), "row 2, column 'r.d': does not fit NUMERIC without loss");
}

#[test]
fn bigquerys_own_files() {
    let Some(directory) = shared_data("bigquery-real-exports") else { return };
    let file = std::fs::read(directory.join("shakespeare.avro")).unwrap();
    let table = infer_schema(file.as_slice(), &Inference::default()).unwrap();
    let names: Vec<_> = table.fields.iter().map(|f| (f.name.as_str(), f.kind)).collect();
    let want = [
        ("word", FieldType::String),
        ("word_count", FieldType::Int64),
        ("corpus", FieldType::String),
        ("corpus_date", FieldType::Int64),
    ];
    assert_eq!(names, want);
    let batch = read(&table, &file).unwrap();
    assert_eq!(batch.num_rows(), 164_656);
    // What BigQuery says of its sample: 945,845 words in all.
    let total: i64 = batch.column(1).as_primitive::<Int64Type>().values().iter().sum();
    assert_eq!(total, 945_845);
    // The header's schema is, byte for byte, what this program writes for the table.
    let header = avro_schema(&table, true).unwrap();
    let at = file.windows(header.len()).position(|w| w == header.as_bytes());
    assert!(at.is_some(), "{header}");

    // A block and a schema of the Read API, put into a container; Arrow's form of the same rows beside them.
    let schema = std::fs::read_to_string(directory.join("alltypes.avroschema.json")).unwrap();
    let block = std::fs::read(directory.join("alltypes.avro")).unwrap();
    let mut arrow = std::fs::read(directory.join("alltypes.arrowschema")).unwrap();
    arrow.extend(std::fs::read(directory.join("alltypes.arrow")).unwrap());
    let arrow = arrow::ipc::reader::StreamReader::try_new(arrow.as_slice(), None).unwrap().next().unwrap().unwrap();
    let mut writer = BlockWriter::new(Vec::new(), schema.trim(), Codec::Null).unwrap();
    writer.write(arrow.num_rows() as u64, &block).unwrap();
    let file = writer.finish().unwrap();
    let mut table = infer_schema(file.as_slice(), &Inference::default()).unwrap();
    let datetime = table.fields.iter_mut().find(|f| f.name == "dt").unwrap();
    datetime.kind = FieldType::DateTime;
    assert_eq!(read(&table, &file).unwrap(), conform(&arrow, &table).unwrap());
}

/// Rows read, or the error.
fn try_file(file: &[u8]) -> Result<usize, CodecError> {
    let table = infer_schema(file, &Inference::default())?;
    let mut rows = 0;
    for batch in Reader::new(file, &table)? {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

#[test]
fn files_of_others_give_rows_or_an_error() {
    let mut good = 0;
    let mut told = Vec::new();
    for directory in ["apache-avro", "arrow-testing/avro", "python-bigquery-testdata"] {
        let Some(directory) = shared_data(directory) else { return };
        for path in files(&directory) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match try_file(&std::fs::read(&path).unwrap()) {
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
    for name in ["weather.avro", "weather-deflate.avro", "weather-snappy.avro", "weather-zstd.avro"] {
        assert_eq!(rows(name), format!("{name}: 5 rows"));
    }
    assert!(rows("avro-1237-bad-union").contains("no such branch"));
    assert!(rows("alltypes_plain.bzip2").contains("codec 'bzip2' is not read"));
    assert!(good >= 29, "{good}");
}

#[test]
fn a_few_bytes_do_not_become_many_rows() {
    let null_rows = r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array","items":"null"}}]}"#;
    let mut bytes = Vec::new();
    super::container::put_long(i64::MAX, &mut bytes);
    let mut writer = BlockWriter::new(Vec::new(), null_rows, Codec::Null).unwrap();
    writer.write(1, &bytes).unwrap();
    let file = writer.finish().unwrap();
    let table = Schema::new(vec![Field::repeated("a", FieldType::Int64)]);
    assert!(read(&table, &file).unwrap_err().to_string().contains("more items than its bytes can hold"));

    let empty = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"null"}]}"#;
    let mut writer = BlockWriter::new(Vec::new(), empty, Codec::Null).unwrap();
    writer.write(1 << 40, b"").unwrap();
    let file = writer.finish().unwrap();
    let table = Schema::new(vec![Field::nullable("a", FieldType::Int64)]);
    assert!(read(&table, &file).unwrap_err().to_string().contains("more than its bytes can hold"));
}

#[test]
fn the_writer_refuses_what_would_be_lost() {
    let table =
        Schema::new(vec![Field { precision: Some(5), scale: Some(2), ..Field::required("n", FieldType::Numeric) }]);
    let wide = Schema::new(vec![Field::required("n", FieldType::Numeric)]);
    let number = |scaled: i128| {
        let array = arrow::array::Decimal128Array::from(vec![scaled]).with_precision_and_scale(38, 9).unwrap();
        RecordBatch::try_new(crate::codec::arrow_schema::arrow_schema(&wide), vec![Arc::new(array)]).unwrap()
    };
    let mut writer = Writer::new(Vec::new(), &table, Codec::Null, true).unwrap();
    assert!(writer.write(&number(1_001_000_000)).is_err());
    writer.write(&number(1_010_000_000)).unwrap();
    let file = writer.finish().unwrap();
    assert_eq!(read(&table, &file).unwrap().column(0).as_primitive::<Decimal128Type>().value(0), 1_010_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_rows_come_back(seed: u64, rows in 0_usize..40, codec in 0_usize..4, logical_types: bool) {
        let table = all_types(false);
        let batch = random_batch(&table, seed, rows);
        let options = WriterOptions { codec: Codec::ALL[codec], logical_types, block_bytes: 700 };
        prop_assert_eq!(read(&table, &written(&table, &batch, options)).unwrap(), batch);
    }

    #[test]
    fn a_damaged_file_does_not_panic(seed: u64, spots in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let table = all_types(false);
        let batch = random_batch(&table, seed, 5);
        let mut file = written(&table, &batch, WriterOptions { codec: Codec::Null, ..WriterOptions::default() });
        for (at, byte) in spots {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let _ = read(&table, &file);
        let _ = try_file(&file);
    }
}
