//! A table counted, fingerprinted and summed: the figures that prove that two tables are the same.

use serde::{Deserialize, Serialize};

use super::Buckets;

/// The figures of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    pub row_count: u64,
    /// Of the rows' TO_JSON_STRING, in any order; absent when no column's JSON form is canonical.
    pub fingerprint: Option<Fingerprint>,
    pub columns: Vec<ColumnTotals>,
}

/// An order-independent fingerprint of rows: each row hashed by FARM_FINGERPRINT, the hashes combined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    #[serde(with = "as_text")]
    pub xor: i64,
    /// The exact sum: a row that is there twice vanishes from the xor, not from the sum.
    #[serde(with = "as_text")]
    pub sum: i128,
    /// Where two tables differ; absent in manifests of before they were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Buckets>,
}

/// A column's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnTotals {
    pub name: String,
    /// The BigQuery type: INT64, NUMERIC, DATE, ...
    pub kind: String,
    pub null_count: u64,
    /// Exact decimal text; of FLOAT64 the shortest text that reads back. Absent for dates and times, and without rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Of a DATE column: how many different days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct_dates: Option<u64>,
}

/// The relative difference that sums of FLOAT64 may have: they depend on the order of the additions.
const FLOAT_SUM_TOLERANCE: f64 = 1e-9;

impl Totals {
    /// The first thing in which the figures of `other` differ, with both values, and the buckets in which its rows do;
    /// `None` when they are the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let difference = self.first_difference(other)?;
        let buckets = self.differing_buckets(other).unwrap_or_default();
        Some(if buckets.is_empty() { difference } else { format!("{difference} ({})", name_buckets(&buckets)) })
    }

    /// The figures without the 256 buckets: for people, who do not read them.
    #[must_use]
    pub fn without_buckets(mut self) -> Self {
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.buckets = None;
        }
        self
    }

    /// Columns of dates with another number of days than before: a partition is empty, or new.
    pub fn missing_days(&self, other: &Self) -> Vec<String> {
        let days = |column: &ColumnTotals| column.distinct_dates;
        let pairs = self.columns.iter().filter_map(|column| {
            let found = other.columns.iter().find(|found| found.name == column.name)?;
            Some((column, days(column)?, days(found)?))
        });
        pairs
            .filter(|(_, before, after)| before != after)
            .map(|(column, before, after)| format!("column {}: {after} days have rows, expected {before}", column.name))
            .collect()
    }

    /// The buckets in which the rows differ; `None` when one side has none.
    pub fn differing_buckets(&self, other: &Self) -> Option<Vec<u8>> {
        let buckets = |totals: &Self| totals.fingerprint.as_ref().and_then(|fingerprint| fingerprint.buckets.clone());
        Some(buckets(self)?.differing(&buckets(other)?))
    }

    fn first_difference(&self, other: &Self) -> Option<String> {
        if self.row_count != other.row_count {
            return Some(format!("{} rows, expected {}", other.row_count, self.row_count));
        }
        for column in &self.columns {
            let Some(found) = other.columns.iter().find(|found| found.name == column.name) else {
                return Some(format!("column {} is not there", column.name));
            };
            if let Some(difference) = column.difference(found) {
                return Some(format!("column {}: {difference}", column.name));
            }
        }
        match (&self.fingerprint, &other.fingerprint) {
            (Some(a), Some(b)) => {
                let buckets = a.buckets.as_ref().zip(b.buckets.as_ref()).is_some_and(|(a, b)| a != b);
                (a.xor != b.xor || a.sum != b.sum || buckets)
                    .then(|| "the fingerprint of the rows is another one".to_string())
            }
            _ => None,
        }
    }
}

impl ColumnTotals {
    fn difference(&self, other: &Self) -> Option<String> {
        if self.null_count != other.null_count {
            return Some(format!("{} nulls, expected {}", other.null_count, self.null_count));
        }
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        for (what, a, b, tolerance) in [
            ("sum", &self.sum, &other.sum, FLOAT_SUM_TOLERANCE),
            ("smallest value", &self.min, &other.min, 0.0),
            ("largest value", &self.max, &other.max, 0.0),
        ] {
            let same = a == b || (self.kind == "FLOAT64" && close(a.as_deref(), b.as_deref(), tolerance));
            if !same {
                return Some(format!("its {what} is {}, expected {}", text(b), text(a)));
            }
        }
        match (self.distinct_dates, other.distinct_dates) {
            (Some(a), Some(b)) if a != b => Some(format!("{b} different days, expected {a}")),
            _ => None,
        }
    }
}

