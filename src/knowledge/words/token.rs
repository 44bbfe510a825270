//! A request as tokens with their places in the text.

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A word of an alphabetic script.
    Word,
    /// One character of a script without spaces (Chinese, Japanese).
    Ideograph,
    /// Digits, with their separators: "12", "1,200", "3.5".
    Number,
    /// Letters and digits mixed: "737-700", `IMG_2231`, "4x4".
    Mixed,
    /// A path, a file name or a URL.
    File,
    /// Anything else: one sign.
    Sign,
}

/// A piece of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Lower-case text with full-width forms and typographic quotes replaced.
    pub text: String,
    /// First character, counted in Unicode characters of the request.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
    /// What it is made of.
    pub kind: Kind,
    /// It begins with a capital letter.
    pub capital: bool,
    /// Between quotation marks.
    pub quoted: bool,
}

/// Extensions that make a word a file's name.
const EXTENSIONS: [&str; 26] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "raw", "dng", "cr2", "nef",
    "arw", "pdf", "mp4", "mov", "avi", "mkv", "json", "csv", "txt", "zip", "svg",
];

/// Longest request that is looked at, in characters; the rest changes nothing any more.
const MOST_CHARACTERS: usize = 2_000;

/// Splits a request.
pub fn tokenize(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().take(MOST_CHARACTERS).map(plain).collect();
    let mut tokens = Vec::with_capacity(chars.len() / 4 + 1);
    let mut at = 0;
    let mut quote: Option<char> = None;
    while let Some(&c) = chars.get(at) {
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        let end = if is_ideograph(c) {
            at + 1
        } else if let Some(end) = path_end(&chars, at) {
            end
        } else if c.is_alphanumeric() {
            word_end(&chars, at)
        } else {
            at + 1
        };
        let piece: String = chars.get(at..end).unwrap_or_default().iter().collect();
        let kind = kind_of(&piece, end - at);
        if kind == Kind::Sign {
            quote = next_quote(quote, c, chars.get(at + 1..).unwrap_or_default());
        }
        tokens.push(Token {
            capital: c.is_uppercase(),
            text: piece.to_lowercase(),
            start: at,
            end,
            kind,
            quoted: quote.is_some() && kind != Kind::Sign,
        });
        at = end;
    }
    tokens
}

/// Replaces what keyboards and word processors vary: full-width forms, curly quotes, dashes.
fn plain(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{2018}' | '\u{2019}' | '\u{02bc}' | '\u{00b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{00ab}' | '\u{00bb}' | '\u{300c}' | '\u{300d}' | '\u{300e}'
        | '\u{300f}' => '"',
        '\u{2010}'..='\u{2015}' => '-',
        '\u{3000}' | '\u{00a0}' => ' ',
        '\u{3001}' => ',',
        '\u{3002}' => '.',
        _ => c,
    }
}

/// Chinese and Japanese characters.
pub fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2fa1f}')
}

/// The end of a word: letters and digits, with single apostrophes, hyphens, underscores, dots or commas inside.
fn word_end(chars: &[char], from: usize) -> usize {
    let letter = |at: usize| chars.get(at).is_some_and(|c| c.is_alphanumeric() && !is_ideograph(*c));
    let digit = |at: usize| chars.get(at).is_some_and(char::is_ascii_digit);
    let mut at = from;
    loop {
        let joins = at > from
            && match chars.get(at) {
                Some('\'' | '_') => letter(at + 1),
                Some('.' | ',' | ':') => digit(at - 1) && digit(at + 1),
                // "737-700", "MD-87", "F-16" stay whole; "red-haired" becomes two words with a sign between.
                Some('-') => letter(at + 1) && (digit(at + 1) || (from..at).any(digit)),
                _ => false,
            };
        if !letter(at) && !joins {
            return at;
        }
        at += 1;
    }
}

