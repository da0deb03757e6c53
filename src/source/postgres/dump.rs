//! `pg_dump`'s output on its way into the vault, its rows counted and fingerprinted, and compressed here: never a temporary file
//! for the custom format.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::pipe::{PipeWriter, pipe};
use super::tools::{Tool, complaint};
use crate::codec::CodecError;
use crate::codec::fingerprint::Hashes;
use crate::codec::pg_dump::{DumpReader, DumpedTable, Rows};
use crate::manifest::{DumpRecord, ObjectRecord};
use crate::model::{DatabaseUrl, Failure};
use crate::source::streamed::Sink;

/// zstd's own default: what more would gain takes longer than `pg_dump` does.
const LEVEL: i32 = 3;
const BUFFER_BYTES: usize = 256 << 10;
/// Longer than this nothing is waited for that somebody else has locked.
const LOCK_TIMEOUT: &str = "60000";
/// Of the directory format, the file that tells what the others hold.
pub(super) const TABLE_OF_CONTENTS: &str = "toc.dat";

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
    pub async fn custom(&self) -> Result<Dumped, Failure> {
        let mut command = self.command();
        command.arg("--format=custom");
        let seen = Seen::new(Content::Dump(Box::default()));
        let (object, seen) = stored(self.sink, "database.dump.zst", (self.tool, self.url), command, seen).await?;
        let (size_bytes, objects, settings) = (seen.size_bytes, vec![object], BTreeMap::new());
        let record = DumpRecord { format: "custom".into(), size_bytes, objects, settings };
        Ok(Dumped { record, tables: seen.tables(self.url)? })
    }

    /// A file a table, by several jobs: into a scratch directory first, since `pg_dump` writes so only into one.
    pub async fn directory(&self, jobs: usize, scratch: Option<&str>) -> Result<Dumped, Failure> {
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
        // The table of contents tells which file holds which table's rows.
        names.sort_by_key(|name| (name != TABLE_OF_CONTENTS, name.clone()));
        let (size_bytes, objects, settings) = (0, vec![], BTreeMap::new());
        let mut record = DumpRecord { format: "directory".into(), size_bytes, objects, settings };
        let mut tables: Option<Vec<DumpedTable>> = None;
        for (at, name) in names.iter().enumerate() {
            let path = target.join(name);
            record.size_bytes += path.metadata().map_err(local)?.len();
            let name = name.to_string_lossy();
            let table = tables.iter_mut().flatten().find(|table| table.file.as_deref() == Some(&name));
            let content = match &table {
                _ if name == TABLE_OF_CONTENTS => Content::Dump(Box::default()),
                Some(_) => Content::Rows(Rows::default()),
                None => Content::Other,
            };
            let object = format!("database.dump/{name}.zst");
            let (object, seen) = compressed_file(self.sink, &object, &path, Seen::new(content)).await?;
            match table {
                Some(table) => table.rows = seen.rows(self.url)?,
                None if name == TABLE_OF_CONTENTS => tables = seen.tables(self.url)?,
                None => {}
            }
            record.objects.push(object);
            self.sink.progress(at + 1, names.len(), "files of the dump");
        }
        Ok(Dumped { record, tables })
    }
}

/// A dump, and what was seen of it on its way.
pub(super) struct Dumped {
    pub record: DumpRecord,
    /// `None`: `pg_dump` writes a format that is not known here.
    pub tables: Option<Vec<DumpedTable>>,
}

/// Sees bytes before they are compressed.
struct Seen {
    size_bytes: u64,
    content: Content,
}

enum Content {
    Dump(Box<DumpReader>),
    Rows(Rows),
    Other,
    Broken(CodecError),
}

impl Seen {
    fn new(content: Content) -> Self {
        Self { size_bytes: 0, content }
    }

    fn see(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        match &mut self.content {
            Content::Dump(reader) => {
                if let Err(error) = reader.feed(bytes) {
                    self.content = Content::Broken(error);
                }
            }
            Content::Rows(rows) => rows.feed(bytes),
            Content::Other | Content::Broken(_) => {}
        }
    }

