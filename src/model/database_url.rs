//! Where a PostgreSQL database is: `postgresql://user:password@host:5432/database?sslmode=require`.
//!
//! What is wrong in one is said part by part, and no message repeats any of it but names of options: a password may stand
//! at any place of a text that is not what it should be.

use std::fmt;
use std::str::FromStr;

use super::Secret;

const PORT: u16 = 5432;
const FORM: &str = "postgresql://user:password@host:5432/database";
/// What other programs keep in the same URL, and libpq does not know.
const OTHERS: [&str; 11] = [
    "schema",
    "pgbouncer",
    "connection_limit",
    "pool_timeout",
    "pool_size",
    "statement_cache_size",
    "socket_timeout",
    "uselibpqcompat",
    "serverVersion",
    "charset",
    "prepared_statements",
];

/// A database, and as whom it is reached. `Display` gives it without the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// A host's name or address; a directory (`/var/run/postgresql`) for a socket in it.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub database: String,
    pub ssl_mode: SslMode,
    /// A file of certificates that are trusted instead of the machine's own.
    pub ssl_root_cert: Option<String>,
    pub connect_timeout_secs: u32,
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SslMode {
    Disable,
    /// Encrypted where the server offers it. libpq's default, and what `allow` is taken for.
    #[default]
    Prefer,
    /// Encrypted, whoever answers.
    Require,
    /// By a server whose certificate comes from a trusted authority ...
    VerifyCa,
    /// ... and names the host.
    VerifyFull,
}

impl SslMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What is wrong in a database's URL. Never holds a part of its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; hint: {hint}")]
pub struct InvalidDatabaseUrl {
    pub message: String,
    pub hint: String,
}

fn wrong(message: impl Into<String>, hint: impl Into<String>) -> InvalidDatabaseUrl {
    InvalidDatabaseUrl { message: message.into(), hint: hint.into() }
}

impl DatabaseUrl {
    /// The same server, user and password, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.into(), ..self.clone() }
    }

    /// The server, for people: `host:port`.
    pub fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_socket() {
            return write!(f, "postgresql://{}@/{}?host={}&port={}", self.user, self.database, self.host, self.port);
        }
        write!(f, "postgresql://{}@{}/{}", self.user, self.server(), self.database)
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let rest = after_scheme(text)?;
        if let Some(found) = rest.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let what = if found.is_whitespace() { "a space or a line break" } else { "a control character" };
            return Err(wrong(
                format!("has {what} in it"),
                "URL-encode special characters of the password: a space is %20",
            ));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, query),
            None => (rest, ""),
        };
        if rest.contains('#') || query.contains('#') {
            return Err(wrong("has a '#' in it", "URL-encode special characters of the password: # is %23"));
        }
        let (authority, database) = match rest.split_once('/') {
            Some((authority, database)) => (authority, database),
            None => (rest, ""),
        };
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None if database.contains('@') => {
                return Err(wrong(
                    "has a '/' before its '@'",
                    "URL-encode special characters of the password: / is %2F, @ is %40",
                ));
            }
            None => (None, authority),
        };
        if login.is_some_and(|login| login.contains('@')) {
            return Err(wrong("has more than one '@'", "URL-encode special characters of the password: @ is %40"));
        }
        if database.contains(['/', '@']) {
            return Err(wrong(
                "names no database but a path",
                format!("{FORM}; URL-encode special characters of the password: / is %2F"),
            ));
        }
        let mut url = Self {
            host: String::new(),
            port: PORT,
            user: String::new(),
            password: None,
            database: decoded("the database", database)?,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            connect_timeout_secs: 10,
        };
        if let Some(login) = login {
            let (user, password) = match login.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (login, None),
            };
            url.user = decoded("the user", user)?;
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                url.password = Some(Secret::new(decoded("the password", password)?));
            }
        }
        url.set_address(address)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            url.set_option(pair)?;
        }
        url.checked()
    }
}

