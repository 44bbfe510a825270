//! Reads the hand-written sentences and expands the grammars of tools/router.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use clip_aware::knowledge::router::Label;

/// A labelled request.
#[derive(Debug, Clone)]
pub struct Sample {
    pub text: String,
    /// The first is the primary one.
    pub labels: Vec<Label>,
    pub language: String,
    /// A carrier ("find photos of …") may be put before it.
    pub wrap: bool,
    /// Written by hand, not drawn from a grammar.
    pub by_hand: bool,
}

/// A small generator of random numbers (splitmix64): the same corpus everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, p: f64) -> bool {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64 <= p
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

struct Section {
    labels: Vec<Label>,
    language: String,
    wrap: bool,
    draws: usize,
    grammar: bool,
    lines: Vec<(String, String)>,
}

/// All samples of the `.hand` and `.grammar` files under a folder, grammar draws seeded by `seed`.
///
/// # Errors
/// A line that cannot be read, with its file and number.
pub fn read(folder: &Path, seed: u64) -> Result<Vec<Sample>, String> {
    let mut files: Vec<PathBuf> = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut lexicons = BTreeMap::new();
    let mut sections = Vec::new();
    for file in &files {
        parse(file, &mut lexicons, &mut sections)?;
    }
    let mut random = Random(seed);
    let mut samples = Vec::new();
    for section in &sections {
        for (place, line) in &section.lines {
            let mut seen = HashSet::new();
            for _ in 0..if section.grammar { section.draws } else { 1 } {
                let text = if section.grammar {
                    let mut used = BTreeMap::new();
                    clean(
                        &expand(line, &lexicons, &mut used, &mut random)
                            .map_err(|error| format!("{place}: {error}"))?,
                    )
                } else {
                    line.clone()
                };
                if seen.insert(text.clone()) {
                    samples.push(Sample {
                        text,
                        labels: section.labels.clone(),
                        language: section.language.clone(),
                        wrap: section.wrap,
                        by_hand: !section.grammar,
                    });
                }
            }
        }
    }
    Ok(samples)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "hand" || e == "grammar") {
            files.push(path);
        }
    }
    Ok(())
}

fn parse(file: &Path, lexicons: &mut BTreeMap<String, Vec<String>>, sections: &mut Vec<Section>) -> Result<(), String> {
    let grammar = file.extension().is_some_and(|e| e == "grammar");
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut sources: Vec<(String, String)> = Vec::new();
    let mut in_lexicon = false;
    let first = sections.len();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", file.display(), number + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if grammar && line.starts_with([' ', '\t']) && in_lexicon {
            if let Some((_, source)) = sources.last_mut() {
                source.push(' ');
                source.push_str(line.trim());
            }
            continue;
        }
        in_lexicon = false;
        if let Some(rest) = line.strip_prefix('@').filter(|_| grammar) {
            let (name, entries) = rest.split_once('=').ok_or(format!("{place}: a lexicon without ="))?;
            sources.push((name.trim().to_owned(), entries.to_owned()));
            in_lexicon = true;
        } else if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).filter(|h| {
            h.split(' ').next().is_some_and(|labels| labels.split('+').all(|l| Label::from_name(l).is_some()))
        }) {
            sections.push(section(header, grammar).ok_or(format!("{place}: a header that cannot be read"))?);
        } else {
            let section = sections.get_mut(first..).and_then(<[Section]>::last_mut);
            let section = section.ok_or(format!("{place}: a line before the first section"))?;
            section.lines.push((place, line.trim().to_owned()));
        }
    }
    for (name, source) in sources {
        let entries = split(&source).into_iter().map(|e| e.trim().to_owned()).filter(|e| !e.is_empty()).collect();
        if lexicons.insert(name.clone(), entries).is_some() {
            return Err(format!("{}: the lexicon {name} is defined twice", file.display()));
        }
    }
    Ok(())
}

fn section(header: &str, grammar: bool) -> Option<Section> {
    let mut words = header.split(' ');
    let labels = words.next()?.split('+').map(Label::from_name).collect::<Option<Vec<_>>>()?;
    let language = words.next()?.to_owned();
    let flags: Vec<&str> = words.collect();
    let draws = flags.iter().find_map(|flag| flag.strip_prefix('x')?.parse().ok()).unwrap_or(20);
    Some(Section { labels, language, wrap: flags.contains(&"wrap"), draws, grammar, lines: Vec::new() })
}

