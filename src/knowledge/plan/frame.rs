//! What surrounds the wish in a request: the carrier ("find photos of …"), files and folders, how many hits, quoted words.

use crate::knowledge::words::{Kind, Token, tokenize};

/// A request taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Picture files named.
    pub images: Vec<String>,
    /// Folder named.
    pub folder: Option<String>,
    /// How many hits are wanted.
    pub top_k: Option<u32>,
    /// Texts between quotation marks.
    pub quoted: Vec<String>,
    /// The wish without its carrier, as it was written.
    pub core: String,
}

/// Word sequences before a description of a picture; `*` stands for one word of [`PICTURE`], `.` for any sign.
const CARRIERS: [&str; 62] = [
    "got any * like this ?",
    "got any * of",
    "got any",
    "have you got * like this ?",
    "do you have any * of",
    "do you have a * of",
    "do you have",
    "do we have any * of",
    "are there any * of",
    "search my library for",
    "search my * for",
    "search my",
    "search the * for",
    "search for * of",
    "search for",
    "look up * of",
    "look up * -",
    "look for a * of",
    "look for * of",
    "look for",
    "looking for a * of",
    "looking for * of",
    "looking for",
    "can you find me a * of",
    "can you find me",
    "can you find a * of",
    "can you find * of",
    "can you find",
    "could you find",
    "can you show me",
    "please find",
    "find me the * with",
    "find me a * of",
    "find me * of",
    "find me",
    "find the * in which",
    "find the * where",
    "find the * of",
    "find the * that show",
    "find all * of",
    "find all * with",
    "find a * of",
    "find * of",
    "find * with",
    "find * where",
    "find :",
    "find",
    "show me the * of",
    "show me * of",
    "show me * where",
    "show me * with",
    "show me all * of",
    "show me",
    "i need a * of",
    "i need * of",
    "i want a * of",
    "give me * of",
    "get me * of",
    "* wanted :",
    "* of",
    "a * of",
    "query :",
];

const PICTURE: [&str; 20] = [
    "photo",
    "photos",
    "picture",
    "pictures",
    "image",
    "images",
    "pic",
    "pics",
    "shot",
    "shots",
    "photograph",
    "photographs",
    "images",
    "snapshot",
    "snapshots",
    "imgs",
    "one",
    "ones",
    "screenshots",
    "library",
];

const PICTURE_EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "raw", "dng", "svg"];

/// Takes a request apart.
pub fn frame(request: &str) -> Frame {
    let tokens = tokenize(request);
    let chars: Vec<char> = request.chars().collect();
    let text = |from: usize, to: usize| chars.get(from..to).unwrap_or_default().iter().collect::<String>();
    let mut frame = Frame { top_k: top_k(&tokens), ..Frame::default() };
    for token in tokens.iter().filter(|token| token.kind == Kind::File) {
        let written = text(token.start, token.end);
        let extension = token.text.rsplit_once('.').map(|(_, extension)| extension);
        let glob = token.text.contains('*');
        if !glob && extension.is_some_and(|extension| PICTURE_EXTENSIONS.contains(&extension)) {
            frame.images.push(written);
        } else if frame.folder.is_none() && (glob || extension.is_none_or(|e| e.contains(['/', '\\']) || e.len() > 4)) {
            // "./photos/*.jpg" names its folder.
            let folder = written.rsplit_once('/').filter(|_| glob).map_or(written.as_str(), |(folder, _)| folder);
            frame.folder = Some(folder.to_owned()).filter(|folder| !folder.is_empty() && !folder.contains('*'));
        }
    }
    let mut at = 0;
    while at < tokens.len() {
        let run = tokens.iter().skip(at).take_while(|token| token.quoted || inside(&tokens, token)).count();
        if run > 0
            && let (Some(first), Some(last)) = (tokens.get(at), tokens.get(at + run - 1))
        {
            frame.quoted.push(text(first.start, last.end));
            at += run;
        } else {
            at += 1;
        }
    }
    let skip = carrier(&tokens);
    let rest: Vec<&Token> = tokens.iter().skip(skip).collect();
    let end = without_tail(&rest);
    let kept: Vec<&&Token> = rest.iter().take(end).filter(|token| !(token.text == "\"" || token.text == "`")).collect();
    frame.core = match (kept.first(), kept.last()) {
        (Some(first), Some(last)) => text(first.start, last.end),
        _ => request.trim().to_owned(),
    };
    frame
}

