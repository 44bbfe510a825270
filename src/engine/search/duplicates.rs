//! Groups of equal and nearly equal pictures.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::index::calibration::{dot, same_picture};
use crate::index::{Catalogue, Filter, SetInfo, VectorCache};

/// Files that show the same or nearly the same picture.
#[derive(Debug, Clone, PartialEq)]
pub struct DuplicateGroup {
    /// Their paths, sorted; at least two.
    pub paths: Vec<PathBuf>,
    /// The files are equal byte by byte.
    pub identical: bool,
}

/// All groups of duplicates among the files that pass a filter, the first path deciding their order. Pictures are joined
/// when they are the same but for scale and compression ([`same_picture`]), also by way of others. Compares all pairs: 10,000 pictures take seconds, 100,000 minutes.
///
/// # Errors
/// The caller cancelled; the database fails.
pub fn duplicate_groups(
    catalogue: &Catalogue,
    cache: &VectorCache,
    set: &SetInfo,
    filter: &Filter,
    cancel: &AtomicBool,
) -> Result<Vec<DuplicateGroup>> {
    let view = cache.view(catalogue, set)?;
    let (vectors, reach) = (view.vectors(), view.reach(filter));
    let mut pictures: Vec<(i64, u64, Vec<f32>)> = Vec::with_capacity(reach.rows.len());
    for row in reach.rows.iter() {
        if let Some((content, vector)) = vectors.content(row).zip(vectors.vector(row)) {
            let Some(file) = catalogue.files_of(content)?.into_iter().next() else { continue };
            pictures.push((content, file.look, vector));
        }
    }
    let pairs: Vec<(usize, usize)> = pictures
        .par_iter()
        .enumerate()
        .flat_map_iter(|(index, (_, look, vector))| {
            let others =
                if cancel.load(Ordering::Relaxed) { &[] } else { pictures.get(index + 1..).unwrap_or_default() };
            let close = others
                .iter()
                .enumerate()
                .filter(|(_, (_, other_look, other))| same_picture(dot(vector, other), *look, *other_look));
            close.map(move |(offset, _)| (index, index + 1 + offset)).collect::<Vec<_>>()
        })
        .collect();
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::Cancelled);
    }
    let groups = join(&pictures, pairs);
    let mut found = Vec::new();
    for members in groups {
        let mut paths = Vec::new();
        for content in &members {
            let files = catalogue.files_of(*content)?.into_iter().filter(|file| filter.admits(file));
            paths.extend(files.map(|file| file.path).filter(|path| path.exists()));
        }
        if paths.len() > 1 {
            paths.sort();
            found.push(DuplicateGroup { paths, identical: members.len() == 1 });
        }
    }
    found.sort_by(|a, b| a.paths.cmp(&b.paths));
    Ok(found)
}

/// The groups that pairs of positions make, singles included.
fn join(pictures: &[(i64, u64, Vec<f32>)], pairs: Vec<(usize, usize)>) -> Vec<Vec<i64>> {
    let mut leader: Vec<usize> = (0..pictures.len()).collect();
    for (a, b) in pairs {
        let (a, b) = (find(&mut leader, a), find(&mut leader, b));
        if let Some(slot) = leader.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for (index, (content, ..)) in pictures.iter().enumerate() {
        groups.entry(find(&mut leader, index)).or_default().push(*content);
    }
    groups.into_values().collect()
}

/// The first of a picture's group; shortens the way for the next call.
fn find(leader: &mut [usize], start: usize) -> usize {
    let mut index = start;
    while let Some(next) = leader.get(index).copied().filter(|next| *next != index) {
        let further = leader.get(next).copied().unwrap_or(next);
        if let Some(slot) = leader.get_mut(index) {
            *slot = further;
        }
        index = next;
    }
    index
}
