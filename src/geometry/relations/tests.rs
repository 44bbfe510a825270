use std::collections::BTreeMap;

use super::*;

const CANVAS: Canvas = (640.0, 480.0);

fn placed([x0, y0, x1, y1]: [f32; 4]) -> Placed {
    Placed { bounds: XyxyPx { x0, y0, x1, y1 }, jitter: 0.02, kind: Kind::default() }
}

fn kind(carries: Carries, holds: Holds, grounded: bool, height: f32) -> Kind {
    Kind { height: Some((height, 0.2)), grounded, holds, carries }
}

/// The relations that surely hold.
fn sure(s: &Placed, o: &Placed) -> Vec<&'static str> {
    let likely = |(_, judged): &(Relation, Judged)| judged.probability().is_some_and(|p| p > 0.7);
    judge(s, o, CANVAS).iter().filter(|one| likely(one)).map(|(relation, _)| relation.words()).collect()
}

fn table(judged: &[(Relation, Judged)]) -> BTreeMap<&'static str, Option<f32>> {
    judged.iter().map(|(relation, judged)| (relation.words(), judged.probability())).collect()
}

/// Numbers below a bound, the same ones always.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u32) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Eighths: as the engine's boxes are.
        ((self.0 >> 33) % u64::from(bound * 8)) as f32 / 8.0
    }

    fn placed(&mut self) -> Placed {
        let (w, h) = (1.0 + self.below(400), 1.0 + self.below(300));
        let (x, y) = (self.below(640 - w as u32 - 1), self.below(480 - h as u32 - 1));
        let all = [Carries::Unknown, Carries::No, Carries::Small, Carries::Seats, Carries::Riders];
        let holds = [Holds::Unknown, Holds::Yes, Holds::No];
        let kind = Kind {
            height: (self.below(3) > 1.0).then(|| (0.2 + self.below(3), 0.2)),
            grounded: self.below(2) > 1.0,
            holds: holds[self.below(3) as usize],
            carries: all[self.below(5) as usize],
        };
        Placed { bounds: XyxyPx { x0: x, y0: y, x1: x + w, y1: y + h }, jitter: 0.01 + self.below(2) / 20.0, kind }
    }
}

#[test]
fn a_mirror_swaps_left_and_right_exactly_and_changes_nothing_else() {
    let mut numbers = Numbers(1);
    for round in 0..400 {
        let (s, o) = (numbers.placed(), numbers.placed());
        let mirror = |one: &Placed| Placed { bounds: one.bounds.mirrored(CANVAS.0), ..*one };
        let (here, there) = (judge(&s, &o, CANVAS), judge(&mirror(&s), &mirror(&o), CANVAS));
        let there: BTreeMap<&str, &Judged> =
            there.iter().map(|(relation, judged)| (relation.mirrored().words(), judged)).collect();
        for (relation, judged) in &here {
            assert_eq!(there[relation.words()], judged, "round {round}, {relation:?}: {s:?} {o:?}");
        }
    }
}

