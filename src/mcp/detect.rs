//! What `detect_count` looks like to a model: a line of counts for each image, doubts, and the pictures on request.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::answer::{Answer, MAX_PREVIEW_BYTES, shown, with_previews};
use crate::engine::Engine;
use crate::wire::{self, DetectArgs, DetectResponse, DetectResult};

/// Most annotated pictures in one answer.
const MAX_PICTURES: usize = 4;
/// Longer side of an annotated picture, pixels: of one, and of several.
const SIDES: (u32, u32) = (1024, 768);
/// Boxes that the text lists for one image; the structured content has them all.
const SHOWN_BOXES: usize = 12;
/// Images whose boxes the text lists.
const IMAGES_WITH_BOXES: usize = 3;

/// The text and pictures of `detect_count`.
pub(super) fn detections(engine: &Engine, args: &DetectArgs, response: &DetectResponse) -> Answer {
    let mut text = String::new();
    for (target, label) in response.targets.iter().filter(|(target, label)| target != label) {
        let _ = writeln!(text, "{} is counted as {}", shown(target), shown(label));
    }
    for image in &response.images {
        let _ = writeln!(text, "{}: {}", shown(&image.path), line(image));
        if response.images.len() <= IMAGES_WITH_BOXES {
            boxes(&mut text, image);
        }
    }
    if response.images.len() > 1 {
        let _ = writeln!(text, "in all: {}", counted(&response.total));
    }
    if let Some(image) = response.images.first() {
        let _ = writeln!(text, "detector {}", shown(&image.detector));
    }
    for note in &response.notes {
        let _ = writeln!(text, "note: {}", shown(note));
    }
    let pictures = if args.annotate == Some(true) { pictures(engine, &response.images) } else { Vec::new() };
    if !pictures.is_empty() {
        let _ = writeln!(text, "the first {} images follow with their boxes", pictures.len());
    }
    with_previews(text, pictures)
}

fn counted(counts: &BTreeMap<String, usize>) -> String {
    let counts: Vec<String> = counts.iter().map(|(label, count)| format!("{count} {}", shown(label))).collect();
    if counts.is_empty() { "nothing found".to_owned() } else { counts.join(", ") }
}

/// `3 person (crowded: some may be hidden; expected 4.1), 1 dog`.
fn line(image: &DetectResult) -> String {
    if let Some(error) = &image.error {
        return format!("error: {}", shown(error));
    }
    let mut text = counted(&image.counts);
    for doubt in &image.doubts {
        let mut flags = Vec::new();
        if doubt.crowded {
            flags.push(format!("crowded, some may be hidden (expected {:.1})", doubt.expected));
        }
        if doubt.cut_off > 0 {
            flags.push(format!("{} cut off by the border", doubt.cut_off));
        }
        if doubt.tiny > 0 {
            flags.push(format!("{} as small as the detector can see, tile may find more", doubt.tiny));
        }
        if !flags.is_empty() {
            let _ = write!(text, "; {}: {}", shown(&doubt.label), flags.join(", "));
        }
    }
    text
}

fn boxes(text: &mut String, image: &DetectResult) {
    for one in image.detections.iter().take(SHOWN_BOXES) {
        let [x0, y0, x1, y1] = one.bounds;
        let _ = writeln!(text, "  {} {:.2} [{x0:.0}, {y0:.0}, {x1:.0}, {y1:.0}]", shown(&one.label), one.score);
    }
    let more = image.detections.len().saturating_sub(SHOWN_BOXES);
    if more > 0 {
        let _ = writeln!(text, "  and {more} more boxes");
    }
}

/// JPEGs of the first images with their boxes; they end at the first that cannot be drawn or has no room.
fn pictures(engine: &Engine, images: &[DetectResult]) -> Vec<Vec<u8>> {
    let readable: Vec<&DetectResult> = images.iter().filter(|image| image.error.is_none()).take(MAX_PICTURES).collect();
    let side = if readable.len() <= 1 { SIDES.0 } else { SIDES.1 };
    let mut room = MAX_PREVIEW_BYTES;
    let mut pictures = Vec::new();
    for image in readable {
        let jpeg = match wire::detect::annotated_jpeg(engine, image, side) {
            Ok(jpeg) => jpeg,
            Err(error) => {
                tracing::warn!("not drawn: {error}");
                break;
            }
        };
        let base64_bytes = jpeg.len().div_ceil(3) * 4;
        if base64_bytes > room {
            break;
        }
        room -= base64_bytes;
        pictures.push(jpeg);
    }
    pictures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::detect::{CountDoubt, DetectedObject};

    fn image(path: &str, error: Option<&str>) -> DetectResult {
        let object = DetectedObject { label: "dog".into(), score: 0.875, bounds: [1.0, 2.0, 30.4, 40.6] };
        let doubt = CountDoubt {
            label: "dog".into(),
            present: 1.0,
            expected: 2.3,
            range: vec![3, 2, 2, 1],
            crowded: true,
            cut_off: 1,
            tiny: 0,
        };
        DetectResult {
            path: path.into(),
            width: 640,
            height: 480,
            threshold: 0.4,
            counts: [("dog".to_owned(), 2)].into(),
            detections: vec![object.clone(), object],
            doubts: vec![doubt],
            detector: "yolox-nano".into(),
            annotated: None,
            error: error.map(str::to_owned),
        }
    }

    fn text(images: Vec<DetectResult>) -> String {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::mcp::tests::config(root.path()));
        let total = [("dog".to_owned(), 2)].into();
        let targets = [("puppies".to_owned(), "dog".to_owned())].into();
        let response = DetectResponse { images, total, targets, notes: Vec::new() };
        let answer = detections(&engine, &DetectArgs::default(), &response).into_result(true);
        answer.content.first().and_then(|block| block.as_text()).unwrap().text.clone()
    }

    #[test]
    fn one_image_reads_as_counts_doubts_and_boxes() {
        let expected = "puppies is counted as dog\n\
            a.jpg: 2 dog; dog: crowded, some may be hidden (expected 2.3), 1 cut off by the border\n  \
            dog 0.88 [1, 2, 30, 41]\n  dog 0.88 [1, 2, 30, 41]\ndetector yolox-nano";
        assert_eq!(text(vec![image("a.jpg", None)]), expected);
    }

    #[test]
    fn a_folder_reads_as_a_line_each_and_a_sum() {
        let many = (0..5).map(|n| image(&format!("{n}\n.jpg"), (n == 4).then_some("is empty"))).collect();
        let text = text(many);
        assert!(text.contains("in all: 2 dog") && text.contains("error: is empty"), "{text}");
        assert_eq!(text.lines().count(), 1 + 5 + 1 + 1, "{text}");
    }
}
