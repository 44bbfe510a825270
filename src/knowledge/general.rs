//! More general forms of a request: details left out one after the other, to find out whether it is a detail that fails.

use serde::Serialize;

use super::counterfactual::with_right_articles;

/// A request with less in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct General {
    /// The shorter request.
    pub text: String,
    /// What was left out, as it stood there.
    pub without: String,
}

/// Words that begin a detail.
const STARTS: [&str; 31] = [
    "in", "on", "at", "with", "without", "but", "wearing", "holding", "near", "under", "by", "from", "during", "while",
    "and", "which", "that", "who", "sitting", "standing", "running", "lying", "walking", "riding", "next", "behind",
    "inside", "beside", "against", "over", "through",
];

/// Most forms; each costs a run of the text tower.
const MOST: usize = 4;

/// The request without its last detail, without its last two, and so on; at the end its first thing without adjectives.
/// Empty when there is nothing to leave out.
pub fn forms(request: &str) -> Vec<General> {
    let request = request.trim().trim_end_matches(['.', '?', '!']);
    let words: Vec<&str> = request.split_whitespace().collect();
    let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let mut cuts: Vec<usize> = (1..words.len())
        .filter(|at| {
            let comma = words.get(at - 1).is_some_and(|before| before.ends_with(','));
            comma || words.get(*at).is_some_and(|word| STARTS.contains(&clean(word).as_str()))
        })
        .collect();
    // "dog and": two words that begin a detail in a row cut once.
    cuts.dedup_by(|next, before| *next == *before + 1);
    let mut made: Vec<General> = Vec::new();
    let mut push = |kept: &[&str], left_out: &[&str]| {
        let text = with_right_articles(kept.join(" ").trim_end_matches(','));
        if !text.is_empty() && text != request && made.len() < MOST && made.iter().all(|other| other.text != text) {
            made.push(General { text, without: left_out.join(" ") });
        }
    };
    for at in cuts.iter().rev() {
        if let Some((kept, left_out)) = words.split_at_checked(*at) {
            push(kept, left_out);
        }
    }
    // The first thing itself: "a small golden retriever puppy" is "a puppy".
    let end = cuts.first().copied().unwrap_or(words.len());
    let head = words.get(..end).unwrap_or_default();
    let of_something = head.iter().any(|word| clean(word) == "of");
    let articles = head.iter().take_while(|word| ["a", "an", "the"].contains(&clean(word).as_str())).count();
    if let Some(noun) = head.last().filter(|_| !of_something && head.len() > articles + 1) {
        let article = head.get(..articles).unwrap_or_default();
        let kept: Vec<&str> = article.iter().chain([noun]).copied().collect();
        push(&kept, head.get(articles..head.len() - 1).unwrap_or_default());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::forms;

    fn texts(request: &str) -> Vec<String> {
        forms(request).into_iter().map(|form| form.text).collect()
    }

    #[test]
    fn details_go_one_after_the_other() {
        assert_eq!(
            texts("a golden retriever puppy wearing a red hat in the snow"),
            ["a golden retriever puppy wearing a red hat", "a golden retriever puppy", "a puppy"]
        );
        assert_eq!(texts("people at a table, laughing"), ["people at a table", "people"]);
        assert_eq!(texts("an old house"), ["a house"]);
        assert_eq!(forms("a red car in the rain")[0].without, "in the rain");
        assert_eq!(forms("a red car in the rain")[1].without, "red");
    }

    #[test]
    fn nothing_is_left_out_where_there_is_nothing_to_leave_out() {
        for request in ["dog", "a dog", "", "  ", "雪の中の犬", "a cup of coffee"] {
            assert_eq!(texts(request), Vec::<String>::new(), "{request}");
        }
    }
}
