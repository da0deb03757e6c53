//! What the codec's tests share: rows of every type made from a seed, and files of other programs where they are at hand.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::i256;

use super::columns::{Column, Columns, Data};
use super::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// A small generator (splitmix64): the same seed makes the same rows everywhere.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn within(&mut self, low: i64, high: i64) -> i64 {
        let span = (i128::from(high) - i128::from(low) + 1) as u128;
        (i128::from(low) + (u128::from(self.next()) % span) as i128) as i64
    }
}

/// One column of every type in every mode, RANGE left out where `ranges` is false; nested records and lists within.
pub fn all_types(ranges: bool) -> Schema {
    let mut fields = Vec::new();
    for kind in FieldType::ALL {
        for mode in [Mode::Nullable, Mode::Required, Mode::Repeated] {
            let name = format!("{}_{}", kind.sql_name().to_lowercase(), mode.name().to_lowercase());
            match kind {
                FieldType::Struct => {
                    let deep = Field::record(
                        "deep",
                        Mode::Repeated,
                        vec![Field::required("n", FieldType::Numeric), Field::repeated("s", FieldType::String)],
                    );
                    let inner = vec![
                        Field::repeated("tags", FieldType::String),
                        Field::nullable("day", FieldType::Date),
                        Field::required("count", FieldType::Int64),
                        deep,
                    ];
                    fields.push(Field::record(name, mode, inner));
                }
                FieldType::Range if !ranges => {}
                FieldType::Range => fields.push(Field::range(name, mode, FieldType::Timestamp)),
                _ => fields.push(Field::new(name, kind, mode)),
            }
        }
    }
    Schema::new(fields)
}

/// Only scalar columns, as CSV can carry them.
pub fn flat_types() -> Schema {
    let mut schema = all_types(true);
    schema.fields.retain(|f| f.mode != Mode::Repeated && f.kind != FieldType::Struct);
    schema
}

/// Rows made from a seed, edge values among them.
pub fn random_batch(schema: &Schema, seed: u64, rows: usize) -> RecordBatch {
    let mut seeded = Seeded(seed);
    let mut columns = Columns::new(schema);
    for _ in 0..rows {
        for column in &mut columns.columns {
            push(column, &mut seeded);
        }
        columns.end_row();
    }
    columns.finish().unwrap()
}

fn push(column: &mut Column, seeded: &mut Seeded) {
    let field = column.field.clone();
    if field.mode == Mode::Nullable && seeded.below(4) == 0 {
        return column.push_null().unwrap();
    }
    if field.mode == Mode::Repeated {
        let Data::List { item, .. } = &mut column.data else { panic!() };
        for _ in 0..seeded.below(4) {
            push(item, seeded);
        }
        return column.end_list().unwrap();
    }
    let pushed = match field.kind {
        FieldType::Struct | FieldType::Range => {
            let Data::Struct(fields) = &mut column.data else { panic!() };
            fields.iter_mut().for_each(|f| push(f, seeded));
            column.mark(true);
            Ok(())
        }
        FieldType::Bool => column.push_bool(seeded.below(2) == 0),
        FieldType::Int64 => {
            let shift = seeded.below(64);
            column.push_int(seeded.next() as i64 >> shift)
        }
        FieldType::Float64 => {
            let bits = seeded.next();
            let float = f64::from_bits(bits);
            // NaN has many bit patterns; one is enough.
            let float = if float.is_nan() { f64::NAN } else { float };
            column.push_float(if bits.is_multiple_of(3) { (bits >> 40) as f64 / 64.0 } else { float })
        }
        FieldType::Date => column.push_int(seeded.within(i64::from(value::DATE_MIN), i64::from(value::DATE_MAX))),
        FieldType::Time => column.push_int(seeded.within(0, value::MICROS_PER_DAY - 1)),
        FieldType::DateTime | FieldType::Timestamp => {
            column.push_int(seeded.within(value::MICROS_MIN, value::MICROS_MAX))
        }
        FieldType::Numeric => {
            let wide = (i128::from(seeded.next() as i64) << 62) % value::NUMERIC_MAX;
            column.push_decimal(i256::from_i128(wide >> seeded.below(126)), 9)
        }
        FieldType::BigNumeric => {
            let mut bytes = [0; 32];
            bytes.chunks_exact_mut(8).for_each(|c| c.copy_from_slice(&seeded.next().to_be_bytes()));
            column.push_decimal(i256::from_be_bytes(bytes) >> seeded.below(256) as u8, 38)
        }
        FieldType::Bytes => {
            let length = seeded.below(20) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| seeded.next() as u8).collect();
            column.push_bytes(&bytes)
        }
        FieldType::String => column.push_bytes(text(seeded).as_bytes()),
        FieldType::Geography => {
            let point = format!("POINT({} {})", seeded.within(-180, 180), seeded.within(-90, 90));
            column.push_bytes(point.as_bytes())
        }
        FieldType::Json => {
            let value = serde_json::json!({ "b": text(seeded), "a": [seeded.next(), null_or(seeded), 1.5] });
            column.push_text(&value.to_string())
        }
        FieldType::Interval => {
            let interval = value::Interval {
                months: seeded.within(-1000, 1000),
                days: seeded.within(-100, 100),
                nanos: i128::from(seeded.within(-1_000_000_000_000, 1_000_000_000_000)) * 1000,
            };
            column.push_text(&value::to_text(|out| interval.write(out)))
        }
    };
    pushed.unwrap();
}

