//! The worker: where it listens, and who may call it.

use core::net::SocketAddr;

use toml::Table;

use super::reader::{Problems, Reader};

/// How `serve` is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    pub listen: SocketAddr,
    /// Bearer tokens; only their digests are known here.
    pub tokens: Vec<Token>,
    /// The address that Google's identity tokens must have been made for, such as the service's own URL.
    pub audience: Option<String>,
    /// Which service accounts and people may call with an identity token, and as what.
    pub callers: Vec<Caller>,
}

/// What a caller may do: each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Takes backups, verifies, drills, restores what is missing.
    Operator,
    /// Replaces and deletes.
    Admin,
}

/// A token by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub name: String,
    pub role: Role,
    /// SHA-256 of the token, lowercase hexadecimal.
    pub sha256: String,
}

/// Who may call with an identity token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub email: String,
    pub role: Role,
}

impl Default for Worker {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8000)), tokens: vec![], audience: None, callers: vec![] }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            "admin" => Ok(Self::Admin),
            other => Err(format!("'{other}' is no role; hint: viewer, operator or admin")),
        }
    }
}

pub(super) fn read_worker(path: &str, table: Table, problems: &mut Problems) -> Worker {
    let mut reader = Reader::new(path, table, problems);
    let listen = reader.parsed("listen").unwrap_or(Worker::default().listen);
    let audience = reader.text("audience");
    let mut tokens: Vec<Token> = Vec::new();
    for (path, table) in reader.tables("token") {
        let mut entry = Reader::new(&path, table, reader.problems());
        let name = entry.needed_text("name", "who holds the token");
        let role = role(&mut entry);
        let sha256 = entry.needed_text("sha256", "printf %s TOKEN | sha256sum");
        if let Some(digest) = &sha256
            && !(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        {
            // The value is not repeated: somebody may have put the token itself there.
            entry.problem("sha256", "is no SHA-256 in lowercase hexadecimal; hint: printf %s TOKEN | sha256sum");
        }
        entry.finish();
        if let (Some(name), Some(role), Some(sha256)) = (name, role, sha256) {
            if tokens.iter().any(|other| other.name == name) {
                reader.problems().add(&format!("{path}.name"), format!("'{name}' names two tokens"));
            }
            tokens.push(Token { name, role, sha256 });
        }
    }
    let mut callers = Vec::new();
    for (path, table) in reader.tables("caller") {
        let mut entry = Reader::new(&path, table, reader.problems());
        let email = entry.needed_text("email", "a service account, such as backups@PROJECT.iam.gserviceaccount.com");
        let role = role(&mut entry);
        entry.finish();
        if let (Some(email), Some(role)) = (email, role) {
            callers.push(Caller { email, role });
        }
    }
    if !callers.is_empty() && audience.is_none() {
        reader.problem("audience", "is missing; hint: the worker's own URL, which callers ask their tokens for");
    }
    reader.finish();
    Worker { listen, tokens, audience, callers }
}

fn role(entry: &mut Reader) -> Option<Role> {
    match entry.needed_text("role", "viewer, operator or admin")?.parse() {
        Ok(role) => Some(role),
        Err(error) => {
            entry.problem("role", error);
            None
        }
    }
}
