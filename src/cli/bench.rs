//! `bench`: speed on this machine, medians over rounds. The JSON is a contract (design.md section 2).

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;

use super::args::{BenchAction, Tower};
use super::commands::watched;
use super::{Outcome, render};
use crate::engine::Engine;
use crate::engine::search_bench::{Made, SearchBench, TOP, resident_bytes};
use crate::error::{Error, Result};

/// Timed rounds, and more of short ones, whose times vary most; one more runs before them to warm caches.
const ROUNDS: usize = 5;
const MOST_ROUNDS: usize = 50;
/// Rounds go on until they took this long together.
const ENOUGH_SECONDS: f64 = 0.5;
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
        BenchAction::Search { vectors, dim, graph } => search(engine, *vectors, *dim, *graph, cancel),
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
        "kernel": bench.kernel(), "model": bench.id(), "threads": engine.config().threads,
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
    let (side, threads) = (detector.geometry().input_side, engine.config().threads);
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
        render::text(&format!(
            "{ms:.1} ms per image with a longer side of {side} at most, {threads} threads, {}",
            detector.id()
        ));
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

fn search(engine: &Engine, vectors: usize, dim: usize, graph: bool, cancel: &AtomicBool) -> Result<Outcome> {
    /// Timed searches; the 99th percentile of fewer means little.
    const SEARCHES: usize = 200;
    let made = if graph { Made::OfThings } else { Made::AtRandom };
    let mut bench = watched(cancel, |watch| SearchBench::build(vectors, dim, made, &std::env::temp_dir(), watch))?;
    let first = sorted_ms(5, |number| bench.first_search(number))?;
    let everything = bench.everything();
    bench.exact = true;
    let exact = if graph { sorted_ms(SEARCHES, |number| bench.search(number, &everything))? } else { Vec::new() };
    bench.exact = false;
    let whole = sorted_ms(SEARCHES, |number| bench.search(number, &everything))?;
    let rank = sorted_ms(SEARCHES / 4, |number| bench.rank(number, 1))?;
    let rank_three = sorted_ms(SEARCHES / 4, |number| bench.rank(number, 3))?;
    let filtered = |bench: &SearchBench, part| {
        let filter = bench.one_in(part);
        sorted_ms(SEARCHES / 4, |number| bench.search(number, &filter))
    };
    let (half, percent) = (filtered(&bench, 2)?, filtered(&bench, 100)?);
    let at = |sorted: &[f64], share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied();
    let bytes = bench.file_bytes()?;
    let mut answer = json!({
        "build_s": bench.build_s + bench.link_s, "first_ms": at(&first, 0.5), "query_ms_p50": at(&whole, 0.5),
        "query_ms_p99": at(&whole, 0.99), "recall_at_10": bench.recall(10)?, "recall_at_50": bench.recall(TOP)?,
        "rank_ms_p50": at(&rank, 0.5), "rank_three_parts_ms_p50": at(&rank_three, 0.5),
        "half_ms_p50": at(&half, 0.5), "percent_ms_p50": at(&percent, 0.5), "vectors": vectors, "dim": dim,
        "vector_bytes": vectors * dim * 2, "file_bytes": bytes, "resident_bytes": resident_bytes(),
        "threads": rayon::current_num_threads(),
    });
    if let Some(answer) = answer.as_object_mut().filter(|_| graph) {
        let under = |bench: &mut SearchBench, part| bench.recall_under(&bench.one_in(part));
        let more = json!({
            "link_s": bench.link_s, "exact_query_ms_p50": at(&exact, 0.5), "exact_query_ms_p99": at(&exact, 0.99),
            "tenth_ms_p50": at(&filtered(&bench, 10)?, 0.5), "half_recall_at_50": under(&mut bench, 2)?,
            "tenth_recall_at_50": under(&mut bench, 10)?, "percent_recall_at_50": under(&mut bench, 100)?,
        });
        answer.extend(more.as_object().cloned().unwrap_or_default());
    }
    if engine.config().json {
        render::json(&answer);
    } else {
        let number = |key: &str| answer.get(key).and_then(serde_json::Value::as_f64).unwrap_or_default();
        render::text(&format!(
            "{:.1} ms per search of {vectors} x {dim} (99 %: {:.1}; first {:.0}), recall at 10 {:.4}, at {TOP} {:.4}; \
             files written in {:.1} s, {:.0} MB",
            number("query_ms_p50"),
            number("query_ms_p99"),
            number("first_ms"),
            number("recall_at_10"),
            number("recall_at_50"),
            number("build_s"),
            bytes as f64 / 1e6,
        ));
    }
    Ok(Outcome::Done)
}

/// Milliseconds of each round, ascending; one more runs before them.
fn sorted_ms<T>(rounds: usize, work: impl Fn(usize) -> Result<T>) -> Result<Vec<f64>> {
    work(0)?;
    let mut times = Vec::with_capacity(rounds);
    for number in 0..rounds {
        let started = Instant::now();
        work(number)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn median_ms<T>(mut work: impl FnMut() -> Result<T>) -> Result<f64> {
    work()?;
    let (mut times, begun) = (Vec::with_capacity(MOST_ROUNDS), Instant::now());
    while times.len() < ROUNDS || (times.len() < MOST_ROUNDS && begun.elapsed().as_secs_f64() < ENOUGH_SECONDS) {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}
