//! PostgreSQL's binary COPY to Arrow columns.
// https://www.postgresql.org/docs/current/sql-copy.html (Binary Format)

use arrow::datatypes::i256;
use arrow::record_batch::RecordBatch;

use crate::codec::CodecError;
use crate::codec::columns::{Column, Columns};
use crate::model::schema::Schema;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the header's extension.
const HEADER_BYTES: usize = 19;
/// Days and microseconds from 1970 to 2000, which PostgreSQL counts from.
const DAYS: i64 = 10_957;
const MICROS: i64 = DAYS * 86_400_000_000;
/// A batch is given out when it holds so much.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS: usize = 16_384;

/// How a column's values are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Bool,
    Int16,
    Int32,
    Int64,
    Oid,
    Float32,
    Float64,
    /// Texts, enums, bytes: as they are.
    Bytes,
    Uuid,
    Date,
    /// Time of day, in microseconds.
    Time,
    /// With and without time zone.
    Instant,
    Numeric,
}

/// Why rows cannot be had.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// A value that the column's type in the schema does not hold.
    Unfit { column: usize, message: String },
    /// The bytes are none of COPY's.
    Broken(String),
    /// What the rows were given to has failed.
    Taken(CodecError),
}

/// Takes bytes as they come and gives batches.
pub(super) struct Decoder {
    columns: Columns,
    wires: Vec<Wire>,
    rest: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl Decoder {
    pub fn new(schema: &Schema, wires: Vec<Wire>) -> Self {
        Self { columns: Columns::new(schema), wires, rest: Vec::new(), begun: false, ended: false }
    }

    /// Takes in bytes and gives out the batches that are full.
    ///
    /// # Errors
    /// `DecodeError`; nothing may be fed after one.
    pub fn feed(
        &mut self,
        chunk: &[u8],
        give: &mut impl FnMut(RecordBatch) -> Result<(), CodecError>,
    ) -> Result<(), DecodeError> {
        let mut joined = std::mem::take(&mut self.rest);
        let bytes = match joined.is_empty() {
            true => chunk,
            false => {
                joined.extend_from_slice(chunk);
                &joined
            }
        };
        let mut at = 0;
        if !self.begun {
            if bytes.len() < HEADER_BYTES {
                self.rest = bytes.to_vec();
                return Ok(());
            }
            if !bytes.starts_with(SIGNATURE) {
                return Err(DecodeError::Broken("does not begin as binary COPY does".into()));
            }
            let extension = u32::from_be_bytes(bytes[15..19].try_into().unwrap_or_default()) as usize;
            if extension > 0 {
                return Err(DecodeError::Broken("has an extended header, which is not known".into()));
            }
            (at, self.begun) = (HEADER_BYTES, true);
        }
        while let Some(length) = self.row(&bytes[at..])? {
            at += length;
            let rows = self.columns.rows();
            if rows >= BATCH_ROWS || (rows.is_multiple_of(256) && self.columns.memory_bytes() >= BATCH_BYTES) {
                give(self.columns.finish().map_err(DecodeError::Taken)?).map_err(DecodeError::Taken)?;
            }
        }
        self.rest = bytes[at..].to_vec();
        Ok(())
    }

    /// Gives out what is left.
    ///
    /// # Errors
    /// `Broken` when the end is missing.
    pub fn finish(mut self, give: &mut impl FnMut(RecordBatch) -> Result<(), CodecError>) -> Result<(), DecodeError> {
        if !self.ended || !self.rest.is_empty() {
            return Err(DecodeError::Broken("is cut off".into()));
        }
        if self.columns.rows() > 0 {
            give(self.columns.finish().map_err(DecodeError::Taken)?).map_err(DecodeError::Taken)?;
        }
        Ok(())
    }

    /// Takes one row, if it is there whole, and says how many bytes it was.
    fn row(&mut self, bytes: &[u8]) -> Result<Option<usize>, DecodeError> {
        let Some(count) = bytes.first_chunk::<2>().map(|count| i16::from_be_bytes(*count)) else { return Ok(None) };
        if self.ended {
            return Err(DecodeError::Broken("goes on after its end".into()));
        }
        if count == -1 {
            self.ended = true;
            return Ok(Some(2));
        }
        if usize::try_from(count) != Ok(self.wires.len()) {
            return Err(DecodeError::Broken(format!("has a row of {count} columns, expected {}", self.wires.len())));
        }
        // Whole, before anything is taken.
        let mut end = 2;
        for _ in &self.wires {
            let Some(length) = bytes.get(end..).and_then(|rest| rest.first_chunk::<4>()) else { return Ok(None) };
            end += 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
            if end > bytes.len() {
                return Ok(None);
            }
        }
        let mut at = 2;
        for (i, wire) in self.wires.iter().enumerate() {
            let length = i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
            at += 4;
            let column = &mut self.columns.columns[i];
            let pushed = match usize::try_from(length) {
                Err(_) => column.push_null(),
                Ok(length) => {
                    let value = &bytes[at..at + length];
                    at += length;
                    push(column, *wire, value)
                }
            };
            pushed.map_err(|message| DecodeError::Unfit { column: i, message })?;
        }
        self.columns.end_row();
        Ok(Some(at))
    }
}

fn push(column: &mut Column, wire: Wire, value: &[u8]) -> Result<(), String> {
    match wire {
        Wire::Bytes => column.push_bytes(value),
        Wire::Int32 => column.push_int(i32::from_be_bytes(fixed(value)?).into()),
        Wire::Int64 => column.push_int(i64::from_be_bytes(fixed(value)?)),
        Wire::Int16 => column.push_int(i16::from_be_bytes(fixed(value)?).into()),
        Wire::Oid => column.push_int(u32::from_be_bytes(fixed(value)?).into()),
        Wire::Bool => column.push_bool(fixed::<1>(value)?[0] != 0),
        Wire::Float32 => column.push_float(f32::from_be_bytes(fixed(value)?).into()),
        Wire::Float64 => column.push_float(f64::from_be_bytes(fixed(value)?)),
        Wire::Date => column.push_int(i64::from(i32::from_be_bytes(fixed(value)?)) + DAYS),
        Wire::Time => column.push_int(i64::from_be_bytes(fixed(value)?)),
        Wire::Instant => match i64::from_be_bytes(fixed(value)?).checked_add(MICROS) {
            Some(micros) => column.push_int(micros),
            None => Err("is infinite".into()),
        },
        Wire::Uuid => column.push_bytes(&uuid(&fixed(value)?)),
        Wire::Numeric => {
            let (number, scale) = numeric(value)?;
            column.push_decimal(number, scale)
        }
    }
}

fn fixed<const N: usize>(value: &[u8]) -> Result<[u8; N], String> {
    value.try_into().map_err(|_| format!("was sent in {} bytes, expected {N}", value.len()))
}

fn uuid(bytes: &[u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// A number and its scale: PostgreSQL sends digits of base 10,000 and the power of the first one.
fn numeric(value: &[u8]) -> Result<(i256, i32), String> {
    let word = |at: usize| -> Result<i16, String> {
        let bytes = value.get(at..at + 2).ok_or("was sent in too few bytes")?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (digits, weight, sign) = (i32::from(word(0)?), i32::from(word(2)?), word(4)? as u16);
    if !matches!(sign, 0 | 0x4000) {
        return Err("is NaN or infinite".into());
    }
    // Within 128 bits as long as it can be: most numbers are small.
    let (mut small, mut large) = (Some(0_i128), i256::ZERO);
    for i in 0..usize::try_from(digits).unwrap_or(0) {
        let digit = i128::from(word(8 + 2 * i)?);
        if let Some(number) = small {
            small = number.checked_mul(10_000).and_then(|number| number.checked_add(digit));
            if small.is_some() {
                continue;
            }
            large = i256::from_i128(number);
        }
        let next = large.checked_mul(i256::from_i128(10_000));
        large = next.and_then(|n| n.checked_add(i256::from_i128(digit))).ok_or("has too many digits")?;
    }
    let number = small.map_or(large, i256::from_i128);
    let number = if sign == 0 { number } else { number.wrapping_neg() };
    if digits == 0 {
        return Ok((i256::ZERO, 0));
    }
    Ok((number, -4 * (weight - digits + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::row_json::RowJson;
    use crate::model::schema::{Field, FieldType};

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = (values.len() as i16).to_be_bytes().to_vec();
        for value in values {
            match value {
                None => bytes.extend((-1_i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend((value.len() as i32).to_be_bytes());
                    bytes.extend(*value);
                }
            }
        }
        bytes
    }

    fn words(words: &[i16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn rows_come_out_however_the_bytes_are_cut() {
        let schema = Schema::new(vec![
            Field::required("id", FieldType::Int64),
            Field::nullable("amount", FieldType::Numeric),
            Field::nullable("at", FieldType::Timestamp),
            Field::nullable("key", FieldType::String),
        ]);
        let wires = vec![Wire::Int32, Wire::Numeric, Wire::Instant, Wire::Uuid];
        let mut bytes = [SIGNATURE, &[0; 8]].concat();
        // 12345.67 as 1 | 2345 | 6700, the first a power of 1.
        let amount = words(&[3, 1, 0x4000, 2, 1, 2345, 6700]);
        let key: Vec<u8> = (0..16).collect();
        bytes.extend(row(&[Some(&7_i32.to_be_bytes()), Some(&amount), Some(&1_i64.to_be_bytes()), Some(&key)]));
        bytes.extend(row(&[Some(&(-1_i32).to_be_bytes()), Some(&words(&[0, 0, 0, 0])), None, None]));
        bytes.extend((-1_i16).to_be_bytes());
        for piece in [1, 3, 50, bytes.len()] {
            let mut decoder = Decoder::new(&schema, wires.clone());
            let mut rows = Vec::new();
            let mut give = |batch: RecordBatch| {
                let json = RowJson::new(&batch)?;
                for at in 0..batch.num_rows() {
                    let mut text = Vec::new();
                    json.write(at, &mut text);
                    rows.push(String::from_utf8(text).unwrap());
                }
                Ok(())
            };
            for chunk in bytes.chunks(piece) {
                decoder.feed(chunk, &mut give).unwrap();
            }
            decoder.finish(&mut give).unwrap();
            assert_eq!(
                rows,
                [
                    r#"{"id":7,"amount":"-12345.67","at":"2000-01-01T00:00:00.000001Z","key":"00010203-0405-0607-0809-0a0b0c0d0e0f"}"#,
                    r#"{"id":-1,"amount":0,"at":null,"key":null}"#
                ]
            );
        }
    }

    #[test]
    fn what_a_type_does_not_hold_names_the_column() {
        let schema = Schema::new(vec![Field::nullable("n", FieldType::Numeric), Field::nullable("d", FieldType::Date)]);
        let refused = |number: &[u8], day: i32| {
            let mut decoder = Decoder::new(&schema, vec![Wire::Numeric, Wire::Date]);
            let bytes = [SIGNATURE, &[0; 8], &row(&[Some(number), Some(&day.to_be_bytes())])].concat();
            match decoder.feed(&bytes, &mut |_| Ok(())) {
                Err(DecodeError::Unfit { column, .. }) => Some(column),
                _ => None,
            }
        };
        let zero = words(&[0, 0, 0, 0]);
        assert_eq!(refused(&zero, 0), None);
        assert_eq!(refused(&words(&[0, 0, -0x4000, 0]), 0), Some(0), "NaN");
        assert_eq!(refused(&words(&[1, -4, 0, 16, 1]), 0), Some(0), "more digits than NUMERIC has");
        assert_eq!(refused(&zero, i32::MAX), Some(1), "infinity");
        let broken = Decoder::new(&schema, vec![]).feed(&[b'x'; 40], &mut |_| Ok(()));
        assert!(matches!(broken, Err(DecodeError::Broken(_))));
        assert!(matches!(Decoder::new(&schema, vec![]).finish(&mut |_| Ok(())), Err(DecodeError::Broken(_))));
    }
}
