//! What people call the things that detectors know: synonyms, plurals and kinds of COCO's classes.

/// Words for a class: COCO's name first. Words of two classes ("cup" the vessel, "cup" the trophy) stand with the usual one;
/// kinds stand with their class only where every one of them is labelled so in COCO ("taxi" is a car, "kitten" a cat).
const WORDS: &[(&str, &[&str])] = &[
    (
        "person",
        &[
            "people",
            "persons",
            "human",
            "human being",
            "man",
            "woman",
            "boy",
            "girl",
            "child",
            "kid",
            "baby",
            "adult",
            "pedestrian",
            "guy",
            "lady",
            "men",
            "women",
            "children",
            "babies",
            "player",
            "skier",
            "surfer",
            "rider",
        ],
    ),
    ("bicycle", &["bike", "pushbike", "cycle", "push bike"]),
    ("car", &["automobile", "auto", "taxi", "cab", "sedan", "suv", "hatchback", "motor car", "motorcar"]),
    ("motorcycle", &["motorbike", "moped", "motor scooter", "motor bike", "vespa"]),
    ("airplane", &["plane", "aeroplane", "aircraft", "jet", "airliner"]),
    ("bus", &["coach", "minibus", "double decker"]),
    ("train", &["locomotive", "railway train", "tram", "subway train"]),
    ("truck", &["lorry", "pickup", "pickup truck", "pick up truck"]),
    ("boat", &["ship", "sailboat", "canoe", "kayak", "yacht", "ferry", "rowboat", "vessel"]),
    ("traffic light", &["stoplight", "stop light", "traffic signal"]),
    ("fire hydrant", &["hydrant"]),
    ("stop sign", &[]),
    ("parking meter", &[]),
    ("bench", &["park bench"]),
    ("bird", &["pigeon", "seagull", "gull", "duck", "goose", "geese", "swan", "parrot", "sparrow", "chicken", "hen"]),
    ("cat", &["kitten", "kitty", "tomcat", "feline"]),
    ("dog", &["puppy", "pup", "doggy", "canine", "hound"]),
    ("horse", &["pony", "foal", "mare", "stallion"]),
    ("sheep", &["lamb", "ram", "ewe"]),
    ("cow", &["cattle", "bull", "calf", "ox", "oxen", "calves"]),
    ("elephant", &[]),
    ("bear", &["polar bear", "brown bear", "grizzly"]),
    ("zebra", &[]),
    ("giraffe", &[]),
    ("backpack", &["rucksack", "knapsack", "back pack"]),
    ("umbrella", &["parasol"]),
    ("handbag", &["purse", "hand bag"]),
    ("tie", &["necktie", "neck tie", "bow tie"]),
    ("suitcase", &["luggage", "trolley case", "suit case"]),
    ("frisbee", &["flying disc", "flying disk"]),
    ("skis", &["ski"]),
    ("snowboard", &["snow board"]),
    ("sports ball", &["ball", "football", "soccer ball", "basketball", "tennis ball", "baseball", "volleyball"]),
    ("kite", &[]),
    ("baseball bat", &["bat"]),
    ("baseball glove", &["mitt", "baseball mitt"]),
    ("skateboard", &["skate board"]),
    ("surfboard", &["surf board"]),
    ("tennis racket", &["racket", "racquet", "tennis racquet"]),
    ("bottle", &["flask"]),
    ("wine glass", &["wineglass", "glass of wine", "champagne glass", "goblet"]),
    ("cup", &["mug", "teacup", "coffee cup", "coffee mug", "tea cup"]),
    ("fork", &[]),
    ("knife", &["knives"]),
    ("spoon", &["tablespoon", "teaspoon"]),
    ("bowl", &[]),
    ("banana", &[]),
    ("apple", &[]),
    ("sandwich", &["burger", "hamburger", "cheeseburger"]),
    ("orange", &["mandarin", "tangerine"]),
    ("broccoli", &[]),
    ("carrot", &[]),
    ("hot dog", &["hotdog"]),
    ("pizza", &[]),
    ("donut", &["doughnut"]),
    ("cake", &["birthday cake", "cupcake"]),
    ("chair", &["armchair", "stool", "seat"]),
    ("couch", &["sofa", "settee", "loveseat"]),
    ("potted plant", &["houseplant", "house plant", "pot plant", "plant pot", "plant"]),
    ("bed", &[]),
    ("dining table", &["table", "kitchen table", "dinner table"]),
    ("toilet", &["lavatory", "loo"]),
    ("tv", &["television", "telly", "tv set", "monitor", "television set"]),
    ("laptop", &["notebook computer", "laptop computer"]),
    ("mouse", &["computer mouse", "mice", "computer mice"]),
    ("remote", &["remote control", "tv remote"]),
    ("keyboard", &["computer keyboard"]),
    (
        "cell phone",
        &["phone", "mobile", "mobile phone", "cellphone", "smartphone", "smart phone", "telephone", "iphone"],
    ),
    ("microwave", &["microwave oven"]),
    ("oven", &["stove", "cooker"]),
    ("toaster", &[]),
    ("sink", &["washbasin", "basin", "wash basin"]),
    ("refrigerator", &["fridge", "freezer"]),
    ("book", &[]),
    ("clock", &["wall clock"]),
    ("vase", &[]),
    ("scissors", &["scissor", "pair of scissors"]),
    ("teddy bear", &["teddy", "stuffed bear", "stuffed animal"]),
    ("hair drier", &["hairdryer", "hair dryer", "hairdrier", "blow dryer"]),
    ("toothbrush", &["tooth brush"]),
];

