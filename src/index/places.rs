//! Where the pictures are: every known file, by path, with what filters look at, in arrays. A copy of what the database
//! says ([`CacheFile`]), since it takes the database a second to list half a million files and an array a millisecond.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::cachefile::{CacheFile, Plan, Sink, bytes_of};
use super::candidates::{Facts, Filter};
use super::catalogue::Catalogue;
use super::vectors::{RowSet, Vectors};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"CAPLC\0\0\x01";

const PATHS: usize = 0;
const ENDS: usize = 1;
const CONTENTS: usize = 2;
const SIZES: usize = 3;
const DATES: usize = 4;
const WIDTHS: usize = 5;
const HEIGHTS: usize = 6;
const FORMATS: usize = 7;
const NAMES: usize = 8;

/// Stands for the picture of a file that is none; the database counts from 1.
const NO_PICTURE: i64 = 0;
/// Changes after which the file is written again; until then, a search during an index run lists the files in memory.
const CHANGES_LIMIT: u64 = 4096;

/// The state of the database's files: random by database, and how often they were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    token: u64,
    changes: u64,
}

/// All files of the catalogue at one moment, in the order of their paths' bytes.
#[derive(Debug)]
pub struct Places {
    stamp: Stamp,
    file: CacheFile,
}

impl Places {
    /// The files as they are now: `held` when nothing was changed since, else the file, else read from the database.
    pub(super) fn now(catalogue: &Catalogue, held: Option<Arc<Self>>) -> Result<Arc<Self>> {
        let now = stamp(catalogue)?;
        let fits = |places: &Arc<Self>| places.stamp == now;
        if let Some(places) = held.filter(fits) {
            return Ok(places);
        }
        let known = Self::open(&file_of(catalogue)).map(Arc::new);
        let near = known.as_ref().is_some_and(|places| {
            places.stamp.token == now.token && now.changes.abs_diff(places.stamp.changes) < CHANGES_LIMIT
        });
        match known.filter(fits) {
            Some(places) => Ok(places),
            None => Self::read(catalogue, !near).map(Arc::new),
        }
    }

    /// Writes the file when it is not up to date.
    pub(super) fn refresh(catalogue: &Catalogue) -> Result<()> {
        let now = stamp(catalogue)?;
        if Self::open(&file_of(catalogue)).is_none_or(|places| places.stamp != now) {
            Self::read(catalogue, true)?;
        }
        Ok(())
    }

    fn open(path: &Path) -> Option<Self> {
        let file = CacheFile::open(path, MAGIC)?;
        let [token, changes, ..] = *file.fields();
        let places = Self { stamp: Stamp { token, changes }, file };
        let files = places.len();
        let numbers = [places.sizes().len(), places.dates().len(), places.widths().len(), places.heights().len()];
        let whole = numbers == [files; 4] && places.ends().len() == files && places.formats().len() == files;
        whole.then_some(places)
    }

