//! A drill's plan and report as text.

use super::{DrillReport, milliseconds, seconds, state_word, sums};
use crate::plan::compare::State;
use crate::plan::drill::checklist::Area;
use crate::plan::drill::{DrillPlan, Touches};
use crate::report::{Align, Table, bytes, thousands};

/// What a dry run prints.
pub fn plan(plan: &DrillPlan) -> String {
    let mut out = format!("drill {}: {}\n", plan.scenario, plan.title);
    if let (Some(backup), Some(place)) = (&plan.backup, &plan.read_from) {
        out.push_str(&format!("  backup {backup}, read from {place}\n"));
    }
    if let Some(victim) = &plan.victim {
        out.push_str(&format!("  {} ({} rows) suffers\n", victim.scratch, thousands(victim.row_count)));
        let way = match victim.recovery.way {
            crate::plan::drill::recovery::Way::TimeTravel => "BigQuery's own memory",
            crate::plan::drill::recovery::Way::Files => "the backup's files",
        };
        out.push_str(&format!("  brought back from {way}: {}\n", victim.recovery.reason));
    }
    out.push('\n');
    for (i, step) in plan.steps.iter().enumerate() {
        let touches = match step.touches {
            Touches::Nothing => "reads only",
            Touches::Scratch => "scratch only",
            Touches::Production => "PRODUCTION",
        };
        out.push_str(&format!("  {}. {}  ({touches})\n", i + 1, step.what));
    }
    for note in &plan.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    out
}

/// The report.
pub fn text(report: &DrillReport) -> String {
    let mut out = format!("drill {}: {}\n{}\n", report.drill, report.title, report.outcome.verdict());
    for finding in &report.findings {
        out.push_str(&format!("  {finding}\n"));
    }
    if let Some(backup) = &report.backup {
        out.push_str(&format!(
            "\nbackup {}\n  data of {}, {} rows, {}, from {}\n  commit {}, manifest sha256 {}\n",
            backup.name,
            backup.data_of,
            thousands(backup.row_count),
            bytes(backup.size_bytes),
            backup.place,
            backup.commit_id,
            backup.manifest_sha256
        ));
    }
    if let Some(recovery) = &report.recovery {
        out.push_str(&format!("  {}\n", recovery.reason));
    }

    out.push_str("\nobjectives\n");
    let columns = [
        ("objective", Align::Left),
        ("measured", Align::Right),
        ("limit", Align::Right),
        ("met", Align::Left),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for line in &report.objectives {
        table.row([
            line.title.clone(),
            line.measured_ms.map_or("not measured".into(), milliseconds),
            seconds(line.limit_seconds),
            line.met().map_or("-", |met| if met { "yes" } else { "NO" }).into(),
            line.measures.clone(),
        ]);
    }
    out.push_str(&table.render());

    if !report.tables.is_empty() {
        out.push_str("\nrows and totals\n");
        let columns =
            [("table", Align::Left), ("before", Align::Right), ("after", Align::Right), ("same", Align::Left)];
        let mut table = Table::new(&columns);
        for line in &report.tables {
            let same = match line.proven {
                Some(true) => "yes, proven",
                Some(false) => "NO",
                None => "only counted",
            };
            table.row([line.table.clone(), thousands(line.rows_before), thousands(line.rows_after), same.into()]);
            for (column, after) in sums(line.before.as_ref(), line.after.as_ref()) {
                let after = after.and_then(|after| after.sum.clone());
                let before = column.sum.clone();
                let same = if before == after { "yes" } else { "NO" };
                let text = |sum: Option<String>| sum.unwrap_or_else(|| "-".into());
                table.row([format!("  {}", column.name), text(before), text(after), same.into()]);
            }
        }
        out.push_str(&table.render());
    }

    if !report.checks.is_empty() {
        out.push_str("\nchecks\n");
        for check in &report.checks {
            let mark = match check.state {
                State::Passed => "passed",
                State::Failed if check.critical => "FAILED",
                State::Failed => "failed (not critical)",
                State::NotCompared => "not compared",
                State::NotRun => "not run",
            };
            let title = if check.title.is_empty() { &check.name } else { &check.title };
            out.push_str(&format!("  {mark:<12}  {title}\n"));
        }
    }

    out.push_str("\nchecklist\n");
    for area in Area::ALL {
        out.push_str(&format!("  {}\n", area.title()));
        for item in report.checklist.iter().filter(|item| item.area == area) {
            out.push_str(&format!("    {:<13} {} ({})\n", state_word(item.state), item.text, item.evidence));
        }
    }

    out.push_str("\nsteps\n");
    let mut steps = Table::new(&[("step", Align::Left), ("took", Align::Right), ("", Align::Left)]);
    for phase in &report.phases {
        let outcome = match phase.outcome {
            crate::plan::drill::objectives::PhaseOutcome::Done => phase.note.clone(),
            crate::plan::drill::objectives::PhaseOutcome::Failed => format!("FAILED: {}", phase.note),
            crate::plan::drill::objectives::PhaseOutcome::Undone => "taken back".into(),
        };
        steps.row([phase.step.clone(), milliseconds(phase.milliseconds()), outcome]);
    }
    out.push_str(&steps.render());
    for note in &report.notes {
        out.push_str(&format!("note: {note}\n"));
    }
    let signature = &report.signature;
    out.push_str(&format!(
        "\nsigned: {}, {} ({}), run {}\n",
        signature.operator, signature.tool, signature.holder, signature.run
    ));
    out
}
