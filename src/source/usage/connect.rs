//! A connection to PostgreSQL.

use tokio_postgres::{Client, NoTls};

use crate::model::{DatabaseUrl, Failure, SslMode};

/// # Errors
/// What stands in the way, with the way out.
pub(super) async fn postgres(url: &DatabaseUrl) -> Result<Client, Failure> {
    let object = url.to_string();
    if !matches!(url.ssl_mode, SslMode::Disable | SslMode::Prefer) {
        let message = format!("sslmode={} is not spoken here yet; hint: reach it by a tunnel", url.ssl_mode.name());
        return Err(Failure::Invalid { object, message });
    }
    let mut config = tokio_postgres::Config::new();
    config.host(&url.host).port(url.port).user(&url.user).dbname(&url.database).application_name("strongroom");
    config.connect_timeout(std::time::Duration::from_secs(u64::from(url.connect_timeout_secs)));
    if let Some(password) = &url.password {
        config.password(password.expose());
    }
    let (client, connection) = config.connect(NoTls).await.map_err(|error| match error.as_db_error() {
        Some(told) => Failure::Denied { object, message: told.message().into() },
        None => Failure::Transient {
            object,
            message: format!("{error}; hint: is the server running, and the address right?"),
        },
    })?;
    tokio::spawn(connection);
    Ok(client)
}
