//! The stdio transport: a reader thread that vets lines, a writer thread, and rmcp between them.
//!
//! Bounded on all sides: a client that sends more than it reads is no longer read from; progress that nobody reads is
//! dropped; requests beyond [`MAX_IN_FLIGHT`] are refused.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, GetMeta, JsonRpcMessage, RequestId,
    ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::{RoleServer, serve_directly_with_ct};
use rmcp::transport::Transport;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::lines::{Line, Lines, MAX_LINE_BYTES};
use super::server::{Server, is_known_method};
use super::vet::{Vetted, vet, vet_overlong};

/// Requests that may wait for their answer at once.
const MAX_IN_FLIGHT: usize = 1024;
/// Unread output, bytes, from which on no more input is read.
const MAX_UNREAD_BYTES: usize = 4 * 1024 * 1024;
/// Unread output, bytes, from which on progress is dropped.
const MAX_UNREAD_BYTES_FOR_PROGRESS: usize = 64 * 1024;
/// After the end of input, running requests may take this long to finish before they are cancelled.
const END_OF_INPUT_GRACE: Duration = Duration::from_secs(10);
/// How long work that was told to stop may take.
const STOP_TIME: Duration = Duration::from_secs(3);
/// How long the last answers may take to leave.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Serves one client until the end of input or until `stop` is cancelled.
pub(super) async fn serve<R, W>(server: Server, input: R, output: W, stop: CancellationToken)
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    let traffic = Arc::new(Traffic::default());
    let (lines, waiting_lines) = std::sync::mpsc::channel();
    let (messages, incoming) = mpsc::channel(16);
    let writer = Writer { traffic: Arc::clone(&traffic), lines };
    let reader = Reader { writer: writer.clone(), messages, initialized: false };
    std::thread::spawn(move || reader.run(input));
    std::thread::spawn({
        let (traffic, stop) = (Arc::clone(&traffic), stop.clone());
        move || write_lines(output, &waiting_lines, &traffic, &stop)
    });

    let work = server.work();
    let transport = Stdio { incoming, writer, ended: None, stop: stop.clone() };
    // `serve_directly` skips rmcp's own opening, which ends the process on an early notification and holds a client that
    // opened with 2026-07-28 to it. The reader does that part: see `Reader::admit`.
    let running = serve_directly_with_ct(server, transport, None, stop.clone());
    if let Err(error) = running.waiting().await {
        tracing::error!("the protocol loop failed: {error}");
    }
    stop.cancel();
    if tokio::time::timeout(STOP_TIME, work.idle()).await.is_err() {
        tracing::warn!("work did not stop within {STOP_TIME:?}; leaving it");
    }
    traffic.wait_until(Instant::now() + FLUSH_TIME, |state| state.unread_bytes == 0 || state.output_is_gone).await;
}

/// What is on its way between the client and the server.
#[derive(Debug, Default)]
struct Traffic {
    state: Mutex<TrafficState>,
    /// For threads that wait for a change.
    changed: Condvar,
    /// For tasks that wait for a change.
    notify: Notify,
}

#[derive(Debug, Default)]
struct TrafficState {
    in_flight: HashSet<RequestId>,
    unread_bytes: usize,
    output_is_gone: bool,
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, TrafficState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut TrafficState) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        self.notify.notify_waiters();
        result
    }

    /// Blocks while the client has too much to read; says whether it still reads.
    fn wait_for_reading_client(&self) -> bool {
        let mut state = self.state();
        while state.unread_bytes > MAX_UNREAD_BYTES && !state.output_is_gone {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.output_is_gone
    }

    /// Waits for a state, up to a point in time; says whether it came.
    async fn wait_until(&self, deadline: Instant, reached: impl Fn(&TrafficState) -> bool) -> bool {
        loop {
            let mut change = std::pin::pin!(self.notify.notified());
            change.as_mut().enable();
            if reached(&self.state()) {
                return true;
            }
            if tokio::time::timeout_at(deadline, change).await.is_err() {
                return false;
            }
        }
    }
}

/// Queues lines for the writer thread.
#[derive(Debug, Clone)]
struct Writer {
    traffic: Arc<Traffic>,
    lines: std::sync::mpsc::Sender<Vec<u8>>,
}

impl Writer {
    fn post(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        self.traffic.change(|state| state.unread_bytes += line.len());
        // The receiver ends only with the process or a broken output.
        let _ = self.lines.send(line);
    }

    fn refuse(&self, id: &Value, error: &ErrorData) {
        tracing::debug!("refused {id}: {error}");
        let answer = json!({"jsonrpc": "2.0", "id": id, "error": error});
        self.post(answer.to_string().into_bytes());
    }
}

