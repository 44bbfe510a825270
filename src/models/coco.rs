//! The 80 classes of COCO's detection task, in the order that detectors number them.

/// Numbers that COCO's annotations may use: 1 to 90, and 0, which detectors keep free.
pub const CATEGORIES: usize = 91;

/// Numbers of the annotations that stand for nothing.
const UNUSED: [usize; 11] = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83];

/// The name of a category by its number in the annotations.
pub fn category(number: usize) -> Option<&'static str> {
    if number >= CATEGORIES || UNUSED.contains(&number) {
        return None;
    }
    NAMES.get(number - UNUSED.iter().filter(|unused| **unused < number).count()).copied()
}

/// Names as in COCO's annotations (Lin et al. 2014, arXiv:1405.0312; ids 1 to 90 without the ten that are not used).
pub const NAMES: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_have_the_numbers_of_the_annotations() {
        for (number, name) in [
            (1, "person"),
            (11, "fire hydrant"),
            (13, "stop sign"),
            (44, "bottle"),
            (46, "wine glass"),
            (90, "toothbrush"),
        ] {
            assert_eq!(category(number), Some(name));
        }
        assert_eq!((0..CATEGORIES).filter_map(category).collect::<Vec<_>>(), NAMES);
        assert_eq!((category(0), category(83), category(91)), (None, None, None));
    }
}
