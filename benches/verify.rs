//! How fast a stored table is verified, beside another program that only reads it: `benches/verify` runs both.
//!
//!     bench-verify generate FILE ROWS    writes usage rows as Parquet
//!     bench-verify verify FILE           digests, rows, fingerprint and figures, as `strongroom verify` takes them

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Fields};
use strongroom::codec::{arrow_schema, parquet};
use strongroom::config::TableFormat;
use strongroom::job::inspect::TableReader;
use strongroom::model::schema::{Field, FieldType, Mode, Schema};
use strongroom::store::LocalStore;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["generate", file, rows] => rows.parse().map_err(Into::into).and_then(|rows| generate(Path::new(file), rows)),
        ["verify", file] => verify(Path::new(file)),
        _ => Err("usage: bench-verify generate FILE ROWS | bench-verify verify FILE".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Who used which model how much, at what cost, by which steps.
fn schema() -> Schema {
    let step = vec![Field::nullable("tool", FieldType::String), Field::nullable("ms", FieldType::Int64)];
    Schema::new(vec![
        Field::required("requested_at", FieldType::Timestamp),
        Field::required("usage_date", FieldType::Date),
        Field::required("api_key_id", FieldType::String),
        Field::nullable("user_id", FieldType::String),
        Field::required("model", FieldType::String),
        Field::nullable("input_tokens", FieldType::Int64),
        Field::nullable("output_tokens", FieldType::Int64),
        Field::nullable("cost_usd", FieldType::Numeric),
        Field::record("steps", Mode::Repeated, step),
    ])
}

/// splitmix64: the same rows everywhere.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn generate(file: &Path, rows: usize) -> Outcome {
    const MODELS: [&str; 6] =
        ["gpt-4o-2024-08-06", "gpt-4o-mini", "claude-3-5-sonnet", "gemini-1.5-pro", "o1-preview", "llama-3.1-70b"];
    const TOOLS: [&str; 4] = ["retrieve", "generate", "rank", "\"quoted\" tool"];
    let table = schema();
    let arrow = arrow_schema::arrow_schema(&table);
    let mut writer = parquet::Writer::new(std::fs::File::create(file)?, &table, parquet::Compression::Zstd)?;
    let mut seeded = Seeded(1);
    let mut at = 1_700_000_000_000_000_i64;
    let mut left = rows;
    while left > 0 {
        let count = left.min(8192);
        left -= count;
        let times: Vec<i64> = (0..count)
            .map(|_| {
                at += seeded.below(5_000_000) as i64;
                at
            })
            .collect();
        let days = times.iter().map(|at| (at / 86_400_000_000) as i32);
        let users: Vec<Option<String>> = (0..count)
            .map(|_| (seeded.below(20) > 0).then(|| format!("user_{:05}@example.com", seeded.below(3000))))
            .collect();
        let lengths: Vec<usize> = (0..count).map(|_| seeded.below(3) as usize).collect();
        let steps: usize = lengths.iter().sum();
        let DataType::List(item) = arrow.field(8).data_type().clone() else { return Err("no list".into()) };
        let DataType::Struct(fields): &DataType = item.data_type() else { return Err("no struct".into()) };
        let fields: Fields = fields.clone();
        let tools = (0..steps).map(|_| Some(TOOLS[seeded.below(4) as usize]));
        let tools: ArrayRef = Arc::new(tools.collect::<StringArray>());
        let took: ArrayRef = Arc::new((0..steps).map(|_| Some(seeded.below(90_000) as i64)).collect::<Int64Array>());
        let steps = StructArray::try_new(fields, vec![tools, took], None)?;
        let input: Int64Array =
            (0..count).map(|_| (seeded.below(50) > 0).then(|| seeded.below(30_000) as i64)).collect();
        let output: Int64Array = (0..count).map(|_| Some(seeded.below(4_000) as i64)).collect();
        let cost: Decimal128Array = (0..count).map(|_| Some(i128::from(seeded.below(2_000_000_000)))).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(times.clone()).with_timezone("UTC")),
            Arc::new(days.collect::<Vec<_>>().into_iter().map(Some).collect::<Date32Array>()),
            Arc::new((0..count).map(|_| Some(format!("key-{:08x}", seeded.below(4000)))).collect::<StringArray>()),
            Arc::new(users.into_iter().collect::<StringArray>()),
            Arc::new((0..count).map(|_| Some(MODELS[seeded.below(6) as usize])).collect::<StringArray>()),
            Arc::new(input),
            Arc::new(output),
            Arc::new(cost.with_precision_and_scale(38, 9)?),
            Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(steps), None)?),
        ];
        writer.write(&RecordBatch::try_new(arrow.clone(), columns)?)?;
    }
    writer.finish()?;
    Ok(())
}

fn verify(file: &Path) -> Outcome {
    let directory = file.parent().unwrap_or(Path::new("."));
    let name = file.file_name().and_then(|name| name.to_str()).ok_or("the file has no name")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = LocalStore::open(directory)?;
    let started = Instant::now();
    let mut reader = TableReader::new(&schema(), TableFormat::Parquet);
    let (digests, rows) = runtime.block_on(reader.read(&store, name))?;
    let totals = reader.finish();
    let seconds = started.elapsed().as_secs_f64();
    let fingerprint = totals.fingerprint.ok_or("no fingerprint")?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB").trim().to_string();
    let peak_mib = peak.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024;
    println!(
        "{{\"rows\": {rows}, \"seconds\": {seconds:.3}, \"peak_mib\": {peak_mib}, \"xor\": \"{}\", \"sha256\": \"{}\"}}",
        fingerprint.xor,
        digests.sha256_hex()
    );
    Ok(())
}
