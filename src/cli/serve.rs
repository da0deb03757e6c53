//! `strongroom serve`

use std::net::SocketAddr;

use super::output::Output;
use crate::app::Exit;
use crate::config::Config;
use crate::job::{Context, JobError};
use crate::worker;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen, instead of worker.listen
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "port")]
    listen: Option<SocketAddr>,

    /// Listen on every address of the machine, at this port: as Cloud Run asks by the variable PORT
    #[arg(long, env = "PORT", value_name = "PORT")]
    port: Option<u16>,

    /// Take backups by the tiers' schedules too, and clean up after each
    #[arg(long)]
    schedule: bool,
}

impl Args {
    /// What the command line says goes before what the configuration says.
    pub fn apply(&self, config: &mut Config) {
        let port = self.port.map(|port| SocketAddr::from(([0, 0, 0, 0], port)));
        if let Some(listen) = self.listen.or(port) {
            config.worker.listen = listen;
        }
    }
}

pub(super) async fn run(context: &Context, args: Args, output: &Output) -> Result<Exit, JobError> {
    worker::serve(context.clone(), args.schedule, |address, open| {
        let asked = if open { "nobody is asked who they are" } else { "callers need a token" };
        let scheduled = if args.schedule { ", schedules are followed" } else { "" };
        let value = serde_json::json!({"address": address.to_string(), "open": open, "schedule": args.schedule});
        output.result("serving", &value, &format!("strongroom serving on http://{address} ({asked}{scheduled})\n"));
    })
    .await?;
    Ok(Exit::Done)
}