/// What follows `postgresql://`.
fn after_scheme(text: &str) -> Result<&str, InvalidDatabaseUrl> {
    if text.trim().is_empty() {
        return Err(wrong("is empty", FORM));
    }
    if text.starts_with(['"', '\'']) {
        return Err(wrong("begins with a quotation mark", "remove the quotation marks around the value"));
    }
    if text.starts_with("${") || text.starts_with('<') {
        return Err(wrong("still holds a placeholder", format!("put the database's own URL there: {FORM}")));
    }
    let Some((scheme, rest)) = text.trim().split_once("://") else {
        let hint = match text.contains('=') {
            true => format!("{FORM}; the form key=value is not understood"),
            false => FORM.into(),
        };
        return Err(wrong("is no URL: it has no '://'", hint));
    };
    // SQLAlchemy's driver: postgresql+asyncpg.
    match scheme.split('+').next().unwrap_or_default() {
        "postgresql" | "postgres" => Ok(rest),
        other if other.len() <= 12 && other.chars().all(|c| c.is_ascii_lowercase()) && !other.is_empty() => {
            Err(wrong(format!("is a URL of '{other}', not of PostgreSQL"), FORM))
        }
        _ => Err(wrong("does not begin with postgresql://", FORM)),
    }
}

impl DatabaseUrl {
    fn set_address(&mut self, address: &str) -> Result<(), InvalidDatabaseUrl> {
        if address.contains(',') {
            return Err(wrong("names several hosts", "name the one server that is to be backed up"));
        }
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) =
                    rest.split_once(']').ok_or_else(|| wrong("has a '[' without ']' in its host", FORM))?;
                (host, rest.strip_prefix(':').unwrap_or(rest))
            }
            None => match address.matches(':').count() {
                0 => (address, ""),
                1 => address.split_once(':').unwrap_or((address, "")),
                _ => {
                    return Err(wrong(
                        "has more than one ':' in its host",
                        "an IPv6 address stands in brackets: [::1]:5432; URL-encode special characters of the password",
                    ));
                }
            },
        };
        if !host.is_empty() {
            self.host = decoded("the host", host)?;
        }
        if !port.is_empty() {
            self.port = a_port(port)?;
        }
        Ok(())
    }

    fn set_option(&mut self, pair: &str) -> Result<(), InvalidDatabaseUrl> {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded("an option", value)?;
        match key {
            "host" => self.host = value,
            "port" => self.port = a_port(&value)?,
            "user" => self.user = value,
            "password" => self.password = Some(Secret::new(value)),
            "dbname" => self.database = value,
            "sslrootcert" => self.ssl_root_cert = Some(value).filter(|value| value != "system"),
            "sslmode" | "ssl" => {
                self.ssl_mode = match value.as_str() {
                    "disable" | "false" => SslMode::Disable,
                    "allow" | "prefer" => SslMode::Prefer,
                    "require" | "true" | "no-verify" => SslMode::Require,
                    "verify-ca" => SslMode::VerifyCa,
                    "verify-full" => SslMode::VerifyFull,
                    _ => {
                        return Err(wrong(
                            "has an unknown sslmode",
                            "disable, allow, prefer, require, verify-ca or verify-full",
                        ));
                    }
                }
            }
            "connect_timeout" => {
                self.connect_timeout_secs = value.parse().map_err(|_| {
                    wrong("has a connect_timeout that is no number", "a number of seconds: connect_timeout=10")
                })?;
            }
            // They do not change where the data is, or who reads it.
            "application_name"
            | "fallback_application_name"
            | "options"
            | "channel_binding"
            | "gssencmode"
            | "target_session_attrs"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "client_encoding" => {}
            other if OTHERS.contains(&other) => {}
            "sslcert" | "sslkey" | "passfile" | "service" | "hostaddr" => {
                return Err(wrong(
                    format!("has the option '{key}', which is not supported"),
                    "a password and sslrootcert are",
                ));
            }
            // A name of letters is surely no password.
            _ if key.len() <= 24 && key.chars().all(|c| c.is_ascii_lowercase() || c == '_') => {
                return Err(wrong(
                    format!("has the option '{key}', which PostgreSQL does not know"),
                    "remove it; known are sslmode, sslrootcert, connect_timeout, host and port",
                ));
            }
            _ => {
                return Err(wrong(
                    "has an option that PostgreSQL does not know",
                    "URL-encode special characters of the password: ? is %3F, & is %26",
                ));
            }
        }
        Ok(())
    }

    fn checked(mut self) -> Result<Self, InvalidDatabaseUrl> {
        if self.host.is_empty() {
            return Err(wrong("names no host", format!("{FORM}; of a socket's directory: ?host=/var/run/postgresql")));
        }
        if self.user.is_empty() {
            return Err(wrong("names no user", FORM));
        }
        if self.database.is_empty() {
            return Err(wrong("names no database", format!("{FORM}: its name stands behind the port, after a /")));
        }
        let texts = [&self.host, &self.user, &self.database];
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(wrong("has a zero byte in it", FORM));
        }
        self.connect_timeout_secs = self.connect_timeout_secs.clamp(1, 600);
        Ok(self)
    }
}

