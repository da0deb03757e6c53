//! `pg_dump`'s output on its way into the vault, compressed here: never a temporary file for the custom format.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pipe::{PipeWriter, pipe};
use super::tools::{Tool, complaint};
use crate::manifest::{DumpRecord, ObjectRecord};
use crate::model::{DatabaseUrl, Failure};
use crate::source::streamed::Sink;

/// zstd's own default: what more would gain takes longer than `pg_dump` does.
const LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 256 << 10;
/// Longer than this nothing is waited for that somebody else has locked.
const LOCK_TIMEOUT: &str = "60000";

/// A dump of the state that the snapshot is of.
pub(super) struct Dump<'a> {
    pub url: &'a DatabaseUrl,
    pub tool: &'a Tool,
    pub snapshot: &'a str,
    pub sink: &'a dyn Sink,
}

impl Dump<'_> {
    fn command(&self) -> Command {
        let mut command = self.tool.command(self.url);
        // Level 0: it compresses slower, and worse.
        command.args(["--compress=0", "--lock-wait-timeout", LOCK_TIMEOUT, "--snapshot", self.snapshot]);
        command.arg("--quote-all-identifiers");
        command
    }

    /// One object, as it comes.
    pub async fn custom(&self) -> Result<DumpRecord, Failure> {
        let mut command = self.command();
        command.arg("--format=custom");
        let (object, size_bytes) = stored(self.sink, "database.dump.zst", (self.tool, self.url), command).await?;
        Ok(DumpRecord { format: "custom".into(), size_bytes, objects: vec![object] })
    }

    /// A file a table, by several jobs: into a scratch directory first, since `pg_dump` writes so only into one.
    pub async fn directory(&self, jobs: usize, scratch: Option<&str>) -> Result<DumpRecord, Failure> {
        let local = |error: std::io::Error| scratch_failure(scratch, &error);
        let folder = match scratch {
            Some(scratch) => tempfile::Builder::new().prefix("strongroom-dump-").tempdir_in(scratch),
            None => tempfile::Builder::new().prefix("strongroom-dump-").tempdir(),
        };
        let folder = folder.map_err(local)?;
        let target = folder.path().join("dump");
        let mut command = self.command();
        command.arg("--format=directory").arg("--jobs").arg(jobs.to_string()).arg("--file").arg(&target);
        let (tool, url) = (self.tool.clone(), self.url.clone());
        run(&tool, &url, command, None).await?;
        let mut names = std::fs::read_dir(&target)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
            })
            .map_err(local)?;
        names.sort();
        let mut record = DumpRecord { format: "directory".into(), size_bytes: 0, objects: vec![] };
        for (at, name) in names.iter().enumerate() {
            let path = target.join(name);
            record.size_bytes += path.metadata().map_err(local)?.len();
            let name = format!("database.dump/{}.zst", name.to_string_lossy());
            record.objects.push(compressed_file(self.sink, &name, &path).await?);
            self.sink.progress(at + 1, names.len(), "files of the dump");
        }
        Ok(record)
    }
}

pub(super) fn scratch_failure(scratch: Option<&str>, error: &std::io::Error) -> Failure {
    let object =
        scratch.map_or_else(|| "the directory for temporary files".into(), |scratch| format!("scratch '{scratch}'"));
    let message = format!("{error}; hint: scratch = \"...\" names a directory with room for the whole dump");
    Failure::Invalid { object, message }
}

/// Roles and tablespaces, without passwords.
pub(super) async fn globals(tool: &Tool, url: &DatabaseUrl, sink: &dyn Sink) -> Result<ObjectRecord, Failure> {
    let mut command = tool.command(url);
    command.args(["--globals-only", "--no-role-passwords", "--quote-all-identifiers", "--database"]);
    command.arg(&url.database);
    let (object, _) = stored(sink, "globals.sql.zst", (tool, url), command).await?;
    Ok(object)
}

