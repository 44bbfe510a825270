//! The file of a set's graph: links alone, of the rows that lie in the vector file ([`CacheFile`] says how it is kept whole).
//!
//! It belongs to a vector file whose first rows are those that were linked: the same set at the same count of changes, the
//! same pictures in the same order. Where it does not, searches read all rows until the next index run links them.

use std::path::{Path, PathBuf};

use super::{Graph, Linked, WIDTH};
use crate::index::cachefile::{CacheFile, Plan, Sink, bytes_of, sum_of};
use crate::index::vectors::file::VectorFile;
use crate::index::vectors::fixed::padded;
use crate::index::vectors::rows::{Extent, Rows};

/// Format 1.
const MAGIC: [u8; 8] = *b"CALNK\0\0\x01";

const LINKS: usize = 0;
/// Links of the layers above.
const UPPER: usize = 1;
const SAMPLE: usize = 2;
/// The high planes of the sample and what belongs to them.
const HIGH: usize = 3;
const STEPS: usize = 4;
const MEANS: usize = 5;
const SPREADS: usize = 6;
const CONTENTS: usize = 7;

/// Where the graph of a set lies.
pub(in crate::index) fn links_of(data_dir: &Path, set: i64) -> PathBuf {
    data_dir.join(format!("vectors-{set}-links.bin"))
}

/// An open graph file, or its contents in memory.
#[derive(Debug)]
pub(in crate::index::vectors) struct GraphFile {
    file: CacheFile,
}

impl GraphFile {
    /// Opens a file if it is whole and of these rows.
    pub(in crate::index::vectors) fn open(path: &Path, base: &VectorFile) -> Option<Self> {
        let opened = Self { file: CacheFile::open(path, MAGIC)? };
        let rows = opened.len();
        let gathered = opened.graph(base.rows().centre).gathered;
        let lengths = [gathered.steps, gathered.means, gathered.spreads].map(<[f32]>::len);
        let whole = lengths == [gathered.len(); 3]
            && gathered.len() == opened.file.section::<u32>(SAMPLE).len()
            && gathered.high.len() == gathered.len() * padded(base.dim());
        (whole && *opened.file.fields() == fields(base, rows)?).then_some(opened)
    }

    /// Links all rows of a vector file, those of an older graph only to new ones, and writes the file; keeps it in memory
    /// when it cannot be written. `report`: see [`Linked::build`]. `None` when the caller stopped it.
    pub(in crate::index::vectors) fn build(
        path: &Path,
        base: &VectorFile,
        old: Option<&Self>,
        report: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Option<Self> {
        let linked = Linked::build(base.rows(), old.map(|old| old.graph(base.rows().centre)), report)?;
        let mut plan = Plan { magic: MAGIC, fields: fields(base, base.rows().len())?, sections: [0; 10] };
        let gathered = linked.gathered.rows(base.rows().centre);
        let mut sections: [&[u8]; 8] = [&[]; 8];
        sections[LINKS] = bytes_of(&linked.links);
        sections[UPPER] = bytes_of(&linked.upper);
        sections[SAMPLE] = bytes_of(&linked.sample);
        sections[HIGH] = bytes_of(gathered.high);
        sections[STEPS] = bytes_of(gathered.steps);
        sections[MEANS] = bytes_of(gathered.means);
        sections[SPREADS] = bytes_of(gathered.spreads);
        sections[CONTENTS] = bytes_of(gathered.contents);
        for (length, bytes) in plan.sections.iter_mut().zip(sections) {
            *length = bytes.len();
        }
        let fill = |sink: &mut dyn Sink| {
            sections.iter().enumerate().try_for_each(|(section, bytes)| sink.put(section, 0, bytes))
        };
        let file = CacheFile::build(path, plan, fill, |_: &std::io::Error| true);
        file.map_err(|error| tracing::warn!("cannot keep {}: {error}", path.display())).ok().map(|file| Self { file })
    }

    /// The graph. Its links are numbers of a file: a walk passes over those that are no rows.
    pub(in crate::index::vectors) fn graph<'a>(&'a self, centre: &'a [f32]) -> Graph<'a> {
        let file = &self.file;
        let gathered = Rows {
            centre,
            high: file.section(HIGH),
            low: &[],
            steps: file.section(STEPS),
            residuals: &[],
            means: file.section(MEANS),
            spreads: file.section(SPREADS),
            contents: file.section(CONTENTS),
            extent: Extent::default(),
        };
        Graph { links: file.section(LINKS), upper: file.section(UPPER), sample: file.section(SAMPLE), gathered }
    }

    /// Rows that are linked.
    pub(in crate::index::vectors) fn len(&self) -> usize {
        self.file.section::<u32>(LINKS).len() / WIDTH
    }
}

/// What a graph of the first `rows` of a vector file says of itself; `None` when the file has fewer.
fn fields(base: &VectorFile, rows: usize) -> Option<[u64; 8]> {
    let stamp = base.stamp();
    let pictures = sum_of(base.rows().contents.get(..rows)?);
    let own = [stamp.token, stamp.set, stamp.epoch].map(|number| number as u64);
    let [token, set, epoch] = own;
    Some([token, set, epoch, rows as u64, pictures, 0, 0, 0])
}
