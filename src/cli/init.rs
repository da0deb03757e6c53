//! `strongroom init`: a commented configuration, from a profile or by asking. Never over another.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use crate::app::{self, Exit, PROFILES};
use crate::config::{Layers, Problems, read};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write this profile: one of those that `strongroom init --list` names
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    profile: Option<String>,

    /// List the profiles
    #[arg(long)]
    list: bool,

    /// The file to be written, which must not exist [default: --config, or strongroom.toml]
    file: Option<PathBuf>,

    /// Print the configuration and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, config: Option<&Path>, output: &Output) -> Exit {
    if args.list {
        let profiles: Vec<_> =
            PROFILES.iter().map(|profile| json!({"name": profile.name, "what": profile.what})).collect();
        output.result("profiles", &profiles, &profiles_text());
        return Exit::Done;
    }
    let (name, text) = match &args.profile {
        Some(name) => match app::profile(name) {
            Some(profile) => (profile.name, profile.text.to_string()),
            None => {
                let message = format!("--profile '{name}' is no profile; hint: one of\n{}", profiles_text());
                return output.problem(Exit::Usage, message.trim_end(), &[]);
            }
        },
        None if std::io::stdin().is_terminal() && !output.is_json() => {
            match ask(&mut std::io::stdin().lock(), &mut std::io::stderr()) {
                Ok(text) => ("own", text),
                Err(error) => return output.problem(Exit::Failed, &format!("no answer: {error}"), &[]),
            }
        }
        None => {
            let message =
                format!("--profile is missing, and there is no terminal to ask; hint: one of\n{}", profiles_text());
            return output.problem(Exit::Usage, message.trim_end(), &[]);
        }
    };
    let file = args.file.as_deref().or(config).unwrap_or_else(|| Path::new("strongroom.toml"));
    if args.dry_run {
        output.result("init_plan", &json!({"profile": name, "file": file, "text": text}), &text);
        return Exit::Done;
    }
    let written = OpenOptions::new().write(true).create_new(true).open(file).and_then(|mut out| {
        out.write_all(text.as_bytes())?;
        out.sync_all()
    });
    if let Err(error) = written {
        let hint = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "hint: name another file, or read it by `strongroom config show`",
            _ => "hint: a file in a directory that can be written",
        };
        return output.problem(Exit::Refused, &format!("{}: {error}; {hint}", file.display()), &[]);
    }
    let needed = needed(&text);
    let mut told = format!("{} is written\n", file.display());
    if !needed.is_empty() {
        told.push_str(&format!("it takes these from the environment: {}\n", needed.join(", ")));
    }
    told.push_str("next:\n  strongroom config check\n  strongroom backup --dry-run\n");
    output.result("init", &json!({"profile": name, "file": file, "variables": needed}), &told);
    Exit::Done
}

fn profiles_text() -> String {
    let width = PROFILES.iter().map(|profile| profile.name.len()).max().unwrap_or(0);
    PROFILES.iter().map(|profile| format!("  {:width$}  {}\n", profile.name, profile.what)).collect()
}

/// The variables without which the configuration is none.
fn needed(text: &str) -> Vec<String> {
    let found = read(&Layers { file: Some(text), environment: &|_| None, flags: &[] });
    let mut names: Vec<String> = found.problems.iter().filter_map(|problem| variable(&problem.message)).collect();
    names.sort();
    names.dedup();
    names
}

fn variable(message: &str) -> Option<String> {
    let rest = message.strip_prefix("the environment variable ")?;
    Some(rest.split_once(' ')?.0.into())
}

/// Asks until every answer is one, and gives the configuration.
fn ask(answers: &mut impl BufRead, questions: &mut impl Write) -> std::io::Result<String> {
    let mut asked = |question: &str, default: &str, check: &dyn Fn(&str) -> Result<(), String>| loop {
        write!(questions, "{question} [{default}]: ")?;
        questions.flush()?;
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let answer = match line.trim() {
            "" => default.to_string(),
            answer => answer.to_string(),
        };
        match check(&answer) {
            Ok(()) => return Ok(answer),
            Err(problem) => writeln!(questions, "  {problem}")?,
        }
    };
    let valid = |answers: &Answers| problem_of(&answers.text());
    let mut all = Answers::default();
    let kinds = ["postgres", "sqlite", "files", "bigquery"];
    all.kind = asked("What is backed up: postgres, sqlite, files or bigquery", "postgres", &|answer| {
        if kinds.contains(&answer) { Ok(()) } else { Err("one of postgres, sqlite, files, bigquery".into()) }
    })?;
    let (question, default) = match all.kind.as_str() {
        "postgres" => {
            ("The variable that holds its address (postgresql://user:password@host:5432/database)", "DATABASE_URL")
        }
        "sqlite" => ("The database's file", "app.db"),
        "files" => ("The directory", "."),
        _ => ("Project and dataset, as project.dataset", "my-project.my_dataset"),
    };
    let with = |base: &Answers, change: &dyn Fn(&mut Answers)| {
        let mut changed = base.clone();
        change(&mut changed);
        valid(&changed)
    };
    all.what = asked(question, default, &|answer| {
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if all.kind == "postgres" && !answer.chars().all(name) {
            return Err(
                "the name of a variable, such as DATABASE_URL: the address itself does not belong into a file".into()
            );
        }
        with(&all, &|all| all.what = answer.into())
    })?;
    all.name = asked("A name for the system, the first part of every backup's name", "backup", &|answer| {
        with(&all, &|all| all.name = answer.into())
    })?;
    all.place = asked("Where backups go: a directory, s3://, gs:// or az://bucket/prefix", "./backups", &|answer| {
        with(&all, &|all| all.place = answer.into())
    })?;
    all.schedule =
        asked("When, as cron writes it", "0 2 * * *", &|answer| with(&all, &|all| all.schedule = answer.into()))?;
    all.keep = asked("How long each is kept", "30d", &|answer| with(&all, &|all| all.keep = answer.into()))?;
    all.recipient = asked(
        "Who can open them (age1..., of `strongroom key generate --sealing FILE`), or none: not encrypted",
        "none",
        &|answer| with(&all, &|all| all.recipient = answer.into()),
    )?;
    Ok(all.text())
}

