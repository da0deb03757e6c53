//! `strongroom config show | check`

use std::sync::Arc;

use serde_json::json;

use super::output::Output;
use crate::app::{self, Asked, Check, Exit};
use crate::config::Effective;
use crate::report::{Align, Table};
use crate::saga::Observer;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Print every setting as it counts, and where it comes from: flag, environment, file or default; no secrets
    Show,
    /// Find everything that is wrong: keys and values, and whether every place and source can be reached and used
    Check,
}

pub(super) async fn run(verb: Verb, asked: &Asked, observer: Arc<dyn Observer>, output: &Output) -> Exit {
    let (effective, origin) = match app::effective(asked) {
        Ok(read) => read,
        Err(problem) => return super::tell(output, &problem),
    };
    match verb {
        Verb::Show => show(&effective, &origin, output),
        Verb::Check => check(effective, &origin, asked, observer, output).await,
    }
}

fn show(effective: &Effective, origin: &str, output: &Output) -> Exit {
    let mut table = Table::new(&[("setting", Align::Left), ("value", Align::Left), ("origin", Align::Left)]);
    for setting in &effective.settings {
        let value = setting.value.clone().unwrap_or_else(|| "-".into());
        table.row([setting.path.clone(), value, setting.origin.to_string()]);
    }
    let problems: Vec<_> =
        effective.problems.iter().map(|problem| json!({"path": problem.path, "message": problem.message})).collect();
    let mut text = format!("{origin}\n{}", table.render());
    if !problems.is_empty() {
        text.push_str(&format!("{}\n", effective.problems));
    }
    output.result("config", &json!({"from": origin, "settings": effective.settings, "problems": problems}), &text);
    if problems.is_empty() { Exit::Done } else { Exit::Usage }
}

async fn check(
    effective: Effective,
    origin: &str,
    asked: &Asked,
    observer: Arc<dyn Observer>,
    output: &Output,
) -> Exit {
    let mut checks: Vec<Check> = effective.problems.iter().map(Check::of_problem).collect();
    if checks.is_empty() {
        checks.push(Check::well("configuration", &format!("{origin}: every key and value is right")));
    }
    // What is wrong in the text keeps nothing else from being found.
    match effective.config.or(effective.remains) {
        Some(config) => checks.extend(app::check(config, &asked.path(), observer).await),
        None => checks.push(Check::skipped("places and sources", "the configuration must be readable first")),
    }
    let mut text = String::new();
    for check in &checks {
        text.push_str(&format!("{check}\n"));
    }
    let wrong = checks.iter().filter(|check| check.is_wrong()).count();
    text.push_str(&match wrong {
        0 => format!("{} checks, all well\n", checks.len()),
        wrong => format!("{} checks, {wrong} failed\n", checks.len()),
    });
    output.result("config_check", &json!({"from": origin, "checks": checks, "failed": wrong}), &text);
    app::of_checks(&checks)
}
