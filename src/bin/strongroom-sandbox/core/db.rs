//! One SQLite file of JSON documents, addressed by (space, key). Keys are ordered by their UTF-8 bytes.
//! Knows nothing of what the documents mean. Calls are short and synchronous.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::ApiError;

/// The store of all metadata. Survives SIGKILL: SQLite in WAL mode, each call or transaction is one commit.
pub struct Db {
    connection: Mutex<Connection>,
}

/// Where a scan starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    First,
    /// At this key or the next one.
    At(String),
    After(String),
}

/// The same calls inside a transaction.
pub struct Tx<'a> {
    connection: &'a Connection,
}

impl Db {
    /// # Errors
    /// When the file cannot be opened or is no database.
    pub fn open(path: &Path) -> Result<Self, ApiError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS kv (space TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
             PRIMARY KEY (space, key)) WITHOUT ROWID",
        )?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// The document at (space, key).
    ///
    /// # Errors
    /// When the database fails.
    pub fn get(&self, space: &str, key: &str) -> Result<Option<Value>, ApiError> {
        Tx { connection: &self.lock() }.get(space, key)
    }

    /// Writes the document at (space, key), whether or not there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&self, space: &str, key: &str, value: &Value) -> Result<(), ApiError> {
        Tx { connection: &self.lock() }.put(space, key, value)
    }

    /// Removes the document; tells whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete(&self, space: &str, key: &str) -> Result<bool, ApiError> {
        Tx { connection: &self.lock() }.delete(space, key)
    }

    /// Up to `limit` documents whose keys begin with `prefix` and sort after `after`, in the order of keys.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scan(
        &self,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ApiError> {
        Tx { connection: &self.lock() }.scan(space, prefix, after, limit)
    }

    /// As [`Db::scan`], with a choice of where to start.
    ///
    /// # Errors
    /// When the database fails.
    pub fn scan_from(
        &self,
        space: &str,
        prefix: &str,
        start: &Start,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ApiError> {
        Tx { connection: &self.lock() }.scan_from(space, prefix, start, limit)
    }

    /// Runs `work` as one transaction: committed when it returns Ok, without effect otherwise. Other calls wait
    /// meanwhile, so `work` must not call the `Db` itself, only its `Tx`.
    ///
    /// # Errors
    /// What `work` returned, or the database's failure.
    pub fn transaction<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&Tx { connection: &transaction })?;
        transaction.commit()?;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in a transaction rolled it back when it was dropped: the connection is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tx<'_> {
    /// See [`Db::get`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn get(&self, space: &str, key: &str) -> Result<Option<Value>, ApiError> {
        let mut statement = self.connection.prepare_cached("SELECT value FROM kv WHERE space = ?1 AND key = ?2")?;
        let bytes: Option<Vec<u8>> = statement.query_row(params![space, key], |row| row.get(0)).optional()?;
        bytes.map(|b| decode(&b)).transpose()
    }

    /// See [`Db::put`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn put(&self, space: &str, key: &str, value: &Value) -> Result<(), ApiError> {
        let bytes = serde_json::to_vec(value).map_err(|e| ApiError::internal(format!("cannot encode '{key}': {e}")))?;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO kv (space, key, value) VALUES (?1, ?2, ?3)")?
            .execute(params![space, key, bytes])?;
        Ok(())
    }

    /// See [`Db::delete`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn delete(&self, space: &str, key: &str) -> Result<bool, ApiError> {
        let mut statement = self.connection.prepare_cached("DELETE FROM kv WHERE space = ?1 AND key = ?2")?;
        Ok(statement.execute(params![space, key])? > 0)
    }

    /// See [`Db::scan`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn scan(
        &self,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ApiError> {
        let start = after.map_or(Start::First, |a| Start::After(a.to_string()));
        self.scan_from(space, prefix, &start, limit)
    }

    /// See [`Db::scan_from`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn scan_from(
        &self,
        space: &str,
        prefix: &str,
        start: &Start,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ApiError> {
        let (from, operator) = match start {
            Start::After(key) if key.as_str() >= prefix => (key.as_str(), ">"),
            Start::At(key) if key.as_str() >= prefix => (key.as_str(), ">="),
            _ => (prefix, ">="),
        };
        let sql = format!("SELECT key, value FROM kv WHERE space = ?1 AND key {operator} ?2 ORDER BY key");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![space, from])?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.next()? else { break };
            let key: String = row.get(0)?;
            if !key.starts_with(prefix) {
                break;
            }
            let value = decode(row.get_ref(1)?.as_blob().map_err(|e| ApiError::internal(e.to_string()))?)?;
            found.push((key, value));
        }
        Ok(found)
    }
}

fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|e| ApiError::internal(format!("a stored document is damaged: {e}")))
}

impl From<rusqlite::Error> for ApiError {
    fn from(e: rusqlite::Error) -> Self {
        ApiError::internal(format!("the sandbox's database failed: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_kept_scanned_and_rolled_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let db = Db::open(&path).unwrap();
        for key in ["a", "b/1", "b/2", "b/é", "c"] {
            db.put("s", key, &json!({ "k": key })).unwrap();
        }
        db.put("t", "b/9", &json!(1)).unwrap();
        let keys = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
            db.scan("s", prefix, after, limit).unwrap().into_iter().map(|(k, _)| k).collect()
        };
        assert_eq!(keys("b/", None, 9), ["b/1", "b/2", "b/é"]);
        assert_eq!(keys("b/", Some("b/1"), 1), ["b/2"]);
        assert_eq!(keys("", None, 9).len(), 5);
        let failed: Result<(), _> = db.transaction(|tx| {
            tx.delete("s", "a")?;
            Err(ApiError::invalid("no"))
        });
        assert!(failed.is_err());
        assert!(db.get("s", "a").unwrap().is_some());
        drop(db);
        assert_eq!(Db::open(&path).unwrap().get("s", "c").unwrap(), Some(json!({ "k": "c" })));
    }
}
