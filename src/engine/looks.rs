//! Looking at a picture more than once: at a second scale, in tiles; and one list of candidates out of it all.

use image::{RgbImage, imageops};

use super::Watch;
use super::counting::{log_odds, score_of};
use crate::error::Result;
use crate::geometry::XyxyPx;
use crate::models::{Counting, Detection, Detector};

/// Least score of a box that is kept as a hint.
pub const HINT: f32 = 0.01;
/// Boxes of one class that overlap more are the same thing.
const SAME_IOU: f32 = 0.5;
/// So are boxes of which the smaller lies so far in the better one.
const SAME_INSIDE: f32 = 0.8;
/// Share of the picture's side that a tile has for 2, 3 and 4 tiles in a row: each overlaps the next by a fifth of a tile
/// or more, so that what one cuts its neighbour sees whole.
const TILE_SHARES: [f32; 3] = [0.6, 0.42, 0.33];
/// Most tiles in a row.
const MOST_TILES: u32 = TILE_SHARES.len() as u32 + 1;
/// A box this near to a tile's inner border is cut, pixels of the tile.
const CUT: f32 = 3.0;
/// Log-odds taken off a box that only the tiles show: there are more of them to be wrong in.
const TILE_DISCOUNT: f32 = 0.75;
/// Edges of boxes that are joined with mirrored ones lie on this grid, pixels: a sum and a half of such numbers is exact.
const GRID: f32 = 0.125;

/// How a picture is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Once, as the reference does; boxes down to the least score that evaluations use.
    Once,
    /// At two scales and in four tiles: what the constants of [`super::counting`] were chosen for.
    Closely,
    /// As [`Look::Closely`], with more tiles for larger pictures.
    Tiles,
    /// As for counts, at the picture and at its mirror image, joined: finer boxes, and a mirrored picture has the
    /// mirrored boxes to the last bit, which no detector gives by itself. For relations.
    Mirrored,
    /// Once, and in tiles: for detectors whose scores mean the same in both, such as those that predict sets.
    OnceAndTiles,
}

impl Look {
    /// Names the way of looking and its constants, for the cache.
    pub fn key(self) -> &'static str {
        match self {
            Self::Once => "once-1",
            Self::Closely => "closely-1",
            Self::Tiles => "tiles-1",
            Self::Mirrored => "mirrored-1",
            Self::OnceAndTiles => "once-and-tiles-1",
        }
    }

    /// The way for a request: a caller's threshold asks for the reference's boxes, but for tiles.
    pub fn of(counting: Counting, threshold: Option<f32>, tiles: bool) -> Self {
        match (counting, tiles, threshold) {
            (Counting::Threshold(_) | Counting::Uncalibrated(_), true, _) => Self::OnceAndTiles,
            (Counting::Threshold(_) | Counting::Uncalibrated(_), false, _) | (Counting::Calibrated, _, Some(_)) => {
                Self::Once
            }
            (Counting::Calibrated, true, None) => Self::Tiles,
            (Counting::Calibrated, false, None) => Self::Closely,
        }
    }
}

/// Least score for [`Look::Once`]: the reference's for evaluation.
pub const EVALUATION_FLOOR: f32 = 0.001;

/// All candidates in a picture, best first.
///
/// # Errors
/// The detector fails; the caller cancelled.
pub fn look(detector: &Detector, picture: &RgbImage, how: Look, watch: &Watch<'_>) -> Result<Vec<Detection>> {
    if matches!(how, Look::Once | Look::OnceAndTiles) {
        let whole = detector.detect(picture, EVALUATION_FLOOR)?;
        if how == Look::Once {
            return Ok(whole);
        }
        let mut views = vec![whole];
        views.extend(in_tiles(detector, picture, MOST_TILES, watch)?);
        return Ok(union(views));
    }
    if how == Look::Mirrored {
        let how = Look::of(detector.counting(), None, false);
        let plain = look(detector, picture, how, watch)?;
        let mirrored = look(detector, &imageops::flip_horizontal(picture), how, watch)?;
        return Ok(join(plain, mirrored, picture.width() as f32));
    }
    let mut views = vec![detector.detect(picture, HINT)?];
    watch.check()?;
    if let Some(side) = detector.geometry().second_side {
        views.push(detector.detect_at(picture, HINT, side)?);
    }
    let found = average(&views);
    let most_tiles = if how == Look::Tiles { MOST_TILES } else { 2 };
    let mut pieces = in_tiles(detector, picture, most_tiles, watch)?.concat();
    for piece in &mut pieces {
        piece.score = score_of(log_odds(piece.score) - TILE_DISCOUNT);
    }
    Ok(best_of(found, pieces))
}

