//! Repeating what failed for a passing reason: capped exponential backoff, full jitter, one budget for a whole fetch.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A wait ends within this time of a cancellation.
const TICK: Duration = Duration::from_millis(20);

/// Waits between attempts; replaced in tests, so that they need not wait.
pub trait Clock: Debug + Send + Sync {
    /// Lets `pause` pass, or returns early once `cancel` is set.
    fn sleep(&self, pause: Duration, cancel: &AtomicBool);
}

/// The real clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock;

impl Clock for WallClock {
    fn sleep(&self, pause: Duration, cancel: &AtomicBool) {
        let end = Instant::now() + pause;
        while !cancel.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

/// When to give up, and how long to wait until then.
///
/// The pause after the n-th failure in a row is uniform in `[0, min(cap, base * 2^(n - 1))]` ("full jitter": clients
/// that failed together do not return together). A server's `Retry-After` is waited for in full.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Failures in a row, without a byte arriving in between, that end the fetch.
    pub attempts: u32,
    /// Longest first pause.
    pub base: Duration,
    /// Longest later pause.
    pub cap: Duration,
    /// All pauses of one fetch together; a pause that would pass it ends the fetch at once.
    pub budget: Duration,
    /// What waits.
    pub clock: Arc<dyn Clock>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 6,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(20),
            budget: Duration::from_secs(300),
            clock: Arc::new(WallClock),
        }
    }
}

impl Retry {
    /// The longest pause after the `failures`-th failure in a row.
    fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1_u32 << doublings).min(self.cap)
    }
}

/// What is left of the patience of one fetch.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    retry: &'a Retry,
    cancel: &'a AtomicBool,
    failures: u32,
    waited: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(retry: &'a Retry, cancel: &'a AtomicBool) -> Self {
        Self { retry, cancel, failures: 0, waited: Duration::ZERO }
    }

    /// Something arrived: the next failure is again the first in a row.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits after a failure. `Ok(false)` when the patience is used up.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(super) fn wait(&mut self, retry_after: Option<Duration>) -> Result<bool> {
        self.failures += 1;
        if self.failures >= self.retry.attempts {
            return Ok(false);
        }
        let pause = match retry_after {
            Some(asked) => asked.saturating_add(jittered(self.retry.base)),
            None => jittered(self.retry.ceiling(self.failures)),
        };
        if self.waited.saturating_add(pause) > self.retry.budget {
            return Ok(false);
        }
        self.waited += pause;
        self.retry.clock.sleep(pause, self.cancel);
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(true) }
    }
}

/// Uniform between nothing and `longest`.
fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<Duration>>);

    impl Clock for Recorder {
        fn sleep(&self, pause: Duration, _cancel: &AtomicBool) {
            self.0.lock().unwrap().push(pause);
        }
    }

    fn retry(recorder: &Arc<Recorder>) -> Retry {
        Retry {
            attempts: 9,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(8),
            budget: Duration::from_secs(1000),
            clock: Arc::clone(recorder) as Arc<dyn Clock>,
        }
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_are_jittered_over_the_whole_range() {
        let recorder = Arc::new(Recorder::default());
        let (retry, cancel) = (retry(&recorder), AtomicBool::new(false));
        for _ in 0..300 {
            let mut patience = Patience::new(&retry, &cancel);
            while patience.wait(None).unwrap() {}
        }
        let pauses = recorder.0.lock().unwrap();
        for (n, ceiling) in [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0, 8.0].into_iter().enumerate() {
            let nth: Vec<f64> = pauses.iter().skip(n).step_by(8).map(Duration::as_secs_f64).collect();
            let (low, high) = nth.iter().fold((f64::MAX, 0.0_f64), |(l, h), p| (l.min(*p), h.max(*p)));
            assert!(high <= ceiling && high > 0.9 * ceiling, "pause {n}: longest {high} of {ceiling}");
            assert!(low < 0.1 * ceiling, "pause {n}: shortest {low} of {ceiling}");
        }
    }

    #[test]
    fn progress_renews_the_attempts_but_not_the_budget() {
        let recorder = Arc::new(Recorder::default());
        let (retry, cancel) = (Retry { budget: Duration::from_secs(30), ..retry(&recorder) }, AtomicBool::new(false));
        let mut patience = Patience::new(&retry, &cancel);
        let mut rounds = 0;
        while patience.wait(None).unwrap() {
            patience.renew();
            rounds += 1;
            assert!(rounds < 10_000, "the budget never ran out");
        }
        assert!(rounds > 20, "only {rounds} rounds of at most one second in a budget of thirty");
        assert!(recorder.0.lock().unwrap().iter().sum::<Duration>() <= Duration::from_secs(30));
    }

    #[test]
    fn retry_after_is_waited_for_in_full_or_not_at_all() {
        let recorder = Arc::new(Recorder::default());
        let (retry, cancel) = (Retry { budget: Duration::from_secs(60), ..retry(&recorder) }, AtomicBool::new(false));
        let mut patience = Patience::new(&retry, &cancel);
        assert!(patience.wait(Some(Duration::from_secs(20))).unwrap());
        assert!(!patience.wait(Some(Duration::from_secs(3600))).unwrap());
        let pauses = recorder.0.lock().unwrap();
        assert_eq!(pauses.len(), 1);
        assert!(pauses[0] >= Duration::from_secs(20));
    }

    #[test]
    fn a_cancelled_wait_ends_at_once() {
        let cancel = AtomicBool::new(true);
        let retry = Retry { base: Duration::from_secs(3600), cap: Duration::from_secs(3600), ..Retry::default() };
        let retry = Retry { budget: Duration::from_secs(36_000), ..retry };
        let start = Instant::now();
        assert!(matches!(Patience::new(&retry, &cancel).wait(None), Err(Error::Cancelled)));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