/// What a program writes, as an object; it is there only when the program ended well. Gives also the bytes before they
/// were compressed.
async fn stored(
    sink: &dyn Sink,
    name: &str,
    (tool, url): (&Tool, &DatabaseUrl),
    mut command: Command,
) -> Result<(ObjectRecord, u64), Failure> {
    command.stdout(Stdio::piped());
    let (writer, stream) = pipe(format!("{} of {url}", tool.path.display()));
    let read = Arc::new(AtomicU64::new(0));
    let (tool, url, counted) = (tool.clone(), url.clone(), read.clone());
    let thread = tokio::task::spawn_blocking(move || pump(&tool, &url, command, writer, &counted));
    let (object, _) = tokio::join!(sink.stream(name, stream), thread);
    Ok((object?, read.load(Ordering::Relaxed)))
}

/// Compresses what a program writes. A program that ends badly ends the stream with what it complained.
fn pump(tool: &Tool, url: &DatabaseUrl, mut command: Command, writer: PipeWriter, read: &AtomicU64) {
    let object = || format!("{} of {url}", tool.path.display());
    let failed = |error: std::io::Error| Failure::Transient { object: object(), message: error.to_string() };
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return writer.fail(failed(error)),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaint = std::thread::spawn(move || stderr.map(complaint).unwrap_or_default());
    let compressed = stdout.map_or(Ok(None), |stdout| compress(stdout, writer, read).map(Some));
    if compressed.is_err() {
        let _ = child.kill(); // nobody reads it any more
    }
    let (status, complaint) = (child.wait(), complaint.join().unwrap_or_default());
    let Ok(Some(writer)) = compressed else { return };
    match status {
        Ok(status) if status.success() => {
            let _ = writer.end(); // who reads has said why, if not
        }
        Ok(status) => writer.fail(tool.failure(url, &status, &complaint)),
        Err(error) => writer.fail(failed(error)),
    }
}

fn compress(mut input: impl Read, writer: PipeWriter, read: &AtomicU64) -> std::io::Result<PipeWriter> {
    let mut encoder = zstd::stream::write::Encoder::new(writer, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return encoder.finish(),
            Ok(length) => {
                read.fetch_add(length as u64, Ordering::Relaxed);
                encoder.write_all(&buffer[..length])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

async fn compressed_file(sink: &dyn Sink, name: &str, path: &Path) -> Result<ObjectRecord, Failure> {
    let object = path.display().to_string();
    let local = move |error: std::io::Error| Failure::Transient { object: object.clone(), message: error.to_string() };
    let file = std::fs::File::open(path).map_err(&local)?;
    let (writer, stream) = pipe(name.into());
    let thread = tokio::task::spawn_blocking(move || {
        if let Ok(writer) = compress(file, writer, &AtomicU64::new(0)) {
            let _ = writer.end();
        }
    });
    let (object, _) = tokio::join!(sink.stream(name, stream), thread);
    object
}

/// Runs a program to its end; `input` is what it reads. An input that breaks off ends the program.
pub(super) async fn run(
    tool: &Tool,
    url: &DatabaseUrl,
    mut command: Command,
    input: Option<Box<dyn Read + Send>>,
) -> Result<(), Failure> {
    let (tool, url) = (tool.clone(), url.clone());
    let object = tool.path.display().to_string();
    let broken = |message: String| Failure::Transient { object: object.clone(), message };
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| broken(error.to_string()))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let work = tokio::task::spawn_blocking(move || {
        let complaint = std::thread::spawn(move || stderr.map(complaint).unwrap_or_default());
        let mut fed = Ok(());
        if let (Some(mut input), Some(mut stdin)) = (input, stdin) {
            fed = std::io::copy(&mut input, &mut stdin).map(drop);
            if let Err(error) = &fed
                && error.kind() != std::io::ErrorKind::BrokenPipe
            {
                let _ = child.kill(); // what it was given is not whole
            }
        }
        (child.wait(), complaint.join().unwrap_or_default(), fed)
    });
    let (status, complaint, fed) = work.await.map_err(|error| broken(error.to_string()))?;
    match (status, fed) {
        (_, Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(broken(error.to_string())),
        (Ok(status), _) if status.success() => Ok(()),
        (Ok(status), _) => Err(tool.failure(&url, &status, &complaint)),
        (Err(error), _) => Err(broken(error.to_string())),
    }
}
