//! One rule: which requests it is for, when it acts, and what it does. Draws are by seed and number only, so that the
//! same requests in the same order meet the same faults.

use serde::{Deserialize, Serialize};

use super::Asked;
use crate::core::ApiError;

/// A longer delay is refused.
const MAX_DELAY_MS: u64 = 600_000;

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// What it does; absent: what the other fields say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// `bigquery`, `storage` ... as in the request log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `bigquery.jobs.*`; absent matches every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only requests that may change something, or only those that may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mutating: Option<bool>,
    /// It acts on the nth matching request alone, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// So many matching requests go through first.
    pub skip: u64,
    /// It acts so often, 0: always. Absent: once, but always with a probability or a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How likely it acts on a matching request, drawn by `seed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    pub seed: u64,
    pub delay_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Sent as `Retry-After` with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// An old name of the kind `reset`.
    pub drop: bool,
    pub when: When,
    /// Of a reset, a stall or a truncation: so many bytes of the answer's body are sent. Of a full disk: the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// By how much the clock is moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// How many requests matched.
    pub seen: u64,
    /// How often it acted.
    pub used: u64,
    /// How many requests it holds now.
    pub stalled: u64,
}

/// What a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An error in Google's envelope.
    Error,
    /// The connection ends without an answer, or within its body.
    Reset,
    /// A reset after the request was carried out.
    LoseReply,
    /// The answer never comes, or its body never ends.
    Stall,
    /// The answer comes later.
    Delay,
    /// The answer's body ends early and looks whole.
    Truncate,
    /// A byte of the answer's body is changed; JSON is then none any more.
    Corrupt,
    /// The BigQuery job runs, and ends with an error.
    FailJob,
    /// Uploads beyond `bytes` are refused.
    DiskFull,
    /// The sandbox's clock is moved by `seconds`.
    SkewClock,
    /// One of those that pass, drawn.
    Any,
}

/// Whether the request is carried out before the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Before,
    After,
}

