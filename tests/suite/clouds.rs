//! Real servers of the protocols of S3 (moto) and Azure Blob Storage (Azurite), started for a test on a port of their own and
//! stopped with it. `scripts/test` installs both; without them a test says that it is skipped.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequestBody, ReqwestConnector};
use strongroom::model::Secret;
use strongroom::store::{AzureCredentials, AzureSettings, CloudStore, S3Credentials, S3Settings, Timeouts};

/// The name of the bucket and of the container that are there.
pub const BUCKET: &str = "vault";
/// The account and key that Azurite knows, as its documentation gives them.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A server, stopped when it is dropped.
pub struct Server {
    child: Child,
    pub endpoint: String,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // By the handle of the child that we started, never by name.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request at a time: moto looks whether an upload may be completed, and completes it, in two steps.
const MOTO: &str = "
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
import logging
logging.getLogger('werkzeug').setLevel(logging.ERROR)
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=False)
print(f'listening on http://127.0.0.1:{server.port}', flush=True)
server.serve_forever()
";

/// moto, with a bucket; `None`, and a word about it, where it is not installed.
pub fn s3() -> Option<Server> {
    let Some(python) = std::env::var_os("STRONGROOM_PYTHON") else {
        println!("skipped: STRONGROOM_PYTHON names no Python with moto; scripts/test installs one");
        return None;
    };
    let mut command = Command::new(python);
    command.args(["-B", "-c", MOTO]);
    let server = start(command, "listening on ");
    let made = wait(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        client.put(format!("{}/{BUCKET}", server.endpoint)).send().await.expect("moto answers").status()
    });
    assert!(made.is_success(), "moto makes a bucket: {made}");
    Some(server)
}

/// Azurite, with a container; `None`, and a word about it, where it is not installed.
pub fn azure() -> Option<Server> {
    let main = "node_modules/azurite/dist/src/blob/main.js";
    let installed = std::env::var_os("STRONGROOM_AZURITE").map(|home| PathBuf::from(home).join(main));
    let Some(main) = installed.filter(|main| main.is_file()) else {
        println!("skipped: STRONGROOM_AZURITE names no folder with azurite; scripts/test installs one");
        return None;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("node");
    command.arg(main).args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent", "--disableTelemetry"]);
    command.arg("--location").arg(directory.path());
    let mut server = start(command, "successfully listens on ");
    server._directory = directory;
    server.endpoint = format!("{}/{ACCOUNT}", server.endpoint);
    let made = wait(async {
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(ACCOUNT_KEY).expect("a key"));
        let options = object_store::ClientOptions::new().with_allow_http(true);
        let client = ReqwestConnector::default().connect(&options).expect("a client");
        let request = http::Request::put(format!("{}/{BUCKET}?restype=container", server.endpoint));
        let mut request = request.header("content-length", "0").body(HttpRequestBody::empty()).expect("a request");
        AzureAuthorizer::new(&key, ACCOUNT).authorize(&mut request);
        client.execute(request).await.expect("Azurite answers").status()
    });
    assert!(made.is_success(), "Azurite makes a container: {made}");
    Some(server)
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// Starts a server and waits until it says where it listens.
fn start(mut command: Command, ready: &'static str) -> Server {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let errors = std::fs::File::create(directory.path().join("stderr.log")).expect("a log file");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().expect("the server starts");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, endpoint)) = line.split_once(ready) {
                tell.send(endpoint.trim().to_string()).ok();
            }
        }
    });
    match told.recv_timeout(Duration::from_secs(120)) {
        Ok(endpoint) => Server { child, endpoint, _directory: directory },
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            let errors = std::fs::read_to_string(directory.path().join("stderr.log")).unwrap_or_default();
            panic!("the server did not say that it listens: {errors}");
        }
    }
}

/// A bucket of a server, perhaps one that is not there.
pub fn s3_at(endpoint: &str, bucket: &str) -> CloudStore {
    s3_of(endpoint, bucket, "")
}

fn s3_of(endpoint: &str, bucket: &str, prefix: &str) -> CloudStore {
    let key = S3Credentials::Key { id: "test".into(), secret: Secret::new("hidden-key"), token: None };
    let settings = S3Settings {
        region: "us-east-1".into(),
        endpoint: Some(endpoint.into()),
        path_style: true,
        credentials: key,
        timeouts: Timeouts::default(),
    };
    CloudStore::s3(bucket, prefix, &settings).expect("a store")
}

impl Server {
    pub fn s3_store(&self, prefix: &str) -> CloudStore {
        s3_of(&self.endpoint, BUCKET, prefix)
    }

    pub fn azure_store(&self, container: &str, prefix: &str) -> CloudStore {
        let settings = AzureSettings {
            account: ACCOUNT.into(),
            endpoint: Some(self.endpoint.clone()),
            credentials: AzureCredentials::AccountKey(Secret::new(ACCOUNT_KEY)),
            timeouts: Timeouts::default(),
        };
        CloudStore::azure(container, prefix, &settings).expect("a store")
    }
}
