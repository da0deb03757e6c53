//! The order in which views can be made: each after those it reads from.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{DatasetId, TableId};

/// Sorts views so that each comes after the views it names. Ties, and views that name each other, are in order of name.
pub(super) fn by_dependency(views: Vec<(TableId, String)>) -> Vec<TableId> {
    let names: BTreeSet<TableId> = views.iter().map(|(id, _)| id.clone()).collect();
    let mut waiting: BTreeMap<TableId, BTreeSet<TableId>> = views
        .into_iter()
        .map(|(id, sql)| {
            let mut needs = named_in(&sql, &id, &names);
            needs.remove(&id);
            (id, needs)
        })
        .collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready: Vec<TableId> =
            waiting.iter().filter(|(_, needs)| needs.is_empty()).map(|(id, _)| id.clone()).collect();
        // A circle cannot be made in BigQuery; if the text fools us, the first by name goes first.
        let ready = if ready.is_empty() { waiting.keys().take(1).cloned().collect() } else { ready };
        for id in ready {
            waiting.remove(&id);
            for needs in waiting.values_mut() {
                needs.remove(&id);
            }
            ordered.push(id);
        }
    }
    ordered
}

/// The tables and views of `dataset` that a view's text mentions and that `names` lacks. A name in a comment or a string
/// counts too: this is for a note, not for a decision.
pub(super) fn missing_in(sql: &str, dataset: &DatasetId, names: &BTreeSet<TableId>) -> Vec<TableId> {
    let text = sql.replace('`', "");
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '$');
    let full = format!("{}.{}.", dataset.project(), dataset.dataset());
    let short = format!("{}.", dataset.dataset());
    let mentioned = text.split(|c: char| !is_part(c)).filter_map(|word| {
        let table = word.strip_prefix(&full).or_else(|| word.strip_prefix(&short))?;
        dataset.table(table).ok().filter(|_| !table.contains(['.', '*', '$']))
    });
    let missing: BTreeSet<TableId> = mentioned.filter(|id| !names.contains(id)).collect();
    missing.into_iter().collect()
}

/// Which of `names` a query's text mentions, as `project.dataset.table` or `dataset.table`, in back quotes or not.
fn named_in(sql: &str, within: &TableId, names: &BTreeSet<TableId>) -> BTreeSet<TableId> {
    // Quotes come off: `p`.`d`.t, `p.d.t` and p.d.t are one spelling. A name in a comment or a string only adds an
    // edge that does no harm.
    let text = sql.replace('`', "");
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let words: BTreeSet<&str> = text.split(|c: char| !is_part(c)).filter(|word| word.contains('.')).collect();
    let mentions = |name: &TableId| {
        let short = format!("{}.{}", name.dataset(), name.table());
        let same_project = name.project() == within.project();
        words.contains(name.to_string().as_str()) || (same_project && words.contains(short.as_str()))
    };
    names.iter().filter(|name| mentions(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_comes_after_the_views_it_reads() {
        let view = |name: &str, sql: &str| (format!("p.d.{name}").parse::<TableId>().unwrap(), sql.to_string());
        let ordered = by_dependency(vec![
            view("a_top", "select * from `p.d.b_middle` join `p`.`d`.`z_base` using (x)"),
            view("b_middle", "select * from d.z_base"),
            view("z_base", "select * from `p.d.table`"),
            view("c_alone", "select 'p.d.a_topp' as x"),
        ]);
        let names: Vec<&str> = ordered.iter().map(TableId::table).collect();
        assert_eq!(names, ["c_alone", "z_base", "b_middle", "a_top"]);
    }

    #[test]
    fn what_a_view_reads_and_nobody_has_is_found() {
        let dataset: DatasetId = "p-1.d".parse().unwrap();
        let names = BTreeSet::from(["p-1.d.here".parse().unwrap()]);
        let missing = |sql: &str| {
            let found = missing_in(sql, &dataset, &names);
            found.iter().map(|id| id.table().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(missing("select * from `p-1.d.gone` join d.here using (x) join `p-1`.`d`.`away`"), ["away", "gone"]);
        assert_eq!(missing("select * from p-1.other.t, d.shard_*, d.INFORMATION_SCHEMA.TABLES, e.d.x"), [""; 0]);
    }

    #[test]
    fn a_circle_does_not_hang() {
        let view = |name: &str, sql: &str| (format!("p.d.{name}").parse::<TableId>().unwrap(), sql.to_string());
        assert_eq!(by_dependency(vec![view("a", "p.d.b"), view("b", "p.d.a")]).len(), 2);
    }
}
