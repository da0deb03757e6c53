//! A stored dump against its record, without a server: every table's rows counted and fingerprinted again.

use std::collections::HashMap;
use std::io::Read;

use super::dump::TABLE_OF_CONTENTS;
use super::restore::{Broken, content, file_name};
use super::rows::fingerprint;
use crate::codec::CodecError;
use crate::codec::fingerprint::Hashes;
use crate::codec::pg_dump::{DumpReader, DumpedTable, Rows};
use crate::manifest::{ObjectRecord, PostgresRecord};
use crate::model::Failure;
use crate::source::streamed::{Checked, Vault};

const BUFFER_BYTES: usize = 256 << 10;

/// Reads the dump whole.
///
/// # Errors
/// The vault's own; `Corrupt` when it is no dump.
pub async fn check(record: &PostgresRecord, vault: &dyn Vault) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    if record.tables.iter().all(|table| table.fingerprint.is_none()) {
        return Ok(checked); // of a format that is not known
    }
    let custom = record.dump.format == "custom";
    let contents = record.dump.objects.iter().find(|object| custom || named(object, TABLE_OF_CONTENTS));
    let Some(contents) = contents else {
        checked.differences.push(format!("the dump lacks {TABLE_OF_CONTENTS}"));
        return Ok(checked);
    };
    let mut tables = read(contents, vault, Box::<DumpReader>::default(), |reader| reader.finish()).await?;
    checked.objects.push(contents.key.clone());
    for table in tables.iter_mut().filter(|table| table.file.is_some()) {
        let file = table.file.as_deref().unwrap_or_default();
        let Some(object) = record.dump.objects.iter().find(|object| named(object, file)) else {
            checked.differences.push(format!("the dump lacks {file}, the rows of {}.{}", table.schema, table.table));
            continue;
        };
        table.rows = read(object, vault, Rows::default(), Rows::finish).await?;
        checked.objects.push(object.key.clone());
    }
    checked.differences.extend(differences(record, &tables));
    Ok(checked)
}

fn named(object: &ObjectRecord, file: &str) -> bool {
    file_name(object).as_deref() == Some(file)
}

/// What the dump holds, and the record says otherwise.
fn differences(record: &PostgresRecord, tables: &[DumpedTable]) -> Vec<String> {
    let dumped: HashMap<(&str, &str), &Hashes> =
        tables.iter().map(|table| ((table.schema.as_str(), table.table.as_str()), &table.rows)).collect();
    let difference = |table: &crate::manifest::PostgresTable| {
        let rows = dumped.get(&(table.schema.as_str(), table.table.as_str()));
        let message = match rows {
            None => "is not in the dump".into(),
            Some(rows) if rows.count != table.row_count => {
                format!("the dump has {} rows, recorded were {}", rows.count, table.row_count)
            }
            Some(rows) if table.fingerprint.as_ref().is_some_and(|then| *then != fingerprint(rows)) => {
                "the dump has other rows than those recorded".into()
            }
            Some(_) => return None,
        };
        Some(format!("{}: {message}", table.full_name()))
    };
    record.tables.iter().filter_map(difference).collect()
}

/// What takes in pieces of an object's content.
trait Taker: Send + 'static {
    fn take(&mut self, piece: &[u8]) -> Result<(), CodecError>;
}

impl Taker for Box<DumpReader> {
    fn take(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        self.feed(piece)
    }
}

impl Taker for Rows {
    fn take(&mut self, piece: &[u8]) -> Result<(), CodecError> {
        self.feed(piece);
        Ok(())
    }
}

async fn read<T: Taker, R: Send + 'static>(
    object: &ObjectRecord,
    vault: &dyn Vault,
    mut taker: T,
    finish: impl FnOnce(T) -> Result<R, CodecError> + Send + 'static,
) -> Result<R, Failure> {
    let broken = Broken::default();
    let mut input = content(vault.read(object).await?, &broken)?;
    let work = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match input.read(&mut buffer)? {
                0 => return finish(taker),
                length => taker.take(&buffer[..length])?,
            }
        }
    });
    let corrupt = |message: String| Failure::Corrupt { object: object.key.clone(), message };
    let read = work.await.map_err(|error| corrupt(error.to_string()))?;
    match broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
        Some(cause) => Err(cause), // what the vault said counts more than what followed from it
        None => read.map_err(|error| corrupt(error.to_string())),
    }
}
