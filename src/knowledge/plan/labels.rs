//! The labels among which a request wants a picture sorted: listed in it, or those that its question implies.

use super::frame::Frame;

/// What a question asks for, and the usual answers.
const QUESTIONS: [(&[&str], &[&str]); 12] = [
    (&["season"], &["spring", "summer", "autumn", "winter"]),
    (&["weather"], &["sunny", "cloudy", "rainy", "snowy", "foggy"]),
    (&["indoor", "outdoor", "indoors", "outdoors", "inside", "outside"], &["indoors", "outdoors"]),
    (&["time of day", "daytime", "night"], &["day", "night"]),
    (&["nsfw", "safe for work", "explicit"], &["safe", "not safe for work"]),
    (&["meme", "memes"], &["meme", "photo", "screenshot"]),
    (&["screenshot", "screenshots"], &["screenshot", "photo"]),
    (&["drawing", "painting", "illustration"], &["photo", "drawing", "painting"]),
    (
        &["scene type", "kind of place", "type of place", "what room", "which room"],
        &["kitchen", "bedroom", "bathroom", "living room", "office", "street", "nature"],
    ),
    (&["emotion", "mood", "expression"], &["happy", "sad", "angry", "surprised", "neutral"]),
    (&["sport", "game"], &["football", "basketball", "tennis", "baseball", "skiing", "surfing"]),
    (&["animal"], &["dog", "cat", "bird", "horse", "cow", "sheep"]),
];

/// Words before a list.
const TRIGGERS: [&str; 25] = [
    "with labels",
    "labels",
    "one of",
    "into",
    "categories",
    "classes",
    "category",
    "either",
    "sort my photos into",
    "classify as",
    "is it",
    "is this",
    "are these",
    "does the image show",
    "does this show",
    "does the picture show",
    "label the scene",
    "between",
    "as",
    "what object is this",
    "this picture",
    "label the activity",
    "options",
    "among",
    "picture is",
];

/// The labels, and whether they stand in the request.
pub fn labels(request: &str, frame: &Frame) -> (Vec<String>, bool) {
    let lower = request.to_lowercase();
    let listed =
        bracketed(&lower).or_else(|| after_colon(&lower)).or_else(|| after_trigger(&lower)).unwrap_or_default();
    if listed.len() > 1 {
        return (listed, true);
    }
    if frame.quoted.len() > 1 {
        return (frame.quoted.clone(), true);
    }
    let bare = split(lower.trim_end_matches(['?', '.', '!']));
    if bare.len() > 1 && bare.iter().all(|label| label.split(' ').count() <= 4) {
        return (bare, true);
    }
    let words = format!(" {} ", lower.replace(|c: char| !c.is_alphanumeric(), " "));
    for (asked, answers) in QUESTIONS {
        if asked.iter().any(|asked| words.contains(&format!(" {asked} "))) {
            return (answers.iter().map(|answer| (*answer).to_owned()).collect(), false);
        }
    }
    // A yes-or-no question about one kind of thing.
    let one = listed.into_iter().next().or_else(|| after_trigger(&lower).and_then(|list| list.into_iter().next()));
    (one.into_iter().flat_map(|label| [label, "something else".to_owned()]).collect(), false)
}

fn bracketed(text: &str) -> Option<Vec<String>> {
    let start = text.find(['[', '{', '('])?;
    let length = text.get(start..)?.find([']', '}', ')'])?;
    Some(split(text.get(start + 1..start + length)?)).filter(|list| list.len() > 1)
}

fn after_colon(text: &str) -> Option<Vec<String>> {
    let list = split(text.rsplit_once(": ")?.1.trim_end_matches(['?', '.', '!']));
    (list.len() > 1).then_some(list)
}

fn after_trigger(text: &str) -> Option<Vec<String>> {
    let padded = format!(" {text} ");
    TRIGGERS
        .iter()
        .filter_map(|trigger| {
            let at = padded.find(&format!(" {trigger} "))? + trigger.len() + 2;
            let list = split(padded.get(at..)?.trim_end_matches(['?', '.', '!', ' ']));
            (!list.is_empty()).then_some(list)
        })
        .max_by_key(Vec::len)
}

/// Splits at commas, slashes, bars, "or", "vs" and a last "and".
fn split(list: &str) -> Vec<String> {
    let mut list = list.replace(" / ", ",").replace(" | ", ",").replace(" vs. ", ",").replace(';', ",");
    for word in [" or ", " vs ", " versus "] {
        list = list.replace(word, ",");
    }
    if list.contains(',') {
        list = list.replace(", and ", ",").replace(" and ", ",");
    }
    if !list.contains(',') && list.matches('/').count() > 0 && !list.contains(' ') {
        list = list.replace('/', ",");
    }
    list.split(',')
        .map(|label| {
            let mut label = label.trim_matches(|c: char| c.is_whitespace() || "\"'`[]{}()?.!".contains(c));
            for article in ["a ", "an ", "the ", "one of ", "of "] {
                label = label.strip_prefix(article).unwrap_or(label);
            }
            label.to_owned()
        })
        .filter(|label| !label.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::frame::frame;

    fn labels(request: &str) -> Vec<String> {
        super::labels(request, &frame(request)).0
    }

    #[test]
    fn listed_labels_are_read_in_many_notations() {
        assert_eq!(
            labels("Zero-shot classify ./img.png with labels [\"meme\",\"receipt\",\"selfie\"]"),
            ["meme", "receipt", "selfie"]
        );
        assert_eq!(labels("sort my photos into car / sheep / tvmonitor"), ["car", "sheep", "tvmonitor"]);
        assert_eq!(
            labels("tag every image with one of: kitchen, bathroom, living room"),
            ["kitchen", "bathroom", "living room"]
        );
        assert_eq!(labels("cat or dog?"), ["cat", "dog"]);
        assert_eq!(labels("is this a photo or a drawing?"), ["photo", "drawing"]);
        assert_eq!(labels("assign a category (fox, mountain, aquarium fish)"), ["fox", "mountain", "aquarium fish"]);
        assert_eq!(labels("label the scene: veranda vs hunting lodge"), ["veranda", "hunting lodge"]);
    }

    #[test]
    fn questions_imply_their_answers() {
        assert_eq!(labels("what is the weather like"), ["sunny", "cloudy", "rainy", "snowy", "foggy"]);
        assert_eq!(labels("does the image show deer"), ["deer", "something else"]);
    }
}
