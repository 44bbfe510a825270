//! Outlines of the shapes, their exact boxes, and the drawing.

use std::f32::consts::{PI, TAU};

use image::RgbImage;
use tiny_skia::{
    Color, FillRule, GradientStop, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point, Rect, Shader, SpreadMode,
    Transform,
};

use super::{Object, Scene, Shape};

/// The box of an object in a picture of this side: `[x0, y0, x1, y1]`.
pub(super) fn bounds(object: &Object, side: f32) -> [f32; 4] {
    let path = outline(object.thing.shape).and_then(|path| path.transform(placement(object, side)));
    // Curves can lie well inside their control points, hence the tight bounds.
    let rect = path.and_then(|path| path.compute_tight_bounds());
    let [x, y] = object.centre.map(|v| v * side);
    rect.map_or([x, y, x, y], |rect| [rect.left(), rect.top(), rect.right(), rect.bottom()])
}

/// Draws the background, then the objects in order.
pub(super) fn render(scene: &Scene, side: u32) -> RgbImage {
    let side = side.max(1);
    let pixel = 1.0 / side as f32;
    let mut rgb = RgbImage::from_fn(side, side, |x, y| {
        image::Rgb(scene.background.at((x as f32 + 0.5) * pixel, (y as f32 + 0.5) * pixel, pixel))
    });
    // A pixmap exists for every size but zero; where it did not, the background alone would be the picture.
    let Some(mut pixmap) = Pixmap::new(side, side) else { return rgb };
    for (target, source) in pixmap.data_mut().chunks_exact_mut(4).zip(rgb.pixels()) {
        target.copy_from_slice(&[source[0], source[1], source[2], u8::MAX]);
    }
    for object in &scene.objects {
        draw(object, &mut pixmap);
    }
    for (target, source) in rgb.pixels_mut().zip(pixmap.data().chunks_exact(4)) {
        target.0.copy_from_slice(&source[..3]);
    }
    rgb
}

fn draw(object: &Object, pixmap: &mut Pixmap) {
    let Some(path) = outline(object.thing.shape) else { return };
    let [lit, shaded] = object.fill.map(|[r, g, b]| Color::from_rgba8(r, g, b, u8::MAX));
    let stops = vec![GradientStop::new(0.0, lit), GradientStop::new(1.0, shaded)];
    let shader = LinearGradient::new(
        Point::from_xy(0.0, -1.0),
        Point::from_xy(0.0, 1.0),
        stops,
        SpreadMode::Pad,
        Transform::identity(),
    )
    .unwrap_or(Shader::SolidColor(lit));
    let paint = Paint { shader, anti_alias: true, ..Paint::default() };
    let side = pixmap.width() as f32;
    // Even-odd, for the hole of the ring.
    pixmap.fill_path(&path, &paint, FillRule::EvenOdd, placement(object, side), None);
}

/// From the outline's own coordinates to pixels.
fn placement(object: &Object, side: f32) -> Transform {
    let scale = object.radius * side;
    Transform::from_scale(scale, scale)
        .post_concat(Transform::from_rotate(object.turn))
        .post_translate(object.centre[0] * side, object.centre[1] * side)
}

/// The outline around the origin with an extent of about -1 to 1; y points down. `None` never comes for these points.
fn outline(shape: Shape) -> Option<Path> {
    match shape {
        Shape::Circle => PathBuilder::from_circle(0.0, 0.0, 0.95),
        Shape::Square => Rect::from_ltrb(-0.85, -0.85, 0.85, 0.85).map(PathBuilder::from_rect),
        Shape::Triangle => polygon(&[[0.0, -0.92], [1.0, 0.86], [-1.0, 0.86]]),
        Shape::Star => polygon(&star()),
        Shape::Cross => {
            const ARM: f32 = 0.34;
            polygon(&[
                [-ARM, -1.0],
                [ARM, -1.0],
                [ARM, -ARM],
                [1.0, -ARM],
                [1.0, ARM],
                [ARM, ARM],
                [ARM, 1.0],
                [-ARM, 1.0],
                [-ARM, ARM],
                [-1.0, ARM],
                [-1.0, -ARM],
                [-ARM, -ARM],
            ])
        }
        Shape::Heart => heart(),
        Shape::Ring => {
            let mut path = PathBuilder::new();
            path.push_circle(0.0, 0.0, 1.0);
            path.push_circle(0.0, 0.0, 0.56);
            path.finish()
        }
        Shape::Diamond => polygon(&[[0.0, -1.0], [0.66, 0.0], [0.0, 1.0], [-0.66, 0.0]]),
    }
}

fn polygon(points: &[[f32; 2]]) -> Option<Path> {
    let mut path = PathBuilder::new();
    let (&[x, y], rest) = points.split_first()?;
    path.move_to(x, y);
    for &[x, y] in rest {
        path.line_to(x, y);
    }
    path.close();
    path.finish()
}

/// Five points up, five between them.
fn star() -> [[f32; 2]; 10] {
    const OUTER: f32 = 1.08;
    const INNER: f32 = 0.46;
    // A five-pointed star reaches less far down than up; this puts its box in the middle.
    let lift = OUTER * (1.0 - (PI / 5.0).cos()) / 2.0;
    std::array::from_fn(|i| {
        let radius = if i % 2 == 0 { OUTER } else { INNER };
        let (sin, cos) = (i as f32 / 10.0 * TAU).sin_cos();
        [radius * sin, lift - radius * cos]
    })
}

/// Two lobes and a point, mirrored at x = 0.
fn heart() -> Option<Path> {
    let mut path = PathBuilder::new();
    path.move_to(0.0, 0.94);
    for side in [1.0, -1.0] {
        let curves: [[f32; 6]; 2] = if side > 0.0 {
            [[0.45, 0.55, 1.0, 0.2, 1.0, -0.32], [1.0, -1.06, 0.2, -1.1, 0.0, -0.5]]
        } else {
            [[0.2, -1.1, 1.0, -1.06, 1.0, -0.32], [1.0, 0.2, 0.45, 0.55, 0.0, 0.94]]
        };
        for [x1, y1, x2, y2, x, y] in curves {
            path.cubic_to(side * x1, y1, side * x2, y2, side * x, y);
        }
    }
    path.close();
    path.finish()
}
