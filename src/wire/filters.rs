//! Limits on a search that the command line has and the tool does not.

use crate::engine::find;
use crate::error::{Error, Result};
use crate::index::Filter;
use crate::pixels;

/// Filters that the command line adds to a search.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Taken (else modified) on or after this day, `YYYY-MM-DD`.
    pub after: Option<String>,
    /// Taken (else modified) before this day, `YYYY-MM-DD`.
    pub before: Option<String>,
    /// Least width, pixels.
    pub min_width: Option<u32>,
    /// Least height, pixels.
    pub min_height: Option<u32>,
    /// Smallest file, KiB.
    pub min_kib: Option<u64>,
    /// Largest file, KiB.
    pub max_kib: Option<u64>,
    /// Formats by name; empty for all.
    pub formats: Vec<String>,
    /// Every copy of near-duplicates is a hit of its own.
    pub all_duplicates: bool,
    /// Every vector is compared, also where a graph is faster.
    pub exact: bool,
}

/// The catalogue's name of a format.
fn format_name(given: &str) -> Result<String> {
    let lower = given.trim().trim_start_matches('.').to_lowercase();
    let name = match lower.as_str() {
        "jpg" | "jfif" => "jpeg",
        "tif" => "tiff",
        "heif" => "heic",
        other => other,
    };
    if pixels::FORMATS.contains(&name) {
        return Ok(name.to_owned());
    }
    let reason = format!("must be one of {}, not `{given}`", pixels::FORMATS.join(", "));
    Err(Error::Argument { name: "format", reason })
}

impl Filters {
    /// As the index takes them.
    pub(super) fn resolve(&self) -> Result<Filter> {
        Ok(Filter {
            from: self.after.as_deref().map(|day| find::day("after", day)).transpose()?,
            until: self.before.as_deref().map(|day| find::day("before", day)).transpose()?,
            min_width: self.min_width,
            min_height: self.min_height,
            min_bytes: self.min_kib.map(|kib| kib.saturating_mul(1024)),
            max_bytes: self.max_kib.map(|kib| kib.saturating_mul(1024)),
            formats: self.formats.iter().map(|format| format_name(format)).collect::<Result<_>>()?,
            ..Filter::default()
        })
    }
}
