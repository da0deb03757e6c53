//! Progress on stderr: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;

use crate::report;
use crate::saga::Observer;

/// The observer that suits where stderr goes.
pub(super) fn observer(silent: bool) -> Arc<dyn Observer> {
    if silent {
        Arc::new(Silent)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars { bar: Mutex::new(None) })
    } else {
        Arc::new(Lines)
    }
}

struct Silent;

impl Observer for Silent {}

struct Lines;

impl Observer for Lines {
    fn step_done(&self, step: &str, elapsed: SignedDuration, note: &str) {
        eprintln!("{}", line("done", step, elapsed, note));
    }

    fn step_failed(&self, step: &str, message: &str) {
        eprintln!("failed {step:<11} {message}");
    }

    fn undone(&self, step: &str) {
        eprintln!("undone {step}");
    }

    fn note(&self, text: &str) {
        eprintln!("note   {text}");
    }
}

fn line(mark: &str, step: &str, elapsed: SignedDuration, note: &str) -> String {
    format!("{mark:<6} {step:<11} {:>12}  {note}", report::duration(elapsed)).trim_end().to_string()
}

struct Bars {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    /// Replaces the running bar; the old one leaves `line` behind.
    fn turn(&self, bar: Option<ProgressBar>, line: Option<String>) {
        let Ok(mut current) = self.bar.lock() else { return };
        if let Some(old) = current.take() {
            old.finish_and_clear();
        }
        if let Some(line) = line {
            eprintln!("{line}");
        }
        *current = bar;
    }
}

impl Observer for Bars {
    fn step_started(&self, step: &str) {
        let style = ProgressStyle::with_template("{spinner:.cyan}    {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style).with_message(step.to_string());
        bar.enable_steady_tick(Duration::from_millis(100));
        self.turn(Some(bar), None);
    }

    fn progress(&self, step: &str, done: usize, total: usize, what: &str) {
        let Ok(current) = self.bar.lock() else { return };
        if let Some(bar) = current.as_ref() {
            if bar.length() != Some(total as u64) {
                let style =
                    ProgressStyle::with_template("{spinner:.cyan}    {prefix:<11} {bar:30.cyan/dim} {pos}/{len} {msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_length(total as u64);
                bar.set_prefix(step.to_string());
            }
            bar.set_position(done as u64);
            bar.set_message(what.to_string());
        }
    }

    fn step_done(&self, step: &str, elapsed: SignedDuration, note: &str) {
        self.turn(None, Some(line("✓", step, elapsed, note)));
    }

    fn step_failed(&self, step: &str, message: &str) {
        self.turn(None, Some(format!("✗      {step:<11} {message}")));
    }

    fn undone(&self, step: &str) {
        self.turn(None, Some(format!("↺      {step}")));
    }

    fn note(&self, text: &str) {
        let Ok(current) = self.bar.lock() else { return };
        match current.as_ref() {
            Some(bar) => bar.println(format!("       {text}")),
            None => eprintln!("       {text}"),
        }
    }
}
