//! The audit log: who called what, and what came of it, as JSON lines in the vault.
//!
//! `_strongroom/audit/{YYYYMMDD}/{instant}-{nonce}.jsonl`, written every few seconds and at the end. Never holds bodies,
//! tokens or queries: names, paths and outcomes only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Notify;

use crate::catalog::OWN_FOLDER;
use crate::store::Store;

const EVERY: Duration = Duration::from_secs(5);
/// Lines that are kept for the next writing; when the vault cannot be written for long, the oldest are dropped and counted.
const MAX_LINES: usize = 20_000;

/// A call.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub at: Timestamp,
    pub who: String,
    pub method: String,
    pub path: String,
    pub status: u16,
    /// The operation that it began, or that it asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

/// Writes lines in the background.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    home: Arc<dyn Store>,
    nonce: Arc<dyn Fn() -> String + Send + Sync>,
    lines: Mutex<(Vec<Line>, u64)>,
    wake: Notify,
    writing: tokio::sync::Mutex<()>,
}

impl Audit {
    pub fn new(home: Arc<dyn Store>, nonce: Arc<dyn Fn() -> String + Send + Sync>) -> Self {
        let inner = Arc::new(Inner {
            home,
            nonce,
            lines: Mutex::default(),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::default(),
        });
        let audit = Self { inner: inner.clone() };
        let own = Arc::downgrade(&inner);
        tokio::spawn(async move {
            while let Some(inner) = own.upgrade() {
                tokio::time::timeout(EVERY, inner.wake.notified()).await.ok();
                Self { inner }.flush().await;
            }
        });
        audit
    }

    /// Takes a line; one that `changes` something is written at once.
    pub fn line(&self, line: Line, changes: bool) {
        {
            let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.0.len() >= MAX_LINES {
                lines.0.remove(0);
                lines.1 += 1;
            }
            lines.0.push(line);
        }
        if changes {
            self.inner.wake.notify_one();
        }
    }

    /// Writes what is there.
    pub async fn flush(&self) {
        let _one_at_a_time = self.inner.writing.lock().await;
        let (lines, dropped) = {
            let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *lines)
        };
        let Some(first) = lines.first() else { return };
        let day = first.at.strftime("%Y%m%d");
        let at = first.at.strftime("%Y%m%dT%H%M%SZ");
        let nonce = (self.inner.nonce)();
        let key = format!("{OWN_FOLDER}/audit/{day}/{at}-{}.jsonl", &nonce[..nonce.len().min(12)]);
        let mut text = String::new();
        if dropped > 0 {
            text.push_str(&format!("{{\"dropped\":{dropped}}}\n"));
        }
        for line in &lines {
            text.push_str(&serde_json::to_string(line).unwrap_or_default());
            text.push('\n');
        }
        if let Err(error) = self.inner.home.put_if_absent(&key, Bytes::from(text)).await {
            tracing::warn!(%error, "the audit log cannot be written; it is tried again");
            let mut waiting = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let newer = std::mem::replace(&mut waiting.0, lines);
            waiting.0.extend(newer);
            waiting.1 += dropped;
        }
    }
}
