//! A fingerprint of a table that does not depend on the order of its rows, its files or its batches.
//!
//! Every row is hashed as `FARM_FINGERPRINT(TO_JSON_STRING(row))`, which BigQuery computes as well. Kept are
//! the number of rows, the exclusive or and the exact sum of the hashes: the exclusive or alone would not see a row that
//! is there an even number of times. It finds accidents; against forgery stand digests and signatures.

use arrow::array::RecordBatch;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::CodecError;
use super::farm::farm_fingerprint;
use super::row_json::RowJson;

/// Rows are divided by the lowest byte of their hash, to tell where two tables differ.
pub const BUCKETS: usize = 256;

/// Rows are written until there is so much of their text, and hashed then: reading what was written only just now stalls,
/// and hashes of neighbours are computed side by side.
const TEXT_BYTES: usize = 8 << 10;

/// Count, exclusive or and sum of some rows' hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Hashes {
    pub count: u64,
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub xor: i64,
    /// Exact: 2^64 rows of the greatest hash still fit.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub sum: i128,
}

/// The fingerprint of a table, or of some of its rows: parts merge.
#[derive(Clone, PartialEq, Eq)]
pub struct TableFingerprint {
    buckets: Box<[Hashes; BUCKETS]>,
}

impl Hashes {
    /// Takes in one row by its hash.
    pub fn add(&mut self, hash: i64) {
        self.count += 1;
        self.xor ^= hash;
        self.sum += i128::from(hash);
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.xor ^= other.xor;
        self.sum += other.sum;
    }
}

impl TableFingerprint {
    /// The fingerprint of no rows.
    pub fn new() -> Self {
        Self { buckets: Box::new([Hashes::default(); BUCKETS]) }
    }

    /// From rows of a query: bucket, count, exclusive or, sum. A bucket may also be given as `MOD(h, 256)`, which
    /// is negative for negative hashes.
    pub fn from_buckets(rows: impl IntoIterator<Item = (i64, Hashes)>) -> Self {
        let mut fingerprint = Self::new();
        for (bucket, hashes) in rows {
            fingerprint.buckets[bucket.rem_euclid(BUCKETS as i64) as usize].merge(&hashes);
        }
        fingerprint
    }

    /// Takes in the rows of a batch.
    ///
    /// # Errors
    /// When a column's Arrow type has no counterpart in BigQuery.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), CodecError> {
        let rows = RowJson::new(batch)?;
        let (mut texts, mut ends) = (vec![0; 2 * TEXT_BYTES], Vec::new());
        let mut row = 0;
        while row < batch.num_rows() {
            let mut end = 0;
            ends.clear();
            while row < batch.num_rows() && end < TEXT_BYTES {
                end = rows.put(row, &mut texts, end);
                ends.push(end);
                row += 1;
            }
            let mut start = 0;
            for end in &ends {
                self.add_hash(farm_fingerprint(&texts[start..*end]));
                start = *end;
            }
        }
        Ok(())
    }

    /// Takes in one row by its hash.
    pub fn add_hash(&mut self, hash: i64) {
        self.buckets[usize::from(hash as u8)].add(hash);
    }

    /// Takes in the rows of another part of the table.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            mine.merge(theirs);
        }
    }

    /// All rows together.
    pub fn total(&self) -> Hashes {
        let mut total = Hashes::default();
        self.buckets.iter().for_each(|b| total.merge(b));
        total
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.count).sum()
    }

    /// By the lowest byte of the hash: `h & 255` in SQL.
    pub fn buckets(&self) -> &[Hashes; BUCKETS] {
        &self.buckets
    }

    /// The buckets in which two tables differ; none when they are equal.
    pub fn differing_buckets(&self, other: &Self) -> Vec<usize> {
        (0..BUCKETS).filter(|at| self.buckets[*at] != other.buckets[*at]).collect()
    }
}

impl Default for TableFingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TableFingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Hashes { count, xor, sum } = self.total();
        f.debug_struct("TableFingerprint")
            .field("count", &count)
            .field("xor", &xor)
            .field("sum", &sum)
            .finish_non_exhaustive()
    }
}

/// In JSON: the totals, and per bucket that has rows `[bucket, count, "xor", "sum"]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(flatten)]
    total: Hashes,
    buckets: Vec<(u8, u64, String, String)>,
}

impl Serialize for TableFingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let filled = self.buckets.iter().enumerate().filter(|(_, b)| b.count > 0);
        let buckets = filled.map(|(at, b)| (at as u8, b.count, b.xor.to_string(), b.sum.to_string())).collect();
        Stored { total: self.total(), buckets }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TableFingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let stored = Stored::deserialize(deserializer)?;
        let mut fingerprint = Self::new();
        for (at, count, xor, sum) in stored.buckets {
            let (Ok(xor), Ok(sum)) = (xor.parse(), sum.parse()) else {
                return Err(D::Error::custom("a bucket of a fingerprint holds no number"));
            };
            fingerprint.buckets[usize::from(at)] = Hashes { count, xor, sum };
        }
        if fingerprint.total() != stored.total {
            return Err(D::Error::custom("the totals of a fingerprint are not those of its buckets"));
        }
        Ok(fingerprint)
    }
}

