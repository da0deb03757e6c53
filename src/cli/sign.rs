//! `strongroom sign`

use super::output::Output;
use super::verify::finding_line;
use crate::app::Exit;
use crate::job::{Context, JobError, sign};
use crate::model::BackupName;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A backup's name: it is signed whoever has signed it before
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    backup: Option<BackupName>,

    /// Every backup, but those that are not what was stated of them
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    super::recover_first(context).await?;
    let outcome = sign::run(context, args.backup.as_ref()).await?;
    let mut text = String::new();
    for name in &outcome.signed {
        text.push_str(&format!("signed {name}\n"));
    }
    for (name, findings) in &outcome.refused {
        text.push_str(&format!("not signed: {name} is not as it was written\n"));
        findings.iter().for_each(|finding| text.push_str(&finding_line(finding)));
    }
    output.result("signatures", &outcome, &text);
    Ok(if outcome.refused.is_empty() { Exit::Done } else { Exit::Corrupt })
}
