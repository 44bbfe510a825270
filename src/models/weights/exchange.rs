//! One HTTP exchange that can be cancelled at any time and notices when nothing arrives any more.
//!
//! The blocking client waits in the kernel, where no flag reaches it. So the exchange runs on a thread of its own and
//! hands over the answer piece by piece; the caller looks at the flag while it waits. A thread that is left behind
//! ends with its next piece, or with the client's own time limit.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, Request};
use reqwest::header::HeaderMap;

use super::hub::{Failure, reason_of};
use crate::error::Error;

/// Between two looks at the flag.
const TICK: Duration = Duration::from_millis(25);
/// Largest piece, bytes.
const PIECE: usize = 128 << 10;
/// Pieces under way between the threads.
const PIECES: usize = 8;

enum Event {
    Head(u16, HeaderMap),
    Piece(Vec<u8>),
    End,
    /// The reason.
    Broken(String),
}

/// An answer whose body is still arriving.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    status: u16,
    headers: HeaderMap,
    body: Body<'a>,
}

#[derive(Debug)]
struct Body<'a> {
    events: Receiver<Event>,
    stall_timeout: Duration,
    cancel: &'a AtomicBool,
}

impl Answer<'_> {
    /// The HTTP status.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// 301, 302, 303, 307 or 308 with a target.
    pub(super) fn is_redirect(&self) -> bool {
        matches!(self.status, 301 | 302 | 303 | 307 | 308) && self.header("location").is_some()
    }

    /// The next piece of the body, `None` at its end.
    ///
    /// # Errors
    /// The connection broke or stalled, or the caller cancelled.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self.body.event()? {
            Event::Piece(bytes) => Ok(Some(bytes)),
            Event::End => Ok(None),
            Event::Broken(reason) => Err(Failure::passing(reason)),
            Event::Head(..) => Err(Failure::passing("two answers to one request")),
        }
    }
}

impl Body<'_> {
    fn event(&self) -> Result<Event, Failure> {
        let start = Instant::now();
        loop {
            match self.events.recv_timeout(TICK) {
                Ok(event) => return Ok(event),
                Err(_) if self.cancel.load(Ordering::Relaxed) => return Err(Error::Cancelled.into()),
                Err(RecvTimeoutError::Timeout) if start.elapsed() < self.stall_timeout => {}
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.stall_timeout.as_secs_f32();
                    return Err(Failure::passing(format!("nothing arrived for {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::passing("the connection was dropped")),
            }
        }
    }
}

/// Sends a request and waits for the head of the answer.
///
/// # Errors
/// No connection, no answer in time, or the caller cancelled.
pub(super) fn send<'a>(
    client: &Client,
    request: Request,
    stall_timeout: Duration,
    cancel: &'a AtomicBool,
) -> Result<Answer<'a>, Failure> {
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled.into());
    }
    let (sender, events) = sync_channel(PIECES);
    let client = client.clone();
    std::thread::Builder::new()
        .name("hub".into())
        .spawn(move || run(&client, request, &sender))
        .map_err(|e| Failure::passing(format!("cannot start a thread: {e}")))?;
    let body = Body { events, stall_timeout, cancel };
    match body.event()? {
        Event::Head(status, headers) => Ok(Answer { status, headers, body }),
        Event::Broken(reason) => Err(Failure::passing(reason)),
        Event::Piece(_) | Event::End => Err(Failure::passing("an answer without a head")),
    }
}

/// The thread. A send that fails means that nobody waits any more.
fn run(client: &Client, request: Request, sender: &SyncSender<Event>) {
    let mut response = match client.execute(request) {
        Ok(response) => response,
        Err(error) => {
            let _ = sender.send(Event::Broken(reason_of(&error.without_url())));
            return;
        }
    };
    if sender.send(Event::Head(response.status().as_u16(), response.headers().clone())).is_err() {
        return;
    }
    loop {
        let mut piece = vec![0_u8; PIECE];
        let event = match response.read(&mut piece) {
            Ok(0) => Event::End,
            Ok(n) => {
                piece.truncate(n);
                Event::Piece(piece)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Event::Broken(format!("the connection broke: {error}")),
        };
        let last = !matches!(event, Event::Piece(_));
        if sender.send(event).is_err() || last {
            return;
        }
    }
}