#[derive(Debug, Clone)]
struct Answers {
    kind: String,
    what: String,
    name: String,
    place: String,
    schedule: String,
    keep: String,
    recipient: String,
}

impl Default for Answers {
    fn default() -> Self {
        let text = String::from;
        Self {
            kind: text("postgres"),
            what: String::new(),
            name: text("backup"),
            place: text("./backups"),
            schedule: text("0 2 * * *"),
            keep: text("30d"),
            recipient: text("none"),
        }
    }
}

impl Answers {
    fn text(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.into()).to_string();
        let source = match self.kind.as_str() {
            "postgres" => {
                format!("url = {}   # the address stays in its variable", quoted(&format!("${{{}}}", self.what)))
            }
            "sqlite" => format!("path = {}", quoted(&self.what)),
            "files" => format!("root = {}", quoted(&self.what)),
            _ => format!("dataset = {}", quoted(self.what.split_once('.').map_or(&*self.what, |(_, dataset)| dataset))),
        };
        let google = match self.kind.as_str() {
            "bigquery" => {
                let project = self.what.split_once('.').map_or("", |(project, _)| project);
                format!("[google]\nproject = {}\n\n", quoted(project))
            }
            _ => String::new(),
        };
        let sealing = match self.recipient.as_str() {
            "none" => "# [sealing]                   # encrypts every backup\n# recipients = [\"age1...\"]    # strongroom key generate --sealing FILE\n".into(),
            recipient => format!("[sealing]                     # every backup is encrypted for\nrecipients = [{}]\n", quoted(recipient)),
        };
        format!(
            "# Written by `strongroom init`. Every key is described in README.md; ${{NAME}} is taken from the environment.\n\n\
             name = {}               # the first part of every backup's name\n\n\
             {google}[[source]]\nname = \"data\"                 # a folder of every backup\nkind = {}\n{source}\n\n\
             [tiers.daily]\nschedule = {}          # minute, hour, day, month, weekday; UTC unless [retention] time_zone says otherwise\n\
             keep = {}                  # `strongroom retention` removes what is older\n\
             destinations = [{}]   # the first is written to, further ones are copies\n\n{sealing}",
            quoted(&self.name),
            quoted(&self.kind),
            quoted(&self.schedule),
            quoted(&self.keep),
            quoted(&self.place),
        )
    }
}

/// What is wrong with an answer, if anything.
fn problem_of(text: &str) -> Result<(), String> {
    let found = read(&Layers { file: Some(text), environment: &|_| None, flags: &[] });
    // What the environment lacks here it may have where the configuration is used.
    let first = |problems: &Problems| {
        let mut wrong = problems.iter().filter(|problem| variable(&problem.message).is_none());
        wrong.next().map(|problem| problem.message.clone())
    };
    first(&found.problems).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_a_configuration_and_wrong_ones_are_asked_again() {
        let typed = "bigquery\nproject.set\nmy system\nmy-system\nftp://x\n/vault\nnever\n\n7d\nnone\n";
        let mut told = Vec::new();
        let text = ask(&mut typed.as_bytes(), &mut told).unwrap();
        let told = String::from_utf8(told).unwrap();
        assert_eq!(told.matches("A name for the system").count(), 2, "{told}");
        assert!(told.contains("fields") && told.contains("ftp://x"), "{told}");
        let found = read(&Layers { file: Some(&text), environment: &|_| None, flags: &[] });
        let config = found.config.unwrap_or_else(|| panic!("{}\n{text}", found.problems));
        assert_eq!((config.name.as_str(), config.home.to_string().as_str()), ("my-system", "/vault"));
        assert_eq!(config.google.unwrap().project, "project");
        assert!(ask(&mut &b"bigquery\n"[..], &mut Vec::new()).is_err());
    }

    #[test]
    fn every_profile_lacks_variables_at_most() {
        for profile in PROFILES {
            let found = read(&Layers { file: Some(profile.text), environment: &|_| None, flags: &[] });
            for problem in found.problems.iter() {
                assert!(
                    variable(&problem.message).is_some(),
                    "{}: {}: {}",
                    profile.name,
                    problem.path,
                    problem.message
                );
            }
        }
    }
}
