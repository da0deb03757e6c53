//! JSON Lines there and back, the spellings of loads, and lines that are wrong.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Decimal128Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;

use super::*;
use crate::codec::testing::{all_types, random_batch, shared_data};
use crate::codec::{CodecError, value};
use crate::model::schema::{Field, FieldType, Mode, Schema};

fn written(table: &Schema, batch: &RecordBatch) -> String {
    let mut writer = Writer::new(Vec::new(), table);
    writer.write(batch).unwrap();
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn read(table: &Schema, text: &str) -> Result<RecordBatch, CodecError> {
    let reader = Reader::new(text.as_bytes(), table);
    let schema = reader.arrow_schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches).unwrap())
}

fn one(field: Field, json: &str) -> Result<RecordBatch, String> {
    read(&Schema::new(vec![field]), &format!("{{\"a\":{json}}}")).map_err(|e| e.to_string())
}

#[test]
fn the_form_of_an_extract() {
    let inner = vec![Field::nullable("x", FieldType::Int64), Field::repeated("y", FieldType::Bool)];
    let table = Schema::new(vec![
        Field::required("i", FieldType::Int64),
        Field::nullable("f", FieldType::Float64),
        Field::nullable("n", FieldType::Numeric),
        Field::nullable("t", FieldType::Timestamp),
        Field::nullable("d", FieldType::DateTime),
        Field::nullable("s", FieldType::String),
        Field::nullable("b", FieldType::Bytes),
        Field::nullable("j", FieldType::Json),
        Field::range("r", Mode::Nullable, FieldType::Date),
        Field::record("l", Mode::Repeated, inner),
        Field::nullable("absent", FieldType::String),
    ]);
    let text = concat!(
        r#"{"i":"9007199254740993","f":1.5,"n":"1.25","t":"2020-01-02 03:04:05.6 UTC","d":"2020-01-02T03:04:05","#,
        r#""s":"a\u003cb\u003e\u0026\"c\"\n","b":"AAE=","j":{"k":["\u0026"]},"r":{"start":"2020-01-01"},"#,
        r#""l":[{"x":"1","y":[]},{"y":[true,false]}]}"#,
        "\n",
        r#"{"i":"0","l":[]}"#,
        "\n"
    );
    let batch = read(&table, text).unwrap();
    assert_eq!(written(&table, &batch), text);
}

