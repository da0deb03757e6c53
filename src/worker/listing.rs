//! The catalog's listing, shared by many callers: looked up at most once in a while, and by one of them only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::job::listing::{self, Listing};
use crate::job::{Context, JobError};

/// How old an answer may be. Operations of this worker are seen at once.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Cached {
    last: Mutex<Option<(Instant, Arc<Listing>)>>,
}

impl Cached {
    /// The listing, at most a few seconds old.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn get(&self, context: &Context) -> Result<Arc<Listing>, JobError> {
        let mut last = self.last.lock().await;
        if let Some((at, listing)) = last.as_ref()
            && at.elapsed() < FRESH
        {
            return Ok(listing.clone());
        }
        let listing = Arc::new(listing::run(context, None).await?);
        *last = Some((Instant::now(), listing.clone()));
        Ok(listing)
    }

    /// Forgets: something was changed.
    pub async fn forget(&self) {
        *self.last.lock().await = None;
    }
}
