//! What should be equal held against what is: query results and resources.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::queries::{Expectation, ValidationQuery};
use crate::codec::value as codec;
use crate::manifest::QueryResult;
use crate::model::Period;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub name: String,
    pub title: String,
    pub state: State,
    pub critical: bool,
    /// What differs, or what was found; at most ten lines.
    pub findings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Passed,
    Failed,
    /// Nothing was recorded to hold it against.
    NotCompared,
    /// The query could not be run here: neither passed nor failed.
    NotRun,
}

const FINDINGS: usize = 10;

/// Holds a query's result against its expectation. `recorded` is the result at the cut, if there is one; the age of data is
/// counted up to `at`.
pub fn judge(query: &ValidationQuery, recorded: Option<&QueryResult>, result: &QueryResult, at: Timestamp) -> Verdict {
    let (state, findings) = match &query.expect {
        Expectation::NoRows if result.rows.is_empty() => (State::Passed, vec![]),
        Expectation::NoRows => {
            let found = result.rows.iter().map(|row| format!("found {}", line(&result.columns, row)));
            let before = recorded.filter(|recorded| recorded.rows == result.rows);
            let before = before.map(|_| "the same was found when the backup was taken".to_string());
            (State::Failed, before.into_iter().chain(found).collect())
        }
        Expectation::AtLeastRows(count) if result.rows.len() as u64 >= *count => (State::Passed, vec![]),
        Expectation::AtLeastRows(count) => {
            (State::Failed, vec![format!("{} rows, at least {count} are expected", result.rows.len())])
        }
        Expectation::Values(values) => {
            let cells = values.iter().cloned().map(Value::String).collect();
            let known = QueryResult { name: query.name.clone(), columns: result.columns.clone(), rows: vec![cells] };
            let mut findings = differences(&known, result, query.tolerance);
            if values.len() != result.columns.len() {
                findings = vec![format!("{} columns, {} values are expected", result.columns.len(), values.len())];
            }
            let findings: Vec<String> =
                findings.into_iter().map(|finding| finding.replace("recorded w", "expected w")).collect();
            (if findings.is_empty() { State::Passed } else { State::Failed }, findings)
        }
        Expectation::NotOlderThan(limit) => {
            let finding = too_old(result, *limit, at);
            (if finding.is_none() { State::Passed } else { State::Failed }, finding.into_iter().collect())
        }
        Expectation::Recorded => match recorded {
            None => (State::NotCompared, vec!["no result was recorded in a backup".into()]),
            Some(recorded) => {
                let findings = differences(recorded, result, query.tolerance);
                (if findings.is_empty() { State::Passed } else { State::Failed }, findings)
            }
        },
    };
    let hidden = findings.len().saturating_sub(FINDINGS);
    let mut findings: Vec<String> = findings.into_iter().take(FINDINGS).collect();
    if hidden > 0 {
        findings.push(format!("and {hidden} more"));
    }
    Verdict { name: query.name.clone(), title: query.title.clone(), state, critical: query.critical, findings }
}

/// Why a result does not say that its data is fresh enough.
fn too_old(result: &QueryResult, limit: Period, at: Timestamp) -> Option<String> {
    let [row] = result.rows.as_slice() else {
        return Some(format!("{} rows, one with one instant is expected", result.rows.len()));
    };
    let [cell] = row.as_slice() else {
        return Some(format!("{} columns, one with an instant is expected", row.len()));
    };
    if cell.is_null() {
        return Some("there is no data".into());
    }
    let Some(newest) = instant(&text(cell)) else {
        return Some(format!("'{}' is no instant and no day", text(cell)));
    };
    let age = at.duration_since(newest);
    let late = age > jiff::SignedDuration::from_secs(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
    late.then(|| format!("the newest is of {newest}, not within {limit} before {at}"))
}

/// An instant as text, in microseconds, or in seconds as `1.7856288E9`, as BigQuery's REST API gives it. Of a day its end, for
/// until then data comes in.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(day) = codec::parse_date(text) {
        return Timestamp::from_microsecond((i64::from(day) + 1) * codec::MICROS_PER_DAY).ok();
    }
    let seconds = || text.parse::<f64>().ok().map(|seconds| (seconds * 1e6).round() as i64);
    let micros = text.parse().ok().or_else(seconds).or_else(|| codec::parse_timestamp(text).ok())?;
    Timestamp::from_microsecond(micros).ok()
}