    fn tables(self, url: &DatabaseUrl) -> Result<Option<Vec<DumpedTable>>, Failure> {
        match self.content {
            Content::Dump(reader) => reader.finish().map(Some).map_err(|error| broken(url, &error)),
            Content::Broken(error @ CodecError::Malformed { .. }) => Err(broken(url, &error)),
            Content::Broken(_) | Content::Rows(_) | Content::Other => Ok(None),
        }
    }

    fn rows(self, url: &DatabaseUrl) -> Result<Hashes, Failure> {
        match self.content {
            Content::Rows(rows) => rows.finish().map_err(|error| broken(url, &error)),
            _ => Ok(Hashes::default()),
        }
    }
}

fn broken(url: &DatabaseUrl, error: &CodecError) -> Failure {
    Failure::Corrupt { object: url.to_string(), message: format!("what pg_dump wrote: {error}") }
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
    let (object, _) = stored(sink, "globals.sql.zst", (tool, url), command, Seen::new(Content::Other)).await?;
    Ok(object)
}

/// What a program writes, as an object; it is there only when the program ended well.
async fn stored(
    sink: &dyn Sink,
    name: &str,
    (tool, url): (&Tool, &DatabaseUrl),
    mut command: Command,
    seen: Seen,
) -> Result<(ObjectRecord, Seen), Failure> {
    command.stdout(Stdio::piped());
    let (writer, stream) = pipe(format!("{} of {url}", tool.path.display()));
    let (tool, url) = (tool.clone(), url.clone());
    let thread = tokio::task::spawn_blocking(move || pump(&tool, &url, command, writer, seen));
    let (object, seen) = tokio::join!(sink.stream(name, stream), thread);
    Ok((object?, seen.map_err(|error| lost(name, &error))?))
}

fn lost(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Transient { object: name.into(), message: error.to_string() }
}

/// Compresses what a program writes. A program that ends badly ends the stream with what it complained.
fn pump(tool: &Tool, url: &DatabaseUrl, mut command: Command, writer: PipeWriter, mut seen: Seen) -> Seen {
    let failed = |error: std::io::Error| lost(&format!("{} of {url}", tool.path.display()), &error);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            writer.fail(failed(error));
            return seen;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let complaint = std::thread::spawn(move || stderr.map(complaint).unwrap_or_default());
    let compressed = stdout.map_or(Ok(None), |stdout| compress(stdout, writer, &mut seen).map(Some));
    if compressed.is_err() {
        let _ = child.kill(); // nobody reads it any more
    }
    let (status, complaint) = (child.wait(), complaint.join().unwrap_or_default());
    let Ok(Some(writer)) = compressed else { return seen };
    match status {
        Ok(status) if status.success() => {
            let _ = writer.end(); // who reads has said why, if not
        }
        Ok(status) => writer.fail(tool.failure(url, &status, &complaint)),
        Err(error) => writer.fail(failed(error)),
    }
    seen
}

fn compress(mut input: impl Read, writer: PipeWriter, seen: &mut Seen) -> std::io::Result<PipeWriter> {
    let mut encoder = zstd::stream::write::Encoder::new(writer, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return encoder.finish(),
            Ok(length) => {
                seen.see(&buffer[..length]);
                encoder.write_all(&buffer[..length])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

async fn compressed_file(
    sink: &dyn Sink,
    name: &str,
    path: &Path,
    mut seen: Seen,
) -> Result<(ObjectRecord, Seen), Failure> {
    let file = std::fs::File::open(path).map_err(|error| lost(&path.display().to_string(), &error))?;
    let (writer, stream) = pipe(name.into());
    let thread = tokio::task::spawn_blocking(move || {
        if let Ok(writer) = compress(file, writer, &mut seen) {
            let _ = writer.end();
        }
        seen
    });
    let (object, seen) = tokio::join!(sink.stream(name, stream), thread);
    Ok((object?, seen.map_err(|error| lost(name, &error))?))
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
