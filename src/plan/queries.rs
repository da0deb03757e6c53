//! Validation queries: their headers, and how their table names are pointed elsewhere.

use serde::Serialize;

use super::drill::checklist::Point;
use crate::model::{BackupName, DatasetId, Period, TableId};

/// A query that says something about the data that a person would check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValidationQuery {
    pub name: String,
    /// A sentence for people.
    pub title: String,
    pub expect: Expectation,
    /// The relative difference that numbers may have from the recorded ones.
    pub tolerance: f64,
    /// A failure of this query fails the whole.
    pub critical: bool,
    /// The point of the recovery's checklist that it answers.
    pub checklist: Option<Point>,
    pub sql: String,
}

/// What a query's result is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// The result recorded at the cut.
    Recorded,
    /// Rows are findings: there must be none.
    NoRows,
    AtLeastRows(u64),
    /// One row with these cells, such as totals that somebody has signed.
    Values(Vec<String>),
    /// One cell: an instant or a day that is not longer ago than this. Of a backup it is counted from the cut.
    NotOlderThan(Period),
}

/// A query file whose header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("validation query {file}: {message}")]
pub struct QueryError {
    pub file: String,
    pub message: String,
}

/// Reads a query with its header of `-- key: value` lines.
///
/// # Errors
/// When the header lacks `expect` or holds something that is not understood.
pub fn parse(file: &str, text: &str) -> Result<ValidationQuery, QueryError> {
    let wrong = |message: String| QueryError { file: file.into(), message };
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".sql");
    let mut query = ValidationQuery {
        name: stem.into(),
        title: String::new(),
        expect: Expectation::Recorded,
        tolerance: 0.0,
        critical: true,
        checklist: None,
        sql: text.trim().trim_end_matches(';').to_string(),
    };
    let mut expected = false;
    for line in text.lines().map(str::trim).take_while(|line| line.starts_with("--") || line.is_empty()) {
        let Some((key, value)) = line.trim_start_matches('-').split_once(':') else { continue };
        let value = value.trim();
        match key.trim() {
            "name" => {
                value.parse::<BackupName>().map_err(|error| wrong(error.to_string()))?;
                query.name = value.into();
            }
            "title" => query.title = value.into(),
            "expect" => {
                expected = true;
                query.expect = expectation(value)
                    .ok_or_else(|| wrong(format!("'{value}' is no expectation; hint: {EXPECTATIONS}")))?;
            }
            "tolerance" => {
                let tolerance = value.parse::<f64>().ok().filter(|t| (0.0..=1.0).contains(t));
                query.tolerance =
                    tolerance.ok_or_else(|| wrong(format!("'{value}' is no tolerance; hint: 0.02 is two per cent")))?;
            }
            "critical" => {
                query.critical = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(wrong(format!("critical is '{value}'; hint: yes or no"))),
                }
            }
            "checklist" => {
                let point = serde_json::from_value(value.into());
                query.checklist = Some(point.map_err(|error| wrong(format!("checklist: {error}")))?);
            }
            _ => {} // an ordinary comment with a colon
        }
    }
    if !expected {
        return Err(wrong(format!("has no '-- expect:' line; hint: an expectation is never assumed: {EXPECTATIONS}")));
    }
    Ok(query)
}

const EXPECTATIONS: &str = "recorded, no_rows, rows >= N, values A, B, or not_older_than 26h";

fn expectation(text: &str) -> Option<Expectation> {
    match text {
        "recorded" => Some(Expectation::Recorded),
        "no_rows" => Some(Expectation::NoRows),
        _ if text.starts_with("values ") => {
            let values: Vec<String> =
                text["values ".len()..].split(',').map(|value| value.trim().to_string()).collect();
            values.iter().all(|value| !value.is_empty()).then_some(Expectation::Values(values))
        }
        _ if text.starts_with("not_older_than ") => {
            text["not_older_than ".len()..].trim().parse().ok().map(Expectation::NotOlderThan)
        }
        _ => {
            let count = text.strip_prefix("rows")?.trim().strip_prefix(">=")?.trim();
            Some(Expectation::AtLeastRows(count.parse().ok()?))
        }
    }
}

/// The query over `dataset`, with its placeholders filled in.
pub fn on_dataset(sql: &str, dataset: &DatasetId) -> String {
    sql.replace("${project_id}", dataset.project()).replace("${dataset}", dataset.dataset())
}