/// A sign between two quoted words.
fn inside(tokens: &[Token], token: &Token) -> bool {
    if token.kind != Kind::Sign || token.text == "\"" || token.text == "`" {
        return false;
    }
    let at = tokens.iter().position(|other| other.start == token.start).unwrap_or(0);
    at > 0 && tokens.get(at - 1).is_some_and(|t| t.quoted) && tokens.get(at + 1).is_some_and(|t| t.quoted)
}

/// How many tokens the longest carrier at the start takes.
fn carrier(tokens: &[Token]) -> usize {
    let matches = |pattern: &str| {
        let words: Vec<&str> = pattern.split(' ').collect();
        let fits = words.iter().enumerate().all(|(at, word)| {
            tokens.get(at).is_some_and(|token| match *word {
                "*" => PICTURE.contains(&token.text.as_str()),
                word => token.text == word,
            })
        });
        fits.then_some(words.len())
    };
    CARRIERS.iter().filter_map(|pattern| matches(pattern)).max().filter(|taken| *taken < tokens.len()).unwrap_or(0)
}

/// Where a tail such as "please", "in ./photos", "top 5" begins.
fn without_tail(tokens: &[&Token]) -> usize {
    let mut end = tokens.len();
    loop {
        let last = end.checked_sub(1).and_then(|at| tokens.get(at));
        let before = end.checked_sub(2).and_then(|at| tokens.get(at));
        let Some(last) = last.filter(|_| end > 1) else { return end };
        if matches!(last.text.as_str(), "please" | "plz" | "pls" | "thanks" | "." | "?" | "!" | "\"" | ",") {
            end -= 1;
        } else if last.kind == Kind::File {
            end -= 1;
            while end > 1
                && tokens.get(end - 1).is_some_and(|token| {
                    matches!(
                        token.text.as_str(),
                        "in" | "from" | "under" | "inside" | "folder" | "the" | "at" | "within"
                    )
                })
            {
                end -= 1;
            }
        } else if last.kind == Kind::Number && before.is_some_and(|token| matches!(token.text.as_str(), "top" | "=")) {
            end -= 2;
            while end > 1
                && tokens.get(end - 1).is_some_and(|token| matches!(token.text.as_str(), "k" | "-" | "," | "top_k"))
            {
                end -= 1;
            }
        } else {
            return end;
        }
    }
}

/// "top 10", "k=5", "return 10 photos", "the 20 nearest".
fn top_k(tokens: &[Token]) -> Option<u32> {
    let number = |at: usize| {
        let token = tokens.get(at)?;
        token.text.parse::<u32>().ok().filter(|n| (1..=10_000).contains(n))
    };
    let is = |at: usize, words: &[&str]| tokens.get(at).is_some_and(|token| words.contains(&token.text.as_str()));
    (0..tokens.len()).find_map(|at| {
        let value = number(at)?;
        let before = at.checked_sub(1).is_some_and(|before| {
            is(before, &["top", "return", "first", "best", "nearest", "closest"])
                || (is(before, &["="]) && before > 0 && is(before - 1, &["k", "top_k", "n", "limit"]))
                || (is(before, &["the", "me", "get", "find", "show", "give", "retrieve", "list"])
                    && (is(
                        at + 1,
                        &[
                            "photos", "images", "pictures", "pics", "nearest", "closest", "best", "most", "results",
                            "shots",
                        ],
                    )))
        });
        before.then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn carriers_files_and_numbers_are_taken_off() {
        for (request, core) in [
            ("find images of a red car", "a red car"),
            ("Can you find a dog in ./photos?", "a dog"),
            ("search my library for \"three cups\"", "three cups"),
            ("photos of a zebra please", "a zebra"),
            ("got any pictures like this? a red circle", "a red circle"),
            ("show me photos where the cat is below the bed", "the cat is below the bed"),
            ("a man in a red shirt", "a man in a red shirt"),
            ("find", "find"),
            ("", ""),
        ] {
            assert_eq!(frame(request).core, core, "{request}");
        }
    }

    #[test]
    fn arguments_are_found() {
        let found = frame("find the 20 images nearest to ./in/photo-3.jpeg in ~/pictures/");
        assert_eq!(found.images, ["./in/photo-3.jpeg"]);
        assert_eq!(found.folder.as_deref(), Some("~/pictures/"));
        assert_eq!(found.top_k, Some(20));
        assert_eq!(frame("get k nearest images, k=5").top_k, Some(5));
        assert_eq!(frame("return 10 photos of waterfalls").top_k, Some(10));
        assert_eq!(frame("3 dogs").top_k, None);
        assert_eq!(frame("find memes with the caption \"this is fine, ok\"").quoted, ["this is fine, ok"]);
        assert_eq!(frame("count cars in ./lot/*.jpg").folder.as_deref(), Some("./lot"));
    }
}
