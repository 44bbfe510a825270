//! A writer to stderr that never blocks: a client that does not read stderr must not stop the server.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Log lines that may wait; what comes on top is dropped.
const WAITING_LINES: usize = 512;
/// How long the end of the program waits for the last lines.
const FLUSH_TIME: Duration = Duration::from_millis(100);

static QUEUE: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Writes to stderr through a thread of its own and drops what does not fit. For
/// `tracing_subscriber::fmt().with_writer(quiet_stderr)`.
#[derive(Debug, Clone, Copy)]
pub struct QuietStderr {
    _private: (),
}

/// The writer; its thread starts with the first use.
pub fn quiet_stderr() -> QuietStderr {
    QuietStderr { _private: () }
}

impl Write for QuietStderr {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let queue = QUEUE.get_or_init(|| {
            let (sender, receiver) = sync_channel(WAITING_LINES);
            std::thread::spawn(move || write_all(&receiver));
            sender
        });
        WAITING.fetch_add(1, Ordering::Relaxed);
        if queue.try_send(line.to_vec()).is_err() {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_all(lines: &Receiver<Vec<u8>>) {
    for line in lines {
        // Nothing can be said about a stderr that is gone.
        let _ = std::io::stderr().write_all(&line);
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives the last lines a moment to leave.
pub(super) fn flush() {
    let start = Instant::now();
    while WAITING.load(Ordering::Relaxed) > 0 && start.elapsed() < FLUSH_TIME {
        std::thread::sleep(Duration::from_millis(2));
    }
}