/// The verdict on a query that could not be run.
pub fn not_run(query: &ValidationQuery, why: String) -> Verdict {
    let (name, title) = (query.name.clone(), query.title.clone());
    Verdict { name, title, state: State::NotRun, critical: query.critical, findings: vec![why] }
}

/// A query that cannot be asked: a check that could not be made did not pass.
pub fn unanswered(query: &ValidationQuery, why: String) -> Verdict {
    let (name, title) = (query.name.clone(), query.title.clone());
    Verdict { name, title, state: State::Failed, critical: query.critical, findings: vec![why] }
}

fn line(columns: &[String], row: &[Value]) -> String {
    let cells: Vec<String> = columns.iter().zip(row).map(|(name, cell)| format!("{name}={}", text(cell))).collect();
    cells.join(", ")
}

fn text(cell: &Value) -> String {
    match cell {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn differences(recorded: &QueryResult, result: &QueryResult, tolerance: f64) -> Vec<String> {
    if recorded.columns != result.columns {
        return vec![format!(
            "columns are {}, recorded were {}",
            result.columns.join(", "),
            recorded.columns.join(", ")
        )];
    }
    let mut found = Vec::new();
    if recorded.rows.len() != result.rows.len() {
        found.push(format!("{} rows, recorded were {}", result.rows.len(), recorded.rows.len()));
    }
    for (row, (before, after)) in recorded.rows.iter().zip(&result.rows).enumerate() {
        for (column, (a, b)) in recorded.columns.iter().zip(before.iter().zip(after)) {
            if !same(a, b, tolerance) {
                // The row's first cell tells people which row it is.
                let label = before.first().map(text).unwrap_or_default();
                found.push(format!("row {} ({label}), {column}: {}, recorded was {}", row + 1, text(b), text(a)));
            }
        }
    }
    found
}

fn same(a: &Value, b: &Value, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    if tolerance == 0.0 {
        return false;
    }
    let number = |value: &Value| text(value).parse::<f64>().ok().filter(|n| n.is_finite());
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= tolerance * a.abs(),
        _ => false,
    }
}

/// Fields of a table's resource that a restore cannot or need not bring back: times, sizes, links, and what is derived.
pub const NOT_COMPARED: &[&str] = &[
    "kind",
    "etag",
    "id",
    "selfLink",
    "tableReference",
    "creationTime",
    "lastModifiedTime",
    "numBytes",
    "numPhysicalBytes",
    "numLongTermBytes",
    "numRows",
    "numTotalLogicalBytes",
    "numActiveLogicalBytes",
    "numLongTermLogicalBytes",
    "numTotalPhysicalBytes",
    "numActivePhysicalBytes",
    "numLongTermPhysicalBytes",
    "numTimeTravelPhysicalBytes",
    "numFailsafePhysicalBytes",
    "numCurrentPhysicalBytes",
    "numPartitions",
    "streamingBuffer",
    "type",
    "location",
    "snapshotDefinition",
    "cloneDefinition",
    "materializedViewStatus",
    "replicas",
    "tableReplicationInfo",
];

/// The fields in which two resources differ, as paths with both values. `ignored` names fields of the first level.
pub fn resources(saved: &Value, found: &Value, ignored: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let (Value::Object(a), Value::Object(b)) = (saved, found) else {
        return vec!["is no object".into()];
    };
    for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
        if !ignored.contains(&key.as_str()) {
            walk(key, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), &mut out);
        }
    }
    out
}

