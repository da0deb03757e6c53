//! `strongroom report`

use std::path::PathBuf;

use clap::ValueEnum;

use super::output::Output;
use crate::app::Exit;
use crate::job::drill;
use crate::job::{Context, JobError};
use crate::model::Failure;
use crate::report;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A drill's name; without it the latest drill
    drill: Option<String>,

    /// In which form
    #[arg(long, value_enum, default_value = "text")]
    format: Format,

    /// Into a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    /// The document that schemas/ describes
    Json,
    /// One page that needs nothing else
    Html,
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    let found = drill::stored(context, args.drill.as_deref()).await?;
    let text = match args.format {
        Format::Text => report::drill_text(&found),
        Format::Json => String::from_utf8_lossy(&found.to_bytes()).into_owned(),
        Format::Html => report::drill_page(&found),
    };
    match args.output {
        None => output.result("drill", &found, &text),
        Some(file) => std::fs::write(&file, text).map_err(|error| Failure::Invalid {
            object: format!("--output {}", file.display()),
            message: error.to_string(),
        })?,
    }
    Ok(Exit::Done)
}
