//! The relation that a caller's words mean.

use crate::error::{Error, Result};
use crate::geometry::relations::Relation;
use crate::knowledge::phrase::{self, Place};

/// The relation that words mean: "left of", "to the left of", "under", "bigger than".
///
/// # Errors
/// They mean none that boxes can show; the error lists those that they can.
pub fn relation_of(words: &str) -> Result<Relation> {
    let plain = words.trim().to_lowercase().replace(['-', '_'], " ");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = plain.strip_prefix("is ").unwrap_or(&plain);
    let own = |text: &str| Relation::ALL.into_iter().find(|relation| relation.words() == text);
    let word = match plain.strip_suffix(" than").unwrap_or(plain) {
        "left" | "to the left" | "on the left" => "left of",
        "right" | "to the right" | "on the right" => "right of",
        "bigger" | "greater" | "taller" | "wider" => "larger",
        "closer" | "closest" | "nearest" => "nearer",
        "further" | "further away" | "farther away" => "farther",
        "holds" | "holding" | "containing" | "around" | "surrounds" => "contains",
        "carries" | "carrying" | "supporting" => "supports",
        "overlaps" => "overlapping",
        "atop" | "upon" => "on",
        "higher" => "above",
        "lower" => "below",
        other => other,
    };
    let by_place = || {
        let parse = phrase::parse(&format!("a cup {word} a bowl"));
        let ([relation], [_, _]) = (parse.relations.as_slice(), parse.things.as_slice()) else { return None };
        of_place(relation.place?)
    };
    own(word).or_else(by_place).ok_or_else(|| Error::Argument {
        name: "relation",
        reason: format!("must be one of {}", Relation::ALL.map(Relation::words).join(", ")),
    })
}

/// The relation of boxes that a place is; `None` for those that two boxes do not show.
pub fn of_place(place: Place) -> Option<Relation> {
    Some(match place {
        Place::LeftOf => Relation::LeftOf,
        Place::RightOf => Relation::RightOf,
        Place::Above => Relation::Above,
        Place::Below => Relation::Below,
        Place::On => Relation::On,
        Place::In => Relation::Inside,
        Place::InFrontOf => Relation::InFrontOf,
        Place::Behind => Relation::Behind,
        Place::Near => Relation::NextTo,
        Place::FarFrom => Relation::FarFrom,
        Place::Around => Relation::Contains,
        Place::Between | Place::Touching | Place::Facing => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_relations_and_unknown_ones_are_told_which_there_are() {
        for relation in Relation::ALL {
            assert_eq!(relation_of(relation.words()).unwrap(), relation);
        }
        for (words, relation) in [
            ("to the left of", Relation::LeftOf),
            ("Right_of", Relation::RightOf),
            ("on top of", Relation::On),
            ("underneath", Relation::Below),
            ("under", Relation::Below),
            ("in", Relation::Inside),
            ("beside", Relation::NextTo),
            ("bigger than", Relation::Larger),
            ("closer", Relation::Nearer),
            ("is behind", Relation::Behind),
            ("left", Relation::LeftOf),
        ] {
            assert_eq!(relation_of(words).unwrap(), relation, "{words}");
        }
        for words in ["", "between", "chasing", "a red", "left of the dog and the", "\u{0}"] {
            let error = relation_of(words).unwrap_err().to_string();
            assert!(error.contains("`relation` must be one of left of, right of"), "{words}: {error}");
        }
    }
}