#[test]
fn spellings_of_loads() {
    let int = |json| {
        one(Field::required("a", FieldType::Int64), json).map(|b| b.column(0).as_primitive::<Int64Type>().value(0))
    };
    assert_eq!(int("12"), Ok(12));
    assert_eq!(int("\"-12\""), Ok(-12));
    assert_eq!(int("1.0"), Ok(1));
    assert_eq!(int("1e3"), Ok(1000));
    assert!(int("1.5").unwrap_err().contains("row 1, column 'a'"));
    assert!(int("true").is_err());
    assert!(int("null").unwrap_err().contains("REQUIRED"));
    let numeric = |json| {
        one(Field::required("a", FieldType::Numeric), json)
            .map(|b| b.column(0).as_primitive::<Decimal128Type>().value(0))
    };
    // More digits than a FLOAT64 holds.
    assert_eq!(numeric("12345678901234567890.123456789"), Ok(12_345_678_901_234_567_890_123_456_789));
    let time = |json| {
        one(Field::required("a", FieldType::Timestamp), json)
            .map(|b| b.column(0).as_primitive::<TimestampMicrosecondType>().value(0))
    };
    assert_eq!(time("1512131696.789012"), Ok(1_512_131_696_789_012));
    assert_eq!(time("\"1512131696\""), Ok(1_512_131_696_000_000));
    assert_eq!(time("-1.5"), Ok(-1_500_000));
    assert_eq!(time("\"2017-12-01T12:34:56.789012Z\""), Ok(1_512_131_696_789_012));
    assert!(time("\"yesterday\"").is_err());
    let text = |json| {
        one(Field::required("a", FieldType::String), json).map(|b| b.column(0).as_string::<i32>().value(0).to_owned())
    };
    assert_eq!(text("\"\\u00e9\\ud83d\\ude00\""), Ok("é😀".to_owned()));
    assert_eq!(text("1.50"), Ok("1.50".to_owned()));
    assert!(text("{}").unwrap_err().contains("no record"));
    assert!(text("[]").unwrap_err().contains("not repeated"));
    let json = |json| {
        one(Field::required("a", FieldType::Json), json).map(|b| b.column(0).as_string::<i32>().value(0).to_owned())
    };
    assert_eq!(json(" {\"b\": 1, \"a\": \"x\"}"), Ok(r#"{"a":"x","b":1}"#.to_owned()));
    assert_eq!(json("null"), Ok("null".to_owned()));
    let range = one(Field::range("a", Mode::Nullable, FieldType::Date), "\"[2020-01-01, UNBOUNDED)\"").unwrap();
    assert!(range.column(0).as_struct().column(1).is_null(0));
    let list = one(Field::repeated("a", FieldType::Int64), "null").unwrap();
    assert_eq!(list.column(0).as_list::<i32>().value_length(0), 0);
    assert!(one(Field::repeated("a", FieldType::Int64), "[1,null]").is_err());
    assert!(one(Field::repeated("a", FieldType::Int64), "1").is_err());
    assert!(one(Field::nullable("A", FieldType::Int64), "1").is_ok());
}

#[test]
fn wrong_lines_tell_their_number_and_reason() {
    let table = Schema::new(vec![
        Field::nullable("a", FieldType::Int64),
        Field::record("r", Mode::Nullable, vec![Field::nullable("d", FieldType::Date)]),
    ]);
    let case = |line: &str| read(&table, &format!("{{\"a\":1}}\n\n{line}\n")).unwrap_err().to_string();
    assert_eq!(case("{\"b\":1}"), "row 3: no such field: b");
    assert_eq!(
        case("{\"r\":{\"d\":\"2020-13-01\"}}"),
        "row 3, column 'r.d': '2020-13-01' is not a valid DATE: no such day"
    );
    assert_eq!(case("{\"a\":1,\"A\":2}"), "row 3, column 'a': is given twice");
    for line in [
        "[]",
        "{\"a\":1",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{\"a\":1} x",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"",
        "\u{0}",
    ] {
        assert!(case(line).starts_with("row 3"), "{line}");
    }
    let bytes = b"{\"a\":\"\xff\"}";
    assert!(Reader::new(bytes.as_slice(), &table).next().unwrap().is_err());

    let text =
        "{\"a\":1}\n{\"a\":\"x\",\"r\":{}}\n{\"a\":2,\"r\":{\"d\":\"2020-01-01\"}}\n{\"r\":{\"d\":1}}\n{\"a\":3}\n";
    let options = ReadOptions { max_bad_records: 2, batch_rows: 2, ..ReadOptions::default() };
    let mut reader = Reader::with_options(text.as_bytes(), &table, options.clone());
    let batches: Vec<_> = reader.by_ref().map(Result::unwrap).collect();
    let batch = concat_batches(&reader.arrow_schema(), &batches).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 2, 3]);
    assert_eq!(reader.bad_records().iter().filter_map(CodecError::row).collect::<Vec<_>>(), [2, 4]);
    let options = ReadOptions { max_bad_records: 1, ..options };
    assert!(Reader::with_options(text.as_bytes(), &table, options).any(|b| b.is_err()));
    let lenient = ReadOptions { ignore_unknown_values: true, ..ReadOptions::default() };
    let batch =
        Reader::with_options(b"{\"x\":[{\"y\":[1]}],\"a\":7}".as_slice(), &table, lenient).next().unwrap().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 7);
}

#[test]
fn files_of_googles_client_libraries() {
    let Some(directory) = shared_data("python-bigquery-testdata") else { return };
    let load = |schema: &str, rows: &str| {
        let schema = std::fs::read(directory.join(schema)).unwrap();
        let table = Schema::from_json(&serde_json::from_slice(&schema).unwrap()).unwrap();
        let text = std::fs::read_to_string(directory.join(rows)).unwrap();
        let batch = read(&table, &text).unwrap();
        assert_eq!(read(&table, &written(&table, &batch)).unwrap(), batch);
        batch
    };
    let batch = load("scalars_schema.json", "scalars.jsonl");
    assert_eq!(batch.num_rows(), 2);
    let interval = batch.column_by_name("interval_col").unwrap().as_string::<i32>();
    assert_eq!(interval.value(0), "7-11 9 4:15:37.123456");
    let numeric = batch.column_by_name("numeric_col").unwrap().as_primitive::<Decimal128Type>();
    assert_eq!(value::to_text(|out| value::write_numeric(numeric.value(0), out)), "1.23456789");
    assert!(load("schema.json", "characters.jsonl").num_rows() > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_rows_come_back(seed: u64, rows in 0_usize..40) {
        let table = all_types(true);
        let batch = random_batch(&table, seed, rows);
        prop_assert_eq!(read(&table, &written(&table, &batch)).unwrap(), batch);
    }

    #[test]
    fn no_line_panics(line in "[\\[\\]{}:,\"a0-9.enultrfs\\\\ -]{0,40}", field in 0_usize..48) {
        let table = all_types(true);
        let name = &table.fields[field % table.fields.len()].name;
        let _ = read(&table, &line);
        let _ = read(&table, &format!("{{\"{name}\":{line}}}"));
    }
}
