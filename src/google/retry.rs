//! The one retry: exponential backoff with full jitter, within a number of attempts and a budget of time.
//! Does not know what is called; the caller says what a repeat would do (`Effect`).

use std::time::{Duration, Instant};

use super::error::{Fault, Known};
use crate::model::Failure;

/// How often and how long a call is repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// All attempts, the first one included. At least 1.
    pub max_attempts: u32,
    /// No new attempt starts after this time.
    pub budget: Duration,
    /// The upper bound of the first delay; it doubles with every attempt.
    pub base_delay: Duration,
    /// The upper bound of every delay, also of what `Retry-After` asks for.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            budget: Duration::from_secs(300),
            base_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(32),
        }
    }
}

/// What repeating a call would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The call reads: it is repeated freely, and a failure is `Transient`.
    Read,
    /// The call changes something, and a repeat changes no more (a job id, a generation, a name): it is repeated, and
    /// when the last attempts do not tell, the failure is `Unknown`.
    Idempotent,
    /// A repeat could do it twice: only what was certainly not done is repeated; otherwise `Unknown`.
    Once,
}

impl RetryPolicy {
    /// The delay after failed attempt `attempt` (1 = the first), or `None` when that was the last one.
    ///
    /// `jitter` is in `0.0..1.0`: full jitter, as in
    /// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.
    pub(crate) fn next_delay(
        &self,
        attempt: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doubled = self.base_delay.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1).min(31)));
        let backoff = doubled.min(self.max_delay).mul_f64(jitter.clamp(0.0, 1.0));
        let delay = retry_after.map_or(backoff, |asked| backoff.max(asked.min(self.max_delay)));
        (elapsed + delay <= self.budget).then_some(delay)
    }
}

/// Calls until success, a refusal, or the end of the policy. `call` gets the number of the attempt (1 = the first) and
/// whether an earlier attempt may have had its effect.
///
/// # Errors
/// The failure of the last attempt; `Unknown` where an effect may have happened.
pub(crate) async fn run<T, F>(
    policy: &RetryPolicy,
    effect: Effect,
    mut call: impl FnMut(Attempt) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Fault>>,
{
    let start = Instant::now();
    let mut attempt = Attempt { number: 1, perhaps_done: false };
    loop {
        let fault = match call(attempt).await {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        if fault.effect == Known::Refused {
            return Err(fault.failure);
        }
        attempt.perhaps_done |= fault.effect == Known::Perhaps && effect != Effect::Read;
        let repeatable = effect != Effect::Once || fault.effect == Known::NotDone;
        let delay = policy.next_delay(attempt.number, start.elapsed(), fault.retry_after, rand::random::<f64>());
        let Some(delay) = delay.filter(|_| repeatable) else {
            return Err(if attempt.perhaps_done { unknown(fault.failure) } else { fault.failure });
        };
        tracing::debug!(attempt = attempt.number, delay_ms = delay.as_millis() as u64, failure = %fault.failure, "retrying");
        tokio::time::sleep(delay).await;
        attempt.number += 1;
    }
}

/// Where a repeated call stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub number: u32,
    /// An earlier attempt may have had its effect: "exists already" may be our own work.
    pub perhaps_done: bool,
}

/// The same message, as an outcome that is not known.
pub(crate) fn unknown(failure: Failure) -> Failure {
    match failure {
        Failure::Transient { object, message } => Failure::Unknown { object, message },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 4,
            budget: Duration::from_secs(10),
            base_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(4),
        }
    }

    fn fault(effect: Known) -> Fault {
        let failure = match effect {
            Known::Refused => Failure::Denied { object: "x".into(), message: "no".into() },
            _ => Failure::Transient { object: "x".into(), message: "later".into() },
        };
        Fault { failure, effect, retry_after: None }
    }

    #[test]
    fn delays_double_up_to_the_limit_and_end_with_the_attempts() {
        let policy = RetryPolicy { base_delay: Duration::from_secs(1), max_delay: Duration::from_secs(3), ..policy() };
        let full = |attempt| policy.next_delay(attempt, Duration::ZERO, None, 1.0).map(|d| d.as_secs());
        assert_eq!([full(1), full(2), full(3), full(4)], [Some(1), Some(2), Some(3), None]);
        assert_eq!(policy.next_delay(1, Duration::ZERO, None, 0.0), Some(Duration::ZERO));
        assert_eq!(policy.next_delay(2, Duration::ZERO, None, 0.25), Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_budget_of_time_ends_the_attempts() {
        let policy = RetryPolicy { base_delay: Duration::from_secs(1), max_delay: Duration::from_secs(3), ..policy() };
        assert!(policy.next_delay(1, Duration::from_secs(9), None, 1.0).is_some());
        assert!(policy.next_delay(1, Duration::from_millis(9_001), None, 1.0).is_none());
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_limit() {
        let policy = RetryPolicy { max_delay: Duration::from_secs(3), ..policy() };
        let asked = |secs| policy.next_delay(1, Duration::ZERO, Some(Duration::from_secs(secs)), 0.5);
        assert_eq!(asked(2), Some(Duration::from_secs(2)));
        assert_eq!(asked(3600), Some(Duration::from_secs(3)));
    }

    async fn outcome(effect: Effect, faults: &[Known]) -> (Result<u32, Failure>, usize) {
        let mut calls = 0;
        let result = run(&policy(), effect, |attempt| {
            let next = faults.get(calls).copied();
            calls += 1;
            async move { next.map_or(Ok(attempt.number), |known| Err(fault(known))) }
        })
        .await;
        (result, calls)
    }

    #[tokio::test]
    async fn what_is_repeated_depends_on_what_a_repeat_would_do() {
        use Known::{NotDone, Perhaps, Refused};
        assert_eq!(outcome(Effect::Read, &[Perhaps, NotDone]).await, (Ok(3), 3));
        assert_eq!(outcome(Effect::Idempotent, &[Perhaps]).await, (Ok(2), 2));
        assert_eq!(outcome(Effect::Once, &[NotDone, NotDone]).await, (Ok(3), 3));
        assert!(matches!(outcome(Effect::Once, &[Perhaps]).await, (Err(Failure::Unknown { .. }), 1)));
        assert!(matches!(outcome(Effect::Read, &[Perhaps; 9]).await, (Err(Failure::Transient { .. }), 4)));
        assert!(matches!(outcome(Effect::Idempotent, &[NotDone; 9]).await, (Err(Failure::Transient { .. }), 4)));
        // One attempt that may have worked makes the whole unknown, whatever came later.
        assert!(matches!(
            outcome(Effect::Idempotent, &[Perhaps, NotDone, NotDone, NotDone]).await,
            (Err(Failure::Unknown { .. }), 4)
        ));
        assert!(matches!(outcome(Effect::Idempotent, &[Refused]).await, (Err(Failure::Denied { .. }), 1)));
    }
}