fn a_port(text: &str) -> Result<u16, InvalidDatabaseUrl> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        wrong(
            "has a port that is no number from 1 to 65535",
            format!("{FORM}; a ':' in the password is written as %3A, a '/' as %2F"),
        )
    })
}

/// The text with its `%41` as characters.
fn decoded(what: &str, text: &str) -> Result<String, InvalidDatabaseUrl> {
    let hint = "URL-encode special characters: % itself is %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| wrong(format!("has a '%' in {what} without two digits after it"), hint))?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong(format!("has bytes in {what} that are no UTF-8"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_read() {
        let url: DatabaseUrl = "postgresql://user:pa%40ss@db.example:6432/tellbill?sslmode=require".parse().unwrap();
        assert_eq!((url.user.as_str(), url.host.as_str(), url.port), ("user", "db.example", 6432));
        assert_eq!((url.database.as_str(), url.ssl_mode), ("tellbill", SslMode::Require));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("pa@ss"));
        assert_eq!(url.to_string(), "postgresql://user@db.example:6432/tellbill");
        assert!(!format!("{url:?}").contains("pa@ss"));
    }

    #[test]
    fn what_others_write_is_understood() {
        for text in [
            "postgres://u:p@h/d",
            "postgresql+asyncpg://u:p@h:5432/d",
            "postgresql+psycopg2://u:p@h:5432/d",
            "postgresql://u:p@h/d?schema=public&connection_limit=5&pgbouncer=true",
            "postgresql://u:p@h/d?sslmode=verify-full&channel_binding=require",
            "postgresql:///d?host=/var/run/postgresql&user=u",
            "postgresql://u:p@[::1]:5432/d",
        ] {
            let url = text.parse::<DatabaseUrl>();
            assert!(url.is_ok(), "{text}: {url:?}");
            assert_eq!(url.unwrap().port, 5432);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, expected) in [
            ("", "is empty"),
            ("\"postgresql://u:hunter2@h/d\"", "quotation mark"),
            ("postgresql//u:hunter2@h/d", "no '://'"),
            ("host=h password=hunter2", "key=value"),
            ("mysql://u:hunter2@h/d", "URL of 'mysql'"),
            ("postgresql://u:hunter2 x@h/d", "a space"),
            ("postgresql://u:hunter2@x@h/d", "more than one '@'"),
            ("postgresql://u:hunter2/x@h/d", "a '/' before its '@'"),
            ("postgresql://u:hunter2#x@h/d", "a '#'"),
            ("postgresql://u:hunter2%@h/d", "a '%' in the password"),
            ("postgresql://u:hunter2@h:port/d", "port that is no number"),
            ("postgresql://u:hunter2@h:5432", "names no database"),
            ("postgresql://u:hunter2@/d", "names no host"),
            ("postgresql://:hunter2@h/d", "names no user"),
            ("postgresql://u:hunter2@h/d?sslmode=hunter2", "unknown sslmode"),
            ("postgresql://u:hunter2@h/d?timeout=5", "'timeout', which PostgreSQL does not know"),
            ("postgresql://u:hunter2@h/d?hunter2=5", "an option that PostgreSQL does not know"),
            ("postgresql://u:hunter2@a,b/d", "several hosts"),
            ("postgresql://u:hunter2@::1/d", "more than one ':'"),
            ("${DATABASE_URL}", "placeholder"),
        ] {
            let error = text.parse::<DatabaseUrl>().expect_err(text).to_string();
            assert!(error.contains(expected) && error.contains("hint: "), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
