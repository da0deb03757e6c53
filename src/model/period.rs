//! Lengths of time as people write them: `30m`, `24h`, `84d`, `7y`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// A length of time in whole seconds. A day is 24 hours, a year 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Period {
    seconds: u64,
}

const UNITS: [(char, u64); 6] =
    [('y', 365 * 86_400), ('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

impl Period {
    pub const fn seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    pub const fn days(days: u64) -> Self {
        Self { seconds: days * 86_400 }
    }

    pub const fn as_secs(self) -> u64 {
        self.seconds
    }

    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS
            .into_iter()
            .filter(|(unit, _)| *unit != 'w')
            .find(|(_, size)| self.seconds >= *size && self.seconds.is_multiple_of(*size))
            .unwrap_or(('s', 1));
        write!(f, "{}{unit}", self.seconds / size)
    }
}

impl FromStr for Period {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let wrong = || InvalidName {
            what: "length of time",
            text: text.into(),
            hint: "a whole number and a unit: 45s, 30m, 24h, 84d, 12w, 7y",
        };
        let text = text.trim();
        let unit = text.chars().last().ok_or_else(wrong)?;
        let (_, size) = UNITS.into_iter().find(|(u, _)| *u == unit).ok_or_else(wrong)?;
        let count: u64 = text[..text.len() - unit.len_utf8()].trim().parse().map_err(|_| wrong())?;
        // A thousand years is beyond every use and keeps all later arithmetic far from overflow.
        let seconds = count.checked_mul(size).filter(|s| *s <= 1000 * UNITS[0].1).ok_or_else(wrong)?;
        Ok(Self { seconds })
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl TryFrom<String> for Period {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_and_printed() {
        for (text, seconds, back) in [
            ("30m", 1800, "30m"),
            ("24h", 86_400, "1d"),
            ("12w", 84 * 86_400, "84d"),
            ("7y", 7 * 365 * 86_400, "7y"),
            ("0s", 0, "0s"),
        ] {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.as_secs(), period.to_string().as_str()), (seconds, back), "{text}");
        }
        for text in ["", "d", "1", "-1d", "1.5h", "1 month", "99999999999y", "1é"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