/// Buckets for people: the first few by number.
fn name_buckets(buckets: &[u8]) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<String> = buckets.iter().take(SHOWN).map(u8::to_string).collect();
    if buckets.len() > SHOWN {
        names.push(format!("and {} more", buckets.len() - SHOWN));
    }
    let word = if buckets.len() == 1 { "bucket" } else { "buckets" };
    format!("{word} {} of {}", names.join(", "), Buckets::COUNT)
}

fn close(a: Option<&str>, b: Option<&str>, tolerance: f64) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<f64>().ok());
    match (number(a), number(b)) {
        (Some(a), Some(b)) if a.is_nan() || b.is_nan() => a.is_nan() && b.is_nan(),
        (Some(a), Some(b)) => a == b || (a - b).abs() <= tolerance * a.abs().max(b.abs()),
        _ => false,
    }
}

/// Integers beyond 2^53 as texts: other readers of JSON would round them.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("'{text}' is no whole number")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals() -> Totals {
        let column = |name: &str, kind: &str, sum: Option<&str>| ColumnTotals {
            name: name.into(),
            kind: kind.into(),
            null_count: 1,
            sum: sum.map(String::from),
            min: Some("1".into()),
            max: Some("9".into()),
            distinct_dates: None,
        };
        Totals {
            row_count: 3,
            fingerprint: Some(Fingerprint { xor: i64::MIN, sum: i128::MAX, buckets: None }),
            columns: vec![column("cost", "NUMERIC", Some("10.01")), column("f", "FLOAT64", Some("0.3"))],
        }
    }

    #[test]
    fn every_figure_counts() {
        let base = totals();
        assert_eq!(base.difference(&base), None);
        type Change = fn(&mut Totals);
        let changes: [(&str, Change); 6] = [
            ("4 rows, expected 3", |t| t.row_count = 4),
            ("column cost: its sum is 10.02, expected 10.01", |t| t.columns[0].sum = Some("10.02".into())),
            ("column cost: 2 nulls, expected 1", |t| t.columns[0].null_count = 2),
            ("column f: its largest value is none, expected 9", |t| t.columns[1].max = None),
            ("column f is not there", |t| drop(t.columns.pop())),
            ("the fingerprint of the rows is another one", |t| {
                t.fingerprint = Some(Fingerprint { xor: 0, sum: i128::MAX, buckets: None })
            }),
        ];
        for (expected, change) in changes {
            let mut other = totals();
            change(&mut other);
            assert_eq!(base.difference(&other).as_deref(), Some(expected));
        }
        let mut other = totals();
        other.columns[1].sum = Some("0.30000000000000004".into());
        assert_eq!(base.difference(&other), None, "sums of floats depend on the order");
    }

    #[test]
    fn a_difference_names_the_buckets() {
        use crate::model::Bucket;
        let with = |filled: &[(u8, u64, i128)]| {
            let buckets = filled.iter().map(|(at, row_count, sum)| (*at, Bucket { row_count: *row_count, sum: *sum }));
            let sum = filled.iter().map(|(_, _, sum)| sum).sum();
            Totals { fingerprint: Some(Fingerprint { xor: 1, sum, buckets: Some(Buckets::new(buckets)) }), ..totals() }
        };
        let base = with(&[(3, 2, 10), (200, 1, 20)]);
        assert_eq!(base.difference(&base), None);
        let expected = "the fingerprint of the rows is another one (buckets 3, 200 of 256)";
        assert_eq!(base.difference(&with(&[(3, 2, 11), (200, 1, 19)])).as_deref(), Some(expected), "the same in all");
        // A manifest of before buckets were taken still compares.
        assert_eq!(base.differing_buckets(&totals()), None);
        let old = Totals { fingerprint: Some(Fingerprint { xor: 1, sum: 30, buckets: None }), ..totals() };
        assert_eq!((old.difference(&base), base.difference(&old)), (None, None));
        let read: Totals = serde_json::from_str(&serde_json::to_string(&old).unwrap()).unwrap();
        assert_eq!(read, old);
        let read: Totals = serde_json::from_str(&serde_json::to_string(&base).unwrap()).unwrap();
        assert_eq!(read, base);
    }

    #[test]
    fn large_integers_are_stored_as_texts() {
        let json = serde_json::to_string(&totals()).unwrap();
        assert!(json.contains(r#""xor":"-9223372036854775808""#), "{json}");
        assert_eq!(serde_json::from_str::<Totals>(&json).unwrap(), totals());
    }
}
