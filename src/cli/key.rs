//! `strongroom key`

use std::path::PathBuf;

use serde_json::json;

use super::output::Output;
use crate::app::{self, Exit};
use crate::job::JobError;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a key in a file that only its owner reads, and print its public half
    Generate {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Print the public half of a key
    Show {
        /// A PKCS#8 PEM file
        file: PathBuf,
    },
}

pub(super) fn run(verb: Verb, output: &Output) -> Exit {
    let (made, file) = match &verb {
        Verb::Generate { file } => (app::new_key(file), Some(file)),
        Verb::Show { file } => (app::public_key(file), None),
    };
    let key = match made {
        Ok(key) => key,
        Err(error) => {
            let error = JobError::Failure(error);
            return output.problem(app::of_error(&error), &error.to_string(), &[]);
        }
    };
    let text = match file {
        Some(file) => format!("[signing]\nkey = \"{}\"\ntrusted = [\"{key}\"]\n", file.display()),
        None => format!("{key}\n"),
    };
    output.result("key", &json!({"public": key}), &text);
    Exit::Done
}
