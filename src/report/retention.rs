//! A retention plan as text.

use super::{Align, Table, bytes};
use crate::plan::retention::{RetentionPlan, Verdict};

/// Every backup with what is done about it and why, and a line of totals.
pub fn plan(plan: &RetentionPlan) -> String {
    let columns = [("backup", Align::Left), ("size", Align::Right), ("what", Align::Left), ("why", Align::Left)];
    let mut table = Table::new(&columns);
    for decision in &plan.decisions {
        let (what, why) = match &decision.verdict {
            Verdict::Keep { reasons, pardoned } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                (if *pardoned { "pardon" } else { "keep" }, reasons.join("; "))
            }
            Verdict::Condemn { removed_from } => {
                ("condemn", format!("no rule keeps it; removed from {}", minute(removed_from)))
            }
            Verdict::Wait { removed_from } => ("wait", format!("condemned; removed from {}", minute(removed_from))),
            Verdict::Remove { condemned_at } => ("remove", format!("condemned {}", minute(condemned_at))),
        };
        let stays = match decision.part_of.as_slice() {
            [] => String::new(),
            [one] => format!("; what {one} is made of stays"),
            many => format!("; what {} backups are made of stays", many.len()),
        };
        let why = if what == "keep" { why } else { why + &stays };
        table.row([decision.backup.to_string(), bytes(decision.size_bytes), what.to_string(), why]);
    }
    let mut out = if plan.decisions.is_empty() { "no backups\n".to_string() } else { table.render() };
    let sum = |wanted: fn(&Verdict) -> bool| {
        let (mut n, mut size) = (0_usize, 0_u64);
        for decision in plan.of(wanted) {
            n += 1;
            size += decision.size_bytes;
        }
        format!("{n} ({})", bytes(size))
    };
    out.push_str(&format!(
        "keep {}, condemn {}, wait {}, remove {}\n",
        sum(|verdict| matches!(verdict, Verdict::Keep { .. })),
        sum(|verdict| matches!(verdict, Verdict::Condemn { .. })),
        sum(|verdict| matches!(verdict, Verdict::Wait { .. })),
        sum(|verdict| matches!(verdict, Verdict::Remove { .. })),
    ));
    for note in &plan.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}

fn minute(at: &jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%MZ").to_string()
}
