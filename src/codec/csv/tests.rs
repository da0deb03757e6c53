//! CSV there and back, the options of loads, files of others, and lines that are wrong.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::codec::CodecError;
use crate::codec::testing::{files, flat_types, random_batch, shared_data};
use crate::model::schema::{Field, FieldType, Mode, Schema};

fn written(table: &Schema, batch: &RecordBatch, options: WriterOptions) -> String {
    let mut writer = Writer::new(Vec::new(), table, options).unwrap();
    writer.write(batch).unwrap();
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn read(table: &Schema, text: &str, options: ReadOptions) -> Result<RecordBatch, CodecError> {
    let reader = Reader::with_options(text.as_bytes(), table, options)?;
    let schema = reader.arrow_schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

fn pair() -> Schema {
    Schema::new(vec![Field::nullable("n", FieldType::Int64), Field::nullable("s", FieldType::String)])
}

/// Rows as `number|text`, nulls as `-`.
fn rows(text: &str, options: ReadOptions) -> Result<Vec<String>, String> {
    let batch = read(&pair(), text, options).map_err(|e| e.to_string())?;
    let (numbers, texts) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
    let row = |at: usize| {
        let number = if numbers.is_null(at) { "-".to_owned() } else { numbers.value(at).to_string() };
        format!("{number}|{}", if texts.is_null(at) { "-" } else { texts.value(at) })
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

fn plain() -> ReadOptions {
    ReadOptions::default()
}

#[test]
fn the_form_of_an_extract() {
    let table = Schema::new(vec![
        Field::required("id", FieldType::Int64),
        Field::nullable("text", FieldType::String),
        Field::nullable("t", FieldType::Timestamp),
        Field::nullable("b", FieldType::Bytes),
        Field::nullable("f", FieldType::Float64),
        Field::range("r", Mode::Nullable, FieldType::Date),
    ]);
    let text = "id,text,t,b,f,r\n\
        1,\"say \"\"hi\"\", twice\n\",2020-01-02 03:04:05 UTC,AAE=,0.1,\"[2020-01-01, UNBOUNDED)\"\n\
        2,\"\",,\"\",-Infinity,\n\
        3,,,,,\n";
    let options = ReadOptions { skip_leading_rows: 1, allow_quoted_newlines: true, ..plain() };
    let batch = read(&table, text, options).unwrap();
    assert_eq!(batch.column(1).null_count(), 1);
    assert_eq!(written(&table, &batch, WriterOptions::default()), text);
    let nested = Schema::new(vec![Field::repeated("a", FieldType::Int64)]);
    assert!(Writer::new(Vec::new(), &nested, WriterOptions::default()).is_err());
    assert!(Reader::new(b"".as_slice(), &nested).is_err());
}

#[test]
fn options_of_loads() {
    assert_eq!(rows("1,a\r\n2,b\r3,c", plain()).unwrap(), ["1|a", "2|b", "3|c"]);
    assert_eq!(rows("\u{feff}1,a\n\n2,b\n", plain()).unwrap(), ["1|a", "2|b"]);
    assert_eq!(rows("h,h\nh,h\n1,a\n", ReadOptions { skip_leading_rows: 2, ..plain() }).unwrap(), ["1|a"]);
    assert_eq!(rows("1;a,b\n", ReadOptions { field_delimiter: b';', ..plain() }).unwrap(), ["1|a,b"]);
    assert_eq!(rows("1\ta\n", ReadOptions { field_delimiter: b'\t', ..plain() }).unwrap(), ["1|a"]);
    assert_eq!(rows("1,'a,b'\n", ReadOptions { quote: Some(b'\''), ..plain() }).unwrap(), ["1|a,b"]);
    assert_eq!(rows("1,\"a\n", ReadOptions { quote: None, ..plain() }).unwrap(), ["1|\"a"]);
    assert_eq!(rows(",\n\"\",\"\"\n", plain()).unwrap(), ["-|-", "-|"]);
    let marked = ReadOptions { null_marker: "\\N".into(), ..plain() };
    assert_eq!(rows("\\N,\n1,\\N\n1,\"\\N\"\n", marked.clone()).unwrap(), ["-|", "1|-", "1|\\N"]);
    assert!(rows(",x\n", marked).unwrap_err().contains("not a valid INT64"));
    assert_eq!(rows("1\n", plain()).unwrap_err(), "row 1: too few values: 1 for 2 columns");
    assert_eq!(rows("1\n", ReadOptions { allow_jagged_rows: true, ..plain() }).unwrap(), ["1|-"]);
    assert_eq!(rows("1,a\n1,a,b\n", plain()).unwrap_err(), "row 2: too many values: 3 for 2 columns");
    assert_eq!(rows("1,a,b\n", ReadOptions { ignore_unknown_values: true, ..plain() }).unwrap(), ["1|a"]);
    assert!(rows("1,\"a\nb\"\n", plain()).unwrap_err().contains("allowQuotedNewlines"));
    let newlines = ReadOptions { allow_quoted_newlines: true, ..plain() };
    assert_eq!(rows("1,\"a\nb\"\n2,c\n", newlines.clone()).unwrap(), ["1|a\nb", "2|c"]);
    assert!(rows("1,\"a\n", newlines).unwrap_err().contains("not closed"));
    assert!(rows("1,\"a\"b\n", plain()).unwrap_err().contains("closing quote"));
    assert_eq!(rows("x,a\n", plain()).unwrap_err(), "row 1, column 'n': 'x' is not a valid INT64: not a whole number");
    let text = "1,a\nx,b\n2,c\n3\n4,d\n";
    let lenient = ReadOptions { max_bad_records: 2, batch_rows: 2, ..plain() };
    assert_eq!(rows(text, lenient.clone()).unwrap(), ["1|a", "2|c", "4|d"]);
    assert!(rows(text, ReadOptions { max_bad_records: 1, ..plain() }).is_err());
    let mut reader = Reader::with_options(text.as_bytes(), &pair(), lenient).unwrap();
    assert!(reader.by_ref().all(|b| b.is_ok()));
    assert_eq!(reader.bad_records().iter().filter_map(CodecError::row).collect::<Vec<_>>(), [2, 4]);
    let latin = ReadOptions { latin1: true, ..plain() };
    let batch = Reader::with_options(b"1,\xe9\n".as_slice(), &pair(), latin).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "é");
    assert!(Reader::new(b"1,\xe9\n".as_slice(), &pair()).unwrap().next().unwrap().is_err());
}

#[test]
fn lines_are_counted_across_quoted_newlines() {
    let options = ReadOptions { allow_quoted_newlines: true, ..plain() };
    assert!(rows("1,\"a\n\n\"\nx,b\n", options).unwrap_err().starts_with("row 4,"));
}

#[test]
fn files_of_others_give_rows_or_an_error() {
    let Some(directory) = shared_data("arrow-testing/csv") else { return };
    let texts =
        |count: usize| Schema::new((0..count).map(|n| Field::nullable(format!("c{n}"), FieldType::String)).collect());
    for path in files(&directory) {
        let text = std::fs::read(&path).unwrap();
        for count in [1, 3, 14] {
            let options = ReadOptions {
                allow_jagged_rows: true,
                allow_quoted_newlines: true,
                ignore_unknown_values: true,
                ..plain()
            };
            let rows = Reader::with_options(text.as_slice(), &texts(count), options).unwrap();
            let rows: Result<usize, CodecError> = rows.map(|b| b.map(|b| b.num_rows())).sum();
            println!("{} as {count}: {rows:?}", path.file_name().unwrap().to_string_lossy());
        }
    }
    let text = std::fs::read_to_string(directory.join("aggregate_test_100_with_dates.csv")).unwrap();
    let count = text.lines().next().unwrap().split(',').count();
    let options = ReadOptions { skip_leading_rows: 1, ..plain() };
    assert_eq!(read(&texts(count), &text, options).unwrap().num_rows(), 100);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_rows_come_back(seed: u64, rows in 0_usize..40, delimiter in prop::sample::select(vec![b',', b'\t', b'|'])) {
        let table = flat_types();
        let batch = random_batch(&table, seed, rows);
        let text = written(&table, &batch, WriterOptions { field_delimiter: delimiter, print_header: true });
        let options = ReadOptions { field_delimiter: delimiter, skip_leading_rows: 1, allow_quoted_newlines: true, ..plain() };
        prop_assert_eq!(read(&table, &text, options).unwrap(), batch);
    }

    #[test]
    fn no_text_panics(text in "[a0\",\n\r \\PC]{0,60}", quoted_newlines: bool) {
        let _ = rows(&text, ReadOptions { allow_quoted_newlines: quoted_newlines, max_bad_records: 3, ..plain() });
    }
}
