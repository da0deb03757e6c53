//! The command line: one file a verb. Text for people on stdout, progress on stderr; with `--json` one JSON document.

mod backup;
mod buckets;
mod catalog;
mod config;
mod delete;
mod diff;
mod drill;
mod ingest;
mod init;
mod key;
mod list;
mod output;
mod pin;
mod progress;
#[cfg(feature = "query")]
mod query;
mod recover;
mod repair;
mod report;
mod restore;
mod retention;
mod schedule;
mod secret;
mod serve;
mod shell;
mod show;
mod sign;
mod stats;
mod status;
mod usage;
mod validate;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::app::{self, Asked, Exit, Problem};
use crate::catalog::Wanted;
use crate::job::{Context, JobError};
use crate::saga::Observer;
use output::Output;

const AFTER: &str = "\
Exit codes:
    0  all that was asked was done
    1  something failed; what was done was taken back
    2  the command line or the configuration is wrong
    3  done, but not all of it is as it should be
    4  refused: something stands against it; nothing was changed
    5  status: something needs attention
    6  backup: done, but a source that the last backup holds rows of is empty
    7  diff: rows differ; buckets plan: a bucket differs
    8  validate: no critical query failed, but not every one could be run
    9  drill: all came back, but an objective was missed
   10  there is no such backup or drill
   11  another run holds the lease
   12  what is stored is not what was written
   13  a critical validation query failed
   14  the credentials do not allow it
   15  catalog: something is not what was signed
   16  catalog: it ends earlier than something that has seen more of it
   17  catalog: a backup was removed, and is there again
   18  catalog: a backup is gone, and nobody who is trusted has removed it
   19  catalog: a backup is dated in the future
   20  catalog: a backup is not signed, where signatures are asked for
   21  the backup is sealed, and no key at hand opens it
   22  verify: something is not there; what is there is what was written
  130  stopped by a signal";

/// Backups of BigQuery datasets and Google Sheets that are proven to restore.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, after_help = AFTER, max_term_width = 100)]
struct Cli {
    /// The configuration [default: strongroom.toml; without one, the environment's BACKUP_... and DATABASE_URL]
    #[arg(long, short, global = true, env = "STRONGROOM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// A setting, over the file and the environment: tiers.daily.keep=60d. Not for secrets: others see a command line
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,

    /// Print no progress
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Log what is done, on stderr; so does BACKUP_DEBUG=true
    #[arg(long, short, global = true)]
    verbose: bool,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Take a backup: pause, drain, snapshot, resume, export
    Backup(backup::Args),
    /// List the backups, the newest first
    List(list::Args),
    /// Show what a backup holds
    Show(show::Args),
    /// Read every byte and row of a backup, and compare with its manifest
    Verify(verify::Args),
    /// Bring back what was lost
    Restore(restore::Args),
    /// Rehearse a disaster beside the real data: restore, compare, measure, tear down, report
    Drill(drill::Args),
    /// The report of a drill: text, JSON, or a page for finance
    Report(report::Args),
    /// Run the validation queries
    Validate(validate::Args),
    /// Remove backups that no rule keeps: condemned first, removed after a time of grace
    #[command(visible_alias = "cleanup")]
    Retention(retention::Args),
    /// Keep a backup whatever the rules say
    Pin(pin::Args),
    /// Leave a backup to the rules again
    Unpin(pin::UnpinArgs),
    /// Say that a change is verified: the backup taken before it is kept by the rules only
    Approve(pin::ApproveArgs),
    /// Make all copies of a backup whole again from one another
    Repair(repair::Args),
    /// Hold the buckets against what they are to be, and make them so
    #[command(subcommand)]
    Buckets(buckets::Verb),
    /// Remove one backup by hand
    Delete(delete::Args),
    /// Make a key that signs the catalog, or show the public half of one
    #[command(subcommand)]
    Key(key::Verb),
    /// Rotate a secret of Secret Manager
    #[command(subcommand)]
    Secret(secret::Verb),
    /// Sign backups that are not signed, or not by this key: each is read whole first
    Sign(sign::Args),
    /// Show the rows in which tables differ from a backup
    Diff(diff::Args),
    /// Ask a backup's files, without restoring them
    #[cfg(feature = "query")]
    Query(query::Args),
    /// Pause ingestion until it is resumed
    Pause(ingest::Args),
    /// Resume ingestion
    Resume(ingest::Args),
    /// Take back what runs that died left behind, ingestion first
    Recover(recover::Args),
    /// How many backups there are, how large, how old, and how they grow
    Stats(stats::Args),
    /// The index of the backups, for people and their scripts
    #[command(subcommand)]
    Catalog(catalog::Verb),
    /// Say whether all is well
    Status(status::Args),
    /// Records of usage, without who they are of: back up, restore, validate, switch off
    #[command(subcommand)]
    Usage(usage::Verb),
    /// Print the effective configuration, or find everything that is wrong with it
    #[command(subcommand)]
    Config(config::Verb),
    /// Write a commented configuration: from a profile, or by asking
    Init(init::Args),
    /// Print a shell's completions
    Completions(shell::Completions),
    /// Write the manual pages
    Man(shell::Man),
    /// When backups are due, and whether schedules are followed
    Schedule(schedule::Args),
    /// The worker: all of this over HTTP, for Cloud Scheduler, operators and monitoring
    Serve(serve::Args),
}