/// What each tile shows whole, in pixels of the picture.
fn in_tiles(detector: &Detector, picture: &RgbImage, most: u32, watch: &Watch<'_>) -> Result<Vec<Vec<Detection>>> {
    let tiles = tiles(picture, detector.geometry().input_side, most).into_iter();
    let seen = tiles.map(|(left, top, width, height)| {
        watch.check()?;
        let tile = imageops::crop_imm(picture, left, top, width, height).to_image();
        let seen = detector.detect(&tile, HINT)?.into_iter();
        let whole = seen.filter(|one| !is_cut(one, (left, top, width, height), picture.dimensions()));
        Ok(whole.map(|one| Detection { bounds: one.bounds.mapped(1.0, left as f32, top as f32), ..one }).collect())
    });
    seen.collect()
}

/// One list out of several views that each tell every thing apart by themselves: two boxes of one view are two things, however
/// much they overlap; a box of another view is the thing that it fits best, if no other box of that view is it already.
fn union(views: Vec<Vec<Detection>>) -> Vec<Detection> {
    struct Thing {
        best: Detection,
        /// The views that have shown it.
        views: Vec<usize>,
    }
    let mut all: Vec<(usize, Detection)> =
        views.into_iter().enumerate().flat_map(|(view, found)| found.into_iter().map(move |one| (view, one))).collect();
    all.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut things: Vec<Thing> = Vec::new();
    for (view, one) in all {
        let fit = |thing: &Thing| {
            let overlap = thing.best.bounds.iou(&one.bounds);
            let inside = thing.best.bounds.overlap_of_smaller(&one.bounds);
            let same = thing.best.class == one.class && (overlap > SAME_IOU || inside > SAME_INSIDE);
            (same && !thing.views.contains(&view)).then_some(overlap)
        };
        let fits = things.iter().enumerate().filter_map(|(at, thing)| Some((at, fit(thing)?)));
        match fits.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at).and_then(|at| things.get_mut(at)) {
            Some(thing) => thing.views.push(view),
            None => things.push(Thing { best: one, views: vec![view] }),
        }
    }
    let mut found: Vec<Detection> = things.into_iter().map(|thing| thing.best).collect();
    best_first(&mut found);
    found
}

/// One list out of several views of the whole picture. A thing's log-odds are the mean over the views; a view that does
/// not show it counts as the least score.
fn average(views: &[Vec<Detection>]) -> Vec<Detection> {
    let all: Vec<(usize, Detection)> =
        views.iter().enumerate().flat_map(|(view, found)| found.iter().map(move |one| (view, *one))).collect();
    let mut merged = groups(&all, |leader, members| {
        let sum: f32 = (0..views.len())
            .map(|view| {
                let scores = members
                    .iter()
                    .filter(|(of, one)| *of == view && leader.bounds.iou(&one.bounds) > SAME_IOU)
                    .map(|(_, one)| one.score);
                log_odds(scores.fold(0.0, f32::max))
            })
            .sum();
        Detection { score: score_of(sum / views.len().max(1) as f32), ..*leader }
    });
    best_first(&mut merged);
    merged
}

/// One list out of what a picture and its mirror image show: scores as in [`average`], edges half-way between the two.
fn join(plain: Vec<Detection>, mirrored: Vec<Detection>, width: f32) -> Vec<Detection> {
    let on_grid = |one: Detection| {
        let [x0, y0, x1, y1] = one.bounds.to_array().map(|edge| (edge / GRID).round() * GRID);
        Detection { bounds: XyxyPx { x0, y0, x1, y1 }, ..one }
    };
    let back = |one: Detection| Detection { bounds: one.bounds.mirrored(width), ..one };
    let views = [plain.into_iter().map(on_grid).collect(), mirrored.into_iter().map(on_grid).map(back).collect()];
    let seen = |view: &Vec<Detection>, leader: &Detection| {
        let same = view.iter().filter(|one| one.class == leader.class && one.bounds.iou(&leader.bounds) > SAME_IOU);
        same.max_by(|a, b| a.score.total_cmp(&b.score)).copied()
    };
    let mut merged = average(&views);
    for one in &mut merged {
        if let [Some(a), Some(b)] = views.each_ref().map(|view| seen(view, one)) {
            let (a, b) = (a.bounds, b.bounds);
            one.bounds = XyxyPx {
                x0: a.x0.midpoint(b.x0),
                y0: a.y0.midpoint(b.y0),
                x1: a.x1.midpoint(b.x1),
                y1: a.y1.midpoint(b.y1),
            };
        }
    }
    merged
}

