//! Partitions: which one a row belongs to, how its id is written, and which ids a decorator may carry.
//!
//! Works on Arrow arrays only. Ingestion-time tables carry their partition in the stored column [`INGESTION`].

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use serde_json::Value;

use strongroom::codec::value::{self, parse_date};

use super::civil::DAY_US;
use super::schema::int;
use crate::core::ApiError;

/// The hidden stored column of ingestion-time partitioned tables.
pub const INGESTION: &str = "_PARTITIONTIME";
/// Most partitions that one job may change.
pub const MAX_PER_JOB: usize = 4_000;

/// The unit of time partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

/// How a table is partitioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// `field` is `None` for ingestion time.
    Time {
        unit: Unit,
        field: Option<String>,
        expiration_ms: Option<i64>,
    },
    Range {
        field: String,
        start: i64,
        end: i64,
        interval: i64,
    },
}

/// The partition of a row. Time buckets are microseconds since the epoch, range buckets their first value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Null,
    Unpartitioned,
    Bucket(i64),
}

impl Partitioning {
    /// Reads `timePartitioning` or `rangePartitioning` of a table's resource; `None` when it has neither.
    ///
    /// # Errors
    /// `invalid` when the specification is incomplete.
    pub fn of(resource: &Value) -> Result<Option<Self>, ApiError> {
        if let Some(time) = resource.get("timePartitioning").filter(|v| v.is_object()) {
            let unit = match time.get("type").and_then(Value::as_str).unwrap_or("DAY").to_ascii_uppercase().as_str() {
                "DAY" | "" => Unit::Day,
                "HOUR" => Unit::Hour,
                "MONTH" => Unit::Month,
                "YEAR" => Unit::Year,
                other => {
                    return Err(ApiError::invalid(format!(
                        "Invalid value for timePartitioning.type: {other} is not a valid value"
                    )));
                }
            };
            let field = time.get("field").and_then(Value::as_str).filter(|f| !f.is_empty()).map(str::to_owned);
            let expiration_ms = time.get("expirationMs").and_then(int).filter(|ms| *ms > 0);
            return Ok(Some(Self::Time { unit, field, expiration_ms }));
        }
        if let Some(range) = resource.get("rangePartitioning").filter(|v| v.is_object()) {
            let field = range.get("field").and_then(Value::as_str).unwrap_or_default().to_owned();
            let number = |name: &str| range.get("range").and_then(|r| r.get(name)).and_then(int);
            let (Some(start), Some(end), Some(interval)) =
                (number("start").or(Some(0)), number("end"), number("interval"))
            else {
                return Err(ApiError::invalid("Missing range.end or range.interval in rangePartitioning"));
            };
            if field.is_empty() || interval <= 0 || end <= start {
                return Err(ApiError::invalid(
                    "Invalid rangePartitioning: field, a positive interval and end > start are required",
                ));
            }
            return Ok(Some(Self::Range { field, start, end, interval }));
        }
        Ok(None)
    }

    /// The column that decides, in the stored data.
    pub fn column(&self) -> &str {
        match self {
            Self::Time { field: Some(field), .. } | Self::Range { field, .. } => field,
            Self::Time { field: None, .. } => INGESTION,
        }
    }

    /// Whether rows are partitioned by their arrival.
    pub fn is_ingestion_time(&self) -> bool {
        matches!(self, Self::Time { field: None, .. })
    }

    /// The partition of every row of the deciding column.
    ///
    /// # Errors
    /// `invalid` when the column has a type that cannot partition.
    pub fn keys(&self, column: &ArrayRef) -> Result<Vec<Key>, ApiError> {
        let raw: Vec<Option<i64>> = match column.data_type() {
            DataType::Date32 => {
                column.as_primitive::<Date32Type>().iter().map(|d| d.map(|d| i64::from(d) * DAY_US)).collect()
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                column.as_primitive::<TimestampMicrosecondType>().iter().collect()
            }
            DataType::Int64 => column.as_primitive::<Int64Type>().iter().collect(),
            other => return Err(ApiError::invalid(format!("A column of type {other} cannot partition a table"))),
        };
        Ok(raw.into_iter().map(|v| self.bucket(v)).collect())
    }

    fn bucket(&self, value: Option<i64>) -> Key {
        match (self, value) {
            (Self::Time { field: None, .. }, None) => Key::Unpartitioned,
            (_, None) => Key::Null,
            (Self::Time { unit, .. }, Some(us)) => Key::Bucket(unit.floor(us)),
            (Self::Range { start, end, interval, .. }, Some(v)) => {
                if v < *start || v >= *end {
                    Key::Unpartitioned
                } else {
                    Key::Bucket(start + (v - start) / interval * interval)
                }
            }
        }
    }

    /// The id of a partition, as decorators and `INFORMATION_SCHEMA.PARTITIONS` write it.
    pub fn id(&self, key: Key) -> String {
        match (key, self) {
            (Key::Null, _) => "__NULL__".into(),
            (Key::Unpartitioned, _) => "__UNPARTITIONED__".into(),
            (Key::Bucket(v), Self::Range { .. }) => v.to_string(),
            (Key::Bucket(us), Self::Time { unit, .. }) => {
                let (y, m, d) = civil(us);
                match unit {
                    Unit::Year => format!("{y:04}"),
                    Unit::Month => format!("{y:04}{m:02}"),
                    Unit::Day => format!("{y:04}{m:02}{d:02}"),
                    Unit::Hour => format!("{y:04}{m:02}{d:02}{:02}", us.rem_euclid(DAY_US) / 3_600_000_000),
                }
            }
        }
    }