    fn read(catalogue: &Catalogue, write: bool) -> Result<Self> {
        let failed = catalogue.failed();
        // One view of the database, so that the stamp fits the rows.
        let _view = catalogue.connection.unchecked_transaction().map_err(&failed)?;
        let stamp = stamp(catalogue)?;
        let columns = Columns::read(catalogue).map_err(&failed)?;
        let plan = columns.plan(stamp);
        let fill = |sink: &mut dyn Sink| columns.fill(sink);
        let path = file_of(catalogue);
        let file = if write { CacheFile::build(&path, plan, fill, |_| true) } else { CacheFile::keep(plan, fill) };
        Ok(Self { stamp, file: file.map_err(Error::io("write", &path))? })
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.contents().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ends(&self) -> &[u64] {
        self.file.section(ENDS)
    }

    fn contents(&self) -> &[i64] {
        self.file.section(CONTENTS)
    }

    fn sizes(&self) -> &[u64] {
        self.file.section(SIZES)
    }

    fn dates(&self) -> &[i64] {
        self.file.section(DATES)
    }

    fn widths(&self) -> &[u32] {
        self.file.section(WIDTHS)
    }

    fn heights(&self) -> &[u32] {
        self.file.section(HEIGHTS)
    }

    fn formats(&self) -> &[u16] {
        self.file.section(FORMATS)
    }

    fn path(&self, file: usize) -> &[u8] {
        let end = |file: usize| self.ends().get(file).and_then(|end| usize::try_from(*end).ok());
        let start = file.checked_sub(1).map_or(Some(0), end);
        start.zip(end(file)).and_then(|(start, end)| self.file.section(PATHS).get(start..end)).unwrap_or_default()
    }

    /// The files whose paths lie in `[from, to)`.
    fn between(&self, from: &[u8], to: &[u8]) -> Range<usize> {
        self.first_from(from)..self.first_from(to)
    }

    /// The first file whose path is not before `bound`.
    fn first_from(&self, bound: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.path(middle) < bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// For each number that stands for a format, whether a filter admits it.
    fn admitted_formats(&self, filter: &Filter) -> Vec<bool> {
        let names = self.file.section(NAMES).split(|byte| *byte == b'\n');
        names.map(|name| filter.admits_format(std::str::from_utf8(name).unwrap_or_default())).collect()
    }

    fn facts(&self, file: usize) -> Option<Facts> {
        Some(Facts {
            size: *self.sizes().get(file)?,
            date: *self.dates().get(file)?,
            width: *self.widths().get(file)?,
            height: *self.heights().get(file)?,
        })
    }
}

fn file_of(catalogue: &Catalogue) -> std::path::PathBuf {
    catalogue.data_dir().join("places.bin")
}

fn stamp(catalogue: &Catalogue) -> Result<Stamp> {
    let mut statement =
        catalogue.connection.prepare_cached("SELECT token, changes FROM file_state").map_err(catalogue.failed())?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Stamp { token: row.get::<_, i64>(0)? as u64, changes: row.get::<_, i64>(1)? as u64 })
    };
    statement.query_row([], read).map_err(catalogue.failed())
}

/// The arrays on their way from the database to the file.
#[derive(Debug, Default)]
struct Columns {
    paths: Vec<u8>,
    ends: Vec<u64>,
    contents: Vec<i64>,
    sizes: Vec<u64>,
    dates: Vec<i64>,
    widths: Vec<u32>,
    heights: Vec<u32>,
    formats: Vec<u16>,
    names: Vec<u8>,
}

impl Columns {
    fn read(catalogue: &Catalogue) -> rusqlite::Result<Self> {
        let sql = "SELECT path, content_id, size, mtime_ns, width, height, format, taken_at
                   FROM file LEFT JOIN content ON content.id = content_id ORDER BY path";
        let mut columns = Self::default();
        let mut names: BTreeMap<Vec<u8>, u16> = BTreeMap::new();
        let mut statement = catalogue.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            columns.paths.extend_from_slice(row.get_ref(0)?.as_blob().unwrap_or_default());
            columns.ends.push(columns.paths.len() as u64);
            columns.contents.push(row.get::<_, Option<i64>>(1)?.unwrap_or(NO_PICTURE));
            columns.sizes.push(u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0));
            columns.dates.push(super::candidates::date(row.get(7)?, row.get(3)?));
            columns.widths.push(row.get::<_, Option<u32>>(4)?.unwrap_or(0));
            columns.heights.push(row.get::<_, Option<u32>>(5)?.unwrap_or(0));
            let format = row.get_ref(6)?.as_bytes_or_null()?.unwrap_or_default();
            let known = names.get(format).copied();
            columns.formats.push(known.unwrap_or_else(|| {
                let number = names.len() as u16;
                names.insert(format.to_vec(), number);
                number
            }));
        }
        let mut by_number: Vec<(u16, Vec<u8>)> = names.into_iter().map(|(name, number)| (number, name)).collect();
        by_number.sort_unstable();
        columns.names = by_number.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(&b'\n');
        Ok(columns)
    }

    fn sections(&self) -> [&[u8]; 9] {
        let mut sections: [&[u8]; 9] = [&[]; 9];
        sections[PATHS] = &self.paths;
        sections[ENDS] = bytes_of(&self.ends);
        sections[CONTENTS] = bytes_of(&self.contents);
        sections[SIZES] = bytes_of(&self.sizes);
        sections[DATES] = bytes_of(&self.dates);
        sections[WIDTHS] = bytes_of(&self.widths);
        sections[HEIGHTS] = bytes_of(&self.heights);
        sections[FORMATS] = bytes_of(&self.formats);
        sections[NAMES] = &self.names;
        sections
    }

    fn plan(&self, stamp: Stamp) -> Plan {
        let mut plan = Plan { magic: MAGIC, fields: [0; 8], sections: [0; 10] };
        (plan.fields[0], plan.fields[1]) = (stamp.token, stamp.changes);
        for (bytes, section) in plan.sections.iter_mut().zip(self.sections()) {
            *bytes = section.len();
        }
        plan
    }

    fn fill(&self, sink: &mut dyn Sink) -> std::io::Result<()> {
        self.sections().iter().enumerate().try_for_each(|(section, bytes)| sink.put(section, 0, bytes))
    }
}

