//! Blocking work on threads of its own: a queue, cancellation, progress, caught panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{RequestContext, RoleServer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::engine::{Progress, Watch};

/// How long a short call waits for a long run before it runs beside it: an index run may take an hour, and clients give
/// up on a search within a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// Least time between two progress notifications.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Which queue a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Runs of minutes.
    Long,
    /// Calls that a person waits for.
    Short,
}

/// Why there is no result.
#[derive(Debug, PartialEq)]
pub(super) enum Interrupted {
    /// Cancelled while it waited in the queue.
    Cancelled,
    /// It panicked; the panic is in the log.
    Panicked,
}

/// Runs one call at a time, in the order of arrival. The only exception: a short call that has waited [`PATIENCE`] for a
/// long one runs beside it; short calls among themselves stay one at a time.
#[derive(Debug, Clone)]
pub(super) struct Work {
    turn: Arc<Semaphore>,
    short: Arc<Semaphore>,
}

/// The right to run, given back when dropped.
struct Turn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Work {
    pub(super) fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), short: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until nothing runs. No call may be started afterwards.
    pub(super) async fn idle(&self) {
        let _turn = self.turn.acquire().await;
        let _short = self.short.acquire().await;
    }

    async fn turn(&self, lane: Lane) -> Turn {
        let deadline = Instant::now() + PATIENCE;
        // The semaphores are never closed, so every permit is there in the end.
        let short = match lane {
            Lane::Long => None,
            Lane::Short => Arc::clone(&self.short).acquire_owned().await.ok(),
        };
        let turn = Arc::clone(&self.turn).acquire_owned();
        let turn = match lane {
            Lane::Long => turn.await.ok(),
            Lane::Short => timeout_at(deadline, turn).await.ok().and_then(Result::ok),
        };
        Turn { _permits: [short, turn] }
    }

    /// Runs a job in its turn. Cancelling the request takes a waiting job off the queue and tells a running one to stop;
    /// its result then says how far it came. Progress goes to the client when the request asked for it, and always
    /// before this returns.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        context: &RequestContext<RoleServer>,
        job: impl FnOnce(&Watch<'_>) -> T + Send + 'static,
    ) -> Result<T, Interrupted> {
        let turn = tokio::select! {
            biased;
            () = context.ct.cancelled() => return Err(Interrupted::Cancelled),
            turn = self.turn(lane) => turn,
        };
        let cancel = Arc::new(AtomicBool::new(false));
        let (sender, mut latest) = watch::channel(None);
        let mut running = tokio::task::spawn_blocking({
            let cancel = Arc::clone(&cancel);
            move || {
                // Here rather than in the request: the turn ends when the work ends, not when nobody waits for it.
                let _turn = turn;
                let report = move |progress| drop(sender.send_replace(Some(progress)));
                job(&Watch { progress: &report, cancel: &cancel })
            }
        });
        let mut reporter = Reporter::new(context);
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut running => break result,
                () = context.ct.cancelled(), if !cancel.load(Ordering::Relaxed) => cancel.store(true, Ordering::Relaxed),
                _ = ticks.tick(), if reporter.is_wanted() => reporter.report(&mut latest).await,
            }
        };
        reporter.report(&mut latest).await;
        result.map_err(|_panic| Interrupted::Panicked)
    }
}

/// Sends progress to the client.
struct Reporter<'a> {
    context: &'a RequestContext<RoleServer>,
    token: Option<ProgressToken>,
    meter: Meter,
}

impl<'a> Reporter<'a> {
    fn new(context: &'a RequestContext<RoleServer>) -> Self {
        Self { context, token: context.meta.get_progress_token(), meter: Meter::default() }
    }

    fn is_wanted(&self) -> bool {
        self.token.is_some() && !self.context.ct.is_cancelled()
    }

    async fn report(&mut self, latest: &mut watch::Receiver<Option<Progress>>) {
        if !self.is_wanted() || !latest.has_changed().unwrap_or(true) {
            return;
        }
        let Some(progress) = latest.borrow_and_update().clone() else { return };
        let (Some(token), Some((done, total))) = (&self.token, self.meter.read(&progress)) else { return };
        let mut notification = ProgressNotificationParam::new(token.clone(), done);
        notification.total = total;
        notification.message = Some(progress.message).filter(|message| !message.is_empty());
        tokio::select! {
            // Once the connection is closing nobody takes the notification any more.
            () = self.context.ct.cancelled() => {}
            _ = self.context.peer.notify_progress(notification) => {}
        }
    }
}

/// Makes one growing number of the phases of a run, as the protocol demands: fetching, loading and scanning fill the
/// way from 0 to 1, after that comes the count of what is done.
#[derive(Debug, Default)]
struct Meter {
    phase: &'static str,
    /// The reading at which the phase began.
    start: f64,
    last: f64,
}

impl Meter {
    const PREPARATIONS: [&'static str; 3] = ["fetch", "load", "scan"];

    /// Progress and total to send; `None` when nothing has grown.
    fn read(&mut self, progress: &Progress) -> Option<(f64, Option<f64>)> {
        if self.phase != progress.phase {
            self.phase = progress.phase;
            self.start = self.last;
        }
        let done = progress.done as f64;
        let (reading, total) = if Self::PREPARATIONS.contains(&progress.phase) && self.start < 1.0 {
            let part = progress.total.map_or(done / (done + 100.0), |total| done / (total as f64).max(done).max(1.0));
            // Half of what is left of the way, so that further preparations have room as well.
            (self.start + (1.0 - self.start) / 2.0 * part, None)
        } else {
            let before = if self.start < 1.0 { 0.0 } else { self.start };
            (before + done, progress.total.map(|total| before + total as f64))
        };
        if reading <= self.last {
            return None;
        }
        self.last = reading;
        Some((reading, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(phase: &'static str, done: u64, total: Option<u64>) -> Progress {
        Progress { phase, done, total, message: String::new() }
    }

    #[test]
    fn progress_grows_over_all_phases_and_counts_the_main_one_exactly() {
        let mut meter = Meter::default();
        let steps = [
            at("fetch", 100, Some(400)),
            at("fetch", 400, Some(400)),
            at("load", 1, Some(1)),
            at("scan", 10, None),
            at("scan", 5000, None),
            at("embed", 0, Some(80)),
            at("embed", 1, Some(80)),
            at("embed", 80, Some(80)),
        ];
        let read: Vec<_> = steps.iter().map(|step| meter.read(step)).collect();
        let sent: Vec<f64> = read.iter().flatten().map(|(done, _)| *done).collect();
        assert!(sent.is_sorted_by(|a, b| a < b), "{sent:?}");
        assert_eq!(read.get(5), Some(&None), "nothing done is no progress");
        assert_eq!(read.get(6), Some(&Some((1.0, Some(80.0)))));
        assert_eq!(read.last(), Some(&Some((80.0, Some(80.0)))));
    }

    #[test]
    fn progress_that_stands_still_is_not_sent() {
        let mut meter = Meter::default();
        assert!(meter.read(&at("embed", 3, None)).is_some());
        assert_eq!(meter.read(&at("embed", 3, None)), None);
        assert_eq!(meter.read(&at("embed", 2, None)), None);
    }

    #[test]
    fn a_second_counted_phase_goes_on_from_the_first() {
        let mut meter = Meter::default();
        meter.read(&at("embed", 10, Some(10)));
        assert_eq!(meter.read(&at("detect", 2, Some(4))), Some((12.0, Some(14.0))));
    }
}
