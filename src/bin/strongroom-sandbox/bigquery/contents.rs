//! Rows on disk: immutable Arrow IPC files, written once, synced, never changed; a bounded cache of those read last.
//!
//! Knows nothing of tables: a [`DataFile`] is named by whoever holds it, and files that nobody names are swept.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;

use super::cells::logical_bytes;

/// A file of rows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DataFile {
    pub name: String,
    pub rows: u64,
    /// Logical bytes in BigQuery's sense.
    pub bytes: u64,
    /// Rows that came through streaming stay in the buffer until then (microseconds since the epoch); 0 for all others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub buffered_until_us: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's shape
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The directory of data files.
pub struct Contents {
    dir: PathBuf,
    next: AtomicU64,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    entries: HashMap<String, (Arc<Vec<RecordBatch>>, usize, u64)>,
    bytes: usize,
    tick: u64,
}

/// Most bytes of Arrow memory that the cache keeps alive.
const CACHE_BYTES: usize = 256 << 20;

impl Contents {
    /// Opens (and makes) the directory.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let mut last = 0;
        for entry in fs::read_dir(&dir)? {
            let name = entry?.file_name().into_string().unwrap_or_default();
            if let Some(number) = name.strip_suffix(".arrow").and_then(|n| u64::from_str_radix(n, 16).ok()) {
                last = last.max(number);
            }
        }
        Ok(Self { dir, next: AtomicU64::new(last + 1), cache: Mutex::default() })
    }

    /// Writes rows and syncs them; when this returns they survive a crash. No rows make no file.
    ///
    /// # Errors
    /// When the disk refuses, or the batches do not all have `schema`.
    pub fn write(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> io::Result<Option<DataFile>> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(None);
        }
        let name = format!("{:012x}", self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path(&name);
        let mut writer =
            FileWriter::try_new(BufWriter::new(File::create_new(&path)?), schema).map_err(io::Error::other)?;
        for batch in batches.iter().filter(|b| b.num_rows() > 0) {
            writer.write(batch).map_err(io::Error::other)?;
        }
        writer.finish().map_err(io::Error::other)?;
        let mut buffer = writer.into_inner().map_err(io::Error::other)?;
        buffer.flush()?;
        buffer.get_ref().sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        let bytes = batches.iter().map(logical_bytes).sum();
        Ok(Some(DataFile { name, rows: rows as u64, bytes, buffered_until_us: 0 }))
    }

    /// The batches of a file, from the cache where they are there.
    ///
    /// # Errors
    /// When the file is missing or broken.
    pub fn read(&self, file: &DataFile) -> io::Result<Arc<Vec<RecordBatch>>> {
        {
            let mut cache = self.cache();
            cache.tick += 1;
            let tick = cache.tick;
            if let Some(entry) = cache.entries.get_mut(&file.name) {
                entry.2 = tick;
                return Ok(entry.0.clone());
            }
        }
        let named = |e: &dyn std::fmt::Display| io::Error::other(format!("data file {}: {e}", file.name));
        let reader = File::open(self.path(&file.name)).map_err(|e| named(&e))?;
        let reader = FileReader::try_new(BufReader::new(reader), None).map_err(|e| named(&e))?;
        let batches = Arc::new(reader.collect::<Result<Vec<_>, _>>().map_err(|e| named(&e))?);
        let size = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        self.cache().put(&file.name, batches.clone(), size);
        Ok(batches)
    }

    /// Removes every file that is not in `live` and was written longer ago than `grace`: younger ones may be about to be
    /// named by a record.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self, live: &HashSet<String>, grace: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let old = entry.metadata()?.modified()?.elapsed().unwrap_or_default() >= grace;
            if old && name.strip_suffix(".arrow").is_some_and(|stem| !live.contains(stem)) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.arrow"))
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn put(&mut self, name: &str, batches: Arc<Vec<RecordBatch>>, size: usize) {
        if size > CACHE_BYTES / 2 {
            return;
        }
        let tick = self.tick;
        if self.entries.insert(name.to_owned(), (batches, size, tick)).is_none() {
            self.bytes += size;
        }
        while self.bytes > CACHE_BYTES {
            let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| e.2).map(|(n, _)| n.clone()) else { break };
            if let Some((_, size, _)) = self.entries.remove(&oldest) {
                self.bytes -= size;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bigquery::rows::batch_from_json;
    use crate::bigquery::schema;
    use serde_json::json;

    #[test]
    fn rows_survive_and_unnamed_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let schema = schema::parse(&json!([{"name":"s","type":"STRING"}])).unwrap();
        let batch = batch_from_json(&schema, &[json!({"s":"a"}), json!({"s":null})]).unwrap();
        let contents = Contents::open(dir.path().join("data")).unwrap();
        let kept = contents.write(&batch.schema(), std::slice::from_ref(&batch)).unwrap().unwrap();
        let lost = contents.write(&batch.schema(), std::slice::from_ref(&batch)).unwrap().unwrap();
        assert!(contents.write(&batch.schema(), &[]).unwrap().is_none());
        let again = Contents::open(dir.path().join("data")).unwrap();
        assert_eq!(again.read(&kept).unwrap()[0], batch);
        assert_eq!(again.sweep(&HashSet::from([kept.name.clone()]), Duration::ZERO).unwrap(), 1);
        assert!(again.read(&lost).is_err());
        let fresh = again.write(&batch.schema(), std::slice::from_ref(&batch)).unwrap().unwrap();
        assert_ne!(fresh.name, kept.name);
    }
}
