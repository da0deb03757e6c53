//! `strongroom schedule`

use super::output::Output;
use crate::app::Exit;
use crate::job::schedule::{self, Schedules};
use crate::job::{Context, JobError};
use crate::report::{Align, Table};
use crate::worker;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// The same as `schedule start`
    #[arg(long, hide = true)]
    start: bool,

    /// The same as `schedule stop`
    #[arg(long, hide = true)]
    stop: bool,

    /// The same as `schedule status`
    #[arg(long, hide = true)]
    status: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Follow the schedules in this process until it is stopped: take backups when they are due, clean up after each
    Run,
    /// Have schedules followed again by every `schedule run` and `serve --schedule`
    Start(By),
    /// Have them rest, until `start`
    Stop(By),
    /// Whether schedules are followed, what was missed and what comes next
    Status,
    /// When each tier's next backup is due
    Next,
}

#[derive(Debug, Default, clap::Args)]
struct By {
    /// Who asks for it
    #[arg(long, value_name = "WHO", env = "USER")]
    by: Option<String>,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let verb = match args.verb {
        Some(verb) => verb,
        None if args.start => Verb::Start(By::default()),
        None if args.stop => Verb::Stop(By::default()),
        None => Verb::Status,
    };
    match verb {
        Verb::Run => {
            let found = schedule::look(context, context.now()).await?;
            output.result("schedule", &found, &text(&found));
            worker::follow_schedules(context).await;
        }
        Verb::Start(By { by }) => set(context, true, by, output).await?,
        Verb::Stop(By { by }) => set(context, false, by, output).await?,
        Verb::Status => {
            let found = schedule::look(context, context.now()).await?;
            output.result("schedule", &found, &text(&found));
        }
        Verb::Next => {
            let found = schedule::look(context, context.now()).await?;
            let line = |due: &crate::plan::schedule::Due| {
                let next = due.next.map_or("never".to_string(), |at| at.to_string());
                format!("{next}  {}\n", due.tier)
            };
            let mut tiers: Vec<_> = found.tiers.iter().collect();
            tiers.sort_by_key(|due| due.next);
            output.result("schedule", &found, &tiers.into_iter().map(line).collect::<String>());
        }
    }
    Ok(Exit::Done)
}

async fn set(context: &Context, on: bool, by: Option<String>, output: &Output) -> Result<(), JobError> {
    let switch = schedule::set(context, on, by.as_deref().unwrap_or("somebody")).await?;
    let text = match on {
        true => "schedules are followed by every `strongroom schedule run` and `strongroom serve --schedule`\n",
        false => "schedules rest: nothing is begun by them until `strongroom schedule start`\n",
    };
    output.result("schedule_switch", &switch, text);
    Ok(())
}

fn text(found: &Schedules) -> String {
    let mut out = match (&found.switch, found.on) {
        (Some(switch), false) => {
            format!("schedules rest since {}, by {}; hint: strongroom schedule start\n", switch.at, switch.by)
        }
        _ => {
            "schedules are followed where `strongroom schedule run` or `strongroom serve --schedule` runs\n".to_string()
        }
    };
    if found.tiers.is_empty() {
        return out + "no tier has a schedule; hint: [tiers.daily] schedule = \"0 2 * * *\"\n";
    }
    let columns = [
        ("tier", Align::Left),
        ("schedule", Align::Left),
        ("last", Align::Left),
        ("next", Align::Left),
        ("", Align::Left),
    ];
    let mut table = Table::new(&columns);
    for due in &found.tiers {
        let time = |at: Option<jiff::Timestamp>| at.map_or("never".to_string(), |at| at.to_string());
        let missed = due.missed.map(|at| format!("was due {at}")).unwrap_or_default();
        table.row([due.tier.to_string(), due.schedule.clone(), time(due.last), time(due.next), missed]);
    }
    out.push_str(&table.render());
    out
}