#[test]
fn exchanging_subject_and_object_inverts_every_relation() {
    let mut numbers = Numbers(2);
    for round in 0..400 {
        let (s, o) = (numbers.placed(), numbers.placed());
        let there = judge(&o, &s, CANVAS);
        for (relation, judged) in judge(&s, &o, CANVAS) {
            let (_, inverse) = there.iter().find(|(other, _)| *other == relation.inverse()).unwrap();
            match (judged.probability(), inverse.probability()) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-5, "round {round}, {relation:?}: {a} {b}"),
                (None, None) => {}
                other => panic!("round {round}, {relation:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn opposites_exclude_each_other_and_probabilities_are_probabilities() {
    let mut numbers = Numbers(3);
    for _ in 0..400 {
        let found = table(&judge(&numbers.placed(), &numbers.placed(), CANVAS));
        assert_eq!(found.len(), Relation::ALL.len());
        for relation in Relation::ALL {
            let Some(p) = found[relation.words()] else { continue };
            assert!((0.0..=1.0).contains(&p), "{relation:?} {p}");
            let inverse = relation.inverse();
            if inverse != relation {
                assert!(p + found[inverse.words()].unwrap_or(0.0) <= 1.0 + 1e-5, "{relation:?}");
            }
        }
        for (one, other) in [("next to", "far from"), ("overlapping", "far from"), ("inside", "far from")] {
            assert!(found[one].unwrap_or(0.0) + found[other].unwrap_or(0.0) <= 1.0 + 1e-5, "{one} {other}");
        }
    }
}

#[test]
fn scale_and_place_of_the_picture_do_not_matter() {
    let mut numbers = Numbers(4);
    for _ in 0..100 {
        let (s, o) = (numbers.placed(), numbers.placed());
        let doubled = |one: &Placed| Placed { bounds: one.bounds.mapped(2.0, 0.0, 0.0), ..*one };
        let twice = judge(&doubled(&s), &doubled(&o), (CANVAS.0 * 2.0, CANVAS.1 * 2.0));
        assert_eq!(judge(&s, &o, CANVAS), twice);
    }
}

#[test]
fn plain_arrangements_read_as_a_person_reads_them() {
    let cup = placed([100.0, 200.0, 140.0, 250.0]);
    for (other, expected) in [
        ([150.0, 195.0, 200.0, 255.0], vec!["left of", "next to", "smaller"]),
        ([400.0, 200.0, 440.0, 250.0], vec!["left of", "far from"]),
        ([100.0, 60.0, 140.0, 110.0], vec!["below"]),
        ([60.0, 160.0, 180.0, 280.0], vec!["inside", "overlapping", "smaller"]),
        ([300.0, 420.0, 340.0, 470.0], vec!["left of", "above", "far from"]),
        ([120.0, 200.0, 160.0, 250.0], vec!["overlapping"]),
    ] {
        let found = sure(&cup, &placed(other));
        for relation in &expected {
            assert!(found.contains(relation), "{other:?}: {relation} is not in {found:?}");
        }
        assert_eq!(
            found.iter().filter(|word| ["left of", "right of", "above", "below"].contains(word)).count(),
            expected.iter().filter(|word| ["left of", "right of", "above", "below"].contains(word)).count(),
            "{other:?}: {found:?}"
        );
    }
    // Far above and a little to the left is above, not left.
    assert!(!sure(&placed([100.0, 10.0, 140.0, 50.0]), &placed([150.0, 400.0, 190.0, 440.0])).contains(&"left of"));
    // What lies within the other's width is not beside it.
    assert!(!sure(&placed([100.0, 200.0, 140.0, 250.0]), &placed([90.0, 240.0, 500.0, 460.0])).contains(&"left of"));
}

#[test]
fn at_a_threshold_the_probability_is_about_a_half_and_noise_blurs_it() {
    // The narrower one's centre is exactly at the other's edge.
    let (s, o) = (placed([80.0, 200.0, 120.0, 240.0]), placed([100.0, 200.0, 160.0, 260.0]));
    let left = |jitter: f32, s: &Placed| {
        let judged = judge(&Placed { jitter, ..*s }, &Placed { jitter, ..o }, CANVAS);
        judged.iter().find(|(relation, _)| *relation == LeftOf).unwrap().1.probability().unwrap()
    };
    assert!((0.35..0.65).contains(&left(0.03, &s)), "{}", left(0.03, &s));
    let clear = placed([70.0, 200.0, 110.0, 240.0]);
    assert!(left(0.01, &clear) > left(0.05, &clear) && left(0.05, &clear) > left(0.2, &clear));
    assert!(left(0.01, &clear) > 0.95);
}

#[test]
fn what_a_thing_is_decides_what_can_be_in_or_on_it() {
    let of = |one: Placed, kind: Kind| Placed { kind, ..one };
    let small = kind(Carries::No, Holds::No, false, 0.1);
    let person = kind(Carries::No, Holds::No, true, 1.6);
    let bowl = kind(Carries::No, Holds::Yes, false, 0.1);
    let table = kind(Carries::Small, Holds::No, true, 0.75);
    let horse = kind(Carries::Riders, Holds::No, true, 1.8);
    let judged = |s: &Placed, o: &Placed, relation| {
        judge(s, o, CANVAS).into_iter().find(|(other, _)| *other == relation).unwrap().1
    };
    let p = |judged: Judged| judged.probability().unwrap_or(-1.0);
    let apple = placed([220.0, 210.0, 260.0, 250.0]);
    let around = placed([200.0, 200.0, 300.0, 280.0]);
    assert!(p(judged(&of(apple, small), &of(around, bowl), Inside)) > 0.9);
    assert!(matches!(judged(&of(apple, small), &of(around, person), Inside), Judged::Undecided(_)));
    let before = placed([220.0, 240.0, 260.0, 281.0]);
    assert!(matches!(judged(&of(before, small), &of(around, bowl), Inside), Judged::Undecided(_)));
    // A cup on a table, and a person behind it: the same boxes.
    let (on_top, board) = (placed([250.0, 200.0, 300.0, 270.0]), placed([100.0, 250.0, 500.0, 400.0]));
    assert!(p(judged(&of(on_top, small), &of(board, table), On)) > 0.9);
    assert!(matches!(judged(&of(on_top, person), &of(board, table), On), Judged::Undecided(_)));
    assert!(p(judged(&of(board, table), &of(on_top, small), Supports)) > 0.9);
    let rider = placed([250.0, 100.0, 320.0, 300.0]);
    assert!(p(judged(&of(rider, person), &of(placed([180.0, 200.0, 400.0, 400.0]), horse), On)) > 0.9);
    assert!(p(judged(&of(rider, person), &of(placed([180.0, 200.0, 400.0, 400.0]), bowl), On)) < 0.1);
}

#[test]
fn depth_follows_ground_and_size_and_is_left_open_without_them() {
    let person = kind(Carries::No, Holds::No, true, 1.6);
    let nearer = |s: [f32; 4], o: [f32; 4], of: Kind| {
        let (s, o) = (Placed { kind: of, ..placed(s) }, Placed { kind: of, ..placed(o) });
        judge(&s, &o, CANVAS).into_iter().find(|(relation, _)| *relation == Nearer).unwrap().1
    };
    let (near, away) = ([100.0, 200.0, 200.0, 450.0], [400.0, 200.0, 440.0, 300.0]);
    assert!(nearer(near, away, person).probability().unwrap() > 0.95);
    assert!(nearer(away, near, person).probability().unwrap() < 0.05);
    // Equal in size and at one level: nobody is nearer.
    let even = nearer([100.0, 200.0, 200.0, 450.0], [300.0, 200.0, 400.0, 450.0], person).probability().unwrap();
    assert!((even - 0.5).abs() < 0.01, "{even}");
    // Large and high against small and low: the cues contradict each other.
    let split = nearer([100.0, 20.0, 300.0, 320.0], [400.0, 300.0, 440.0, 400.0], person).probability().unwrap();
    assert!((0.2..0.8).contains(&split), "{split}");
    assert!(matches!(nearer(near, away, Kind::default()), Judged::Undecided(reason) if reason.contains("depth")));
    let cut = nearer([100.0, 200.0, 200.0, 480.0], [300.0, 240.0, 400.0, 480.0], person);
    assert!(matches!(cut, Judged::Undecided(reason) if reason.contains("cut off")), "{cut:?}");
}

#[test]
fn boxes_without_area_and_broken_numbers_decide_nothing() {
    let good = placed([1.0, 1.0, 2.0, 2.0]);
    for bad in [[5.0, 5.0, 5.0, 9.0], [f32::NAN, 0.0, 1.0, 1.0], [0.0, 0.0, f32::INFINITY, 1.0], [9.0, 9.0, 3.0, 3.0]] {
        let all = judge(&placed(bad), &good, CANVAS);
        assert!(all.iter().all(|(_, judged)| judged.probability().is_none()), "{bad:?}");
    }
}

#[test]
fn words_and_inverses_belong_together() {
    for relation in Relation::ALL {
        assert_eq!(relation.inverse().inverse(), relation);
        assert_eq!(relation.mirrored().mirrored(), relation);
        assert_eq!(Relation::ALL.iter().filter(|other| other.words() == relation.words()).count(), 1);
    }
}
