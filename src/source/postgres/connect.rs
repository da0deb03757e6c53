//! Connections to a PostgreSQL server, encrypted as its URL asks, and what it says when something fails.
//!
//! No message holds the password: the server never sends it back, and what is in the URL is shown without it.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::model::{DatabaseUrl, Failure, SslMode};

/// What makes the text of every value the same on every server and at every time.
pub(super) const SESSION: &str = "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
    SET extra_float_digits = 1; SET quote_all_identifiers = off; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = ''; \
    SET row_security = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET lock_timeout = '60s'; SET client_min_messages = 'warning'";

/// Connects, with the session's settings made.
///
/// # Errors
/// What stands in the way, with the way out.
pub(in crate::source) async fn connect(url: &DatabaseUrl) -> Result<Client, Failure> {
    let mut config = Config::new();
    config
        .host(&url.host)
        .port(url.port)
        .user(&url.user)
        .dbname(&url.database)
        .application_name("strongroom")
        .connect_timeout(Duration::from_secs(u64::from(url.connect_timeout_secs)))
        .ssl_mode(match url.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
    if let Some(password) = &url.password {
        config.password(password.expose());
    }
    let told = |error: tokio_postgres::Error| failure(url, &error);
    let client = if url.ssl_mode == SslMode::Disable || url.is_socket() {
        let (client, connection) = config.connect(NoTls).await.map_err(told)?;
        tokio::spawn(connection);
        client
    } else {
        let (client, connection) = config.connect(MakeRustlsConnect::new(tls(url)?)).await.map_err(told)?;
        tokio::spawn(connection);
        client
    };
    client.batch_execute(SESSION).await.map_err(told)?;
    Ok(client)
}

fn tls(url: &DatabaseUrl) -> Result<ClientConfig, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Invalid {
        object: url.to_string(),
        message: format!("cannot set up TLS: {error}"),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?;
    if matches!(url.ssl_mode, SslMode::Prefer | SslMode::Require) && url.ssl_root_cert.is_none() {
        let anybody = Arc::new(Lenient { chain: None, provider });
        return Ok(builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth());
    }
    let Some(file) = &url.ssl_root_cert else {
        if url.ssl_mode == SslMode::VerifyCa {
            return Err(broken(
                &"sslmode=verify-ca needs sslrootcert; hint: name the authority's file, or verify-full",
            ));
        }
        let builder = builder.with_platform_verifier().map_err(|error| broken(&error))?;
        return Ok(builder.with_no_client_auth());
    };
    let mut roots = rustls::RootCertStore::empty();
    let text = std::fs::read(file).map_err(|error| broken(&format!("sslrootcert '{file}': {error}")))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| broken(&format!("sslrootcert '{file}': {error}")))?;
        roots.add(certificate).map_err(|error| broken(&format!("sslrootcert '{file}': {error}")))?;
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| broken(&format!("sslrootcert '{file}': {error}")))?;
    let verifier: Arc<dyn ServerCertVerifier> = match url.ssl_mode {
        SslMode::VerifyFull => chain,
        // As libpq: a root certificate makes `require` verify the authority, not the name.
        _ => Arc::new(Lenient { chain: Some(chain), provider }),
    };
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// What libpq checks of a server below `verify-full`: its authority, or nothing.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            outcome => outcome,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a failed call means, and the way out.
pub(super) fn failure(url: &DatabaseUrl, error: &tokio_postgres::Error) -> Failure {
    let object = url.to_string();
    let invalid = |message: String| Failure::Invalid { object: object.clone(), message };
    let (user, database, server) = (&url.user, &url.database, url.server());
    if let Some(said) = error.as_db_error() {
        let message = said.message();
        return match said.code() {
            code if *code == SqlState::INVALID_PASSWORD => {
                let hint = "correct it in DATABASE_URL (special characters are URL-encoded: @ is %40)";
                invalid(format!("the server refuses the password of user '{user}'; hint: {hint}"))
            }
            code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                let hint =
                    "the server's pg_hba.conf says who may connect from where; sslmode=require where it asks for TLS";
                invalid(format!("the server lets nobody in so: {message}; hint: {hint}"))
            }
            code if *code == SqlState::INVALID_CATALOG_NAME => invalid(format!(
                "there is no database '{database}' on this server; hint: correct its name in DATABASE_URL, or restore it"
            )),
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                let hint = format!(
                    "a backup reads everything: GRANT pg_read_all_data TO \"{user}\" (before PostgreSQL 14: SELECT on every \
                     table and sequence); a restore needs CREATEDB, or a superuser"
                );
                invalid(format!("user '{user}' has not the right: {message}; hint: {hint}"))
            }
            code if *code == SqlState::LOCK_NOT_AVAILABLE => {
                let hint = "somebody changes a table's definition; look into pg_stat_activity and try again";
                Failure::Transient { object, message: format!("{message}; hint: {hint}") }
            }
            code if *code == SqlState::TOO_MANY_CONNECTIONS
                || *code == SqlState::CANNOT_CONNECT_NOW
                || *code == SqlState::ADMIN_SHUTDOWN
                || *code == SqlState::CRASH_SHUTDOWN =>
            {
                Failure::Transient { object, message: message.into() }
            }
            code => invalid(format!("{message} (SQLSTATE {})", code.code())),
        };
    }
    let cause = std::error::Error::source(error);
    if let Some(io) = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        let (problem, hint) = match io.kind() {
            std::io::ErrorKind::ConnectionRefused => (
                format!("connection refused by {server}"),
                "is PostgreSQL running there, and does DATABASE_URL name the right host and port?",
            ),
            std::io::ErrorKind::NotFound => (
                format!("there is no socket in {}", url.host),
                "is PostgreSQL running there? does DATABASE_URL name the right directory and port?",
            ),
            std::io::ErrorKind::TimedOut => {
                (format!("no answer from {server}"), "does a firewall stand between? is the host's name right?")
            }
            _ if io.to_string().contains("lookup") => {
                (format!("the host '{}' is not known", url.host), "correct it in DATABASE_URL")
            }
            _ => (
                format!("connection to {server} lost or not made: {io}"),
                "sslmode in DATABASE_URL says whether TLS is asked for",
            ),
        };
        return Failure::Transient { object, message: format!("{problem}; hint: {hint}") };
    }
    let text = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    match error.is_closed() {
        true => Failure::Transient { object, message: format!("the connection was closed: {text}") },
        false if text.contains("TLS") => {
            invalid(format!("{text}; hint: sslmode in DATABASE_URL asks for TLS, which the server does not offer"))
        }
        false if text.contains("password missing") => invalid(format!(
            "the server asks user '{user}' for a password; hint: DATABASE_URL has none: postgresql://{user}:password@..."
        )),
        false if text.contains("connection timed out") => Failure::Transient {
            object,
            message: format!("no answer from {server}; hint: does a firewall stand between? is the host's name right?"),
        },
        false => invalid(text),
    }
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
pub(super) fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}
