//! Push subscriptions: every message is posted to the endpoint, and acknowledged by a good answer. Loopback only unless
//! the sandbox was told otherwise.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{ARRIVED, SUBSCRIPTIONS, delivery, text};
use crate::core::{ApiError, Sandbox};
use crate::scheduler;

/// How often endpoints are looked at when nothing is published.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many messages are posted one after the other before the next look.
const BATCH: usize = 50;

/// Starts what pushes.
pub fn start(sandbox: &Arc<Sandbox>) {
    let sandbox = sandbox.clone();
    tokio::spawn(async move {
        loop {
            let arrived = ARRIVED.notified();
            if let Err(e) = round(&sandbox).await {
                tracing::warn!("a round of pushes failed: {e}");
            }
            let _ = tokio::time::timeout(LOOK_EVERY, arrived).await;
        }
    });
}

async fn round(sandbox: &Arc<Sandbox>) -> Result<(), ApiError> {
    for (name, subscription) in sandbox.db.scan(SUBSCRIPTIONS, "", None, usize::MAX)? {
        let config = &subscription["pushConfig"];
        if text(config, "pushEndpoint").is_empty() || subscription["detached"] == json!(true) {
            continue;
        }
        let found = sandbox.db.transaction(|tx| delivery::lease(sandbox, tx, &name, BATCH, None))?;
        for received in found {
            let taken = post(sandbox, &name, config, &received).await;
            let id = vec![text(&received, "ackId").to_string()];
            // Without a retry policy of its own, a refused message comes again when its lease runs out.
            if taken {
                sandbox.db.transaction(|tx| delivery::acknowledge(tx, &name, &id))?;
            } else if subscription["retryPolicy"].is_object() {
                let now_us = sandbox.clock.now_us();
                sandbox.db.transaction(|tx| delivery::extend(tx, &name, &id, 0, now_us))?;
            }
        }
    }
    Ok(())
}

/// Whether the endpoint took the message.
async fn post(sandbox: &Sandbox, name: &str, config: &Value, received: &Value) -> bool {
    let mut body = json!({ "message": received["message"], "subscription": name });
    // Endpoints find both spellings.
    body["message"]["message_id"] = received["message"]["messageId"].clone();
    body["message"]["publish_time"] = received["message"]["publishTime"].clone();
    if let Some(attempt) = received.get("deliveryAttempt") {
        body["deliveryAttempt"] = attempt.clone();
    }
    let request = scheduler::outgoing(sandbox, reqwest::Method::POST, text(config, "pushEndpoint"), config);
    let request = match request {
        Ok(request) => request.header("User-Agent", "CloudPubSub-Google").timeout(Duration::from_secs(10)).json(&body),
        Err((_, why)) => {
            tracing::warn!("{name} is not pushed: {why}");
            return false;
        }
    };
    request.send().await.is_ok_and(|answer| matches!(answer.status().as_u16(), 102 | 200 | 201 | 202 | 204))
}
