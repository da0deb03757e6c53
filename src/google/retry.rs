//! The one retry: exponential backoff with full jitter, within a number of attempts, a budget of time, and a budget of
//! repeats that all calls of a run share; every attempt has a deadline.
//! Does not know what is called; the caller says what a repeat would do (`Effect`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::error::{Fault, Known};
use crate::model::Failure;

/// How often and how long a call is repeated.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// All attempts, the first one included. At least 1.
    pub max_attempts: u32,
    /// No new attempt starts after this time.
    pub budget: Duration,
    /// The upper bound of the first delay; it doubles with every attempt.
    pub base_delay: Duration,
    /// The upper bound of every delay, but for what `Retry-After` asks for: that is bounded by `budget`.
    pub max_delay: Duration,
    /// One attempt, from connecting to the answer's last byte.
    pub attempt_timeout: Duration,
    /// A stream that brings no byte for so long is broken off, and taken up where it was.
    pub progress_timeout: Duration,
    /// What all calls may repeat together.
    pub repeats: Repeats,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            budget: Duration::from_secs(300),
            base_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(32),
            attempt_timeout: Duration::from_secs(120),
            progress_timeout: Duration::from_secs(60),
            repeats: Repeats::default(),
        }
    }
}

/// The repeats that a whole run may make: a service that is down is not asked again by every call, eight times each.
///
/// A repeat costs five, a call that succeeds gives one back: so a run that meets a failure now and then never ends for
/// it, and one of which every fourth call fails does. Shared by all clones.
#[derive(Debug, Clone)]
pub struct Repeats(Arc<AtomicU32>);

/// What is there at first: 200 repeats.
const REPEATS_AT_FIRST: u32 = 1_000;
const REPEAT_COSTS: u32 = 5;

impl Default for Repeats {
    fn default() -> Self {
        Self::new(REPEATS_AT_FIRST)
    }
}

impl Repeats {
    fn new(left: u32) -> Self {
        Self(Arc::new(AtomicU32::new(left)))
    }

    /// Takes a repeat, if one is left.
    pub(crate) fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(REPEAT_COSTS)).is_ok()
    }

    pub(crate) fn succeeded(&self) {
        let more = |left: u32| Some((left + 1).min(REPEATS_AT_FIRST));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
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
        let delay = retry_after.map_or(backoff, |asked| backoff.max(asked));
        (elapsed + delay <= self.budget).then_some(delay)
    }
}

