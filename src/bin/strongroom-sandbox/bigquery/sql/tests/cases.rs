//! The table of cases: a statement, `--`, and its rows as JSON, one a line; or `ERROR` and a part of its message. Cases are
//! separated by `==`. A line `SCHEMA a INTEGER, b STRING` before the rows is checked too. A case may be a whole script: its last
//! outcome counts. All cases of a file share one catalog, in order.

use std::sync::Arc;

use super::catalog::{Memory, json_rows, query, run};
use crate::bigquery::sql::{Effect, Outcome};

fn schema_text(outcome: &Outcome) -> String {
    let one = |f: &serde_json::Value| {
        let repeated = if f["mode"] == "REPEATED" { " REPEATED" } else { "" };
        format!("{} {}{repeated}", f["name"].as_str().unwrap_or_default(), f["type"].as_str().unwrap_or_default())
    };
    outcome.rows.fields.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Runs the cases of a text; the failures.
pub fn failures(text: &str) -> Vec<String> {
    let memory = Arc::new(Memory::default());
    let mut failed = Vec::new();
    for case in text.split("\n==\n") {
        let lines = case.lines().filter(|l| !l.starts_with("//"));
        let case = lines.collect::<Vec<_>>().join("\n");
        let Some((sql, expected)) = case.split_once("\n--\n").or_else(|| case.strip_suffix("\n--").map(|s| (s, "")))
        else {
            if !case.trim().is_empty() {
                failed.push(format!("no expectation: {case}"));
            }
            continue;
        };
        let mut expected: Vec<&str> = expected.lines().filter(|l| !l.is_empty()).collect();
        let result = run(&memory, query(sql));
        let got: Vec<String> = match (&result, expected.first()) {
            (Err(e), Some(first)) if first.strip_prefix("ERROR ").is_some_and(|part| e.message.contains(part)) => {
                continue;
            }
            (Err(e), _) => vec![format!("ERROR {}", e.message)],
            (Ok(outcomes), first) => {
                let Some(last) = outcomes.last() else {
                    failed.push(format!("{sql}\n  no outcome"));
                    continue;
                };
                if let Some(wanted) = first.and_then(|f| f.strip_prefix("SCHEMA ")) {
                    let got = schema_text(last);
                    if got != wanted {
                        failed.push(format!("{sql}\n  schema: {got}\n  wanted: {wanted}"));
                    }
                    expected.remove(0);
                }
                match &last.effect {
                    Effect::None => json_rows(&last.rows),
                    Effect::ReplaceRows { affected: a, .. } => {
                        vec![format!("inserted {} updated {} deleted {}", a.inserted, a.updated, a.deleted)]
                    }
                    Effect::CreateTable { resource, .. }
                    | Effect::CreateView { resource, .. }
                    | Effect::CreateSchema { resource, .. }
                    | Effect::CopyTable { resource, .. } => vec![format!("{} {resource}", last.statement_type)],
                    other if expected.is_empty() => {
                        let _ = other;
                        vec![]
                    }
                    other => vec![format!("{other:?}")],
                }
            }
        };
        if got != expected {
            failed.push(format!(
                "{sql}\n  got:    {}\n  wanted: {}",
                got.join("\n          "),
                expected.join("\n          ")
            ));
        }
    }
    failed
}

fn check(text: &str) {
    let failed = failures(text);
    assert!(failed.is_empty(), "{} cases failed\n\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn selects() {
    check(include_str!("cases/select.txt"));
}

/// Runs the file that the variable SQL_CASES names.
#[test]
#[ignore = "for trying things out"]
fn scratch() {
    if let Ok(path) = std::env::var("SQL_CASES") {
        let text = std::fs::read_to_string(path).unwrap();
        for failure in failures(&text) {
            println!("{failure}\n");
        }
    }
}
