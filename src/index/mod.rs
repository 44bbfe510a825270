//! The index: which images there are, their vectors, and what a score means. Knows paths and vectors, never models.
//!
//! `SQLite` is the truth ([`Catalogue`]): every file, every picture by content hash, every vector. A picture is embedded once
//! per model however often it is copied, moved or renamed. The vector file and the list of files
//! ([`VectorCache`]) are copies for scanning that can be thrown away at any time.

mod cachefile;
pub mod calibration;
mod candidates;
mod catalogue;
pub mod concepts;
mod detections;
mod files;
mod gallery;
mod lock;
mod paths;
mod places;
mod scan;
mod schema;
mod sets;
mod standing;
mod status;
mod vectors;

pub use candidates::{FileRow, Filter};
pub use catalogue::{Catalogue, Snapshot};
pub use detections::{StoredBox, StoredDetections};
pub use files::{Content, FileOutcome, FileRecord, Row, Triage, Written};
pub use gallery::Example;
pub use lock::FolderLock;
pub use places::{Places, Reach, View};
pub use scan::{Found, ScanOptions, ScanSummary, scan};
pub use sets::{SetInfo, SetKey};
pub use standing::Standing;
pub use status::{Coverage, FolderStatus, IndexStatus, RunRecord};
pub use vectors::{Part, Ranked, Ranking, Role, RowSet, VectorCache, Vectors};
