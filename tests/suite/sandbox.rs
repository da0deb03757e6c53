//! Starts the sandbox for a test and stops it with the test. Does not know what the test does with it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// A running sandbox with a directory of its own.
pub struct Sandbox {
    child: Child,
    endpoint: String,
    /// Removed after the child is gone: fields are dropped after `drop`.
    directory: tempfile::TempDir,
}

impl Sandbox {
    /// Starts it on a free port with fresh data; returns when it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As `start`, with further arguments.
    pub fn start_with(args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (child, endpoint) = launch(directory.path(), args);
        Self { child, endpoint, directory }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where its state is.
    #[allow(dead_code, reason = "for tests to come")]
    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    /// Kills it as by SIGKILL and starts it again on the same data, on another port.
    #[allow(dead_code, reason = "for tests to come")]
    pub fn kill_and_restart(&mut self) {
        stop(&mut self.child);
        (self.child, self.endpoint) = launch(self.directory.path(), &[]);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn stop(child: &mut Child) {
    // By the handle of the child that we started, never by name.
    let _ = child.kill();
    let _ = child.wait();
}

/// Where whole exchanges are collected, to be held against Google's documents afterwards: one file a sandbox, named after
/// the test.
fn traffic() -> Vec<OsString> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let Some(directory) = std::env::var_os("STRONGROOM_TRAFFIC_DIR") else { return Vec::new() };
    let test = std::thread::current().name().unwrap_or("unnamed").replace("::", ".");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = Path::new(&directory).join(format!("{test}-{}-{count}.jsonl", std::process::id()));
    vec!["--traffic".into(), file.into()]
}

const READY: &str = "strongroom-sandbox listening on ";

fn launch(data: &Path, args: &[&str]) -> (Child, String) {
    let log = std::fs::File::create(data.join("stderr.log")).expect("a log file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_strongroom-sandbox"))
        .arg("--data")
        .arg(data)
        .args(["--port", "0"])
        // A test that looks at the exchanges itself has a file of its own.
        .args(if args.contains(&"--traffic") { Vec::new() } else { traffic() })
        .args(args)
        .stdout(Stdio::piped())
        // Not the test's own: were the test to die, the sandbox would keep its output open.
        .stderr(log)
        .spawn()
        .expect("the sandbox starts");
    let output = child.stdout.take().expect("its standard output");
    let (send, receive) = mpsc::channel();
    // Reads on until the end: a full pipe would stop the sandbox.
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(endpoint) = line.strip_prefix(READY) {
                let _ = send.send(endpoint.trim().to_string());
            }
        }
    });
    match receive.recv_timeout(Duration::from_secs(120)) {
        Ok(endpoint) => (child, endpoint),
        Err(error) => {
            stop(&mut child);
            let said = std::fs::read_to_string(data.join("stderr.log")).unwrap_or_default();
            panic!("the sandbox did not say that it is ready: {error}\n{said}");
        }
    }
}
