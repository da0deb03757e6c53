//! Work on many things at once, and what happens to the others when one fails.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, stream};

/// Runs `work` on every item, `at_once` at a time; results come in any order.
///
/// After a failure nothing new is begun, and what runs is waited for: a job that BigQuery still works on would write
/// after its traces were removed.
///
/// # Errors
/// The first failure.
pub(super) async fn each<I, T, E, F>(
    items: impl IntoIterator<Item = I>,
    at_once: usize,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>, E>
where
    F: Future<Output = Result<T, E>>,
{
    let failed = AtomicBool::new(false);
    let (failed, work) = (&failed, &work);
    let outcomes: Vec<Option<Result<T, E>>> = stream::iter(items)
        .map(|item| async move {
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = work(item).await;
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            Some(outcome)
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    outcomes.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn after_a_failure_nothing_is_begun_and_what_runs_ends() {
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (begun_ref, ended_ref) = (&begun, &ended);
        let outcome = each(0..100, 4, |n| async move {
            begun_ref.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if n == 1 {
                return Err("broken");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            ended_ref.fetch_add(1, Ordering::Relaxed);
            Ok(n)
        })
        .await;
        assert_eq!(outcome, Err("broken"));
        let (begun, ended) = (begun.into_inner(), ended.into_inner());
        assert!(begun < 10 && ended == begun - 1, "{begun} {ended}");
    }
}