/// The rows that a search may answer with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Rows of pictures of which a file passes the filter.
    pub rows: RowSet,
    /// Files in the filter's folders whose picture has a row, whatever its other limits say.
    pub indexed: u64,
    /// Files in the filter's folders without one: no readable image, or not embedded with this model.
    pub skipped: u64,
}

/// A set's vectors together with the files that show its pictures, at one moment.
#[derive(Debug)]
pub struct View {
    vectors: Arc<Vectors>,
    places: Arc<Places>,
    /// For each file, the row of its picture, or [`View::NO_ROW`].
    rows: Vec<u32>,
    /// The filter that was asked for last: mostly, the next search has the same.
    last: Mutex<Option<(Filter, Arc<Reach>)>>,
}

impl View {
    const NO_ROW: u32 = u32::MAX;

    pub(super) fn new(vectors: Arc<Vectors>, places: Arc<Places>) -> Self {
        let row = |content: &i64| {
            let row = if *content == NO_PICTURE { None } else { vectors.row_of(*content) };
            row.and_then(|row| u32::try_from(row).ok()).unwrap_or(Self::NO_ROW)
        };
        let rows = places.contents().iter().map(row).collect();
        Self { vectors, places, rows, last: Mutex::default() }
    }

    pub(super) fn is_of(&self, vectors: &Arc<Vectors>, places: &Arc<Places>) -> bool {
        Arc::ptr_eq(&self.vectors, vectors) && Arc::ptr_eq(&self.places, places)
    }

    pub(super) fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// The vectors.
    pub fn vectors(&self) -> &Vectors {
        &self.vectors
    }

    /// The rows in reach of a search.
    pub fn reach(&self, filter: &Filter) -> Arc<Reach> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reach)) = last.as_ref().filter(|(of, _)| of == filter) {
            return Arc::clone(reach);
        }
        let reach = Arc::new(self.measure(filter));
        *last = Some((filter.clone(), Arc::clone(&reach)));
        reach
    }

    fn measure(&self, filter: &Filter) -> Reach {
        let places = &self.places;
        let mut reach = Reach { rows: RowSet::none(self.vectors.len()), ..Reach::default() };
        let formats = places.admitted_formats(filter);
        let all = !filter.looks_at_files();
        let format = |file: usize| places.formats().get(file).and_then(|number| formats.get(usize::from(*number)));
        let admitted = |file: usize| {
            format(file) == Some(&true) && places.facts(file).is_some_and(|facts| filter.admits_facts(&facts))
        };
        for (from, to) in filter.ranges() {
            let files = places.between(&from, &to);
            for (file, row) in files.clone().zip(self.rows.get(files).unwrap_or_default()) {
                if *row == Self::NO_ROW {
                    reach.skipped += 1;
                    continue;
                }
                reach.indexed += 1;
                if all || admitted(file) {
                    reach.rows.insert(*row as usize);
                }
            }
        }
        reach
    }
}

#[cfg(test)]
mod tests;