fn null_or(seeded: &mut Seeded) -> Option<i64> {
    (seeded.below(2) == 0).then(|| seeded.next() as i64)
}

fn text(seeded: &mut Seeded) -> String {
    const PIECES: [&str; 16] =
        ["a", "Z", "0", " ", "\"", "\\", ",", "\n", "\r\n", "\t", "é", "日本", "\u{2028}", "<&>", "'", "\u{1f600}"];
    (0..seeded.below(9)).map(|_| PIECES[seeded.below(16) as usize]).collect()
}

/// A directory of files of other programs; `None`, and a line about it, where it is not at hand.
pub fn shared_data(directory: &str) -> Option<PathBuf> {
    let root = std::env::var_os("STRONGROOM_SHARED_DATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"));
    let path = root.join(directory);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: ../shared/data not there ({directory})");
    None
}

/// All files below a directory, in order of their names.
pub fn files(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// Files for other programs to read and compare, one table in every format: `rows.*` below `$STRONGROOM_SAMPLES`.
#[test]
#[ignore = "writes files: set STRONGROOM_SAMPLES"]
fn write_samples() {
    use super::{avro, csv, ndjson, parquet};
    let Some(directory) = std::env::var_os("STRONGROOM_SAMPLES").map(PathBuf::from) else { return };
    let put = |name: &str, bytes: Vec<u8>| std::fs::write(directory.join(name), bytes).unwrap();
    for (name, table) in [("all", all_types(false)), ("ranges", all_types(true)), ("flat", flat_types())] {
        let batch = random_batch(&table, 42, 300);
        let mut writer = ndjson::Writer::new(Vec::new(), &table);
        writer.write(&batch).unwrap();
        put(&format!("{name}.ndjson"), writer.finish().unwrap());
        put(&format!("{name}.schema.json"), table.to_json().to_string().into_bytes());
        for compression in parquet::Compression::ALL {
            let mut writer = parquet::Writer::new(Vec::new(), &table, compression).unwrap();
            writer.write(&batch).unwrap();
            put(&format!("{name}.{compression:?}.parquet"), writer.finish().unwrap());
        }
        if name == "flat" {
            let mut writer = csv::Writer::new(Vec::new(), &table, csv::WriterOptions::default()).unwrap();
            writer.write(&batch).unwrap();
            put("flat.csv", writer.finish().unwrap());
        }
        if name == "all" {
            for codec in avro::Codec::ALL {
                for logical_types in [true, false] {
                    let mut writer = avro::Writer::new(Vec::new(), &table, codec, logical_types).unwrap();
                    writer.write(&batch).unwrap();
                    put(&format!("all.{codec:?}.{logical_types}.avro"), writer.finish().unwrap());
                }
            }
        }
    }
}

/// Files that other programs have made of the samples (`again.*`), compared with the rows they came from.
#[test]
#[ignore = "reads files: set STRONGROOM_SAMPLES"]
fn read_samples_again() {
    use super::{avro, parquet};
    let Some(directory) = std::env::var_os("STRONGROOM_SAMPLES").map(PathBuf::from) else { return };
    for path in files(&directory) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("again.") || !(name.ends_with(".avro") || name.ends_with(".parquet")) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let table = all_types(name.ends_with(".parquet"));
        let batches: Vec<RecordBatch> = if name.ends_with(".parquet") {
            parquet::Reader::new(bytes::Bytes::from(bytes), &table).unwrap().map(Result::unwrap).collect()
        } else {
            avro::Reader::new(bytes.as_slice(), &table).unwrap().map(Result::unwrap).collect()
        };
        let want = random_batch(&table, 42, 300);
        let got = arrow::compute::concat_batches(&want.schema(), &batches).unwrap();
        assert_eq!(got, want, "{name}");
        println!("{name}: equal");
    }
}
