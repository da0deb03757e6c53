//! Avro rows into Arrow columns: a plan is made once from the two schemas, then followed for every row.

use std::io::{BufReader, Read};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::FORMAT;
use super::container::{Block, Blocks};
use super::schema::{self, Inference, Logical, Member, Type, Typed};
use crate::codec::CodecError;
use crate::codec::arrow_schema::children;
use crate::codec::columns::{Column, Columns, Data};
use crate::codec::value;
use crate::model::schema::{Field, FieldType, Mode, Schema};

/// Items that take no bytes in the file, in one array or one block: more is taken for an attack.
const MAX_EMPTY_ITEMS: u64 = 1 << 20;
/// What one batch may grow to inside a single row.
const MAX_ROW_MEMORY: usize = 1 << 30;

/// How a file is read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// A batch ends after so many rows ...
    pub batch_rows: usize,
    /// ... or after about so many bytes.
    pub batch_bytes: usize,
    /// `useAvroLogicalTypes`: without it a `timestamp-micros` is just a number.
    pub logical_types: bool,
    /// Read texts into DATE, TIME, DATETIME and TIMESTAMP columns. BigQuery's load refuses it for DATETIME.
    pub text_times: bool,
    /// Pass over columns that the table does not have, instead of failing.
    pub ignore_unknown: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { batch_rows: 8192, batch_bytes: 16 << 20, logical_types: true, text_times: true, ignore_unknown: false }
    }
}

/// Iterates over a file's rows as batches of the table's Arrow schema. Ends after the first error.
pub struct Reader<R> {
    blocks: Blocks<BufReader<R>>,
    block: Block,
    at: usize,
    left: u64,
    row: u64,
    plan: RecordPlan,
    columns: Columns,
    options: ReadOptions,
    done: bool,
}

/// The BigQuery schema of a file, as a load without a schema finds it.
///
/// # Errors
/// When it is no Avro file or holds what BigQuery cannot.
pub fn infer_schema(read: impl Read, how: &Inference) -> Result<Schema, CodecError> {
    let blocks = Blocks::new(BufReader::new(read))?;
    schema::infer(&schema::parse(&blocks.header.schema)?, how)
}

impl<R: Read> Reader<R> {
    /// Opens a file whose rows belong to a table of this schema.
    ///
    /// # Errors
    /// When it is no Avro file, or its schema does not fit the table's.
    pub fn new(read: R, table: &Schema) -> Result<Self, CodecError> {
        Self::with_options(read, table, ReadOptions::default())
    }

