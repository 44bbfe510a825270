//! The Model Context Protocol server over stdio.
//!
//! rmcp speaks the protocol, in both eras (2026-07-28 and the `initialize` handshake before it). Around it:
//!
//! - [`stdio`], `lines` and `vet`: every line is bounded and vetted before rmcp sees it, so each request gets an answer
//!   whatever it holds, memory stays bounded whatever the client reads, and the end of input or a signal ends the process.
//! - `tools` with `schema`, `arguments` and `answer`: one table of tools; adding one is one function of a few lines.
//! - `work`: blocking work behind a queue, with progress, cancellation and caught panics.
//! - `resources`, `skills`, `prompts`, `completions`.
//! - `quiet`: a log writer that never blocks.
//!
//! Nothing here prints: stdout belongs to the protocol.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod answer;
mod arguments;
mod completions;
mod compose;
mod detect;
mod explained;
mod identify;
mod lines;
mod prompts;
mod quiet;
mod relate;
mod resources;
mod schema;
mod server;
mod skills;
mod stdio;
mod tools;
mod vet;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use quiet::{QuietStderr, quiet_stderr};

use crate::engine::Engine;
use crate::error::{Error, Result};
use server::Server;

/// Serves one client on stdin and stdout until the end of input, SIGTERM or SIGINT. All three are a regular end: the
/// program exits with 0. Blocking: owns its runtime, so call it outside of one.
///
/// # Errors
/// The runtime or the signal handlers cannot be set up.
pub fn serve_stdio(engine: Arc<Engine>) -> Result<()> {
    log_panics();
    // One thread runs the protocol, in the order in which requests arrive; the work itself is on blocking threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime on", "this machine"))?;
    let stop = CancellationToken::new();
    runtime.block_on(async {
        stop_on_signals(&stop)?;
        stdio::serve(Server::new(engine), std::io::stdin(), std::io::stdout(), stop).await;
        Ok(())
    })?;
    // Threads that still wait for input or for a slow reader end with the process.
    runtime.shutdown_background();
    quiet::flush();
    Ok(())
}

/// The definitions of all tools as `tools/list` gives them, in order; for documentation and tests.
pub fn tool_definitions() -> serde_json::Value {
    let listed: Vec<_> = tools::all().into_iter().map(|entry| entry.tool).collect();
    serde_json::to_value(listed).unwrap_or_default()
}

/// Cancels `stop` on SIGTERM and SIGINT, also before the client has initialized.
fn stop_on_signals(stop: &CancellationToken) -> Result<()> {
    let stop = stop.clone();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate =
            signal(SignalKind::terminate()).map_err(Error::io("listen to signals on", "this machine"))?;
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(Error::io("listen to signals on", "this machine"))?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    Ok(())
}

/// Sends panics to the log. The default hook writes to stderr and would block on a client that never reads it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}