/// The private key of what is sealed.
#[derive(Debug, Default, clap::Args)]
struct IdentityArg {
    /// Opens what is sealed: a file of identities, as `strongroom key generate --sealing` or age-keygen makes it
    #[arg(long = "identity", value_name = "FILE", env = "STRONGROOM_IDENTITY")]
    file: Option<PathBuf>,
}

/// Runs the program and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(app::log_filter(cli.verbose)))
        .with_writer(std::io::stderr)
        .init();
    let output = Output::new(cli.json);
    // Google's generated types are large: a thread's usual stack is soon full of them in a build without optimisation.
    let thread = std::thread::Builder::new().name("main".into()).stack_size(STACK_BYTES);
    let work = move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
        let exit = runtime.block_on(run(cli, &output));
        // Not to wait for what still reads or decodes when a signal has ended the run.
        runtime.shutdown_background();
        Ok::<_, std::io::Error>(exit)
    };
    let exit = match thread.spawn(work).map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(exit))) => exit,
        Ok(Ok(Err(error))) | Err(error) => {
            Output::new(false).problem(Exit::Failed, &format!("cannot start: {error}"), &[])
        }
        Ok(Err(_)) => Exit::Failed, // it panicked, and said so
    };
    exit.into()
}

const STACK_BYTES: usize = 32 << 20;

async fn run(cli: Cli, output: &Output) -> Exit {
    let observer: Arc<dyn Observer> = progress::observer(cli.json || cli.quiet);
    let asked = Asked { file: cli.config, set: cli.set, instead: cli.verb.profile() };
    // What is done before there is a configuration, or to find out what is wrong with it.
    let verb = match cli.verb {
        Verb::Key(verb) => return key::run(verb, output),
        Verb::Config(verb) => return config::run(verb, &asked, observer, output).await,
        Verb::Init(args) => return init::run(&args, asked.file.as_deref(), output),
        Verb::Completions(args) => return shell::completions(&args, output),
        Verb::Man(args) => return shell::man(&args, output),
        verb => verb,
    };
    let mut config = match app::load(&asked) {
        Ok(config) => config,
        Err(problem) => return tell(output, &problem),
    };
    if let Verb::Usage(verb) = &verb
        && let Some(exit) = verb.prepare(&mut config, &asked.path(), output)
    {
        return exit;
    }
    if let Verb::Serve(args) = &verb {
        args.apply(&mut config);
    }
    if let Some(file) = verb.identity() {
        // As the caller names it, not beside the configuration.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        config.identity = Some(crate::config::KeyPlace::File(file.display().to_string()));
    }
    let context = match app::connect(config, &asked.path(), observer).await {
        Ok(context) => context,
        Err(problem) => return tell(output, &problem),
    };
    let patience = if verb.takes_back() { STOP_WITHIN } else { Duration::ZERO };
    let path = asked.path();
    let outcome = tokio::select! {
        outcome = carry_out(verb, &context, &path, output) => outcome,
        () = overdue(&context, patience) => Err(JobError::Interrupted),
    };
    match outcome {
        Ok(exit) => exit,
        // Nothing was asked for that is not as it should be.
        Err(JobError::Skipped(reason)) => {
            let value = serde_json::json!({"status": "skipped", "reason": reason});
            output.result("skipped", &value, &format!("SKIPPED: {reason}\n"));
            Exit::Done
        }
        Err(error) => {
            let refusals = match &error {
                JobError::Refused(refusals) => refusals.as_slice(),
                _ => &[],
            };
            output.problem(app::of_error(&error), &error.to_string(), refusals)
        }
    }
}

/// From a signal to the end at the latest. Whoever asks a process to end kills it after ten seconds; what is not taken back
/// by then stands in the journal.
const STOP_WITHIN: Duration = Duration::from_secs(9);

/// Ends when the process was asked to end and has not done so in time.
async fn overdue(context: &Context, patience: Duration) {
    let mut cancelled = context.cancelled.clone();
    match cancelled.wait_for(|cancelled| *cancelled).await {
        Ok(_) => tokio::time::sleep(patience).await,
        Err(_) => std::future::pending().await, // a closed channel is no signal
    }
    if !patience.is_zero() {
        context.observer.note("not everything came to its end in time; hint: run `strongroom recover`");
    }
}