/// The end of a path, file name or URL that starts here.
fn path_end(chars: &[char], from: usize) -> Option<usize> {
    if from > 0 && chars.get(from - 1).is_some_and(|c| c.is_alphanumeric() && !is_ideograph(*c)) {
        return None;
    }
    let mut end = from;
    while let Some(c) = chars.get(end) {
        if c.is_whitespace()
            || matches!(c, '"' | '<' | '>' | '|' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ';' | '?' | '!')
        {
            break;
        }
        if is_ideograph(*c) {
            break;
        }
        end += 1;
    }
    while end > from && chars.get(end - 1).is_some_and(|c| matches!(c, '.' | ':' | '\'')) {
        end -= 1;
    }
    let piece: String = chars.get(from..end)?.iter().collect();
    is_path(&piece).then_some(end)
}

fn is_path(piece: &str) -> bool {
    let lower = piece.to_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") || lower.starts_with("file://") {
        return true;
    }
    let named = lower
        .rsplit_once('.')
        .is_some_and(|(stem, extension)| !stem.is_empty() && EXTENSIONS.contains(&extension) || extension == "*");
    let globbed = lower.starts_with("*.") && EXTENSIONS.contains(&lower.trim_start_matches("*."));
    let rooted =
        (lower.starts_with("./") || lower.starts_with("../") || lower.starts_with("~/") || lower.starts_with('/'))
            && lower.chars().filter(|c| c.is_alphanumeric()).count() > 0
            && !lower.starts_with("//");
    let drive = lower.len() > 3 && lower.get(1..3) == Some(":\\");
    let folder = lower.ends_with('/') && lower.len() > 2 && lower.chars().next().is_some_and(char::is_alphanumeric);
    named || globbed || rooted || drive || folder
}

fn kind_of(piece: &str, length: usize) -> Kind {
    if length == 1 && piece.chars().all(is_ideograph) {
        return Kind::Ideograph;
    }
    if is_path(piece) {
        return Kind::File;
    }
    let letters = piece.chars().any(char::is_alphabetic);
    let digits = piece.chars().any(char::is_numeric);
    match (letters, digits) {
        (true, true) => Kind::Mixed,
        (true, false) => Kind::Word,
        (false, true) => Kind::Number,
        (false, false) => Kind::Sign,
    }
}

/// Follows quotation marks: a mark opens when its partner comes later.
fn next_quote(open: Option<char>, c: char, rest: &[char]) -> Option<char> {
    match open {
        Some(mark) if mark == c => None,
        Some(mark) => Some(mark),
        None if c == '"' || c == '`' => rest.contains(&c).then_some(c),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, tokenize};

    fn texts(request: &str) -> Vec<String> {
        tokenize(request).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_numbers_files_and_signs() {
        assert_eq!(texts("How many Boeing 737-700s?"), ["how", "many", "boeing", "737-700s", "?"]);
        assert_eq!(texts("it isn't red-haired"), ["it", "isn't", "red", "-", "haired"]);
        assert_eq!(texts("similar to ./in/ref.webp, please"), ["similar", "to", "./in/ref.webp", ",", "please"]);
        assert_eq!(texts("图中有3个人？"), ["图", "中", "有", "3", "个", "人", "?"]);
        let kinds: Vec<Kind> = tokenize("IMG_1.jpg 4x4 12 a +").into_iter().map(|token| token.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::Mixed, Kind::Number, Kind::Word, Kind::Sign]);
    }

    #[test]
    fn places_are_characters_of_the_request() {
        let request = "¿Qué dice el “cartel”?";
        for token in tokenize(request) {
            let piece: String = request.chars().skip(token.start).take(token.end - token.start).collect();
            assert!(token.kind == Kind::Sign || piece.to_lowercase() == token.text, "{piece} {token:?}");
        }
        assert!(tokenize(request).iter().any(|token| token.quoted && token.text == "cartel"));
    }

    #[test]
    fn any_input_ends() {
        for request in
            ["", " ", "\"", "'''", "/", "..", "-", "a'", "\u{0}", "🦊🦊", "\u{1F468}\u{200D}\u{1F469}", "C:\\"]
        {
            tokenize(request);
        }
        assert!(tokenize(&"word ".repeat(100_000)).len() < 1_000);
    }
}
