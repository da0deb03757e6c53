//! Whether schedules are followed: `_strongroom/schedule.json`, below the home's root. Without it they are.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::OWN_FOLDER;
use crate::model::Failure;
use crate::store::Store;

/// Who said last whether schedules are followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub on: bool,
    pub at: Timestamp,
    pub by: String,
}

fn key() -> String {
    format!("{OWN_FOLDER}/schedule.json")
}

/// What was said last; `None` when nobody said anything.
///
/// # Errors
/// When the store cannot be read; `Corrupt` for what is no such record.
pub async fn switch(home: &dyn Store) -> Result<Option<Switch>, Failure> {
    let (bytes, _) = match home.get(&key()).await {
        Ok(found) => found,
        Err(Failure::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let corrupt = |error: serde_json::Error| Failure::Corrupt {
        object: home.address(&key()),
        message: format!("{error}; hint: strongroom schedule start, or stop"),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(corrupt)
}

/// Says it.
///
/// # Errors
/// When the store cannot be written.
pub async fn set(home: &dyn Store, switch: &Switch) -> Result<(), Failure> {
    let failed = |error: serde_json::Error| Failure::Invalid { object: key(), message: error.to_string() };
    home.put(&key(), Bytes::from(serde_json::to_vec(switch).map_err(failed)?)).await.map(drop)
}