/// What differs between two sets of policies: row access policies with their grantees, and IAM bindings.
pub fn policies(saved: (&[Value], Option<&Value>), found: (&[Value], Option<&Value>)) -> Vec<String> {
    let (saved_rows, found_rows) = (row_policies(saved.0), row_policies(found.0));
    let (saved_iam, found_iam) = (bindings(saved.1), bindings(found.1));
    let mut out = Vec::new();
    for (what, saved, found) in [("row access policy", saved_rows, found_rows), ("IAM role", saved_iam, found_iam)] {
        for name in saved.keys().chain(found.keys().filter(|name| !saved.contains_key(*name))) {
            match (saved.get(name), found.get(name)) {
                (Some(a), Some(b)) if a == b => {}
                (Some(_), None) => out.push(format!("{what} {name} is missing")),
                (None, _) => out.push(format!("{what} {name} was not there")),
                (Some(a), Some(b)) => out.push(format!("{what} {name}: {}, saved was {}", b.join(", "), a.join(", "))),
            }
        }
    }
    out
}

/// By policy: its filter and whom it lets read.
fn row_policies(policies: &[Value]) -> BTreeMap<String, Vec<String>> {
    let of = |policy: &Value| {
        let name = text(&policy["rowAccessPolicyReference"]["policyId"]);
        let filter = format!("filter {}", text(&policy["filterPredicate"]));
        (name, std::iter::once(filter).chain(sorted(&policy["grantees"])).collect())
    };
    policies.iter().map(of).collect()
}

/// By role, and condition where there is one: the members.
fn bindings(policy: Option<&Value>) -> BTreeMap<String, Vec<String>> {
    let all = policy.and_then(|policy| policy["bindings"].as_array()).into_iter().flatten();
    all.map(|binding| {
        let role = text(&binding["role"]);
        let condition = &binding["condition"]["expression"];
        let name = if condition.is_null() { role } else { format!("{role} if {}", text(condition)) };
        (name, sorted(&binding["members"]))
    })
    .collect()
}

fn sorted(texts: &Value) -> Vec<String> {
    let mut texts: Vec<String> = texts.as_array().into_iter().flatten().map(text).collect();
    texts.sort();
    texts
}

fn walk(path: &str, a: &Value, b: &Value, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys().filter(|key| !x.contains_key(*key))) {
                walk(
                    &format!("{path}.{key}"),
                    x.get(key).unwrap_or(&Value::Null),
                    y.get(key).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            for (i, (x, y)) in x.iter().zip(y).enumerate() {
                walk(&format!("{path}[{i}]"), x, y, out);
            }
        }
        _ if a == b => {}
        // Google leaves out what is empty or false in one answer and not in another.
        _ if empty(a) && empty(b) => {}
        _ => out.push(format!("{path}: {b}, saved was {a}")),
    }
}