impl Rule {
    /// Says what is wrong, and fills in what follows from the rest.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let kind = match self.kind {
            Some(kind) => kind,
            None if self.drop => Kind::Reset,
            None if self.status.is_some() => Kind::Error,
            None if self.delay_ms > 0 => Kind::Delay,
            None => return Err("does nothing; hint: give it a kind, or a status, or delay_ms".into()),
        };
        self.kind = Some(kind);
        if kind == Kind::LoseReply {
            (self.kind, self.when) = (Some(Kind::Reset), When::After);
        }
        if self.status.is_some_and(|s| !(400..=599).contains(&s)) {
            return Err("its status must be 400 to 599".into());
        }
        if self.delay_ms > MAX_DELAY_MS {
            return Err(format!("its delay_ms may be {MAX_DELAY_MS} at most"));
        }
        if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("its probability must be 0 to 1".into());
        }
        if self.nth == Some(0) {
            return Err("its nth counts from 1".into());
        }
        if self.nth.is_some() && (self.skip > 0 || self.times.is_some() || self.probability.is_some()) {
            return Err("nth says all: leave out skip, times and probability".into());
        }
        let needs = |given: bool, what: &str| if given { Ok(()) } else { Err(format!("needs {what}")) };
        match kind {
            Kind::Error => needs(self.status.is_some(), "a status")?,
            Kind::Delay => needs(self.delay_ms > 0, "delay_ms")?,
            Kind::DiskFull => needs(self.bytes.is_some(), "bytes: the room that is left")?,
            Kind::SkewClock => needs(self.seconds.is_some(), "seconds")?,
            _ => {}
        }
        let stray = |given: bool, what: &str| {
            if given { Err(format!("{what} means nothing for this kind of fault")) } else { Ok(()) }
        };
        let envelope = matches!(kind, Kind::Error | Kind::FailJob | Kind::DiskFull);
        stray(self.status.is_some() && kind != Kind::Error, "status")?;
        stray((self.reason.is_some() || self.message.is_some()) && !envelope, "reason or message")?;
        stray(self.retry_after_s.is_some() && kind != Kind::Error, "retry_after_s")?;
        stray(self.seconds.is_some() && kind != Kind::SkewClock, "seconds")?;
        let sized = matches!(kind, Kind::Reset | Kind::LoseReply | Kind::Stall | Kind::Truncate | Kind::DiskFull);
        stray(self.bytes.is_some() && !sized, "bytes")
    }

    /// Whether it is for this request.
    pub(super) fn fits(&self, asked: &Asked<'_>) -> bool {
        self.service.as_deref().is_none_or(|s| matches(s, asked.service))
            && self.name.as_deref().is_none_or(|p| matches(p, asked.name))
            && self.path.as_deref().is_none_or(|p| matches(p, asked.path))
            && self.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(asked.method))
            && self.mutating.is_none_or(|m| m == asked.mutating)
            && match self.kind {
                Some(Kind::DiskFull) => asked.upload_bytes.is_some(),
                Some(Kind::FailJob) => starts_job(asked),
                _ => true,
            }
    }

    /// Whether it acts on the request that was just counted.
    pub(super) fn is_due(&self, draw: u64, uploaded_bytes: u64) -> bool {
        if let Some(nth) = self.nth {
            return self.seen == nth;
        }
        let full = self.kind == Some(Kind::DiskFull);
        let times = self.times.unwrap_or(if self.probability.is_some() || full { 0 } else { 1 });
        self.seen > self.skip
            && (times == 0 || self.used < times)
            && self.probability.is_none_or(|p| unit(draw) < p)
            && (!full || uploaded_bytes > self.bytes.unwrap_or_default())
    }

    /// The same rule with `any` drawn.
    pub(super) fn decided(&self, draw_by: u64, asked: &Asked<'_>) -> Self {
        let mut rule = self.clone();
        if self.kind != Some(Kind::Any) {
            return rule;
        }
        let choice = |salt: u64, of: u64| draw(draw_by, salt, 0) % of;
        rule.when = if choice(1, 2) == 0 { When::Before } else { When::After };
        let mut error = |status, reason: &str| {
            (rule.status, rule.reason) = (Some(status), Some(reason.to_string()));
            Kind::Error
        };
        let kind = match choice(2, 14) {
            0 => error(500, "internalError"),
            1 => error(502, "badGateway"),
            2 | 3 => error(503, "backendError"),
            4 => error(504, "backendError"),
            // What is refused for its rate is not carried out.
            n @ (5 | 6) => {
                let kind = match (n, starts_job(asked)) {
                    (5, _) => error(429, "rateLimitExceeded"),
                    (_, true) => error(403, "jobRateLimitExceeded"),
                    (_, false) => error(403, "rateLimitExceeded"),
                };
                rule.when = When::Before;
                kind
            }
            7 | 8 => Kind::Reset,
            9 => {
                rule.bytes = Some(choice(3, 400));
                Kind::Reset
            }
            10 => {
                rule.bytes = (choice(3, 2) == 0).then(|| choice(4, 400));
                Kind::Stall
            }
            11 => Kind::Truncate,
            12 => Kind::Corrupt,
            _ if starts_job(asked) => {
                rule.reason = Some(["backendError", "internalError", "jobBackendError"][choice(3, 3) as usize].into());
                Kind::FailJob
            }
            _ => {
                rule.delay_ms = rule.delay_ms.max(50);
                Kind::Delay
            }
        };
        rule.kind = Some(kind);
        rule
    }

    /// How it is counted: `error 503 after`, `reset before`, `stall within`, `truncate`.
    pub(super) fn label(&self) -> String {
        let when = match self.when {
            When::Before => "before",
            When::After => "after",
        };
        let when = if self.bytes.is_some() { "within" } else { when };
        match self.kind.unwrap_or(Kind::Any) {
            Kind::Error => format!("error {} {when}", self.status.unwrap_or_default()),
            Kind::Reset | Kind::LoseReply => format!("reset {when}"),
            Kind::Stall => format!("stall {when}"),
            Kind::Delay => "delay".into(),
            Kind::Truncate => "truncate".into(),
            Kind::Corrupt => "corrupt".into(),
            Kind::FailJob => "fail_job".into(),
            Kind::DiskFull => "disk_full".into(),
            Kind::SkewClock => "skew_clock".into(),
            Kind::Any => "any".into(),
        }
    }

    /// The error it answers, if it answers one.
    pub fn error(&self) -> Option<ApiError> {
        let full = self.kind == Some(Kind::DiskFull);
        let code = if full { 403 } else { self.status? };
        let reason = self.reason.as_deref().unwrap_or(match code {
            _ if full => "quotaExceeded",
            401 => "authError",
            403 => "forbidden",
            404 => "notFound",
            409 => "conflict",
            412 => "conditionNotMet",
            429 => "rateLimitExceeded",
            400..=499 => "invalid",
            _ => "backendError",
        });
        let message = self.message.clone().unwrap_or_else(|| match full {
            true => "The project exceeded its maximum storage quota. (A fault was injected.)".into(),
            false => format!("A fault was injected: {code} {reason}."),
        });
        Some(ApiError::new(code, reason, message))
    }
}