    /// Opens a file with options.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn with_options(read: R, table: &Schema, options: ReadOptions) -> Result<Self, CodecError> {
        let blocks = Blocks::new(BufReader::with_capacity(1 << 16, read))?;
        let members = schema::parse(&blocks.header.schema)?;
        let plan = RecordPlan::new(&members, &table.fields, "", &options)?;
        let columns = Columns::new(table);
        Ok(Self { blocks, block: Block::default(), at: 0, left: 0, row: 0, plan, columns, options, done: false })
    }

    /// The schema of every batch.
    pub fn arrow_schema(&self) -> SchemaRef {
        self.columns.schema().clone()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, CodecError> {
        loop {
            if self.left == 0 && !self.next_block()? {
                return if self.columns.rows() == 0 { Ok(None) } else { self.columns.finish().map(Some) };
            }
            let start = self.at;
            let mut cursor = Cursor { bytes: &self.block.bytes, at: self.at };
            while self.left > 0 {
                self.row += 1;
                if let Err(trouble) = self.plan.decode(&mut cursor, &mut self.columns.columns) {
                    return Err(trouble.at(self.row, self.block.offset));
                }
                self.columns.end_row();
                self.left -= 1;
                // Columns that the file lacks grow without any of its bytes.
                let grown =
                    self.columns.rows().is_multiple_of(256) && self.columns.memory_bytes() >= self.options.batch_bytes;
                let full = self.columns.rows() >= self.options.batch_rows
                    || cursor.at - start >= self.options.batch_bytes
                    || grown;
                if full {
                    break;
                }
            }
            self.at = cursor.at;
            if self.left == 0 && self.at != self.block.bytes.len() {
                return Err(CodecError::Malformed {
                    format: FORMAT,
                    offset: self.block.offset,
                    message: "a block holds more than its rows".to_owned(),
                });
            }
            let full = self.columns.rows() >= self.options.batch_rows
                || self.columns.memory_bytes() >= self.options.batch_bytes;
            if full {
                return self.columns.finish().map(Some);
            }
        }
    }

    fn next_block(&mut self) -> Result<bool, CodecError> {
        loop {
            if !self.blocks.next(&mut self.block)? {
                return Ok(false);
            }
            let malformed = |message| Err(CodecError::Malformed { format: FORMAT, offset: self.block.offset, message });
            self.at = 0;
            self.left = self.block.rows;
            let most = match self.block.bytes.len().checked_div(self.plan.least_bytes) {
                Some(most) => most as u64,
                None => MAX_EMPTY_ITEMS,
            };
            if self.left > most {
                return malformed(format!("a block states {} rows, more than its bytes can hold", self.left));
            }
            if self.left > 0 {
                return Ok(true);
            }
            // A block without rows is legal.
            if !self.block.bytes.is_empty() {
                return malformed("a block of no rows holds bytes".to_owned());
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<RecordBatch, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_batch().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What went wrong inside a row; the path grows on the way out.
struct Trouble {
    message: String,
    path: Vec<String>,
    /// The bytes are wrong, not just the value.
    malformed: bool,
}

type Step = Result<(), Box<Trouble>>;

impl Trouble {
    fn cut(message: &str) -> Box<Self> {
        Box::new(Self { message: message.to_owned(), path: Vec::new(), malformed: true })
    }

    fn at(self, row: u64, offset: u64) -> CodecError {
        let mut path = self.path;
        path.reverse();
        if self.malformed {
            let message = format!("row {row}: {}", self.message);
            return CodecError::Malformed { format: FORMAT, offset, message };
        }
        CodecError::Value { row, column: path.join("."), message: self.message }
    }
}

impl From<String> for Box<Trouble> {
    fn from(message: String) -> Self {
        Box::new(Trouble { message, path: Vec::new(), malformed: false })
    }
}

/// What to do with the members of a record, in the file's order.
struct RecordPlan {
    members: Vec<(Target, String)>,
    /// Fields of the table that the file does not have.
    missing: Vec<usize>,
    /// The fewest bytes that a record takes in the file.
    least_bytes: usize,
}

enum Target {
    Field(usize, Plan),
    Skip(Typed),
}

/// How one value goes from the file into its column.
enum Plan {
    /// The file can only say null.
    Null,
    /// A union with null, which stands at this position.
    Nullable(i64, Box<Plan>),
    /// A union of one type, whose position still stands in the file.
    Only(Box<Plan>),
    Bool,
    /// INT64 as it is.
    Int,
    /// A number of days, or of units of time: multiplied, then divided, which must leave no rest.
    Time(i64, i64),
    IntToFloat,
    IntToDecimal,
    Float,
    Double,
    /// Bytes or text as they are.
    Raw(Option<usize>),
    /// Text that the column parses.
    Text,
    Enum(Arc<Vec<String>>),
    Uuid,
    Decimal(Option<usize>, i32),
    Record(RecordPlan),
    Array(Box<Plan>, usize),
    /// Entries become records `key`, `value`.
    Map(RecordPlan),
}

impl RecordPlan {
    fn new(members: &[Member], fields: &[Field], path: &str, options: &ReadOptions) -> Result<Self, CodecError> {
        let mut found = vec![false; fields.len()];
        let mut targets = Vec::with_capacity(members.len());
        for member in members {
            let same = |f: &&Field| f.name.eq_ignore_ascii_case(&member.name);
            let exact = fields.iter().position(|f| f.name == member.name);
            let here = exact.or_else(|| fields.iter().position(|f| same(&f)));
            let below = join(path, &member.name);
            let target = match here {
                Some(index) if found[index] => {
                    return Err(CodecError::schema(below, "stands twice in the file"));
                }
                Some(index) => {
                    found[index] = true;
                    Target::Field(index, Plan::new(&member.typed, &fields[index], &below, options)?)
                }
                None if options.ignore_unknown => Target::Skip(member.typed.clone()),
                None => return Err(CodecError::schema(below, "is in the file but not in the table")),
            };
            targets.push((target, member.name.clone()));
        }
        let missing: Vec<usize> = (0..fields.len()).filter(|i| !found[*i]).collect();
        if let Some(field) = missing.iter().map(|i| &fields[*i]).find(|f| f.mode == Mode::Required) {
            return Err(CodecError::schema(join(path, &field.name), "is REQUIRED but not in the file"));
        }
        let least_bytes = members.iter().map(|m| least_bytes(&m.typed)).fold(0, usize::saturating_add);
        Ok(Self { members: targets, missing, least_bytes })
    }

    fn decode(&self, cursor: &mut Cursor<'_>, columns: &mut [Column]) -> Step {
        for (target, name) in &self.members {
            let step = match target {
                Target::Field(index, plan) => plan.decode(cursor, &mut columns[*index]),
                Target::Skip(typed) => cursor.skip(typed),
            };
            if let Err(mut trouble) = step {
                trouble.path.push(name.clone());
                return Err(trouble);
            }
        }
        for index in &self.missing {
            columns[*index].push_null()?;
        }
        Ok(())
    }
}

impl Plan {
    fn new(typed: &Typed, field: &Field, path: &str, options: &ReadOptions) -> Result<Self, CodecError> {
        if let Some((inner, null_at)) = typed.nullable() {
            return Ok(Self::Nullable(null_at as i64, Box::new(Self::new(inner, field, path, options)?)));
        }
        let element = || Field { mode: Mode::Required, ..field.clone() };
        match (&typed.base, field.mode) {
            (Type::Null, _) => Ok(Self::Null),
            (Type::Union(branches), mode) => match branches.as_slice() {
                [one] => Ok(Self::Only(Box::new(Self::new(one, field, path, options)?))),
                _ => Err(mismatch(typed, field, mode, path)),
            },
            (Type::Array(item), Mode::Repeated) => {
                // BigQuery's arrays hold no nulls; a null inside is an error of its row.
                let plan = Self::new(item, &element(), path, options)?;
                Ok(Self::Array(Box::new(plan), least_bytes(item)))
            }
            (Type::Map(values), Mode::Repeated) if field.kind == FieldType::Struct => {
                let key = Typed { base: Type::String, logical: None, json: false };
                let member = |name: &str, typed| Member { name: name.to_owned(), doc: None, typed };
                let members = [member("key", key), member("value", values.as_ref().clone())];
                Ok(Self::Map(RecordPlan::new(&members, &field.fields, path, options)?))
            }
            (_, Mode::Repeated) => Err(mismatch(typed, field, Mode::Repeated, path)),
            (Type::Record(members), _) if matches!(field.kind, FieldType::Struct | FieldType::Range) => {
                Ok(Self::Record(RecordPlan::new(members, &children(field), path, options)?))
            }
            _ => Self::scalar(typed, field.kind, options).ok_or_else(|| mismatch(typed, field, field.mode, path)),
        }
    }

    fn scalar(typed: &Typed, kind: FieldType, options: &ReadOptions) -> Option<Self> {
        use FieldType as F;
        let decimal = matches!(typed.logical, Some(Logical::Decimal { .. }));
        let logical = typed.logical.filter(|_| options.logical_types || decimal);
        Some(match (&typed.base, logical, kind) {
            (Type::Boolean, _, F::Bool) => Self::Bool,
            (Type::Int, Some(Logical::Date), F::Date) => Self::Time(1, 1),
            (Type::Int, Some(Logical::TimeMillis), F::Time) => Self::Time(1000, 1),
            (Type::Long, Some(Logical::TimeMicros), F::Time) => Self::Time(1, 1),
            (Type::Long, Some(Logical::TimestampMillis), F::Timestamp) => Self::Time(1000, 1),
            (Type::Long, Some(Logical::TimestampMicros), F::Timestamp) => Self::Time(1, 1),
            (Type::Long, Some(Logical::TimestampNanos), F::Timestamp) => Self::Time(1, 1000),
            (Type::Long, Some(Logical::LocalMillis), F::DateTime) => Self::Time(1000, 1),
            (Type::Long, Some(Logical::LocalMicros), F::DateTime) => Self::Time(1, 1),
            (Type::Long, Some(Logical::LocalNanos), F::DateTime) => Self::Time(1, 1000),
            (Type::Int | Type::Long, _, F::Int64) => Self::Int,
            (Type::Int | Type::Long, None, F::Float64) => Self::IntToFloat,
            (Type::Int | Type::Long, None, F::Numeric | F::BigNumeric) => Self::IntToDecimal,
            (Type::Float, _, F::Float64) => Self::Float,
            (Type::Double, _, F::Float64) => Self::Double,
            (Type::Bytes, Some(Logical::Decimal { scale, .. }), F::Numeric | F::BigNumeric) => {
                Self::Decimal(None, scale)
            }
            (Type::Fixed(size), Some(Logical::Decimal { scale, .. }), F::Numeric | F::BigNumeric) => {
                Self::Decimal(Some(*size), scale)
            }
            (Type::Fixed(16), Some(Logical::Uuid), F::String) => Self::Uuid,
            (Type::Bytes, _, F::Bytes) => Self::Raw(None),
            (Type::Fixed(size), _, F::Bytes) => Self::Raw(Some(*size)),
            (Type::String, _, F::String | F::Geography) => Self::Raw(None),
            (Type::String, _, F::Bytes) => Self::Raw(None),
            (Type::String, _, F::Date | F::Time | F::DateTime | F::Timestamp) if options.text_times => Self::Text,
            (Type::String, _, F::Json | F::Interval | F::Range | F::Numeric | F::BigNumeric) => Self::Text,
            (Type::Enum(symbols), _, F::String) => Self::Enum(symbols.clone()),
            _ => return None,
        })
    }

    fn decode(&self, cursor: &mut Cursor<'_>, column: &mut Column) -> Step {
        match self {
            Self::Null => column.push_null()?,
            Self::Nullable(null_at, inner) => {
                let branch = cursor.long()?;
                if branch == *null_at {
                    column.push_null()?;
                } else if branch == 1 - null_at {
                    return inner.decode(cursor, column);
                } else {
                    return Err(Trouble::cut("a union has no such branch"));
                }
            }
            Self::Only(inner) => match cursor.long()? {
                0 => return inner.decode(cursor, column),
                _ => return Err(Trouble::cut("a union has no such branch")),
            },
            Self::Bool => match cursor.byte()? {
                byte @ (0 | 1) => column.push_bool(byte == 1)?,
                _ => return Err(Trouble::cut("a boolean is neither 0 nor 1")),
            },
            Self::Int => {
                let number = cursor.long()?;
                if let Data::I64(values) = &mut column.data {
                    values.push(number);
                }
                column.mark(true);
            }
            Self::Time(factor, divisor) => {
                let number = cursor.long()?;
                let scaled = number.checked_mul(*factor).ok_or_else(|| format!("{number} is out of range"))?;
                if scaled % divisor != 0 {
                    return Err(format!("{number} is finer than a microsecond").into());
                }
                column.push_int(scaled / divisor)?;
            }
            Self::IntToFloat => {
                let number = cursor.long()?;
                if (number as f64) as i128 != i128::from(number) {
                    return Err(format!("{number} does not fit FLOAT64 without loss").into());
                }
                column.push_float(number as f64)?;
            }
            Self::IntToDecimal => {
                let number = cursor.long()?;
                column.push_decimal(arrow::datatypes::i256::from_i128(i128::from(number)), 0)?;
            }
            Self::Float => column.push_float(f64::from(f32::from_le_bytes(cursor.array()?)))?,
            Self::Double => column.push_float(f64::from_le_bytes(cursor.array()?))?,
            Self::Raw(size) => column.push_bytes(cursor.sized(*size)?)?,
            Self::Text => {
                let text = std::str::from_utf8(cursor.sized(None)?);
                column.push_text(text.map_err(|_| "is not valid UTF-8".to_owned())?)?;
            }
            Self::Enum(symbols) => {
                let symbol = usize::try_from(cursor.long()?).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or_else(|| Trouble::cut("an enum has no such symbol"))?;
                column.push_bytes(symbol.as_bytes())?;
            }
            Self::Uuid => {
                let bytes: [u8; 16] = cursor.array()?;
                column.push_bytes(uuid_text(u128::from_be_bytes(bytes)).as_bytes())?;
            }
            Self::Decimal(size, scale) => {
                let number = value::decimal_from_be_bytes(cursor.sized(*size)?);
                let number = number.ok_or_else(|| "is a decimal of more than 256 bits".to_owned())?;
                column.push_decimal(number, *scale)?;
            }
            Self::Record(plan) => {
                if let Data::Struct(columns) = &mut column.data {
                    plan.decode(cursor, columns)?;
                }
                column.mark(true);
            }
            Self::Array(item, least) => {
                if let Data::List { item: values, .. } = &mut column.data {
                    cursor.each_item(*least, |cursor, position| {
                        check_growth(values, position)?;
                        item.decode(cursor, values)
                    })?;
                }
                column.end_list()?;
            }
            Self::Map(entry) => {
                if let Data::List { item: values, .. } = &mut column.data {
                    cursor.each_item(entry.least_bytes, |cursor, position| {
                        check_growth(values, position)?;
                        if let Data::Struct(columns) = &mut values.data {
                            entry.decode(cursor, columns)?;
                        }
                        values.mark(true);
                        Ok(())
                    })?;
                }
                column.end_list()?;
            }
        }
        Ok(())
    }
}

fn check_growth(values: &Column, position: u64) -> Step {
    if position % 4096 == 4095 && values.memory_bytes() > MAX_ROW_MEMORY {
        return Err("is too large for one row".to_owned().into());
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Box<Trouble>> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| Trouble::cut("the block ends within a row"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn long(&mut self) -> Result<i64, Box<Trouble>> {
        // Most numbers are lengths, branches and small counts.
        if let Some(byte) = self.bytes.get(self.at).copied().filter(|b| *b < 0x80) {
            self.at += 1;
            return Ok(i64::from(byte >> 1) ^ -i64::from(byte & 1));
        }
        self.long_slow()
    }

    fn long_slow(&mut self) -> Result<i64, Box<Trouble>> {
        let mut value = 0_u64;
        for shift in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (shift * 7);
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Trouble::cut("a number has more than ten bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Box<Trouble>> {
        let taken = self.bytes[self.at..].get(..length);
        let taken = taken.ok_or_else(|| Trouble::cut("a length reaches beyond its block"))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Box<Trouble>> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// As many bytes as given, or as the file states.
    fn sized(&mut self, size: Option<usize>) -> Result<&'a [u8], Box<Trouble>> {
        let length = match size {
            Some(size) => size,
            None => usize::try_from(self.long()?).map_err(|_| Trouble::cut("a length is negative"))?,
        };
        self.take(length)
    }

    /// The items of an array or map, each of which takes at least `least` bytes.
    fn each_item(&mut self, least: usize, mut item: impl FnMut(&mut Self, u64) -> Step) -> Step {
        let mut position = 0;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The block's size in bytes follows; it is of use only for skipping.
                self.long()?;
                count = count.checked_neg().unwrap_or(i64::MAX);
            }
            let most = match (self.bytes.len() - self.at).checked_div(least) {
                Some(most) => most as u64,
                None => MAX_EMPTY_ITEMS.saturating_sub(position),
            };
            if count as u64 > most {
                return Err(Trouble::cut("an array states more items than its bytes can hold"));
            }
            for _ in 0..count {
                item(self, position)?;
                position += 1;
            }
        }
    }

    fn skip(&mut self, typed: &Typed) -> Step {
        match &typed.base {
            Type::Null => {}
            Type::Boolean => drop(self.byte()?),
            Type::Int | Type::Long | Type::Enum(_) => drop(self.long()?),
            Type::Float => drop(self.take(4)?),
            Type::Double => drop(self.take(8)?),
            Type::Bytes | Type::String => drop(self.sized(None)?),
            Type::Fixed(size) => drop(self.take(*size)?),
            Type::Record(members) => members.iter().try_for_each(|m| self.skip(&m.typed))?,
            Type::Array(item) => self.each_item(least_bytes(item), |cursor, _| cursor.skip(item))?,
            Type::Map(values) => self.each_item(least_bytes(values).saturating_add(1), |cursor, _| {
                cursor.sized(None)?;
                cursor.skip(values)
            })?,
            Type::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|at| branches.get(at));
                self.skip(branch.ok_or_else(|| Trouble::cut("a union has no such branch"))?)?;
            }
        }
        Ok(())
    }
}

/// The fewest bytes that a value takes in the file.
fn least_bytes(typed: &Typed) -> usize {
    match &typed.base {
        Type::Null => 0,
        Type::Float => 4,
        Type::Double => 8,
        Type::Fixed(size) => *size,
        Type::Record(members) => members.iter().map(|m| least_bytes(&m.typed)).fold(0, usize::saturating_add),
        Type::Union(branches) => 1 + branches.iter().map(least_bytes).min().unwrap_or(0),
        _ => 1,
    }
}

fn uuid_text(number: u128) -> String {
    let hex = format!("{number:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn mismatch(typed: &Typed, field: &Field, mode: Mode, path: &str) -> CodecError {
    let file = match (&typed.base, typed.logical) {
        (Type::Record(_), _) => "record".to_owned(),
        (Type::Array(_), _) => "array".to_owned(),
        (Type::Map(_), _) => "map".to_owned(),
        (Type::Union(_), _) => "union".to_owned(),
        (Type::Enum(_), _) => "enum".to_owned(),
        (base, None) => format!("{base:?}").to_lowercase(),
        (base, Some(logical)) => format!("{base:?} ({logical:?})").to_lowercase(),
    };
    let table = match mode {
        Mode::Repeated => format!("repeated {}", field.kind),
        _ => field.kind.to_string(),
    };
    // The wording follows BigQuery's, on which people search.
    CodecError::schema(path, format!("Configured schema: {}; Avro file: {file}.", table.to_lowercase()))
}