fn empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(empty),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::queries;
    use super::*;
    use serde_json::json;

    const CUT: Timestamp = Timestamp::UNIX_EPOCH;

    fn result(rows: Vec<Vec<Value>>) -> QueryResult {
        QueryResult { name: "q".into(), columns: vec!["month".into(), "cost".into()], rows }
    }

    #[test]
    fn recorded_results_are_held_against_new_ones() {
        let recorded = result(vec![vec![json!("2026-01"), json!("100.00")], vec![json!("2026-02"), Value::Null]]);
        let exact = queries::parse("q.sql", "-- expect: recorded\nselect 1").unwrap();
        let loose = queries::parse("q.sql", "-- expect: recorded\n-- tolerance: 0.02\nselect 1").unwrap();
        assert_eq!(judge(&exact, Some(&recorded), &recorded, CUT).state, State::Passed);
        assert_eq!(judge(&exact, None, &recorded, CUT).state, State::NotCompared);
        let close = result(vec![vec![json!("2026-01"), json!("101.99")], vec![json!("2026-02"), Value::Null]]);
        assert_eq!(judge(&loose, Some(&recorded), &close, CUT).state, State::Passed);
        let verdict = judge(&exact, Some(&recorded), &close, CUT);
        assert_eq!(verdict.findings, ["row 1 (2026-01), cost: 101.99, recorded was 100.00"]);
        let fewer = result(vec![vec![json!("2026-01"), json!("100.00")]]);
        assert_eq!(judge(&loose, Some(&recorded), &fewer, CUT).state, State::Failed);
        let filled = result(vec![vec![json!("2026-01"), json!("100.00")], vec![json!("2026-02"), json!("0")]]);
        assert_eq!(judge(&loose, Some(&recorded), &filled, CUT).state, State::Failed, "null is not zero");
    }

    #[test]
    fn no_rows_means_none() {
        let query = queries::parse("q.sql", "-- expect: no_rows\nselect 1").unwrap();
        assert_eq!(judge(&query, None, &result(vec![]), CUT).state, State::Passed);
        assert_eq!(
            judge(&query, None, &result(vec![vec![json!("a"), json!("b")]]), CUT).findings,
            ["found month=a, cost=b"]
        );
    }

    #[test]
    fn known_values_are_held_against_one_row() {
        let query = |header: &str| queries::parse("q.sql", &format!("{header}\nselect 1")).unwrap();
        let total = result(vec![vec![json!("2026-01"), json!("100.5")]]);
        let exact = query("-- expect: values 2026-01, 100.5");
        assert_eq!(judge(&exact, None, &total, CUT).state, State::Passed);
        let other = query("-- expect: values 2026-01, 100.0");
        let verdict = judge(&other, None, &total, CUT);
        assert_eq!(verdict.findings, ["row 1 (2026-01), cost: 100.5, expected was 100.0"]);
        assert_eq!(
            judge(&query("-- expect: values 2026-01, 100\n-- tolerance: 0.01"), None, &total, CUT).state,
            State::Passed
        );
        assert_eq!(
            judge(&query("-- expect: values 1"), None, &total, CUT).findings,
            ["2 columns, 1 values are expected"]
        );
        assert_eq!(judge(&exact, None, &result(vec![]), CUT).state, State::Failed);
    }

    #[test]
    fn resources_differ_by_path() {
        let saved = json!({"etag": "1", "labels": {"a": "b"}, "schema": {"fields": [{"name": "x", "type": "STRING"}]}});
        let found = json!({"etag": "2", "schema": {"fields": [{"name": "x", "type": "BYTES"}]}, "requirePartitionFilter": false});
        assert_eq!(
            resources(&saved, &found, NOT_COMPARED),
            [r#"labels: null, saved was {"a":"b"}"#, r#"schema.fields[0].type: "BYTES", saved was "STRING""#]
        );
    }

    #[test]
    fn data_that_is_too_old_is_found() {
        let query = queries::parse("q.sql", "-- expect: not_older_than 26h\nselect 1").unwrap();
        let at: Timestamp = "2026-08-03T02:00:00Z".parse().unwrap();
        let one =
            |cell: Value| QueryResult { name: "q".into(), columns: vec!["newest".into()], rows: vec![vec![cell]] };
        let seconds = |text: &str| json!(format!("{:E}", text.parse::<Timestamp>().unwrap().as_second()));
        for (cell, passes) in [
            (seconds("2026-08-02T00:00:00Z"), true),
            (json!("1785628800000000"), true),
            (json!("1785628799999999"), false),
            (seconds("2026-08-01T23:59:59Z"), false),
            (json!("2026-08-02 00:00:00 UTC"), true),
            (json!("2026-08-02T00:00:00"), true),
            (json!("2026-08-01 23:00:00+00"), false),
            // What is newer than the cut is not old.
            (json!("2026-08-04"), true),
            // Data of a day comes in until its end.
            (json!("2026-08-01"), true),
            (json!("2026-07-31"), false),
            (Value::Null, false),
            (json!("yesterday"), false),
        ] {
            let verdict = judge(&query, None, &one(cell.clone()), at);
            assert_eq!(verdict.state == State::Passed, passes, "{cell}: {verdict:?}");
        }
        let old = judge(&query, None, &one(json!("2026-07-31")), at);
        assert_eq!(old.findings, ["the newest is of 2026-08-01T00:00:00Z, not within 26h before 2026-08-03T02:00:00Z"]);
        assert_eq!(judge(&query, None, &result(vec![]), at).state, State::Failed);
        assert!(queries::parse("q.sql", "-- expect: not_older_than soon\nselect 1").is_err());
    }
}