    /// Reads the id behind `$`.
    ///
    /// # Errors
    /// `invalid` when it does not fit this partitioning.
    pub fn parse_id(&self, table: &str, id: &str) -> Result<Key, ApiError> {
        let bad = || {
            ApiError::invalid(format!(
                "Invalid partition decorator \"{id}\" for table {table}: it does not match the table's partitioning."
            ))
        };
        match id {
            "__NULL__" => return Ok(Key::Null),
            "__UNPARTITIONED__" => return Ok(Key::Unpartitioned),
            _ => {}
        }
        match self {
            Self::Range { .. } => {
                let value = id.parse().map_err(|_| bad())?;
                if self.bucket(Some(value)) == Key::Bucket(value) { Ok(Key::Bucket(value)) } else { Err(bad()) }
            }
            Self::Time { unit, .. } => {
                let length = match unit {
                    Unit::Year => 4,
                    Unit::Month => 6,
                    Unit::Day => 8,
                    Unit::Hour => 10,
                };
                if id.len() != length || !id.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(bad());
                }
                let part = |from: usize, to: usize, default| id.get(from..to).unwrap_or(default);
                let date = format!("{}-{}-{}", &id[..4], part(4, 6, "01"), part(6, 8, "01"));
                let hour: i64 = part(8, 10, "0").parse().map_err(|_| bad())?;
                let days = parse_date(&date).ok().filter(|_| hour < 24).ok_or_else(bad)?;
                Ok(Key::Bucket(i64::from(days) * DAY_US + hour * 3_600_000_000))
            }
        }
    }

    /// The rows of a batch that are (or, negated, are not) in a partition. A batch without the column has only nulls.
    ///
    /// # Errors
    /// `invalid` when the column cannot partition.
    pub fn mask(&self, batch: &RecordBatch, key: Key, keep: bool) -> Result<BooleanArray, ApiError> {
        let keys = self.batch_keys(batch)?;
        Ok(keys.into_iter().map(|k| Some((k == key) == keep)).collect())
    }

    /// The partition of every row of a batch.
    ///
    /// # Errors
    /// `invalid` when the column cannot partition.
    pub fn batch_keys(&self, batch: &RecordBatch) -> Result<Vec<Key>, ApiError> {
        let wanted = self.column();
        let at = batch.schema().fields().iter().position(|f| f.name().eq_ignore_ascii_case(wanted));
        match at {
            Some(i) => self.keys(batch.column(i)),
            None => Ok(vec![self.bucket(None); batch.num_rows()]),
        }
    }
}

/// (year, month, day) of an instant.
fn civil(us: i64) -> (i32, u32, u32) {
    value::civil_from_days(i32::try_from(us.div_euclid(DAY_US)).unwrap_or(i32::MAX))
}

impl Unit {
    /// The start of the bucket that holds an instant.
    pub fn floor(self, us: i64) -> i64 {
        let (y, m, _) = civil(us);
        match self {
            Self::Hour => us.div_euclid(3_600_000_000) * 3_600_000_000,
            Self::Day => us.div_euclid(DAY_US) * DAY_US,
            Self::Month => i64::from(value::days_from_civil(y, m, 1)) * DAY_US,
            Self::Year => i64::from(value::days_from_civil(y, 1, 1)) * DAY_US,
        }
    }
}

impl Unit {
    /// The end of the bucket that begins at `start`.
    pub fn end(self, start: i64) -> i64 {
        match self {
            Self::Hour => start + 3_600_000_000,
            Self::Day => start + DAY_US,
            // A month and a year are shorter than these, and the next one longer than the excess.
            Self::Month => self.floor(start + 32 * DAY_US),
            Self::Year => self.floor(start + 367 * DAY_US),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Int64Array};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn ids_of_time_partitions() {
        let us = 1_709_168_523_000_004; // 2024-02-29T01:02:03
        for (unit, id) in [("HOUR", "2024022901"), ("DAY", "20240229"), ("MONTH", "202402"), ("YEAR", "2024")] {
            let p = Partitioning::of(&json!({"timePartitioning":{"type":unit}})).unwrap().unwrap();
            let key = p.bucket(Some(us));
            assert_eq!(p.id(key), id);
            assert_eq!(p.parse_id("t", id).unwrap(), key);
            assert_eq!(p.id(p.bucket(None)), "__UNPARTITIONED__");
        }
        let day = Partitioning::of(&json!({"timePartitioning":{"type":"DAY","field":"d"}})).unwrap().unwrap();
        let column: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_782), None]));
        assert_eq!(day.keys(&column).unwrap(), [Key::Bucket(19_782 * DAY_US), Key::Null]);
        for id in ["2024", "20240230", "2024022x", "2024022901", ""] {
            assert!(day.parse_id("t", id).is_err(), "{id}");
        }
    }

    #[test]
    fn ids_of_range_partitions() {
        let p = Partitioning::of(
            &json!({"rangePartitioning":{"field":"n","range":{"start":"0","end":"100","interval":"10"}}}),
        )
        .unwrap()
        .unwrap();
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(19), Some(100), Some(-1), None]));
        let ids: Vec<String> = p.keys(&column).unwrap().into_iter().map(|k| p.id(k)).collect();
        assert_eq!(ids, ["0", "10", "__UNPARTITIONED__", "__UNPARTITIONED__", "__NULL__"]);
        assert!(p.parse_id("t", "15").is_err());
        assert_eq!(p.parse_id("t", "90").unwrap(), Key::Bucket(90));
    }
}
