//! The sentence that a target becomes.

/// What the words of the reference's examples stand in. One sentence, not the average over several that the paper evaluates with:
/// its scores are those that the reference's threshold and examples speak of.
const BEFORE: &str = "a photo of a ";
/// Beginnings of what is a sentence already.
const SENTENCES: [&str; 4] = ["a photo of ", "an image of ", "a picture of ", "a drawing of "];

/// The prompt for a target: in its sentence, without a second article; a target that is a sentence already, or stands in
/// quotes, is taken as it is.
pub(super) fn of(target: &str) -> String {
    let target = target.trim();
    if let Some(raw) = target.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return raw.to_owned();
    }
    let begins = |start: &str| target.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    if SENTENCES.iter().any(|sentence| begins(sentence)) {
        return target.to_owned();
    }
    let article = ["a ", "an ", "the "].into_iter().find(|article| begins(article));
    let bare = article.and_then(|article| target.get(article.len()..)).unwrap_or(target);
    format!("{BEFORE}{}", bare.trim())
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn a_target_stands_in_a_sentence_once() {
        for (target, prompt) in [
            ("forklift", "a photo of a forklift"),
            (" the blue mug ", "a photo of a blue mug"),
            ("An ant", "a photo of a ant"),
            ("A photo of two cats", "A photo of two cats"),
            ("\"stop sign, seen from behind\"", "stop sign, seen from behind"),
            ("a", "a photo of a a"),
            ("é", "a photo of a é"),
        ] {
            assert_eq!(of(target), prompt);
        }
    }
}
