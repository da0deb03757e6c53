//! A table's rows divided into 256 buckets by their hash: where two tables differ, some buckets do.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Per bucket, which is the lowest byte of a row's hash (`h & 255` in SQL, also for negative hashes): how many rows, and
/// the exact sum of their hashes. A changed row changes the sum of one bucket or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<Bucket>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    pub row_count: u64,
    pub sum: i128,
}

impl Buckets {
    pub const COUNT: usize = 256;

    /// The buckets of a table without rows.
    pub fn empty() -> Self {
        Self(vec![Bucket::default(); Self::COUNT])
    }

    /// From the buckets that hold rows.
    pub fn new(filled: impl IntoIterator<Item = (u8, Bucket)>) -> Self {
        let mut all = Self::empty();
        for (at, bucket) in filled {
            all.0[usize::from(at)] = bucket;
        }
        all
    }

    pub fn get(&self, at: u8) -> Bucket {
        self.0[usize::from(at)]
    }

    /// The buckets in which two tables differ; none when their rows are the same.
    pub fn differing(&self, other: &Self) -> Vec<u8> {
        (0..=u8::MAX).filter(|at| self.get(*at) != other.get(*at)).collect()
    }

    /// One text, `bucket:rows:sum` of those that hold rows, as the query answers and the manifest stores it.
    ///
    /// # Errors
    /// What is no such text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all = Self::empty();
        for part in text.split_ascii_whitespace() {
            let wrong = || format!("'{part}' is no bucket of a fingerprint");
            let mut numbers = part.split(':');
            let (Some(at), Some(rows), Some(sum), None) =
                (numbers.next(), numbers.next(), numbers.next(), numbers.next())
            else {
                return Err(wrong());
            };
            let at: u8 = at.parse().map_err(|_| wrong())?;
            let bucket =
                Bucket { row_count: rows.parse().map_err(|_| wrong())?, sum: sum.parse().map_err(|_| wrong())? };
            if bucket.row_count == 0 || std::mem::replace(&mut all.0[usize::from(at)], bucket).row_count > 0 {
                return Err(wrong());
            }
        }
        Ok(all)
    }
}

impl std::fmt::Display for Buckets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let filled = self.0.iter().enumerate().filter(|(_, bucket)| bucket.row_count > 0);
        for (n, (at, bucket)) in filled.enumerate() {
            let space = if n > 0 { " " } else { "" };
            write!(f, "{space}{at}:{}:{}", bucket.row_count, bucket.sum)?;
        }
        Ok(())
    }
}

impl Serialize for Buckets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_there_and_back() {
        let bucket = |row_count, sum| Bucket { row_count, sum };
        let buckets = Buckets::new([(255, bucket(1, -7)), (0, bucket(u64::MAX, i128::MIN))]);
        let text = buckets.to_string();
        assert_eq!(text, format!("0:{}:{} 255:1:-7", u64::MAX, i128::MIN));
        assert_eq!(Buckets::parse(&text), Ok(buckets.clone()));
        assert_eq!(buckets.differing(&Buckets::empty()), [0, 255]);
        assert_eq!(Buckets::parse(""), Ok(Buckets::empty()));
        for text in ["256:1:1", "1:1", "1:0:0", "1:1:1 1:2:2", "1:-1:5", "1:1:1:1", "a"] {
            assert!(Buckets::parse(text).is_err(), "{text}");
        }
    }
}