/// Points every mention of a table in `sql` elsewhere: `relation` answers what to read instead of a table, as SQL.
///
/// Mentions are `project.dataset.table` in back quotes, in one pair or one pair a part, or bare. Text in quotes and
/// comments is left alone.
pub fn redirect(sql: &str, relation: &dyn Fn(&TableId) -> Option<String>) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let taken = if let Some((length, words)) = path(rest) {
            let id = words.parse::<TableId>().ok();
            match id.and_then(|id| relation(&id)) {
                Some(instead) => out.push_str(&instead),
                None => out.push_str(&rest[..length]),
            }
            length
        } else {
            let length = opaque(rest).unwrap_or(first.len_utf8());
            out.push_str(&rest[..length]);
            length
        };
        rest = &rest[taken..];
    }
    out
}

/// A dotted path of names at the beginning: its length, and its text without quotes.
fn path(text: &str) -> Option<(usize, String)> {
    let mut words = String::new();
    let mut length = 0;
    loop {
        let rest = &text[length..];
        if let Some(quoted) = rest.strip_prefix('`') {
            let end = quoted.find('`')?;
            words.push_str(&quoted[..end]);
            length += end + 2;
        } else {
            // A project's name may hold dashes where it is not quoted.
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-'))).unwrap_or(rest.len());
            let end = rest[..end].find("--").unwrap_or(end);
            if end == 0 || rest.starts_with('-') {
                break;
            }
            words.push_str(&rest[..end]);
            length += end;
        }
        if text[length..].starts_with('.') && !text[length + 1..].starts_with('*') {
            words.push('.');
            length += 1;
        } else {
            break;
        }
    }
    (length > 0 && !words.is_empty()).then_some((length, words))
}

/// The length of a string literal or comment at the beginning.
fn opaque(text: &str) -> Option<usize> {
    for quote in ["'''", "\"\"\"", "'", "\""] {
        if let Some(inside) = text.strip_prefix(quote) {
            let mut at = 0;
            while at < inside.len() {
                let rest = &inside[at..];
                if rest.starts_with(quote) {
                    return Some(quote.len() + at + quote.len());
                }
                let step = rest.chars().next().map_or(1, char::len_utf8);
                at += step;
                if rest.starts_with('\\') {
                    at += inside[at..].chars().next().map_or(0, char::len_utf8);
                }
            }
            return Some(text.len());
        }
    }
    if text.starts_with("--") || text.starts_with('#') {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |end| end + 2));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read() {
        let text = "-- name: cost_totals\n-- title: Cost by month\n-- expect: recorded\n-- tolerance: 0.02\n-- critical: no\nSELECT 1;\n";
        let query = parse("x/cost.sql", text).unwrap();
        assert_eq!(
            (query.name.as_str(), query.expect.clone(), query.tolerance, query.critical),
            ("cost_totals", Expectation::Recorded, 0.02, false)
        );
        assert_eq!(parse("a.sql", "-- expect: rows >= 3\nselect 1").unwrap().expect, Expectation::AtLeastRows(3));
        let values = parse("a.sql", "-- expect: values 12.50, 2026-01-01\nselect 1").unwrap().expect;
        assert_eq!(values, Expectation::Values(vec!["12.50".into(), "2026-01-01".into()]));
        for text in [
            "select 1",
            "-- expect: values 1,,2\nselect 1",
            "-- expect: maybe\nselect 1",
            "-- expect: recorded\n-- tolerance: lots\nselect 1",
        ] {
            assert!(parse("a.sql", text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_are_redirected_in_every_spelling_and_nothing_else_is() {
        let relation = |id: &TableId| match id.to_string().as_str() {
            "my-proj.d.t" => Some("`my-proj.s.t_1`".to_string()),
            "my-proj.d.v" => Some("(SELECT 1)".to_string()),
            _ => None,
        };
        for (sql, expected) in [
            ("SELECT * FROM `my-proj.d.t`", "SELECT * FROM `my-proj.s.t_1`"),
            ("FROM `my-proj`.`d`.`t` AS x", "FROM `my-proj.s.t_1` AS x"),
            ("FROM my-proj.d.t, my-proj.d.v w", "FROM `my-proj.s.t_1`, (SELECT 1) w"),
            ("FROM `my-proj.d.tt` WHERE a='`my-proj.d.t`'", "FROM `my-proj.d.tt` WHERE a='`my-proj.d.t`'"),
            ("-- `my-proj.d.t`\nSELECT a--b", "-- `my-proj.d.t`\nSELECT a--b"),
            (
                "SELECT x.*, 'it\\'s `my-proj.d.t`' /* my-proj.d.t */",
                "SELECT x.*, 'it\\'s `my-proj.d.t`' /* my-proj.d.t */",
            ),
            ("SELECT 'é' FROM `my-proj.d.t` é", "SELECT 'é' FROM `my-proj.s.t_1` é"),
            ("`unclosed", "`unclosed"),
        ] {
            assert_eq!(redirect(sql, &relation), expected);
        }
    }
}
