//! PostgreSQL and SQLite by the same few calls: every parameter and every result is a text.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use rusqlite::OpenFlags;
use tokio::sync::mpsc;

use crate::model::{DatabaseUrl, Failure, Secret};

/// A row of texts; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Where the records are.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Sqlite(String),
    Postgres(Box<DatabaseUrl>),
}

impl Address {
    /// # Errors
    /// What is wrong with it; nothing of it is in the message.
    pub fn of(url: &Secret) -> Result<Self, String> {
        let text = url.expose().trim();
        for scheme in ["sqlite://", "sqlite3:", "sqlite:", "file:"] {
            if let Some(path) = text.strip_prefix(scheme) {
                return match path.split('?').next().unwrap_or_default() {
                    "" | ":memory:" => Err("names no file; hint: sqlite:FILE".into()),
                    path => Ok(Self::Sqlite(path.into())),
                };
            }
        }
        if !text.starts_with("postgres") {
            return Err(
                "is no database's address; hint: postgresql://user:password@host:5432/database, or sqlite:FILE".into(),
            );
        }
        text.parse()
            .map(|url| Self::Postgres(Box::new(url)))
            .map_err(|error: crate::model::InvalidDatabaseUrl| error.to_string())
    }

    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Another database of the same server, or another file.
    pub fn with_database(&self, database: &str) -> Self {
        match self {
            Self::Sqlite(_) => Self::Sqlite(database.trim_start_matches("sqlite:").into()),
            Self::Postgres(url) => Self::Postgres(Box::new(url.with_database(database))),
        }
    }
}

impl std::fmt::Display for Address {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{path}"),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

/// An open database.
#[derive(Clone)]
pub(super) struct Database {
    name: String,
    link: Link,
}

#[derive(Clone)]
enum Link {
    Sqlite(Arc<Mutex<rusqlite::Connection>>),
    Postgres(Arc<tokio_postgres::Client>),
}

/// How long a writer is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);
/// Rows on their way at once: a bound for the memory.
const AT_ONCE: usize = 256;

impl Database {
    /// # Errors
    /// `NotFound` without the file; as the server says.
    pub async fn open(address: &Address) -> Result<Self, Failure> {
        let name = address.to_string();
        let link = match address {
            Address::Sqlite(path) => {
                let path = path.clone();
                let opened = blocking(&name, move |name| {
                    if !Path::new(&path).is_file() {
                        let message =
                            "there is no such file; hint: the path in sqlite:FILE counts from where the program runs";
                        return Err(Failure::NotFound { object: name.into(), message: message.into() });
                    }
                    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                    let connection = rusqlite::Connection::open_with_flags(&path, flags)
                        .and_then(|connection| connection.busy_timeout(PATIENCE).map(|()| connection));
                    connection.map_err(|error| of_sqlite(name, &error))
                });
                Link::Sqlite(Arc::new(Mutex::new(opened.await?)))
            }
            Address::Postgres(url) => Link::Postgres(Arc::new(crate::source::postgres::connect(url).await?)),
        };
        let this = Self { name, link };
        if let Link::Postgres(_) = this.link {
            // A table may be named without its schema.
            this.run("RESET search_path").await?;
        }
        Ok(this)
    }

    pub fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Statements without parameters or results.
    ///
    /// # Errors
    /// As the database says.
    pub async fn run(&self, sql: &str) -> Result<(), Failure> {
        match &self.link {
            Link::Postgres(client) => client.batch_execute(sql).await.map_err(|error| of_postgres(&self.name, &error)),
            Link::Sqlite(connection) => {
                let (connection, sql) = (connection.clone(), sql.to_string());
                blocking(&self.name, move |name| {
                    locked(&connection).execute_batch(&sql).map_err(|error| of_sqlite(name, &error))
                })
                .await
            }
        }
    }

