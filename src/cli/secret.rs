//! `strongroom secret`

use std::io::Read;
use std::path::PathBuf;

use super::output::Output;
use crate::app::Exit;
use crate::job::rotation::{self, RotationRequest};
use crate::job::{Context, JobError};
use crate::model::{Failure, Secret};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Put another key in a stolen one's place: store it, have the service take it up, refuse the old ones
    Rotate(Rotate),
}

#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// The secret's id in the configuration's project, or projects/P/secrets/S
    secret: String,

    /// A file with the new key, which is stored as it is; without it standard input is read, and its last line break dropped
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Deploy the service of the configuration anew, so that it takes the key up
    #[arg(long)]
    redeploy: bool,

    /// Leave the older versions usable
    #[arg(long)]
    keep_old: bool,

    /// Print what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(context: &Context, verb: Verb, output: &Output) -> Result<Exit, JobError> {
    let Verb::Rotate(args) = verb;
    let request = RotationRequest {
        secret: named(context, &args.secret)?,
        service: args.redeploy.then(|| service(context)).transpose()?,
        keep_old: args.keep_old,
    };
    if args.dry_run {
        let plan = rotation::plan(context, &request).await?;
        let mut text = format!("rotate {}\n  store the new key as its newest version\n", plan.secret);
        if let Some(service) = &plan.service {
            text += &format!("  deploy {service} anew\n");
        }
        plan.disable.iter().for_each(|version| text += &format!("  disable {version}\n"));
        output.result("rotation_plan", &plan, &text);
        return Ok(Exit::Done);
    }
    let replacement = replacement(&args)?;
    super::recover_first(context).await?;
    let rotated = rotation::run(context, &request, &replacement).await?;
    let mut text = format!("rotated {}\n  {} is handed out\n", rotated.secret, rotated.version);
    if let Some(revision) = &rotated.revision {
        text += &format!("  revision {revision} serves with it\n");
    }
    rotated.disabled.iter().for_each(|version| text += &format!("  {version} is refused from now on\n"));
    output.result("rotation", &rotated, &text);
    Ok(Exit::Done)
}

fn named(context: &Context, text: &str) -> Result<String, Failure> {
    if text.contains('/') {
        return Ok(text.into());
    }
    let missing = || Failure::Invalid {
        object: format!("secret '{text}'"),
        message: "is in no project; hint: projects/P/secrets/S, or [google] project in the configuration".into(),
    };
    let google = context.config.google.as_ref().ok_or_else(missing)?;
    Ok(format!("projects/{}/secrets/{text}", google.project))
}

fn service(context: &Context) -> Result<String, Failure> {
    let missing = || Failure::Invalid {
        object: "--redeploy".into(),
        message:
            "there is no service in the configuration; hint: [service] name = \"projects/P/locations/L/services/S\""
                .into(),
    };
    context.config.service.as_ref().map(|service| service.name.clone()).ok_or_else(missing)
}

/// Never an argument: those are seen by everybody on the machine.
fn replacement(args: &Rotate) -> Result<Secret, Failure> {
    let (object, read) = match &args.from {
        Some(file) => (file.display().to_string(), std::fs::read_to_string(file)),
        None => {
            let mut text = String::new();
            ("standard input".to_string(), std::io::stdin().read_to_string(&mut text).map(|_| text))
        }
    };
    let invalid = |message: String| Failure::Invalid { object: object.clone(), message };
    let mut text = read.map_err(|error| invalid(error.to_string()))?;
    if args.from.is_none() && text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() {
        return Err(invalid("holds no key; hint: strongroom secret rotate NAME < new-key".into()));
    }
    Ok(Secret::new(text))
}
