//! The sandbox's clock: the machine's clock plus a persisted offset. It runs on from what was set.
//! Knows nothing of who acts when time passes; they subscribe.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use super::{ApiError, Db};

/// A settable clock, microseconds since 1970.
pub struct Clock {
    offset_us: AtomicI64,
    last_unique_us: AtomicI64,
    changes: watch::Sender<u64>,
}

impl Clock {
    /// The clock as the last run left it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn load(db: &Db) -> Result<Self, ApiError> {
        let offset_us = db.get("core", "clock")?.and_then(|v| v["offsetUs"].as_i64()).unwrap_or(0);
        Ok(Self { offset_us: offset_us.into(), last_unique_us: 0.into(), changes: watch::Sender::new(0) })
    }

    /// Microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        machine_us() + self.offset_us.load(Ordering::Relaxed)
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1000)
    }

    /// Now, or a little later: no two calls in one process get the same number (for generations and ids).
    pub fn unique_us(&self) -> i64 {
        let now = self.now_us();
        let next = |last: i64| now.max(last + 1);
        match self.last_unique_us.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last))) {
            Ok(last) | Err(last) => next(last),
        }
    }

    /// Now as RFC 3339 with milliseconds, as Storage writes its times.
    pub fn rfc3339(&self) -> String {
        rfc3339_ms(self.now_us())
    }

    /// Sets the time and stores the offset.
    ///
    /// # Errors
    /// When the time is outside the years 1970 to 9999 or the offset cannot be stored.
    pub fn set_us(&self, now_us: i64, db: &Db) -> Result<(), ApiError> {
        if !(0..=253_402_300_799_000_000).contains(&now_us) {
            return Err(ApiError::invalid("the clock can be set to the years 1970 to 9999 only"));
        }
        let offset = now_us - machine_us();
        db.put("core", "clock", &json!({ "offsetUs": offset }))?;
        self.offset_us.store(offset, Ordering::Relaxed);
        self.changes.send_modify(|n| *n += 1);
        Ok(())
    }

    /// A receiver that changes whenever the clock was set (not as time goes by).
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// RFC 3339 in UTC with milliseconds, `2026-11-21T08:57:31.123Z`.
pub fn rfc3339_ms(us: i64) -> String {
    timestamp(us).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// RFC 3339 in UTC with microseconds, as the newer APIs write their times.
pub fn rfc3339_us(us: i64) -> String {
    timestamp(us).strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// As HTTP's `Date` header has it: `Sat, 21 Nov 2026 08:57:31 GMT`.
pub fn http_date(us: i64) -> HeaderValue {
    let text = timestamp(us).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Microseconds since 1970 of an RFC 3339 text with an offset.
pub fn parse_rfc3339_us(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|t| t.as_microsecond())
}

fn timestamp(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn machine_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        let us = parse_rfc3339_us("2024-02-29T01:02:03.004005+01:00").unwrap();
        assert_eq!(rfc3339_ms(us), "2024-02-29T00:02:03.004Z");
        assert_eq!(rfc3339_us(us), "2024-02-29T00:02:03.004005Z");
        assert_eq!(http_date(us), "Thu, 29 Feb 2024 00:02:03 GMT");
        assert_eq!(parse_rfc3339_us("yesterday"), None);
    }

    #[test]
    fn a_set_clock_runs_on_and_unique_times_differ() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).unwrap();
        let clock = Clock::load(&db).unwrap();
        clock.set_us(1_000_000_000, &db).unwrap();
        assert!((1_000_000_000..1_060_000_000).contains(&clock.now_us()));
        let (a, b) = (clock.unique_us(), clock.unique_us());
        assert!(b > a);
        let again = Clock::load(&db).unwrap();
        assert!(again.now_us() < 1_060_000_000);
    }
}