    /// A statement with a parameter; gives how many rows it touched.
    ///
    /// # Errors
    /// As the database says.
    pub async fn execute(&self, sql: &str, parameter: String) -> Result<u64, Failure> {
        match &self.link {
            Link::Postgres(client) => {
                client.execute(sql, &[&parameter]).await.map_err(|error| of_postgres(&self.name, &error))
            }
            Link::Sqlite(connection) => {
                let (connection, sql) = (connection.clone(), sql.to_string());
                blocking(&self.name, move |name| {
                    let done = locked(&connection).execute(&sql, [parameter]);
                    done.map(|rows| rows as u64).map_err(|error| of_sqlite(name, &error))
                })
                .await
            }
        }
    }

    /// Few rows.
    ///
    /// # Errors
    /// As the database says.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Row>, Failure> {
        self.stream(sql).await?.try_collect().await
    }

    /// The first row.
    ///
    /// # Errors
    /// As the database says; `Corrupt` without one.
    pub async fn row(&self, sql: &str) -> Result<Row, Failure> {
        let none = || Failure::Corrupt { object: self.name.clone(), message: "a query gave no row".into() };
        self.rows(sql).await?.into_iter().next().ok_or_else(none)
    }

    /// Any number of rows, as they are asked for.
    ///
    /// # Errors
    /// As the database says, also within the stream.
    pub async fn stream(&self, sql: &str) -> Result<BoxStream<'static, Result<Row, Failure>>, Failure> {
        let name = self.name.clone();
        match &self.link {
            Link::Postgres(client) => {
                let none: [&str; 0] = [];
                let rows = client.query_raw(sql, none).await.map_err(|error| of_postgres(&name, &error))?;
                let texts = rows.map(move |row| {
                    let row = row.map_err(|error| of_postgres(&name, &error))?;
                    let text = |i| row.try_get::<_, Option<String>>(i).map_err(|error| of_postgres(&name, &error));
                    (0..row.len()).map(text).collect()
                });
                Ok(texts.boxed())
            }
            Link::Sqlite(connection) => {
                let (connection, sql) = (connection.clone(), sql.to_string());
                let (send, receive) = mpsc::channel(AT_ONCE);
                tokio::task::spawn_blocking(move || {
                    let connection = locked(&connection);
                    if let Err(error) = send_rows(&connection, &sql, &send) {
                        send.blocking_send(Err(of_sqlite(&name, &error))).ok();
                    }
                });
                Ok(futures::stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive))).boxed())
            }
        }
    }
}

fn send_rows(
    connection: &rusqlite::Connection,
    sql: &str,
    send: &mpsc::Sender<Result<Row, Failure>>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let texts = (0..columns).map(|i| row.get::<_, Option<String>>(i)).collect::<rusqlite::Result<Row>>()?;
        if send.blocking_send(Ok(texts)).is_err() {
            break; // nobody reads any more
        }
    }
    Ok(())
}

fn locked(connection: &Mutex<rusqlite::Connection>) -> MutexGuard<'_, rusqlite::Connection> {
    connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    name: &str,
    work: impl FnOnce(&str) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let (object, name) = (name.to_string(), name.to_string());
    tokio::task::spawn_blocking(move || work(&name))
        .await
        .map_err(|error| Failure::Unknown { object, message: format!("the work was interrupted: {error}") })?
}

fn of_sqlite(name: &str, error: &rusqlite::Error) -> Failure {
    use rusqlite::ErrorCode;
    let (object, message) = (name.to_string(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failure::Transient { object, message },
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied) => {
            Failure::Denied { object, message }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Corrupt { object, message },
        _ => Failure::Invalid { object, message },
    }
}

fn of_postgres(name: &str, error: &tokio_postgres::Error) -> Failure {
    let object = name.to_string();
    let Some(told) = error.as_db_error() else {
        return Failure::Transient { object, message: error.to_string() };
    };
    let message = told.message().to_string();
    match told.code().code() {
        "42501" => Failure::Denied { object, message },
        "42P01" | "3D000" => Failure::NotFound { object, message },
        code if code.starts_with("08") || code.starts_with("57") => Failure::Transient { object, message },
        _ => Failure::Invalid { object, message },
    }
}
