//! Boxes in named spaces, how much they overlap, and which of them are the same thing. Pure.

pub mod jitter;
pub mod relations;

/// A box in pixels: left, top, right, bottom, origin top left. Right and bottom are not part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct XyxyPx {
    /// Left.
    pub x0: f32,
    /// Top.
    pub y0: f32,
    /// Right.
    pub x1: f32,
    /// Bottom.
    pub y1: f32,
}

/// A box as a share of its image: centre x and y, width, height. `DETR` and its family predict these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CxcywhNorm {
    /// Centre x, 0 to 1.
    pub cx: f32,
    /// Centre y, 0 to 1.
    pub cy: f32,
    /// Width, 0 to 1.
    pub w: f32,
    /// Height, 0 to 1.
    pub h: f32,
}

impl CxcywhNorm {
    /// In pixels of an image of this size.
    pub fn to_px(self, width: f32, height: f32) -> XyxyPx {
        XyxyPx {
            x0: (self.cx - self.w / 2.0) * width,
            y0: (self.cy - self.h / 2.0) * height,
            x1: (self.cx + self.w / 2.0) * width,
            y1: (self.cy + self.h / 2.0) * height,
        }
    }
}

impl XyxyPx {
    /// From its centre and size.
    pub fn from_centre(cx: f32, cy: f32, w: f32, h: f32) -> Self {
        Self { x0: cx - w / 2.0, y0: cy - h / 2.0, x1: cx + w / 2.0, y1: cy + h / 2.0 }
    }

    /// Width; never negative.
    pub fn width(&self) -> f32 {
        (self.x1 - self.x0).max(0.0)
    }

    /// Height; never negative.
    pub fn height(&self) -> f32 {
        (self.y1 - self.y0).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// Centre x and y.
    pub fn centre(&self) -> (f32, f32) {
        (self.x0.midpoint(self.x1), self.y0.midpoint(self.y1))
    }

    /// The part inside an image.
    #[must_use]
    pub fn clamped(&self, width: f32, height: f32) -> Self {
        Self {
            x0: self.x0.clamp(0.0, width),
            y0: self.y0.clamp(0.0, height),
            x1: self.x1.clamp(0.0, width),
            y1: self.y1.clamp(0.0, height),
        }
    }

    /// Moved and scaled: `x * scale + dx`.
    #[must_use]
    pub fn mapped(&self, scale: f32, dx: f32, dy: f32) -> Self {
        Self { x0: self.x0 * scale + dx, y0: self.y0 * scale + dy, x1: self.x1 * scale + dx, y1: self.y1 * scale + dy }
    }

    /// As seen in a mirror: the image is `width` wide.
    #[must_use]
    pub fn mirrored(&self, width: f32) -> Self {
        Self { x0: width - self.x1, x1: width - self.x0, ..*self }
    }

    /// Area that both cover.
    pub fn intersection(&self, other: &Self) -> f32 {
        let w = self.x1.min(other.x1) - self.x0.max(other.x0);
        let h = self.y1.min(other.y1) - self.y0.max(other.y0);
        w.max(0.0) * h.max(0.0)
    }

    /// Intersection over union, 0 to 1; 0 for boxes without area.
    pub fn iou(&self, other: &Self) -> f32 {
        let both = self.intersection(other);
        let either = self.area() + other.area() - both;
        if either > 0.0 { both / either } else { 0.0 }
    }

    /// Share of the smaller box that lies in the other, 0 to 1.
    pub fn overlap_of_smaller(&self, other: &Self) -> f32 {
        let smaller = self.area().min(other.area());
        if smaller > 0.0 { self.intersection(other) / smaller } else { 0.0 }
    }

    /// `[x0, y0, x1, y1]`.
    pub fn to_array(self) -> [f32; 4] {
        [self.x0, self.y0, self.x1, self.y1]
    }

    /// All four are numbers.
    pub fn is_finite(&self) -> bool {
        self.to_array().iter().all(|value| value.is_finite())
    }
}

/// Greedy non-maximum suppression within each class: the positions of the boxes that stay, best score first.
///
/// A box falls when a better one of its class overlaps it by more than `iou_threshold`. Equal scores keep their order, so
/// that the result does not depend on chance.
pub fn nms(boxes: &[XyxyPx], scores: &[f32], classes: &[usize], iou_threshold: f32) -> Vec<usize> {
    let count = boxes.len().min(scores.len()).min(classes.len());
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        let falls =
            kept.iter().any(|better| classes[*better] == classes[at] && boxes[*better].iou(&boxes[at]) > iou_threshold);
        if !falls {
            kept.push(at);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "the values are exact")]

    use super::*;

    fn square(x: f32, y: f32, side: f32) -> XyxyPx {
        XyxyPx { x0: x, y0: y, x1: x + side, y1: y + side }
    }

    #[test]
    fn overlap_is_without_the_pixel_that_some_libraries_add() {
        let a = square(0.0, 0.0, 2.0);
        assert!((a.iou(&square(1.0, 0.0, 2.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&square(2.0, 0.0, 2.0)), 0.0);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(square(0.0, 0.0, 0.0).iou(&square(0.0, 0.0, 0.0)), 0.0);
        assert_eq!(a.overlap_of_smaller(&square(0.5, 0.5, 1.0)), 1.0);
    }

    #[test]
    fn boxes_change_spaces_and_back() {
        let b = CxcywhNorm { cx: 0.5, cy: 0.25, w: 0.25, h: 0.5 }.to_px(100.0, 40.0);
        assert_eq!(b.to_array(), [37.5, 0.0, 62.5, 20.0]);
        assert_eq!(b.mirrored(100.0).mirrored(100.0), b);
        assert_eq!(b.mapped(2.0, 1.0, 0.0).to_array(), [76.0, 0.0, 126.0, 40.0]);
        assert_eq!(
            XyxyPx { x0: -5.0, y0: 2.0, x1: 200.0, y1: 3.0 }.clamped(100.0, 40.0).to_array(),
            [0.0, 2.0, 100.0, 3.0]
        );
    }

    #[test]
    fn the_best_of_overlapping_boxes_of_a_class_stays() {
        let boxes = [square(0.0, 0.0, 10.0), square(1.0, 0.0, 10.0), square(1.0, 0.0, 10.0), square(50.0, 0.0, 10.0)];
        assert_eq!(nms(&boxes, &[0.5, 0.9, 0.8, 0.1], &[0, 0, 1, 0], 0.5), [1, 2, 3]);
        assert_eq!(nms(&boxes, &[0.5; 4], &[0; 4], 0.5), [0, 3]);
        assert!(nms(&[], &[], &[], 0.5).is_empty());
    }
}