fn as_text<T: std::fmt::Display, S: Serializer>(number: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

fn from_text<'de, T: std::str::FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom("not a whole number"))
}

#[cfg(test)]
mod tests {
    use arrow::compute::{concat_batches, take_record_batch};
    use proptest::prelude::*;

    use super::*;
    use crate::codec::testing::{Seeded, all_types, random_batch};
    use crate::codec::{avro, ndjson, parquet};

    fn of(batches: &[RecordBatch]) -> TableFingerprint {
        let mut fingerprint = TableFingerprint::new();
        batches.iter().for_each(|b| fingerprint.add(b).unwrap());
        fingerprint
    }

    #[test]
    fn known_rows() {
        let array = arrow::array::Int64Array::from(vec![1, 2]);
        let batch = RecordBatch::try_from_iter([("a", std::sync::Arc::new(array) as arrow::array::ArrayRef)]).unwrap();
        let hashes = [farm_fingerprint(br#"{"a":1}"#), farm_fingerprint(br#"{"a":2}"#)];
        let total = of(&[batch]).total();
        assert_eq!((total.count, total.xor), (2, hashes[0] ^ hashes[1]));
        assert_eq!(total.sum, i128::from(hashes[0]) + i128::from(hashes[1]));
    }

    #[test]
    fn a_doubled_row_is_seen() {
        let batch = random_batch(&all_types(true), 1, 1);
        let none = TableFingerprint::new();
        let twice = of(&[batch.clone(), batch]);
        assert_eq!(twice.total().xor, none.total().xor);
        assert_ne!(twice, none);
        assert_eq!(twice.differing_buckets(&none).len(), 1);
    }

    #[test]
    fn json_goes_there_and_back() {
        let fingerprint = of(&[random_batch(&all_types(true), 5, 50)]);
        let text = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<TableFingerprint>(&text).unwrap(), fingerprint);
        assert!(text.starts_with(r#"{"count":50,"xor":""#), "{text}");
        let forged = text.replacen("\"count\":50", "\"count\":51", 1);
        assert!(serde_json::from_str::<TableFingerprint>(&forged).is_err());
    }

    #[test]
    fn buckets_as_sql_gives_them() {
        let batch = random_batch(&all_types(true), 6, 200);
        let fingerprint = of(&[batch]);
        let rows = fingerprint.buckets().iter().enumerate().map(|(at, h)| (at as i64, *h));
        assert_eq!(TableFingerprint::from_buckets(rows), fingerprint);
        let negative = farm_fingerprint(b"") % 256;
        assert!(negative < 0);
        let mut one = TableFingerprint::new();
        one.add_hash(farm_fingerprint(b""));
        let hashes = one.total();
        assert_eq!(TableFingerprint::from_buckets([(negative, hashes)]), one);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn order_split_and_format_do_not_matter(seed: u64, rows in 1_usize..60, cut in 0_usize..60) {
            let table = all_types(false);
            let batch = random_batch(&table, seed, rows);
            let whole = of(std::slice::from_ref(&batch));

            let mut seeded = Seeded(seed);
            let mut order: Vec<u32> = (0..rows as u32).collect();
            for at in (1..rows).rev() {
                order.swap(at, seeded.below(at as u64 + 1) as usize);
            }
            let shuffled = take_record_batch(&batch, &arrow::array::UInt32Array::from(order)).unwrap();
            let cut = cut.min(rows);
            let mut parts = of(&[shuffled.slice(0, cut)]);
            parts.merge(&of(&[shuffled.slice(cut, rows - cut)]));
            prop_assert_eq!(&parts, &whole);

            let mut writer = avro::Writer::new(Vec::new(), &table, avro::Codec::Snappy, true).unwrap();
            writer.write(&shuffled).unwrap();
            let file = writer.finish().unwrap();
            let read: Vec<_> = avro::Reader::new(file.as_slice(), &table).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&of(&read), &whole);

            let mut writer = parquet::Writer::new(Vec::new(), &table, parquet::Compression::Zstd).unwrap();
            writer.write(&shuffled).unwrap();
            let file: bytes::Bytes = writer.finish().unwrap().into();
            let read: Vec<_> = parquet::Reader::new(file, &table).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&of(&read), &whole);

            let mut writer = ndjson::Writer::new(Vec::new(), &table);
            writer.write(&shuffled).unwrap();
            let file = writer.finish().unwrap();
            let lines: Vec<_> = ndjson::Reader::new(file.as_slice(), &table).map(Result::unwrap).collect();
            prop_assert_eq!(&of(&lines), &whole);

            let together = concat_batches(&batch.schema(), &read).unwrap();
            if rows > 1 {
                prop_assert_ne!(of(&[together.slice(1, rows - 1)]), whole);
            }
        }
    }
}
