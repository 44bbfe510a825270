//! Trains the router's model from the sentences in tools/router and writes assets/router/router.bin.
//!
//! `cargo run --release --example train_router` does everything, with fixed seeds. Options: `--corpus DIR`, `--out
//! FILE`, `--evaluate FILE.jsonl` (a labelled set to score, may repeat; never trained on), `--errors N` (print N of
//! its mistakes), `--dry` (write nothing).

mod augment;
mod corpus;
mod evaluate;
mod train;

use std::path::PathBuf;
use std::time::Instant;

use corpus::{Random, Sample};

/// One hand-written line in eight is kept out of training, chosen by its text.
const HELD_OUT_ONE_IN: u64 = 8;

struct Options {
    corpus: PathBuf,
    out: PathBuf,
    evaluate: Vec<PathBuf>,
    errors: usize,
    dry: bool,
    epochs: usize,
}

fn options() -> Result<Options, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut options = Options {
        corpus: root.join("tools/router"),
        out: root.join("assets/router/router.bin"),
        evaluate: Vec::new(),
        errors: 0,
        dry: false,
        epochs: 6,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--corpus" => options.corpus = value()?.into(),
            "--out" => options.out = value()?.into(),
            "--evaluate" => options.evaluate.push(value()?.into()),
            "--errors" => options.errors = value()?.parse().map_err(|_| "--errors needs a number")?,
            "--epochs" => options.epochs = value()?.parse().map_err(|_| "--epochs needs a number")?,
            "--dry" => options.dry = true,
            _ => return Err(format!("no option {argument}")),
        }
    }
    Ok(options)
}

fn main() -> Result<(), String> {
    let options = options()?;
    let started = Instant::now();
    let test_folder = options.corpus.join("test");
    let mut held_out = Vec::new();
    let mut training = Vec::new();
    for sample in corpus::read(&options.corpus.join("train"), 1)? {
        // A grammar's draw may equal a held-out line: both go by the text.
        if hash(&sample.text).is_multiple_of(HELD_OUT_ONE_IN) && sample.by_hand {
            held_out.push(sample);
        } else {
            training.push(sample);
        }
    }
    let test = if test_folder.is_dir() { corpus::read(&test_folder, 1)? } else { Vec::new() };
    let kept_out: std::collections::HashSet<String> =
        held_out.iter().chain(&test).map(|sample| sample.text.to_lowercase()).collect();
    training.retain(|sample| !kept_out.contains(&sample.text.to_lowercase()));
    eprintln!("{} to train on, {} held out, {} to test on", training.len(), held_out.len(), test.len());
    counts(&training);

    let mut random = Random(7);
    let training = augment::augment(training, &mut random);
    eprintln!("{} after augmentation, {:.0} s", training.len(), started.elapsed().as_secs_f32());
    let model = train::train(&training, &held_out, options.epochs, &mut random);
    eprintln!("trained, {:.0} s", started.elapsed().as_secs_f32());
    let file = model.to_file();
    let shipped = clip_aware::knowledge::router::Model::read(&file).ok_or("the model written cannot be read")?;
    evaluate::report("held out (hand-written, not trained on)", &held_out, &shipped, 0);
    if !test.is_empty() {
        evaluate::report("test (written apart)", &test, &shipped, options.errors);
    }
    for path in &options.evaluate {
        let samples = evaluate::read_jsonl(path)?;
        for (group, samples) in evaluate::groups(samples) {
            evaluate::report(&format!("{} {group}", path.display()), &samples, &shipped, options.errors);
        }
    }
    if !options.dry {
        std::fs::write(&options.out, &file).map_err(|error| format!("{}: {error}", options.out.display()))?;
        eprintln!("wrote {} ({} bytes)", options.out.display(), file.len());
    }
    Ok(())
}

fn counts(samples: &[Sample]) {
    let mut counts = std::collections::BTreeMap::<(&str, &str, bool), usize>::new();
    for sample in samples {
        if let Some(label) = sample.labels.first() {
            let language = if sample.language == "en" { "en" } else { "other" };
            *counts.entry((label.name(), language, sample.by_hand)).or_default() += 1;
        }
    }
    for ((label, language, by_hand), count) in counts {
        eprintln!("  {label:26} {language:6} {:8} {count}", if by_hand { "by hand" } else { "grammar" });
    }
}

/// FNV-1a of a text in lower case.
pub fn hash(text: &str) -> u64 {
    text.to_lowercase()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        >> 7
}
