//! Parse, log to stderr, run, exit code; nothing else.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clip_aware::cli;

/// Set by the first Ctrl-C or SIGTERM; the running batch is finished and kept. A second one ends the process at once.
static CANCEL: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args_os());
    let serving = matches!(cli.command, cli::Command::Serve);
    log_to_stderr(cli.global.verbose, serving);
    if !serving {
        watch_signals();
    }
    ExitCode::from(cli::run(cli, &CANCEL).code())
}

/// A server's log must not block when its client never reads stderr.
fn log_to_stderr(verbose: u8, serving: bool) {
    let level = ["warn", "info", "debug", "trace"].get(usize::from(verbose)).copied().unwrap_or("trace");
    let filter = tracing_subscriber::EnvFilter::try_from_env("CLIP_AWARE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("clip_aware={level},rmcp=error")));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if serving {
        log.with_ansi(false).with_writer(clip_aware::mcp::quiet_stderr).init();
    } else {
        log.with_writer(std::io::stderr).init();
    }
}

/// The server has its own signals; every other command finishes its batch on the first one.
fn watch_signals() {
    let handler = ctrlc::set_handler(|| {
        if CANCEL.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    if let Err(error) = handler {
        tracing::warn!("signals are not handled: {error}");
    }
}