impl Verb {
    fn identity(&self) -> Option<&PathBuf> {
        let given = match self {
            Self::Verify(args) => &args.identity,
            Self::Restore(args) => &args.identity,
            Self::Usage(verb) => return verb.identity(),
            Self::Drill(args) => &args.identity,
            Self::Diff(args) => &args.identity,
            Self::Validate(args) => &args.identity,
            #[cfg(feature = "query")]
            Self::Query(args) => &args.identity,
            _ => return None,
        };
        given.file.as_ref()
    }

    /// What stands in for a configuration where there is none.
    fn profile(&self) -> Option<&'static str> {
        match self {
            Self::Usage(_) => app::profile("usage-meter").map(|profile| profile.text),
            _ => None,
        }
    }

    /// Whether it has something to take back or to bring to its end when it is stopped.
    fn takes_back(&self) -> bool {
        match self {
            Self::Backup(_) | Self::Restore(_) | Self::Drill(_) | Self::Retention(_) | Self::Delete(_) => true,
            Self::Pin(_) | Self::Unpin(_) | Self::Pause(_) | Self::Resume(_) | Self::Recover(_) => true,
            Self::Usage(_) | Self::Sign(_) | Self::Serve(_) | Self::Repair(_) | Self::Approve(_) => true,
            Self::Secret(_) | Self::Schedule(_) => true,
            Self::List(_) | Self::Show(_) | Self::Verify(_) | Self::Report(_) | Self::Validate(_) => false,
            Self::Config(_) | Self::Init(_) | Self::Completions(_) | Self::Man(_) => false,
            Self::Diff(_) | Self::Status(_) | Self::Stats(_) | Self::Key(_) | Self::Catalog(_) | Self::Buckets(_) => {
                false
            }
            #[cfg(feature = "query")]
            Self::Query(_) => false,
        }
    }
}

async fn carry_out(verb: Verb, context: &Context, path: &Path, output: &Output) -> Result<Exit, JobError> {
    match verb {
        Verb::Backup(args) => backup::run(context, args, output).await,
        Verb::List(args) => list::run(context, args, output).await,
        Verb::Show(args) => show::run(context, args, output).await,
        Verb::Verify(args) => verify::run(context, args, output).await,
        Verb::Restore(args) => restore::run(context, args, output).await,
        Verb::Drill(args) => drill::run(context, args, output).await,
        Verb::Report(args) => report::run(context, args, output).await,
        Verb::Validate(args) => validate::run(context, args, output).await,
        Verb::Sign(args) => sign::run(context, args, output).await,
        // Done before there is a context.
        Verb::Key(_) | Verb::Config(_) | Verb::Init(_) | Verb::Completions(_) | Verb::Man(_) => Ok(Exit::Done),
        Verb::Secret(verb) => secret::run(context, verb, output).await,
        Verb::Retention(args) => retention::run(context, args, output).await,
        Verb::Pin(args) => pin::pin(context, args, output).await,
        Verb::Approve(args) => pin::approve(context, args, output).await,
        Verb::Repair(args) => repair::run(context, args, output).await,
        Verb::Unpin(args) => pin::unpin(context, args, output).await,
        Verb::Buckets(verb) => buckets::run(context, verb, output).await,
        Verb::Delete(args) => delete::run(context, args, output).await,
        Verb::Diff(args) => diff::run(context, args, output).await,
        #[cfg(feature = "query")]
        Verb::Query(args) => query::run(context, args, output).await,
        Verb::Pause(args) => ingest::run(context, args, true, output).await,
        Verb::Resume(args) => ingest::run(context, args, false, output).await,
        Verb::Recover(args) => recover::run(context, args, output).await,
        Verb::Stats(args) => stats::run(context, args, output).await,
        Verb::Catalog(verb) => catalog::run(context, verb, output).await,
        Verb::Status(args) => status::run(context, args, output).await,
        Verb::Schedule(args) => schedule::run(context, args, output).await,
        Verb::Usage(verb) => usage::run(context, verb, path, output).await,
        Verb::Serve(args) => serve::run(context, args, output).await,
    }
}

fn tell(output: &Output, problem: &Problem) -> Exit {
    let exit = match problem {
        Problem::Failure(failure) => app::of_error(&JobError::Failure(failure.clone())),
        Problem::Unreadable { .. } | Problem::Config { .. } | Problem::Queries(_) => Exit::Usage,
    };
    output.problem(exit, &problem.to_string(), &[])
}

/// A backup as people name it: `latest` or its name.
fn wanted(text: &str) -> Result<Wanted, String> {
    match text {
        "latest" => Ok(Wanted::Latest),
        name => name.parse().map(Wanted::Called).map_err(|error: crate::model::InvalidName| error.to_string()),
    }
}

/// Takes back what dead runs left, before another run begins.
async fn recover_first(context: &Context) -> Result<(), JobError> {
    for recovered in crate::job::recover::at_start(context).await? {
        context.observer.note(&format!("recovered run {} ({} {})", recovered.run, recovered.verb, recovered.subject));
        for failure in &recovered.failures {
            context.observer.note(&format!("  not taken back: {failure}"));
        }
    }
    Ok(())
}
