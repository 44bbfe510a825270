//! `bench`: speed on this machine, medians over rounds. The JSON is a contract (design.md section 2).

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;

use super::args::{BenchAction, Tower};
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Timed rounds; one more runs before them to warm caches.
const ROUNDS: usize = 5;
/// Begin, text and end tokens fill the context, as the peers' benchmark does.
const LONG_TEXT: &str = "a photo of a dog and a cat and a bird and a horse and a cow and a sheep";

/// Runs one benchmark.
///
/// # Errors
/// The model cannot be loaded; the folder cannot be read.
pub fn run(engine: &Engine, what: &BenchAction, cancel: &AtomicBool) -> Result<Outcome> {
    match what {
        BenchAction::Encode { tower, batch, baseline } => encode(engine, *tower, *batch, *baseline, cancel),
        BenchAction::Detect => detect(engine, cancel),
        BenchAction::Decode { dir } => decode(engine, dir),
    }
}

fn encode(engine: &Engine, tower: Tower, batch: usize, baseline: bool, cancel: &AtomicBool) -> Result<Outcome> {
    let bench = watched(cancel, |watch| engine.bench_encoder(baseline, watch))?;
    let ms = match tower {
        Tower::Image => {
            let pixels = vec![bench.neutral_pixels(); batch];
            median_ms(|| bench.encode_images(&pixels))?
        }
        Tower::Text => {
            let texts = vec![[LONG_TEXT; 6].join(" and "); batch];
            median_ms(|| bench.encode_texts(&texts))?
        }
    };
    let answer = json!({
        "ms_per_item": ms / batch as f64, "batch": batch, "precision": bench.precision(), "device": bench.device(),
        "model": bench.id(), "threads": engine.config().threads,
    });
    if engine.config().json {
        render::json(&answer);
    } else {
        render::text(&format!(
            "{:.1} ms per item at batch {batch}, {} {} on {}",
            ms / batch as f64,
            bench.id(),
            bench.precision(),
            bench.device()
        ));
    }
    Ok(Outcome::Done)
}

fn detect(engine: &Engine, cancel: &AtomicBool) -> Result<Outcome> {
    let detector = watched(cancel, |watch| engine.detector(watch))?;
    let (side, threads) = (detector.input_side(), engine.config().threads);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|error| Error::Argument { name: "threads", reason: format!("cannot be started: {error}") })?;
    let ms = pool.install(|| median_ms(|| detector.run_neutral()))?;
    if engine.config().json {
        render::json(&json!({
            "ms_per_image": ms, "input_side": side, "threads": threads, "precision": detector.backend().precision,
            "device": detector.backend().device_name(), "detector": detector.id(),
        }));
    } else {
        render::text(&format!("{ms:.1} ms per image of {side} x {side} with {threads} threads, {}", detector.id()));
    }
    Ok(Outcome::Done)
}

fn decode(engine: &Engine, dir: &str) -> Result<Outcome> {
    let (ms, files) = engine.time_decoding(dir)?;
    let threads = engine.config().threads;
    if engine.config().json {
        render::json(&json!({"ms_per_image": ms, "threads": threads, "files": files}));
    } else {
        render::text(&format!("{ms:.1} ms per image with {threads} threads, {files} files"));
    }
    Ok(Outcome::Done)
}

fn median_ms<T>(mut work: impl FnMut() -> Result<T>) -> Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}
