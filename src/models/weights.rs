//! Where a model's files come from: the built-in starter, a folder, the hub's cache, the hub.

use crate::error::Result;
use crate::models::ModelFiles;

/// State of a running download, for progress bars and notifications.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// The file.
    pub file: &'a str,
    /// Bytes that have arrived, resumed ones included.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// How weights may be looked for.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// No network at all.
    pub offline: bool,
}

/// Finds the files of a model, downloading only when `source` allows it.
///
/// # Errors
/// Unknown name, offline and not cached, hub errors, damaged transfers, a full disk.
pub fn locate(_name: &str, _source: &Source, _progress: &mut dyn FnMut(Transfer<'_>)) -> Result<ModelFiles> {
    unimplemented!()
}
