//! Who may say what is in the catalog: the system's name, the keys that are trusted, and the key that signs.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use crate::model::{Failure, PublicKey, SigningKey};

/// Gets the signing key from where it is kept, when it is first needed: whoever only reads needs none.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// # Errors
    /// When there is none, or it cannot be read.
    async fn key(&self) -> Result<SigningKey, Failure>;
}

/// Whose signatures count, and how one's own are made. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    pub system: String,
    pub trusted: Arc<BTreeSet<PublicKey>>,
    source: Arc<dyn KeySource>,
    key: Arc<OnceCell<SigningKey>>,
}

impl Authority {
    pub fn new(system: &str, trusted: BTreeSet<PublicKey>, source: Arc<dyn KeySource>) -> Self {
        Self { system: system.into(), trusted: Arc::new(trusted), source, key: Arc::default() }
    }

    /// The key that signs.
    ///
    /// # Errors
    /// When there is none, or nobody would believe it.
    pub async fn key(&self) -> Result<&SigningKey, Failure> {
        self.key
            .get_or_try_init(|| async {
                let key = self.source.key().await?;
                if self.trusted.contains(&key.public()) {
                    return Ok(key);
                }
                let message = format!("its public key is {}; hint: name it in signing.trusted", key.public());
                Err(Failure::Precondition { object: "signing.key".into(), message })
            })
            .await
    }
}

/// A key that is at hand.
#[async_trait]
impl KeySource for SigningKey {
    async fn key(&self) -> Result<SigningKey, Failure> {
        Ok(self.clone())
    }
}
