//! Faults that a test asks for: errors, delays, broken connections, before or after the request was carried out. Knows
//! requests by their names and paths only.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::ApiError;

/// More rules than this are refused.
const MAX_RULES: usize = 100;
/// A longer delay is refused.
const MAX_DELAY_MS: u64 = 600_000;

/// One rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// `bigquery.jobs.*`; absent matches every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// So many matching requests go through first.
    pub skip: u64,
    /// It acts so often; absent: once, 0: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    pub delay_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The connection breaks in the middle of the answer.
    pub drop: bool,
    pub when: When,
    /// How many requests matched.
    pub seen: u64,
    /// How often it acted.
    pub used: u64,
}

/// Whether the request is carried out before the fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Before,
    After,
}

/// The rules in force. Not kept across a restart.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Rule>>,
}

impl Faults {
    /// Replaces all rules.
    ///
    /// # Errors
    /// 400 when one cannot be carried out.
    pub fn set(&self, mut rules: Vec<Rule>) -> Result<(), ApiError> {
        if rules.len() > MAX_RULES {
            return Err(ApiError::invalid(format!("at most {MAX_RULES} faults are taken")));
        }
        for rule in &mut rules {
            if rule.delay_ms > MAX_DELAY_MS || rule.status.is_some_and(|s| !(400..=599).contains(&s)) {
                return Err(ApiError::invalid("a fault's status is 400 to 599 and its delay at most 600000 ms"));
            }
            (rule.seen, rule.used) = (0, 0);
        }
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// The rules with their counts.
    pub fn all(&self) -> Vec<Rule> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The rule that acts on this request, which counts it.
    pub fn strike(&self, method: &str, path: &str, name: &str) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.iter_mut() {
            let fits = rule.name.as_deref().is_none_or(|p| matches(p, name))
                && rule.path.as_deref().is_none_or(|p| matches(p, path))
                && rule.method.as_deref().is_none_or(|m| m.eq_ignore_ascii_case(method));
            if !fits {
                continue;
            }
            rule.seen += 1;
            let times = rule.times.unwrap_or(1);
            if rule.seen > rule.skip && (times == 0 || rule.used < times) {
                rule.used += 1;
                return Some(rule.clone());
            }
        }
        None
    }
}

impl Rule {
    /// The error it answers, if it answers one.
    pub fn error(&self) -> Option<ApiError> {
        let code = self.status?;
        let reason = self.reason.as_deref().unwrap_or(match code {
            401 => "authError",
            403 => "forbidden",
            404 => "notFound",
            409 => "conflict",
            412 => "conditionNotMet",
            429 => "rateLimitExceeded",
            400..=499 => "invalid",
            _ => "backendError",
        });
        let message = self.message.clone().unwrap_or_else(|| format!("A fault was injected: {code} {reason}."));
        Some(ApiError::new(code, reason, message))
    }
}

/// Every `*` stands for any text.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
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
    use super::*;

    #[test]
    fn rules_skip_act_and_are_used_up() {
        let faults = Faults::default();
        let rule = Rule {
            name: Some("bigquery.jobs.*".into()),
            skip: 1,
            times: Some(2),
            status: Some(503),
            ..Rule::default()
        };
        faults.set(vec![rule]).unwrap();
        let strike = |name: &str| faults.strike("POST", "/x", name).is_some();
        assert!(!strike("bigquery.tables.get"));
        let struck: Vec<bool> = (0..4).map(|_| strike("bigquery.jobs.insert")).collect();
        assert_eq!(struck, [false, true, true, false]);
        assert_eq!((faults.all()[0].seen, faults.all()[0].used), (4, 2));
        assert_eq!(faults.all()[0].error().unwrap().reason, "backendError");
        assert!(faults.set(vec![Rule { status: Some(200), ..Rule::default() }]).is_err());
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(serde_json::from_str::<Rule>(r#"{"name":"a","stauts":503}"#).is_err());
        let rule: Rule = serde_json::from_str(r#"{"status":500,"when":"after","times":0}"#).unwrap();
        assert_eq!((rule.when, rule.times), (When::After, Some(0)));
    }
}