/// Splits at the bars that are not inside brackets.
fn split(source: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in source.chars() {
        match c {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            _ => {}
        }
        if c == '|' && depth == 0 {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

type Used = BTreeMap<String, HashSet<usize>>;

fn expand(
    source: &str,
    lexicons: &BTreeMap<String, Vec<String>>,
    used: &mut Used,
    random: &mut Random,
) -> Result<String, String> {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while let Some(c) = chars.get(at) {
        match c {
            '(' => {
                let mut depth = 1;
                let mut end = at + 1;
                while depth > 0 {
                    match chars.get(end).ok_or("an open bracket")? {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        _ => {}
                    }
                    end += 1;
                }
                let inner: String = chars[at + 1..end - 1].iter().collect();
                let options = split(&inner);
                let option = &options[random.below(options.len())];
                out.push_str(&expand(option, lexicons, used, random)?);
                at = end;
            }
            '{' => {
                let length = chars[at..].iter().position(|c| *c == '}').ok_or("an open brace")?;
                let inner: String = chars[at + 1..at + length].iter().collect();
                let (name, modifiers) = inner.split_once(':').unwrap_or((&inner, ""));
                let entries = lexicons.get(name).filter(|e| !e.is_empty()).ok_or(format!("no lexicon {name}"))?;
                let taken = used.entry(name.to_owned()).or_default();
                let mut choice = random.below(entries.len());
                for _ in 0..entries.len() {
                    if !taken.contains(&choice) {
                        break;
                    }
                    choice = (choice + 1) % entries.len();
                }
                taken.insert(choice);
                let mut text = expand(&entries[choice].clone(), lexicons, used, random)?.trim().to_owned();
                for modifier in modifiers.chars() {
                    text = match modifier {
                        'a' => with_article(&text),
                        's' => plural(&text),
                        '^' => text.chars().take(1).flat_map(char::to_uppercase).chain(text.chars().skip(1)).collect(),
                        _ => return Err(format!("no modifier {modifier}")),
                    };
                }
                out.push_str(&text);
                at += length + 1;
            }
            ')' | '}' | '|' => return Err(format!("a stray {c}")),
            _ => {
                out.push(*c);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Collapses spaces, and removes them before punctuation.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_whitespace() {
        let mark = word.chars().next().is_some_and(|c| ",.?!;:".contains(c)) && word.chars().count() == 1;
        if !out.is_empty() && !mark {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

fn with_article(text: &str) -> String {
    let lower = text.to_lowercase();
    let vowel =
        lower.starts_with(['a', 'e', 'i', 'o', 'u']) || lower.starts_with("hour") || lower.starts_with("honest");
    let consonant = ["uni", "use", "eu", "one", "ukulele", "utens"].iter().any(|start| lower.starts_with(start));
    format!("{} {text}", if vowel && !consonant { "an" } else { "a" })
}

const PLURALS: [(&str, &str); 24] = [
    ("person", "people"),
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("mouse", "mice"),
    ("goose", "geese"),
    ("sheep", "sheep"),
    ("fish", "fish"),
    ("deer", "deer"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("knife", "knives"),
    ("leaf", "leaves"),
    ("loaf", "loaves"),
    ("shelf", "shelves"),
    ("wolf", "wolves"),
    ("calf", "calves"),
    ("scarf", "scarves"),
    ("half", "halves"),
    ("aircraft", "aircraft"),
    ("ox", "oxen"),
    ("moose", "moose"),
    ("human", "humans"),
    ("german", "Germans"),
];

fn plural(text: &str) -> String {
    let (head, word) = text.rsplit_once(' ').map_or((String::new(), text), |(h, w)| (format!("{h} "), w));
    let lower = word.to_lowercase();
    let before_y = lower.chars().rev().nth(1).is_some_and(|c| !"aeiou".contains(c));
    let plural = if let Some((_, plural)) = PLURALS.iter().find(|(one, _)| *one == lower) {
        (*plural).to_owned()
    } else if lower.ends_with("man") {
        format!("{}men", &word[..word.len() - 3])
    } else if lower.ends_with('y') && before_y {
        format!("{}ies", &word[..word.len() - 1])
    } else if ["s", "x", "z", "ch", "sh"].iter().any(|end| lower.ends_with(end)) {
        format!("{word}es")
    } else {
        format!("{word}s")
    };
    head + &plural
}
