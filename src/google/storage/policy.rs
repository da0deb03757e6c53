//! Our retry policy in the words of Google's crates, for the calls that only the crate can resume in their middle.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_gax::backoff_policy::BackoffPolicy;
use google_cloud_gax::error::Error;
use google_cloud_gax::retry_policy::RetryPolicy as GaxRetry;
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_gax::retry_state::RetryState;
use google_cloud_storage::read_resume_policy::{ReadResumePolicy, ResumeQuery, ResumeResult};

use crate::google::error::{Fault, Known};
use crate::google::retry::RetryPolicy;

/// The same schedule as `retry.rs`; `Retry-After` does not reach it, as the crate does not hand it on.
#[derive(Debug, Clone)]
pub(super) struct Repeat(pub Arc<RetryPolicy>);

impl Repeat {
    fn decide(&self, error: Error, attempt: u32, elapsed: Duration) -> RetryResult {
        if Fault::from_gax("", &error).effect == Known::Refused {
            return RetryResult::Permanent(error);
        }
        match self.0.next_delay(attempt, elapsed, None, 0.0) {
            Some(_) => RetryResult::Continue(error),
            None => RetryResult::Exhausted(error),
        }
    }
}

impl GaxRetry for Repeat {
    fn on_error(&self, state: &RetryState, error: Error) -> RetryResult {
        self.decide(error, state.attempt_count, state.start.elapsed())
    }
}

impl BackoffPolicy for Repeat {
    fn on_failure(&self, state: &RetryState) -> Duration {
        let jitter = rand::random::<f64>();
        self.0.next_delay(state.attempt_count, state.start.elapsed(), None, jitter).unwrap_or_default()
    }
}

impl ReadResumePolicy for Repeat {
    /// The crate counts resumptions from zero, over the whole read: each one has brought some bytes or failed at once.
    fn on_error(&self, status: &ResumeQuery, error: Error) -> ResumeResult {
        self.decide(error, status.attempt_count + 1, Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::rpc::{Code, Status};

    use super::*;

    #[test]
    fn only_what_is_worth_a_repeat_is_repeated_and_not_forever() {
        let repeat = Repeat(Arc::new(RetryPolicy { max_attempts: 3, ..RetryPolicy::default() }));
        let state = |attempt: u32| RetryState::new(true).set_attempt_count(attempt);
        let error = |code| Error::service(Status::default().set_code(code));
        assert!(GaxRetry::on_error(&repeat, &state(1), error(Code::Unavailable)).is_continue());
        assert!(GaxRetry::on_error(&repeat, &state(3), error(Code::Unavailable)).is_exhausted());
        assert!(GaxRetry::on_error(&repeat, &state(1), error(Code::PermissionDenied)).is_permanent());
        assert!(ReadResumePolicy::on_error(&repeat, &ResumeQuery::new(0), Error::io("reset")).is_continue());
        assert!(ReadResumePolicy::on_error(&repeat, &ResumeQuery::new(2), Error::io("reset")).is_exhausted());
    }
}
