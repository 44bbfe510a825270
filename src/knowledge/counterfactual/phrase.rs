//! A request as words that remember where they stand, and the few cuts that a change needs.

use super::words;

/// A request and its words.
#[derive(Debug, Clone)]
pub(super) struct Phrase<'a> {
    pub(super) text: &'a str,
    pub(super) words: Vec<Word>,
}

/// A word: its letters in lower case, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub(super) lower: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A part of a request: words from the first index up to the second.
pub(super) type Span = (usize, usize);

impl<'a> Phrase<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut words = Vec::new();
        let mut start = None;
        let in_word = |c: char| c.is_alphanumeric() || c == '\'' || c == '’' || c == '-';
        for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
            match (start, in_word(c)) {
                (None, true) => start = Some(at),
                (Some(from), false) => {
                    let lower = text.get(from..at).unwrap_or_default().to_lowercase().replace('’', "'");
                    words.push(Word { lower, start: from, end: at });
                    start = None;
                }
                _ => {}
            }
        }
        Self { text, words }
    }

    /// The word at an index, in lower case; empty past the end.
    pub(super) fn at(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| word.lower.as_str())
    }

    /// The letters of a span as they stand in the request.
    pub(super) fn slice(&self, (from, to): Span) -> &'a str {
        let ends = self.words.get(from).zip(to.checked_sub(1).and_then(|last| self.words.get(last)));
        ends.and_then(|(first, last)| self.text.get(first.start..last.end)).unwrap_or_default()
    }

    /// Where a sequence of words begins.
    pub(super) fn find(&self, sequence: &[&str]) -> Option<usize> {
        (0..self.words.len()).find(|at| sequence.iter().enumerate().all(|(i, word)| self.at(at + i) == *word))
    }

    /// The request with some spans replaced; they must not overlap. An empty replacement takes a blank with it, and
    /// articles before a changed word are set right.
    pub(super) fn replace(&self, mut changes: Vec<(Span, String)>) -> String {
        changes.sort_by_key(|(span, _)| *span);
        let mut out = String::with_capacity(self.text.len() + 16);
        let mut done = 0;
        for ((from, to), new) in changes {
            let (Some(first), Some(last)) = (self.words.get(from), to.checked_sub(1).and_then(|i| self.words.get(i)))
            else {
                continue;
            };
            out.push_str(self.text.get(done..first.start).unwrap_or_default());
            done = last.end;
            if new.is_empty() {
                let rest = self.text.get(done..).unwrap_or_default();
                done += rest.len() - rest.trim_start().len();
            }
            out.push_str(&new);
        }
        out.push_str(self.text.get(done..).unwrap_or_default());
        with_right_articles(out.trim_end())
    }

    /// Where the thing begins that ends before `end`: behind the last boundary, phrases such as "find me photos of" and
    /// the copula left out.
    pub(super) fn thing_before(&self, end: usize) -> Option<Span> {
        let mut to = end;
        while to > 0
            && ["is", "are", "was", "being", "that", "which", "who", "standing", "sitting", "lying"]
                .contains(&self.at(to - 1))
        {
            to -= 1;
        }
        let mut from = to;
        while from > 0 && !is_boundary(self.at(from - 1)) && !self.breaks_before(from) {
            from -= 1;
        }
        (from < to && !self.only_determiners((from, to))).then_some((from, to))
    }

    /// Where the thing ends that begins at `start`.
    pub(super) fn thing_after(&self, start: usize) -> Option<Span> {
        let mut to = start;
        while to < self.words.len() && !is_boundary(self.at(to)) && (to == start || !self.breaks_before(to)) {
            to += 1;
        }
        (start < to && !self.only_determiners((start, to))).then_some((start, to))
    }

    /// A comma or the like stands before this word.
    fn breaks_before(&self, index: usize) -> bool {
        let Some((before, word)) = index.checked_sub(1).and_then(|i| self.words.get(i)).zip(self.words.get(index))
        else {
            return false;
        };
        self.text.get(before.end..word.start).unwrap_or_default().contains([',', ';', ':', '.', '(', ')'])
    }

    fn only_determiners(&self, (from, to): Span) -> bool {
        (from..to).all(|index| words::is_determiner(self.at(index)))
    }

    /// Swaps two things. Their determiners stay where they are ("dog chasing a cat" becomes "cat chasing a dog") unless
    /// a plural or a number would then have an article that does not fit.
    pub(super) fn swap(&self, first: Span, second: Span, other: Vec<(Span, String)>) -> String {
        let (one, two) = (self.core(first), self.core(second));
        let plural = [one, two].iter().any(|(from, to)| {
            words::is_plural(self.at(to.saturating_sub(1))) || words::number(self.at(*from)).is_some()
        });
        let (a, b) = if plural { (first, second) } else { (one, two) };
        let mut changes = other;
        changes.push((a, self.moved(b, a)));
        changes.push((b, self.moved(a, b)));
        self.replace(changes)
    }

    /// The words of one span, to stand at the place of another: the capital belongs to the place.
    fn moved(&self, from: Span, to: Span) -> String {
        let (text, place) = (self.slice(from), self.slice(to));
        if from.0 == 0 && text.starts_with(char::is_uppercase) {
            let mut letters = text.chars();
            return letters.next().map(|c| c.to_lowercase().chain(letters).collect()).unwrap_or_default();
        }
        if to.0 == 0 { words::capitalised_like(text, place) } else { text.to_owned() }
    }

    /// A thing without its determiners.
    fn core(&self, (from, to): Span) -> Span {
        let mut start = from;
        while start + 1 < to && words::is_determiner(self.at(start)) {
            start += 1;
        }
        (start, to)
    }
}

/// Words at which a thing ends.
fn is_boundary(word: &str) -> bool {
    const BOUNDARIES: [&str; 38] = [
        "in", "on", "at", "of", "with", "without", "near", "by", "and", "or", "but", "while", "during", "from", "to",
        "into", "onto", "over", "under", "through", "across", "along", "around", "inside", "outside", "behind",
        "beside", "below", "above", "next", "for", "where", "when", "as", "find", "show", "me", "is",
    ];
    BOUNDARIES.contains(&word)
}

/// "a" and "an" as the next word wants them.
pub(in crate::knowledge) fn with_right_articles(text: &str) -> String {
    let phrase = Phrase::new(text);
    let mut out = String::with_capacity(text.len() + 4);
    let mut done = 0;
    for (index, word) in phrase.words.iter().enumerate() {
        if !["a", "an"].contains(&word.lower.as_str()) {
            continue;
        }
        let Some(next) = phrase.words.get(index + 1) else { continue };
        let Some(next) = text.get(next.start..next.end) else { continue };
        let Some(written) = text.get(word.start..word.end) else { continue };
        let article = words::capitalised_like(if words::takes_an(next) { "an" } else { "a" }, written);
        out.push_str(text.get(done..word.start).unwrap_or_default());
        out.push_str(&article);
        done = word.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}
