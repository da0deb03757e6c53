//! `strongroom key`

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use crate::app::{self, Exit};
use crate::job::JobError;
use crate::model::Failure;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a key in a file that only its owner reads, and print its public half
    Generate {
        /// The file, which must not exist
        file: PathBuf,

        /// An identity that opens sealed backups, as age-keygen makes them, instead of a key that signs the catalog
        #[arg(long)]
        sealing: bool,
    },
    /// Print the public half of a key
    Show {
        /// A PKCS#8 PEM file, or with --sealing a file of identities
        file: PathBuf,

        /// The recipients of the identities in the file
        #[arg(long)]
        sealing: bool,
    },
}

pub(super) fn run(verb: Verb, output: &Output) -> Exit {
    match told(&verb) {
        Ok((value, text)) => {
            output.result("key", &value, &text);
            Exit::Done
        }
        Err(error) => {
            let error = JobError::Failure(error);
            output.problem(app::of_error(&error), &error.to_string(), &[])
        }
    }
}

fn told(verb: &Verb) -> Result<(serde_json::Value, String), Failure> {
    Ok(match verb {
        Verb::Generate { file, sealing: false } => {
            let key = app::new_key(file)?;
            (json!({"public": key}), format!("[signing]\nkey = \"{}\"\ntrusted = [\"{key}\"]\n", file.display()))
        }
        Verb::Show { file, sealing: false } => {
            let key = app::public_key(file)?;
            (json!({"public": key}), format!("{key}\n"))
        }
        Verb::Generate { file, sealing: true } => {
            let recipient = app::new_identity(file)?;
            let text = format!(
                "[sealing]\nrecipients = [\"{recipient}\"]\n\n# {} opens what is sealed: keep it away from where backups are taken, and twice.\n",
                file.display()
            );
            (json!({"public": recipient}), text)
        }
        Verb::Show { file, sealing: true } => {
            let recipients = app::recipients(file)?;
            let text: String = recipients.iter().map(|recipient| format!("{recipient}\n")).collect();
            (json!({"public": recipients}), text)
        }
    })
}