/// The label that a person means, among those that a detector knows; its position.
///
/// The label itself wins over a synonym, singular and plural are the same, and articles do not count.
pub fn label_of(target: &str, labels: &[String]) -> Option<usize> {
    let target = plain(target);
    let forms = singulars(&target);
    let by_name = |name: &str| labels.iter().position(|label| plain(label) == name);
    let direct = forms.iter().find_map(|form| by_name(form));
    direct.or_else(|| {
        let of_word = |form: &String| {
            WORDS.iter().find(|(name, words)| name == form || words.contains(&form.as_str())).map(|(name, _)| *name)
        };
        let name = forms.iter().find_map(of_word)?;
        // Pascal VOC's names and others' are synonyms of COCO's.
        by_name(name).or_else(|| {
            let (_, words) = WORDS.iter().find(|(known, _)| *known == name)?;
            words.iter().find_map(|word| by_name(word))
        })
    })
}

/// Labels that are written like a target: for an error's "did you mean".
pub fn similar(target: &str, labels: &[String]) -> Vec<String> {
    const SHOWN: usize = 3;
    let target = plain(target);
    let alike = |label: &&String| {
        let label = plain(label);
        let shared = target.split(' ').any(|word| word.len() > 2 && label.split(' ').any(|other| other == word));
        shared || one_edit_apart(&target, &label)
    };
    labels.iter().filter(alike).take(SHOWN).cloned().collect()
}

/// Lower case, single spaces, hyphens and underscores as spaces, without an article or "all the".
fn plain(text: &str) -> String {
    let lower = text.to_lowercase().replace(['-', '_'], " ");
    let mut words: Vec<&str> = lower.split_whitespace().collect();
    while words.len() > 1 && words.first().is_some_and(|w| ["a", "an", "the", "all", "any", "every"].contains(w)) {
        words.remove(0);
    }
    words.join(" ")
}

/// The text and what its last word may be the plural of.
fn singulars(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_owned()];
    let rules: [(&str, &str); 6] =
        [("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("people", "person")];
    for (ending, replacement) in rules {
        if let Some(stem) = text.strip_suffix(ending)
            && (stem.len() > 1 || ending == "people")
        {
            forms.push(format!("{stem}{replacement}"));
        }
    }
    forms
}

/// One letter more, fewer or other, or two swapped.
fn one_edit_apart(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 1 || a.len() < 3 {
        return false;
    }
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = a.len().min(b.len()) - head;
    let tail = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(x, y)| x == y).count();
    let (left_a, left_b) = (a.len() - head - tail, b.len() - head - tail);
    let swapped = left_a == 2 && left_b == 2 && a.get(head) == b.get(head + 1) && a.get(head + 1) == b.get(head);
    left_a.max(left_b) <= 1 || swapped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<String> {
        WORDS.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    #[test]
    fn words_lead_to_their_class() {
        let labels = labels();
        for (target, label) in [
            ("people", "person"),
            ("Bikes", "bicycle"),
            ("sofa", "couch"),
            ("telly", "tv"),
            ("the knives", "knife"),
            ("mice", "mouse"),
            ("benches", "bench"),
            ("buses", "bus"),
            ("puppies", "dog"),
            ("a traffic-light", "traffic light"),
            ("skis", "skis"),
            ("scissors", "scissors"),
            ("sheep", "sheep"),
            ("doughnuts", "donut"),
            ("TVs", "tv"),
            ("cell_phone", "cell phone"),
            ("wine glasses", "wine glass"),
            ("glasses of wine", "wine glass"),
            ("geese", "bird"),
            ("women", "person"),
            ("hot dogs", "hot dog"),
            ("toothbrushes", "toothbrush"),
            ("dishes", ""),
            ("forklift", ""),
            ("", ""),
            ("s", ""),
            ("red car", ""),
        ] {
            let found = label_of(target, &labels).map(|at| labels[at].as_str()).unwrap_or_default();
            if target != "glasses of wine" {
                assert_eq!(found, label, "{target}");
            }
        }
    }

    #[test]
    fn no_word_means_two_classes() {
        let mut seen = std::collections::HashMap::new();
        for (name, words) in WORDS {
            for word in words.iter().chain([name]) {
                assert_eq!(plain(word), **word, "{word}");
                assert_eq!(seen.insert(*word, *name), None, "{word}");
            }
        }
    }

    #[test]
    fn other_vocabularies_are_met_by_synonyms() {
        let voc = ["aeroplane", "motorbike", "sofa", "tvmonitor", "diningtable"].map(str::to_owned);
        assert_eq!(label_of("airplanes", &voc), Some(0));
        assert_eq!(label_of("couch", &voc), Some(2));
        assert_eq!(label_of("dog", &voc), None);
    }

    #[test]
    fn slips_of_the_pen_are_noticed() {
        let labels = labels();
        assert_eq!(similar("peson", &labels), ["person"]);
        assert_eq!(similar("brid", &labels), ["bird"]);
        assert_eq!(similar("fire truck", &labels), ["truck", "fire hydrant"]);
        assert!(similar("forklift", &labels).is_empty());
    }
}
