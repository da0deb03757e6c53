//! A PostgreSQL server of the test's own: Debian's, on a free port, in a temporary directory, as a user who may run it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::estate::Run;

/// Planted: it must be seen nowhere. Characters that a URL has to encode are in it.
pub const PASSWORD: &str = "Zk7/p@ss:#w0rd";
pub const PASSWORD_IN_URL: &str = "Zk7%2Fp%40ss%3A%23w0rd";

pub struct Server {
    pub port: u16,
    bin: PathBuf,
    process: Child,
    /// Vaults, configurations.
    pub directory: tempfile::TempDir,
    _data: tempfile::TempDir,
}

/// The newest of Debian's servers.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    let bins = versions.into_iter().rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    { bins }.find(|bin| bin.join("initdb").exists())
}

/// A command as somebody who may run a server: root may not.
fn as_server(program: &Path) -> Command {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    match root {
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command.current_dir("/");
            command
        }
        false => Command::new(program),
    }
}

/// An authority, and a certificate of its for 127.0.0.1, by Debian's openssl (which its PostgreSQL needs too).
fn certify(directory: &Path, cluster: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").current_dir(directory).args(args).output().expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "rsa:2048", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&authority[..], &key].concat());
    openssl(&[&["req", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"][..], &key].concat());
    std::fs::write(directory.join("names"), "subjectAltName = IP:127.0.0.1\n").expect("the names");
    let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", "names"];
    let files = ["-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-out", "server.crt"];
    openssl(&[&sign[..], &files].concat());
    for name in ["server.key", "server.crt"] {
        let to = cluster.join(name);
        std::fs::copy(directory.join(name), &to).expect("copied");
        std::fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
        if let (Some(user), Some(group)) = (id_of_postgres("-u"), id_of_postgres("-g")) {
            let _ = std::os::unix::fs::chown(&to, Some(user), Some(group)); // not as root: it is ours already
        }
    }
}

fn id_of_postgres(flag: &str) -> Option<u32> {
    let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

impl Server {
    /// `None`, and a line about it, where there is no server to be had: `scripts/test` installs one.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// A server that nobody reaches without TLS; its authority's certificate is `ca.crt` in the server's directory.
    pub fn start_with_tls() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(tls: bool) -> Option<Self> {
        let Some(bin) = programs() else {
            eprintln!("skipped: no PostgreSQL server is installed (Debian: postgresql)");
            return None;
        };
        let data = tempfile::tempdir().expect("a temporary directory");
        if let (Some(user), Some(group)) = (id_of_postgres("-u"), id_of_postgres("-g")) {
            let _ = std::os::unix::fs::chown(data.path(), Some(user), Some(group)); // not as root: it is ours already
        }
        let cluster = data.path().join("data");
        let secret = data.path().join("password");
        std::fs::write(&secret, PASSWORD).expect("the password is written");
        let made = as_server(&bin.join("initdb"))
            .args(["--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"])
            .arg(format!("--pwfile={}", secret.display()))
            .arg("-D")
            .arg(&cluster)
            .stdout(Stdio::null())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut ssl = vec![];
        if tls {
            certify(directory.path(), &cluster);
            std::fs::write(cluster.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 scram-sha-256\n").expect("rules");
            ssl = vec!["-c", "ssl=on", "-c", "ssl_cert_file=server.crt", "-c", "ssl_key_file=server.key"];
        }
        let log = std::fs::File::create(data.path().join("log")).expect("a log");
        let process = as_server(&bin.join("postgres"))
            .arg("-D")
            .arg(&cluster)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off", "-c", "shared_buffers=32MB"])
            .args(ssl)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let server = Self { port, bin, process, directory, _data: data };
        let begun = Instant::now();
        while server.run_psql("postgres", "SELECT 1").code != 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "the server was not ready after two minutes");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// One of PostgreSQL's programs, pointed here.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD);
        command
    }

    fn run_psql(&self, database: &str, sql: &str) -> Run {
        let mut child = self
            .program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let sql = sql.to_string();
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output().expect("psql ends");
        let _ = writer.join(); // an error of psql's own stands in its output
        Run::of(&output)
    }

    /// What psql says, without the line's end.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.run_psql(database, sql).ok().stdout.trim_end().to_string()
    }

    /// The schema as `pg_dump` writes it, with what belongs to the database itself.
    pub fn schema(&self, database: &str) -> String {
        let output = self.program("pg_dump").args(["-s", "--create", "-d", database]).output().expect("pg_dump runs");
        let text = Run::of(&output).ok().stdout;
        // Newer versions bracket the script with a random word.
        text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }

    /// Writes a configuration with one local vault, and gives its path.
    pub fn configure(&self, name: &str, source: &str) -> PathBuf {
        let path = self.directory.path().join(format!("{name}.toml"));
        let vault = self.directory.path().join(format!("vault-{name}"));
        let text = format!(
            "name = \"{name}\"\n[[source]]\nname = \"db\"\nkind = \"postgres\"\nurl = \"${{DATABASE_URL}}\"\n{source}\n\
             [tiers.daily]\nkeep = \"30d\"\ndestinations = [\"{}\"]\n",
            vault.display()
        );
        std::fs::write(&path, text).expect("the configuration is written");
        path
    }

    /// Runs the program on a database, by a URL that says more than `url`.
    pub fn strongroom_by(&self, url: &str, config: &Path, args: &[&str]) -> Run {
        Run::of(&self.command(config, "", args).env("DATABASE_URL", url).output().expect("strongroom runs"))
    }

    /// Runs the program on a database.
    pub fn strongroom(&self, config: &Path, database: &str, args: &[&str]) -> Run {
        Run::of(&self.command(config, database, args).output().expect("strongroom runs"))
    }

    pub fn command(&self, config: &Path, database: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
        command
            .arg("--config")
            .arg(config)
            .args(args)
            .env("DATABASE_URL", self.url(database))
            .env_remove("PGPASSWORD")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fast shutdown; the process that was started is the server itself.
        let _ = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}
