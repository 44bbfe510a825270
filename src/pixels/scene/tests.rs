use std::collections::HashSet;

use super::*;

/// Boxes of pixels which differ from the background by more than anti-aliasing would.
fn drawn_box(scene: &Scene, index: usize, side: u32) -> [u32; 4] {
    let empty = Scene { objects: Vec::new(), ..scene.clone() }.render(side);
    let alone = Scene { objects: vec![scene.objects[index].clone()], ..scene.clone() }.render(side);
    let mut found = [u32::MAX, u32::MAX, 0, 0];
    for ((x, y, pixel), plain) in alone.enumerate_pixels().zip(empty.pixels()) {
        if pixel != plain {
            found = [found[0].min(x), found[1].min(y), found[2].max(x + 1), found[3].max(y + 1)];
        }
    }
    found
}

#[test]
fn a_seed_names_one_scene() {
    let spec = SceneSpec::mixed(5, &mut Random::new(3));
    assert_eq!(Scene::new(&spec, 8).render(64), Scene::new(&spec, 8).render(64));
    assert_ne!(Scene::new(&spec, 8).render(64), Scene::new(&spec, 9).render(64));
}

#[test]
fn boxes_are_tight_to_the_drawn_pixels() {
    for (index, shape) in Shape::ALL.into_iter().enumerate() {
        let thing = Thing::new(Colour::Black, shape);
        for seed in 0..4 {
            let scene = Scene::new(&SceneSpec::counted(thing, 2), seed_of(seed, index as u64));
            let truth = scene.objects[1].bounds(256);
            let drawn = drawn_box(&scene, 1, 256);
            for (side, (&truth, drawn)) in truth.iter().zip(drawn).enumerate() {
                // A pointed corner fades out over a pixel or two.
                assert!((truth - drawn as f32).abs() <= 2.5, "{shape:?} side {side}: truth {truth}, drawn {drawn}");
            }
        }
    }
}

#[test]
fn objects_stay_inside_and_apart_for_every_count() {
    for count in 1..=MAX_OBJECTS {
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let scene = Scene::new(&SceneSpec::mixed(count, &mut random), seed);
            assert_eq!(scene.objects.len(), count);
            for (i, object) in scene.objects.iter().enumerate() {
                let [x0, y0, x1, y1] = object.bounds(100);
                assert!(x0 > 0.0 && y0 > 0.0 && x1 < 100.0 && y1 < 100.0);
                assert!(x1 - x0 > 8.0 && y1 - y0 > 8.0, "{count} objects: {x0} {y0} {x1} {y1}");
                assert!(scene.objects[..i].iter().all(|other| apart(object, other)));
            }
        }
    }
}

#[test]
fn more_objects_than_fit_are_cut() {
    let spec = SceneSpec::counted(Thing::new(Colour::Red, Shape::Ring), 40);
    assert_eq!(Scene::new(&spec, 1).objects.len(), MAX_OBJECTS);
}

#[test]
fn relations_hold_between_box_centres() {
    for relation in Relation::ALL {
        for seed in 0..30 {
            let [subject, object] = SceneSpec::distinct_pair(&mut Random::new(seed));
            let scene = Scene::new(&SceneSpec::Related { subject, relation, object }, seed);
            assert_eq!(scene.relation(), Some(relation));
            let [[ax, ay], [bx, by]] = [scene.objects[0].box_centre(), scene.objects[1].box_centre()];
            let along = match relation {
                Relation::LeftOf => bx - ax,
                Relation::RightOf => ax - bx,
                Relation::Above => by - ay,
                Relation::Below => ay - by,
            };
            assert!(along >= RELATION_MARGIN);
        }
    }
    assert_eq!(Relation::between([0.2, 0.2], [0.8, 0.8]), None, "a diagonal is neither");
}

#[test]
fn colours_stand_out_from_their_background() {
    for seed in 0..400 {
        let scene = Scene::new(&SceneSpec::mixed(1, &mut Random::new(seed)), seed);
        let [x, y] = scene.objects[0].centre;
        let behind = scene.background.at(x, y, 1.0 / 64.0);
        let distance: i32 =
            scene.objects[0].fill[0].iter().zip(behind).map(|(&a, b)| (i32::from(a) - i32::from(b)).abs()).sum();
        assert!(distance > 75, "seed {seed}: {:?} on {behind:?}", scene.objects[0].thing);
    }
}

#[test]
fn specs_keep_their_promises() {
    let mut random = Random::new(5);
    for _ in 0..50 {
        let SceneSpec::Things(things) = SceneSpec::without(Shape::Star, 4, &mut random) else { panic!("not things") };
        assert!(things.len() == 4 && things.iter().all(|thing| thing.shape != Shape::Star));
        let [first, second] = SceneSpec::distinct_pair(&mut random);
        let swapped = swap_colours([first, second]);
        assert_eq!(swapped.map(|thing| thing.shape), [first.shape, second.shape]);
        assert_eq!(swapped.map(|thing| thing.colour), [second.colour, first.colour]);
        assert_ne!(swapped, [first, second]);
    }
}

#[test]
fn captions_name_what_is_there() {
    let red_rings = Thing::new(Colour::Red, Shape::Ring);
    let spec = SceneSpec::Things(vec![red_rings, red_rings, Thing::new(Colour::Orange, Shape::Star)]);
    let scene = Scene::new(&spec, 2);
    let captions = |style| -> HashSet<String> {
        let mut random = Random::new(1);
        (0..400).map(|_| scene.caption(style, &mut random)).collect()
    };
    assert!(captions(CaptionStyle::All).contains("a photo of red rings and an orange star"));
    assert!(captions(CaptionStyle::Counted).contains("two red rings and one orange star"));
    assert!(captions(CaptionStyle::One).contains("an orange star"));
    assert!(captions(CaptionStyle::Without).iter().all(|caption| !caption.contains("no star")));
    assert!(captions(CaptionStyle::Tags).contains("ring") || captions(CaptionStyle::Tags).contains("rings"));
}

#[test]
fn relation_captions_are_true() {
    let (subject, object) = (Thing::new(Colour::Red, Shape::Ring), Thing::new(Colour::Blue, Shape::Star));
    let scene = Scene::new(&SceneSpec::Related { subject, relation: Relation::RightOf, object }, 3);
    let mut random = Random::new(1);
    for _ in 0..50 {
        let caption = scene.caption(CaptionStyle::Related, &mut random);
        assert!(caption.contains("right of a blue star") && caption.contains("a red ring"), "{caption}");
    }
}