/// Whole-picture candidates and those of tiles, without counting anything twice: the best score of each group counts.
fn best_of(whole: Vec<Detection>, pieces: Vec<Detection>) -> Vec<Detection> {
    let all: Vec<(usize, Detection)> =
        whole.into_iter().map(|one| (0, one)).chain(pieces.into_iter().map(|one| (1, one))).collect();
    let mut merged = groups(&all, |leader, _| *leader);
    best_first(&mut merged);
    merged
}

/// Groups boxes of a class that are the same thing, around the best one of each.
fn groups(
    all: &[(usize, Detection)],
    merge: impl Fn(&Detection, &[(usize, Detection)]) -> Detection,
) -> Vec<Detection> {
    let mut order: Vec<&(usize, Detection)> = all.iter().collect();
    order.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut rest = order;
    let mut merged = Vec::new();
    while let Some((_, leader)) = rest.first() {
        let (members, others): (Vec<_>, Vec<_>) = rest.iter().enumerate().partition(|(at, (_, one))| {
            let same = leader.bounds.iou(&one.bounds) > SAME_IOU
                || leader.bounds.overlap_of_smaller(&one.bounds) > SAME_INSIDE;
            *at == 0 || (one.class == leader.class && same)
        });
        let members: Vec<(usize, Detection)> = members.into_iter().map(|(_, one)| **one).collect();
        merged.push(merge(leader, &members));
        rest = others.into_iter().map(|(_, one)| *one).collect();
    }
    merged
}

fn best_first(found: &mut [Detection]) {
    found.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.class.cmp(&b.class)));
}

/// Left, top, width and height of overlapping tiles: two along each side, or more, the larger the picture.
fn tiles(picture: &RgbImage, input_side: u32, most: u32) -> Vec<(u32, u32, u32, u32)> {
    let (width, height) = picture.dimensions();
    let cuts = |length: u32| -> Vec<(u32, u32)> {
        let row = (length / (2 * input_side).max(1)).clamp(2, most.clamp(2, MOST_TILES));
        let share = TILE_SHARES.get(row as usize - 2).copied().unwrap_or(1.0);
        let tile = ((length as f32 * share).ceil() as u32).clamp(1, length);
        (0..row).map(|n| ((u64::from(length - tile) * u64::from(n) / u64::from(row - 1)) as u32, tile)).collect()
    };
    let (across, down) = (cuts(width), cuts(height));
    down.iter().flat_map(|(top, h)| across.iter().map(move |(left, w)| (*left, *top, *w, *h))).collect()
}