fn starts_job(asked: &Asked<'_>) -> bool {
    matches!(asked.name, "bigquery.jobs.insert" | "bigquery.jobs.query")
}

/// A number that looks random and depends on these alone (splitmix64).
pub(super) fn draw(seed: u64, a: u64, b: u64) -> u64 {
    let mix = |x: u64| {
        let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(mix(seed) ^ a) ^ b)
}

/// 0 to 1, without 1.
fn unit(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// Every `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::Faults;
    use super::*;

    #[test]
    fn what_cannot_be_carried_out_is_refused_by_number() {
        let said = |text: &str| Faults::read(text).unwrap_err();
        for (text, expected) in [
            ("[[fault]]\nstatus = 503\n[[fault]]\nstatus = 200", "fault 2: its status must be 400 to 599"),
            ("[[fault]]\nname = \"a\"", "fault 1: does nothing"),
            ("[[fault]]\nkind = \"error\"", "fault 1: needs a status"),
            ("[[fault]]\nkind = \"stall\"\nprobability = 1.5", "fault 1: its probability must be 0 to 1"),
            ("[[fault]]\nkind = \"stall\"\nnth = 3\ntimes = 2", "fault 1: nth says all"),
            ("[[fault]]\nkind = \"stall\"\nstatus = 500", "fault 1: status means nothing"),
            ("[[fault]]\nkind = \"skew_clock\"", "fault 1: needs seconds"),
            ("[[fault]]\nstauts = 503", "unknown field `stauts`"),
            ("[[fault]]\nkind = \"flood\"", "unknown variant `flood`"),
            ("[[faults]]\nstatus = 503", "unknown field `faults`"),
        ] {
            assert!(said(text).contains(expected), "{text}: {}", said(text));
        }
    }

    #[test]
    fn old_forms_mean_what_they_meant() {
        let rules =
            Faults::read("[[fault]]\ndrop = true\nwhen = \"after\"\n[[fault]]\nstatus = 500\ntimes = 0").unwrap();
        assert_eq!((rules[0].kind, rules[0].label()), (Some(Kind::Reset), "reset after".into()));
        assert_eq!((rules[1].kind, rules[1].times), (Some(Kind::Error), Some(0)));
    }

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("bigquery.jobs.*", "bigquery.jobs.insert") && matches("*", "") && matches("a*c*e", "abcde"));
        assert!(!matches("bigquery.jobs", "bigquery.jobs.insert") && !matches("a*b", "abc"));
    }
}
