//! The storing side of a run: collects what the workers hand over, encodes batches, writes transactions.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::workers::{Job, Outcome};
use super::{IngestOptions, IngestReport, Meter, Plan};
use crate::engine::embedder::ImageTextEmbedder;
use crate::error::{Error, Result};
use crate::index::calibration::ImageCalibration;
use crate::index::{Catalogue, Content, FileOutcome, FileRecord, SetInfo, Written};

/// How often the cancel flag is looked at while nothing arrives.
const PATIENCE: Duration = Duration::from_millis(100);
/// Rows that need no encoding are stored in groups of this size.
const ROWS_AT_ONCE: usize = 256;
/// A batch that took less is followed by one twice as large, one that took more than the limit by one half as large: a
/// cancel is answered within about a second.
const BATCH_SECONDS: f64 = 0.45;
const BATCH_LIMIT_SECONDS: f64 = 0.9;
/// Images of the first batch, before the speed is known.
const FIRST_BATCH: usize = 4;

/// One run's unfinished work.
pub(super) struct Session<'a> {
    catalogue: &'a mut Catalogue,
    embedder: &'a dyn ImageTextEmbedder,
    set: &'a SetInfo,
    options: &'a IngestOptions,
    nulls: &'a [Vec<f32>],
    plan: &'a mut Plan,
    report: &'a mut IngestReport,
    /// Decoded, not encoded.
    batch: Vec<(Job, Content, Vec<f32>)>,
    batch_size: usize,
    /// Ready to be stored.
    rows: Vec<FileRecord>,
    /// Copies of pictures that are not stored yet.
    copies: Vec<FileRecord>,
    /// Why pictures were refused, for their copies.
    reasons: HashMap<[u8; 32], String>,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        catalogue: &'a mut Catalogue,
        embedder: &'a dyn ImageTextEmbedder,
        set: &'a SetInfo,
        options: &'a IngestOptions,
        nulls: &'a [Vec<f32>],
        plan: &'a mut Plan,
        report: &'a mut IngestReport,
    ) -> Self {
        Self {
            catalogue,
            embedder,
            set,
            options,
            nulls,
            plan,
            report,
            batch: Vec::new(),
            batch_size: FIRST_BATCH.clamp(1, options.batch.max(1)),
            rows: Vec::new(),
            copies: Vec::new(),
            reasons: HashMap::new(),
        }
    }

    /// Takes everything that the workers hand over.
    pub(super) fn run(&mut self, receiver: &Receiver<(Job, Outcome)>, total: u64, meter: &mut Meter<'_>) -> Result<()> {
        let (mut done, started) = (0, Instant::now());
        loop {
            if meter.watch.cancel.load(Ordering::Relaxed) {
                // What needs no encoding is kept too.
                return self.store_rows();
            }
            match receiver.recv_timeout(PATIENCE) {
                Ok((job, outcome)) => {
                    done += 1;
                    self.take(job, outcome)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.batch.len() >= self.batch_size {
                self.encode()?;
                self.store_rows()?;
            } else if self.rows.len() >= ROWS_AT_ONCE {
                self.store_rows()?;
            }
            let report = &self.report;
            meter.show("embed", done, Some(total), || {
                let rate = report.embedded as f64 / started.elapsed().as_secs_f64().max(1e-3);
                format!("{done}/{total} files, {rate:.1} images/s, {} skipped", report.skipped)
            });
        }
        self.encode()?;
        self.store_rows()?;
        self.settle_copies()
    }

    fn take(&mut self, job: Job, outcome: Outcome) -> Result<()> {
        match outcome {
            Outcome::Prepared(content, input) => self.batch.push((job, content, input)),
            Outcome::Copy(hash) => self.rows.push(record(job, FileOutcome::Known { hash })),
            Outcome::Refused { hash, reason, passing } => {
                if let Some(hash) = hash {
                    self.reasons.insert(hash, reason.clone());
                }
                self.refuse(job, reason, passing);
            }
            // Not met: if it had a row, that goes at the end of the run.
            Outcome::Gone => self.report.found = self.report.found.saturating_sub(1),
            Outcome::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn refuse(&mut self, job: Job, reason: String, passing: bool) {
        self.report.skip(job.path.clone(), reason.clone(), self.options.skipped_listed);
        // A decoder without a name is another one at the next run.
        let decoder = if passing { String::new() } else { self.options.decoder.clone() };
        self.rows.push(record(job, FileOutcome::Refused { reason, decoder }));
    }

    /// Encodes the batch into rows.
    fn encode(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut batch = std::mem::take(&mut self.batch);
        let inputs: Vec<Vec<f32>> = batch.iter_mut().map(|(_, _, input)| std::mem::take(input)).collect();
        let vectors = self.embedder.encode_images(&inputs)?;
        for ((job, content, _), vector) in batch.into_iter().zip(vectors) {
            if vector.len() == self.set.key.dim && vector.iter().all(|value| value.is_finite()) {
                let calibration = ImageCalibration::measure(&vector, self.nulls);
                self.rows.push(record(job, FileOutcome::Embedded { content, vector, calibration }));
            } else {
                let reason = "the model gave no usable vector for it".to_owned();
                let error = Error::Decode { path: job.path.clone(), reason };
                self.reasons.insert(content.hash, error.to_string());
                self.refuse(job, error.to_string(), false);
            }
        }
        // By the batch's own time: images take less each in a larger batch, so a size worked out from a small
        // batch's speed would stay small.
        let seconds = started.elapsed().as_secs_f64();
        let next = match inputs.len() {
            full if full >= self.batch_size && seconds < BATCH_SECONDS => self.batch_size * 2,
            _ if seconds > BATCH_LIMIT_SECONDS => self.batch_size / 2,
            _ => self.batch_size,
        };
        self.batch_size = next.clamp(1, self.options.batch.max(1));
        Ok(())
    }

    /// Stores all rows in one transaction. Copies whose picture is still on its way wait.
    fn store_rows(&mut self) -> Result<()> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.append(&mut self.copies);
        if rows.is_empty() {
            return Ok(());
        }
        // Pictures before their copies: those may be in the same transaction.
        rows.sort_by_key(|row| matches!(row.outcome, FileOutcome::Known { .. }));
        let written = self.catalogue.write_batch(self.set, &rows)?;
        for (record, written) in rows.into_iter().zip(written) {
            self.count(record, written);
        }
        Ok(())
    }

    fn count(&mut self, record: FileRecord, written: Written) {
        let embedded = matches!(record.outcome, FileOutcome::Embedded { .. });
        let refused = matches!(record.outcome, FileOutcome::Refused { .. });
        self.report.embedded += u64::from(embedded);
        let row = match written {
            Written::Missing => return self.copies.push(record),
            Written::Added(row) | Written::Updated(row) | Written::Same(row) => row,
        };
        self.plan.met.insert(row.file);
        match written {
            _ if refused => {}
            Written::Added(_) if embedded => self.report.added += 1,
            Written::Added(_) => {
                self.report.moved += 1;
                self.plan.arrived.extend(row.content);
            }
            Written::Updated(_) => self.report.updated += 1,
            Written::Same(_) | Written::Missing => self.report.unchanged += 1,
        }
    }

    /// Copies of pictures that were refused are refused for the same reason.
    fn settle_copies(&mut self) -> Result<()> {
        for copy in std::mem::take(&mut self.copies) {
            let FileOutcome::Known { hash } = copy.outcome else { continue };
            // Without a reason the picture was removed by somebody else meanwhile: the next run reads the file.
            let Some(reason) = self.reasons.get(&hash).cloned() else { continue };
            let path: PathBuf = copy.path.clone();
            self.report.skip(path, reason.clone(), self.options.skipped_listed);
            let outcome = FileOutcome::Refused { reason, decoder: self.options.decoder.clone() };
            self.rows.push(FileRecord { outcome, ..copy });
        }
        self.store_rows()
    }
}

fn record(job: Job, outcome: FileOutcome) -> FileRecord {
    FileRecord { path: job.path, size: job.size, mtime_ns: job.mtime_ns, outcome }
}
