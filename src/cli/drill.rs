//! `strongroom drill`

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::Output;
use super::wanted;
use crate::app::{self, Exit};
use crate::catalog::Wanted;
use crate::job::drill::{self, Drilled};
use crate::job::{Context, JobError};
use crate::model::{Failure, TierName};
use crate::plan::drill::{DrillRequest, Scenario};
use crate::report::{self, Outcome};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name, or latest
    #[arg(value_parser = wanted, default_value = "latest")]
    backup: Wanted,

    /// What is rehearsed
    #[arg(long, value_parser = scenarios(), default_value = "rehearsal")]
    scenario: Scenario,

    /// Only backups of this tier
    #[arg(long)]
    tier: Option<TierName>,

    /// The table that suffers where one does; otherwise the one with the most rows
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,

    /// Who runs the drill: signs the report
    #[arg(long, env = "STRONGROOM_OPERATOR", value_name = "NAME")]
    operator: Option<String>,

    /// Also writes report.json and report.html into this folder
    #[arg(long, value_name = "FOLDER")]
    report_dir: Option<PathBuf>,

    /// Print the plan and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    pub(super) identity: super::IdentityArg,
}

fn scenarios() -> impl TypedValueParser<Value = Scenario> {
    PossibleValuesParser::new(Scenario::ALL.map(Scenario::name)).try_map(|name| name.parse::<Scenario>())
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let request = DrillRequest { scenario: args.scenario, table: args.table };
    let which = (&args.backup, args.tier.as_ref());
    if args.dry_run {
        let plan = drill::plan(context, which, &request).await?;
        output.result("drill_plan", &plan, &report::drill_plan(&plan));
        return Ok(Exit::Done);
    }
    super::recover_first(context).await?;
    let operator = args.operator.unwrap_or_else(|| context.holder.clone());
    let Drilled { report, page, place, error } = drill::run(context, which, &request, &operator).await?;
    if let Some(folder) = &args.report_dir {
        let failed = |error: std::io::Error| Failure::Invalid {
            object: format!("--report-dir {}", folder.display()),
            message: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::write(folder.join("report.json"), report.to_bytes()).map_err(failed)?;
        std::fs::write(folder.join("report.html"), page).map_err(failed)?;
    }
    let mut text = report::drill_text(&report);
    if let Some(place) = place {
        text.push_str(&format!("report: {place}/report.html\n"));
    }
    output.result("drill", &report, &text);
    if let Some(error) = error {
        // The report says it too; here for whoever reads the end only.
        eprintln!("error: {error}");
        return Ok(app::of_error(&error));
    }
    Ok(match report.outcome {
        Outcome::Passed => Exit::Done,
        Outcome::Late => Exit::Late,
        Outcome::Failed | Outcome::NotFinished => Exit::Partial,
    })
}