/// Whether a box of a tile touches one of its borders inside the picture: the neighbour shows the thing whole.
fn is_cut(one: &Detection, (left, top, width, height): (u32, u32, u32, u32), picture: (u32, u32)) -> bool {
    let XyxyPx { x0, y0, x1, y1 } = one.bounds;
    (left > 0 && x0 < CUT)
        || (top > 0 && y0 < CUT)
        || (left + width < picture.0 && x1 > width as f32 - CUT)
        || (top + height < picture.1 && y1 > height as f32 - CUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(class: usize, score: f32, x: f32, side: f32) -> Detection {
        Detection { class, score, bounds: XyxyPx { x0: x, y0: 0.0, x1: x + side, y1: side } }
    }

    #[test]
    fn views_are_averaged_and_nothing_is_counted_twice() {
        let one = vec![found(0, 0.9, 0.0, 10.0), found(0, 0.6, 50.0, 10.0), found(1, 0.5, 0.0, 10.0)];
        let two = vec![found(0, 0.7, 1.0, 10.0), found(0, 0.4, 51.0, 6.0)];
        let merged = average(&[one.clone(), two]);
        assert_eq!(merged.len(), 3, "{merged:?}");
        assert_eq!((merged[0].class, merged[0].bounds.x0), (0, 0.0));
        assert!((0.7..0.9).contains(&merged[0].score));
        assert!(merged[1].score < 0.3, "what one view does not show is doubtful: {merged:?}");
        assert_eq!(average(std::slice::from_ref(&one)).len(), 3);
        assert!((average(&[one])[0].score - 0.9).abs() < 1e-5);
        assert!(average(&[Vec::new(), Vec::new()]).is_empty());
    }

    #[test]
    fn what_a_mirror_shows_is_joined_to_the_same_boxes_from_either_side() {
        let plain = vec![found(0, 0.9, 10.31, 40.0), found(1, 0.6, 100.77, 20.0), found(0, 0.3, 60.0, 9.0)];
        let mirrored = vec![found(1, 0.8, 198.02, 22.0), found(0, 0.7, 271.55, 39.0)];
        let (here, there) = (join(plain.clone(), mirrored.clone(), 320.0), join(mirrored, plain, 320.0));
        let turned: Vec<Detection> =
            there.iter().map(|one| Detection { bounds: one.bounds.mirrored(320.0), ..*one }).collect();
        assert_eq!(here, turned);
        assert_eq!(here.len(), 3);
        assert!((here[0].bounds.x0 - (10.31 + 320.0 - 310.55) / 2.0).abs() < 0.2, "{here:?}");
        assert!(here[2].score < 0.1, "seen from one side only: {here:?}");
    }

    #[test]
    fn boxes_of_one_view_stay_apart_and_those_of_others_join_the_thing_that_they_fit() {
        // Two things side by side that overlap by more than half, seen whole and in a tile; the tile shows a third one.
        let whole = vec![found(0, 0.9, 0.0, 100.0), found(0, 0.8, 20.0, 100.0)];
        let tile = vec![found(0, 0.95, 1.0, 100.0), found(0, 0.7, 21.0, 100.0), found(0, 0.6, 300.0, 50.0)];
        assert!(whole[0].bounds.iou(&whole[1].bounds) > SAME_IOU);
        let merged = union(vec![whole.clone(), tile]);
        let scores: Vec<f32> = merged.iter().map(|one| one.score).collect();
        assert_eq!(scores, [0.95, 0.8, 0.6]);
        assert_eq!(union(vec![whole.clone()]), whole, "one view is left alone");
        let other = vec![found(1, 0.5, 0.0, 100.0)];
        assert_eq!(union(vec![whole, other]).len(), 3, "another class is another thing");
        assert!(union(Vec::new()).is_empty());
    }

    #[test]
    fn a_detector_that_is_not_calibrated_is_looked_through_once_and_in_tiles_on_request() {
        let set = Counting::Threshold(0.7);
        assert_eq!(Look::of(set, None, false), Look::Once);
        assert_eq!(Look::of(set, Some(0.5), true), Look::OnceAndTiles);
        assert_eq!(Look::of(Counting::Calibrated, None, false), Look::Closely);
        assert_eq!(Look::of(Counting::Calibrated, Some(0.5), false), Look::Once);
        assert_eq!(Look::of(Counting::Calibrated, None, true), Look::Tiles);
    }

    #[test]
    fn tiles_cover_the_picture_and_overlap() {
        for (width, height) in [(640, 480), (4000, 3000), (1, 1), (9000, 40)] {
            let picture = RgbImage::new(width, height);
            let all = tiles(&picture, 416, MOST_TILES);
            assert!(
                all.iter().any(|t| t.0 == 0 && t.1 == 0)
                    && all.iter().any(|t| t.0 + t.2 == width && t.1 + t.3 == height)
            );
            let mut row: Vec<(u32, u32)> = all.iter().filter(|t| t.1 == 0).map(|t| (t.0, t.2)).collect();
            row.dedup();
            for pair in row.windows(2).filter(|_| width > 100) {
                assert!(pair[0].0 + pair[0].1 > pair[1].0 + pair[1].1 / 6, "{row:?}");
            }
        }
        assert_eq!(tiles(&RgbImage::new(640, 480), 416, MOST_TILES).len(), 4);
        assert_eq!(tiles(&RgbImage::new(4000, 3000), 416, MOST_TILES).len(), 12);
        assert_eq!(tiles(&RgbImage::new(4000, 3000), 416, 2).len(), 4);
    }

    #[test]
    fn what_a_tile_cuts_is_left_to_its_neighbour() {
        let tile = (100, 0, 100, 100);
        assert!(is_cut(&found(0, 0.9, 0.0, 20.0), tile, (300, 100)));
        assert!(is_cut(&found(0, 0.9, 80.0, 20.0), tile, (300, 100)));
        assert!(!is_cut(&found(0, 0.9, 80.0, 20.0), tile, (200, 100)));
        assert!(!is_cut(&found(0, 0.9, 40.0, 20.0), tile, (300, 100)));
        let merged = best_of(vec![found(0, 0.5, 0.0, 10.0)], vec![found(0, 0.8, 1.0, 10.0), found(0, 0.3, 60.0, 5.0)]);
        assert_eq!(merged.len(), 2);
        assert!((merged[0].score - 0.8).abs() < 1e-6);
    }
}
