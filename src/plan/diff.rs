//! Rows that differ between a backup and a table: which are missing, which are new, and which of them belong together.

use serde::Serialize;
use serde_json::{Map, Value};

/// A row, as TO_JSON_STRING gives it.
pub type Row = Map<String, Value>;

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "difference", rename_all = "lowercase")]
pub enum RowDifference {
    /// In the backup, not in the table.
    Removed { row: Row, times: u64 },
    /// In the table, not in the backup.
    Added { row: Row, times: u64 },
    /// The same row by its key, or by most of its columns.
    Changed { before: Row, after: Row, columns: Vec<String> },
}

/// Pairs removed rows with added ones: by `key` where the table declares one, else by the most columns that are equal, if
/// these are more than half. What is left is removed or added.
pub fn pair(removed: Vec<(Row, u64)>, added: Vec<(Row, u64)>, key: &[String]) -> Vec<RowDifference> {
    let mut left: Vec<Option<(Row, u64)>> = added.into_iter().map(Some).collect();
    let mut differences = Vec::new();
    let mut gone = Vec::new();
    for (before, times) in removed {
        let best = left.iter().enumerate().filter_map(|(at, after)| {
            let (after, after_times) = after.as_ref()?;
            let alike = likeness(&before, after, key)?;
            (*after_times == times).then_some((alike, at))
        });
        // Of equally alike rows the first: the order of the rows decides, not chance.
        let found = best.max_by_key(|(alike, at)| (*alike, std::cmp::Reverse(*at)));
        match found.and_then(|(_, at)| left[at].take()) {
            Some((after, _)) => {
                let columns = before.iter().filter(|(name, value)| after.get(*name) != Some(value));
                let columns = columns.map(|(name, _)| name.clone()).collect();
                differences.push(RowDifference::Changed { before, after, columns });
            }
            None => gone.push(RowDifference::Removed { row: before, times }),
        }
    }
    differences.extend(gone);
    differences.extend(left.into_iter().flatten().map(|(row, times)| RowDifference::Added { row, times }));
    differences
}

/// How many columns are equal; `None` when the rows are not one.
fn likeness(before: &Row, after: &Row, key: &[String]) -> Option<usize> {
    if !key.is_empty() {
        return key.iter().all(|column| before.get(column) == after.get(column)).then_some(1);
    }
    let equal = before.iter().filter(|(name, value)| after.get(*name) == Some(value)).count();
    (equal * 2 > before.len()).then_some(equal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Row {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn rows_that_belong_together_are_paired() {
        let before = row(json!({"id": 1, "day": "2026-01-01", "cost": "1.20"}));
        let after = row(json!({"id": 1, "day": "2026-01-01", "cost": "1.30"}));
        let other = row(json!({"id": 2, "day": "2026-02-02", "cost": "9"}));
        let found = pair(vec![(before.clone(), 1)], vec![(other.clone(), 1), (after.clone(), 1)], &[]);
        let changed = RowDifference::Changed { before: before.clone(), after, columns: vec!["cost".into()] };
        assert_eq!(found, [changed, RowDifference::Added { row: other.clone(), times: 1 }]);

        // By the declared key all other columns may differ; without one these rows have too little in common.
        let rewritten = row(json!({"id": 1, "day": "2030-01-01", "cost": "7"}));
        let key = ["id".to_string()];
        let found = pair(vec![(before.clone(), 1)], vec![(rewritten.clone(), 1)], &key);
        assert!(matches!(&found[..], [RowDifference::Changed { columns, .. }] if columns.len() == 2), "{found:?}");
        assert_eq!(pair(vec![(before.clone(), 1)], vec![(rewritten, 1)], &[]).len(), 2);

        // A row that is there twice as often is not a changed row.
        assert_eq!(pair(vec![(before, 1)], vec![(other, 2)], &[]).len(), 2);
    }
}