fn write_lines<W: Write>(
    mut output: W,
    lines: &std::sync::mpsc::Receiver<Vec<u8>>,
    traffic: &Traffic,
    stop: &CancellationToken,
) {
    for line in lines {
        let written = output.write_all(&line).and_then(|()| output.flush());
        traffic.change(|state| state.unread_bytes = state.unread_bytes.saturating_sub(line.len()));
        if let Err(error) = written {
            tracing::info!("the client is gone: {error}");
            traffic.change(|state| state.output_is_gone = true);
            stop.cancel();
            return;
        }
    }
}

/// The reading side.
struct Reader {
    writer: Writer,
    messages: mpsc::Sender<ClientJsonRpcMessage>,
    /// An `initialize` has passed.
    initialized: bool,
}

impl Reader {
    fn run<R: Read>(mut self, input: R) {
        let mut lines = Lines::new(input, MAX_LINE_BYTES);
        while self.writer.traffic.wait_for_reading_client() {
            let vetted = match lines.next() {
                Ok(Some(Line::Whole(line))) => vet(&line),
                Ok(Some(Line::TooLong { head, tail })) => vet_overlong(&head, &tail, MAX_LINE_BYTES),
                Ok(None) => return,
                Err(error) => return tracing::error!("cannot read input: {error}"),
            };
            match vetted {
                Vetted::Ignore(reason) => tracing::trace!("ignored: {reason}"),
                Vetted::Refuse { id, error } => self.writer.refuse(&id, &error),
                Vetted::Pass(message) => {
                    if let Err(refusal) = self.admit(&message) {
                        let (id, error) = *refusal;
                        self.writer.refuse(&id, &error);
                    } else if self.messages.blocking_send(*message).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Refuses what the state of the conversation forbids: requests before any opening, an id that is still in flight.
    fn admit(&mut self, message: &ClientJsonRpcMessage) -> Result<(), Box<(Value, ErrorData)>> {
        let traffic = &self.writer.traffic;
        let request = match message {
            JsonRpcMessage::Request(request) => request,
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // rmcp drops the answer to a cancelled request, so nothing else would take it off the list.
                    traffic.change(|state| state.in_flight.remove(id));
                }
                return Ok(());
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => return Ok(()),
        };
        let refusal = |code, message: &str| {
            Err(Box::new((request.id.clone().into_json_value(), ErrorData::new(code, message.to_owned(), None))))
        };
        match &request.request {
            ClientRequest::InitializeRequest(_) => self.initialized = true,
            ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => {}
            other => {
                let opened = self.initialized || other.get_meta().protocol_version().is_some();
                if !opened && is_known_method(other.method()) {
                    return refusal(
                        ErrorCode::INVALID_PARAMS,
                        "not initialized: send `initialize` first, or (from 2026-07-28 on) the request's `_meta` with \
                         io.modelcontextprotocol/protocolVersion and io.modelcontextprotocol/clientCapabilities",
                    );
                }
            }
        }
        let mut state = traffic.state();
        if state.in_flight.len() >= MAX_IN_FLIGHT {
            return refusal(ErrorCode::INTERNAL_ERROR, "too many requests at once: wait for answers");
        }
        if !state.in_flight.insert(request.id.clone()) {
            return refusal(ErrorCode::INVALID_REQUEST, "a request with this id is still in flight");
        }
        Ok(())
    }
}

/// rmcp's view of the two threads.
struct Stdio {
    incoming: mpsc::Receiver<ClientJsonRpcMessage>,
    writer: Writer,
    /// When the input ended.
    ended: Option<Instant>,
    stop: CancellationToken,
}

impl Transport<RoleServer> for Stdio {
    type Error = std::io::Error;

    /// Queues at once, so that messages leave in the order in which rmcp hands them over.
    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        std::future::ready(self.post(&message))
    }

    /// The next vetted message. After the end of input, `None` only when the running requests are answered, so that
    /// `clip-aware serve < requests.jsonl` works.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        if let Some(message) = self.incoming.recv().await {
            return Some(message);
        }
        let ended = *self.ended.get_or_insert_with(Instant::now);
        let traffic = &self.writer.traffic;
        if !traffic.wait_until(ended + END_OF_INPUT_GRACE, |state| state.in_flight.is_empty()).await {
            self.stop.cancel();
        }
        None
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

impl Stdio {
    fn post(&self, message: &ServerJsonRpcMessage) -> std::io::Result<()> {
        let answered = match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Notification(notification) => {
                let is_progress = matches!(notification.notification, ServerNotification::ProgressNotification(_));
                if is_progress && self.writer.traffic.state().unread_bytes > MAX_UNREAD_BYTES_FOR_PROGRESS {
                    return Ok(());
                }
                None
            }
            JsonRpcMessage::Request(_) => None,
        };
        // Before the answer leaves: the client may use the id again at once.
        if let Some(id) = answered {
            self.writer.traffic.change(|state| state.in_flight.remove(id));
        }
        self.writer.post(serde_json::to_vec(message)?);
        Ok(())
    }
}
