//! Progress of long runs on stderr: a bar with rate and ETA on a terminal, silence elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::Progress;

/// Draws [`Progress`] as a bar; a new phase starts a new bar.
#[derive(Debug, Default)]
pub struct Bars {
    current: Mutex<Option<(&'static str, ProgressBar)>>,
}

impl Bars {
    /// Takes one report; for [`crate::engine::Watch`].
    pub fn show(&self, progress: &Progress) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let Ok(mut current) = self.current.lock() else { return };
        let fresh = current.as_ref().is_none_or(|(phase, _)| *phase != progress.phase);
        if fresh {
            if let Some((_, bar)) = current.take() {
                bar.finish_and_clear();
            }
            *current = Some((progress.phase, bar_for(progress)));
        }
        if let Some((_, bar)) = current.as_ref() {
            if let Some(total) = progress.total {
                bar.set_length(total);
            }
            bar.set_position(progress.done);
            bar.set_message(progress.message.clone());
        }
    }

    /// Clears what is drawn.
    pub fn finish(&self) {
        if let Ok(mut current) = self.current.lock()
            && let Some((_, bar)) = current.take()
        {
            bar.finish_and_clear();
        }
    }
}

fn bar_for(progress: &Progress) -> ProgressBar {
    let bytes = progress.phase == "fetch";
    let template = match (progress.total.is_some(), bytes) {
        (true, true) => "{prefix:>8} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {wide_msg}",
        (true, false) => "{prefix:>8} {bar:30} {human_pos}/{human_len} {per_sec} ETA {eta} {wide_msg}",
        (false, _) => "{prefix:>8} {spinner} {human_pos} {wide_msg}",
    };
    let bar = ProgressBar::with_draw_target(progress.total, ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(progress.phase);
    bar
}
