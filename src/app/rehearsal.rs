//! What a build for tests listens to, and a release build does not hold: a clock that runs ahead, and a stop at a numbered
//! effect of the local store.

use jiff::Timestamp;

/// The time, so much later as `STRONGROOM_TEST_CLOCK_AHEAD_MS` says.
#[cfg(debug_assertions)]
pub(super) fn ahead(now: Timestamp) -> Timestamp {
    let ahead = std::env::var("STRONGROOM_TEST_CLOCK_AHEAD_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    now.checked_add(jiff::SignedDuration::from_millis(ahead)).unwrap_or(now)
}

#[cfg(not(debug_assertions))]
pub(super) fn ahead(now: Timestamp) -> Timestamp {
    now
}

/// Arms the stop that `STRONGROOM_TEST_HALT` asks for: `before 17 LOG`, `after 17 LOG`, or `count 0 LOG`.
#[cfg(debug_assertions)]
pub(super) fn listen() {
    use crate::store::halt::{Stop, arm};
    let Ok(text) = std::env::var("STRONGROOM_TEST_HALT") else { return };
    let mut parts = text.splitn(3, ' ');
    if let (Some(when), Some(Ok(at)), Some(log)) = (parts.next(), parts.next().map(str::parse), parts.next()) {
        arm(Stop { at, after: when == "after", log: log.into() });
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn listen() {}