/// Calls until success, a refusal, or the end of the policy. `call` gets the number of the attempt (1 = the first) and
/// whether an earlier attempt may have had its effect. `object` is what the call is about.
///
/// # Errors
/// The failure of the last attempt; `Unknown` where an effect may have happened.
pub(crate) async fn run<T, F>(
    policy: &RetryPolicy,
    object: &str,
    effect: Effect,
    call: impl FnMut(Attempt) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Fault>>,
{
    run_within(policy, policy.attempt_timeout, object, effect, call).await
}

/// As `run`, with another time for an attempt: of calls that carry much.
pub(crate) async fn run_within<T, F>(
    policy: &RetryPolicy,
    timeout: Duration,
    object: &str,
    effect: Effect,
    mut call: impl FnMut(Attempt) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Fault>>,
{
    let start = Instant::now();
    let mut attempt = Attempt { number: 1, perhaps_done: false };
    loop {
        let fault = match tokio::time::timeout(timeout, call(attempt)).await {
            Ok(Ok(answer)) => {
                policy.repeats.succeeded();
                return Ok(answer);
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::silence(object, timeout),
        };
        if fault.effect == Known::Refused {
            return Err(fault.failure);
        }
        attempt.perhaps_done |= fault.effect == Known::Perhaps && effect != Effect::Read;
        let repeatable = effect != Effect::Once || fault.effect == Known::NotDone;
        let delay = if repeatable { policy.pause(attempt.number, start.elapsed(), &fault) } else { Err("") };
        let delay = match delay {
            Ok(delay) => delay,
            Err(why) => {
                let failure = told(fault.failure, why);
                return Err(if attempt.perhaps_done { unknown(failure) } else { failure });
            }
        };
        tracing::debug!(attempt = attempt.number, delay_ms = delay.as_millis() as u64, failure = %fault.failure, "retrying");
        tokio::time::sleep(delay).await;
        attempt.number += 1;
    }
}

impl RetryPolicy {
    /// How long to wait after this fault, a repeat being taken from the run's; or why there is no repeat.
    pub(crate) fn pause(&self, attempt: u32, elapsed: Duration, fault: &Fault) -> Result<Duration, &'static str> {
        let delay = self.next_delay(attempt, elapsed, fault.retry_after, rand::random::<f64>());
        match delay {
            None => Err(""),
            Some(_) if !self.repeats.take() => {
                Err("; hint: the repeats of this run are spent, the service fails too often: try again later")
            }
            Some(delay) => Ok(delay),
        }
    }
}

/// The same failure, with more said.
pub(crate) fn told(mut failure: Failure, more: &str) -> Failure {
    if let Failure::Transient { message, .. } | Failure::Unknown { message, .. } | Failure::Corrupt { message, .. } =
        &mut failure
    {
        message.push_str(more);
    }
    failure
}

/// Where a repeated call stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub number: u32,
    /// An earlier attempt may have had its effect: "exists already" may be our own work.
    pub perhaps_done: bool,
}

/// The same message, as an outcome that is not known. (An answer that cannot be read tells nothing.)
pub(crate) fn unknown(failure: Failure) -> Failure {
    match failure {
        Failure::Transient { object, message } | Failure::Corrupt { object, message } => {
            Failure::Unknown { object, message }
        }
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
            ..RetryPolicy::default()
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
    fn retry_after_is_obeyed_or_the_call_is_given_up() {
        let policy = RetryPolicy { max_delay: Duration::from_secs(3), ..policy() };
        let asked = |secs| policy.next_delay(1, Duration::from_secs(1), Some(Duration::from_secs(secs)), 0.5);
        assert_eq!(asked(2), Some(Duration::from_secs(2)));
        assert_eq!(asked(9), Some(Duration::from_secs(9)));
        // Asking earlier would be rude, and later is beyond the call's time.
        assert_eq!(asked(3600), None);
    }

    async fn outcome(effect: Effect, faults: &[Known]) -> (Result<u32, Failure>, usize) {
        let mut calls = 0;
        let result = run(&policy(), "x", effect, |attempt| {
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

    #[tokio::test]
    async fn an_attempt_without_an_answer_ends_by_its_deadline() {
        let policy = RetryPolicy { attempt_timeout: Duration::from_millis(20), ..policy() };
        let begin = Instant::now();
        let mut calls = 0;
        let answered = run(&policy, "x", Effect::Idempotent, |attempt| {
            calls += 1;
            async move {
                if attempt.number < 3 {
                    std::future::pending::<()>().await;
                }
                Ok(attempt.perhaps_done)
            }
        })
        .await;
        // It may have been carried out all the same.
        assert_eq!((answered, calls), (Ok(true), 3));
        assert!(begin.elapsed() < Duration::from_secs(5));
        let never = run(&policy, "x", Effect::Once, |_| std::future::pending::<Result<(), Fault>>()).await;
        let failure = never.unwrap_err();
        assert!(matches!(&failure, Failure::Unknown { message, .. } if message.contains("no answer")), "{failure}");
    }

    #[tokio::test]
    async fn all_calls_of_a_run_share_their_repeats() {
        let policy = RetryPolicy { max_attempts: 1_000, repeats: Repeats::new(5 * 30), ..policy() };
        let policy = RetryPolicy { base_delay: Duration::ZERO, ..policy };
        let mut calls = 0;
        let mut failures = Vec::new();
        for _ in 0..4 {
            let failed: Result<(), _> = run(&policy, "x", Effect::Read, |_| {
                calls += 1;
                async { Err(fault(Known::NotDone)) }
            })
            .await;
            failures.push(failed.unwrap_err().to_string());
        }
        assert_eq!(calls, 4 + 30);
        assert!(failures.iter().all(|said| said.contains("the repeats of this run are spent")), "{failures:?}");
        // One call in ten that fails costs nothing in the long run.
        let policy = RetryPolicy { repeats: Repeats::new(20), ..policy };
        for _ in 0..1_000 {
            for failing in [true, false, false, false, false, false, false, false, false, false] {
                let outcome = run(&policy, "x", Effect::Read, |attempt| async move {
                    if failing && attempt.number == 1 { Err(fault(Known::NotDone)) } else { Ok(()) }
                });
                assert_eq!(outcome.await, Ok(()));
            }
        }
    }
}
