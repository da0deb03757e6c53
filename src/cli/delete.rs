//! `strongroom delete`

use std::io::{BufRead, IsTerminal, Write};

use super::output::Output;
use crate::app::Exit;
use crate::job::retention::{self, Deletion};
use crate::job::{Context, JobError};
use crate::model::{BackupName, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup's name
    backup: BackupName,

    /// The backup's name once more: in a script, where nobody can be asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<BackupName>,

    /// Remove it at once, without a time of grace
    #[arg(long)]
    now: bool,

    /// Even if it is the newest of its tier
    #[arg(long, requires = "now")]
    even_the_last: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    confirm(&args)?;
    super::recover_first(context).await?;
    let how = Deletion { now: args.now, even_the_last: args.even_the_last };
    let deleted = retention::delete(context, &args.backup, how).await?;
    let text = match deleted.removed_from {
        None => format!("{} is gone\n", deleted.backup),
        Some(from) => format!(
            "{} is condemned: `strongroom retention` removes it from {} on; until then `strongroom pin` saves it\n",
            deleted.backup,
            from.strftime("%Y-%m-%d %H:%MZ")
        ),
    };
    output.result("deleted", &deleted, &text);
    Ok(Exit::Done)
}

/// The name must be said twice.
fn confirm(args: &Args) -> Result<(), JobError> {
    let said = match &args.confirm {
        Some(name) => name.to_string(),
        None if std::io::stdin().is_terminal() => {
            eprint!("type the backup's name to delete it: ");
            std::io::stderr().flush().ok();
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).ok();
            line.trim().to_string()
        }
        None => String::new(),
    };
    if said == args.backup.as_str() {
        return Ok(());
    }
    let message = format!("the deletion is not confirmed; hint: --confirm {}", args.backup);
    Err(Failure::Precondition { object: args.backup.to_string(), message }.into())
}
