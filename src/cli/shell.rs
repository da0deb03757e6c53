//! `strongroom completions SHELL`, `strongroom man DIR`: what shells and `man` know of the program.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use super::output::Output;
use crate::app::Exit;

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell: its completions are printed, for such as ~/.local/share/bash-completion/completions/strongroom
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where the pages are written, one a verb; made when missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn completions(args: &Completions, output: &Output) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "strongroom", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.result("completions", &json!({"shell": args.shell.to_string(), "script": script}), &script);
    Exit::Done
}

pub(super) fn man(args: &Man, output: &Output) -> Exit {
    let written = std::fs::create_dir_all(&args.directory)
        .and_then(|()| clap_mangen::generate_to(super::Cli::command(), &args.directory))
        .and_then(|()| std::fs::read_dir(&args.directory)?.collect::<Result<Vec<_>, _>>());
    match written {
        Ok(files) => {
            let names = files.iter().map(|file| file.file_name().to_string_lossy().into_owned());
            let mut pages: Vec<String> = names.filter(|name| name.starts_with("strongroom")).collect();
            pages.sort();
            let directory = args.directory.display();
            let text = format!("{} pages in {directory}: man {directory}/strongroom.1\n", pages.len());
            output.result("man", &json!({"directory": args.directory, "pages": pages}), &text);
            Exit::Done
        }
        Err(error) => {
            let message = format!("{}: {error}; hint: a directory that can be written", args.directory.display());
            output.problem(Exit::Failed, &message, &[])
        }
    }
}
