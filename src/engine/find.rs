//! The search that a caller asks for: words, an image, filters; what the wording means for CLIP; the ranked hits.

use std::path::PathBuf;

use super::compose::{Checker, Phrase};
use super::concepts::{Concept, FEWEST_IMAGES};
use super::embedder::ImageTextEmbedder;
use super::search::{self, Query, SearchOutcome, SearchRequest};
use super::verified::{self, Effort, PASSES, Report, Wish};
use super::{Engine, Watch};
use crate::error::{Error, Result};
use crate::index::calibration::DEFAULT_MIN_RELEVANCE;
use crate::index::{Catalogue, Filter, SetInfo};
use crate::knowledge::claims;
use crate::knowledge::language::other_than_english;
use crate::knowledge::phrase::Thing;
use crate::knowledge::task::{self, Task};
use crate::models::registry;

/// Most hits that can be asked for.
const MOST_HITS: usize = 10_000;

/// What a caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// What to look for.
    pub text: Option<&'a str>,
    /// An image to look for the like of: a path, or a URL when those are allowed.
    pub image: Option<&'a str>,
    /// What hits should not look like.
    pub minus: Option<&'a str>,
    /// Only files under this folder.
    pub under: Option<&'a str>,
    /// Most hits.
    pub top_k: usize,
    /// Least relevance; `None` for the calibrated cut-off.
    pub min_relevance: Option<f32>,
    /// Among which images; [`Engine::find`] sets its folders.
    pub filter: Filter,
    /// Nearly equal pictures are one hit.
    pub group_duplicates: bool,
    /// Every vector is compared.
    pub exact: bool,
    /// Tell what each hit is made of.
    pub explain: bool,
    /// Check on the best hits what the model does not see; `None`: do not.
    pub verify: Option<Effort>,
}

/// What was found, and what to think of it.
#[derive(Debug)]
pub struct Found {
    /// The text, else the image.
    pub query: String,
    /// What the request is.
    pub task: Task,
    /// What a caller should know: limits of CLIP for this request, the language, the length, stale rows.
    pub notes: Vec<String>,
    /// The hits.
    pub outcome: SearchOutcome,
    /// What each hit is made of in the model's eyes, where that was asked for; in their order.
    pub concepts: Vec<Vec<Concept>>,
    /// What was checked on each hit, in their order; empty for those that were not looked at.
    pub phrases: Vec<Vec<Phrase>>,
    /// The model's id.
    pub model: String,
}

impl Engine {
    /// Searches the index.
    ///
    /// # Errors
    /// Nothing to look for, a value out of range, an unreadable image, a folder outside the roots, nothing indexed.
    pub fn find(&self, request: &Request<'_>, watch: &Watch<'_>) -> Result<Found> {
        check(request)?;
        let under = match request.under {
            Some(folder) => vec![self.resolve(folder)?],
            None => self.config.roots.clone(),
        };
        // A bad image is said before an index is opened or a model is loaded.
        let images = request.image.map(|image| self.read_image(image)).transpose()?;
        let catalogue = self.catalogue()?;
        // Before a model is loaded in vain.
        if catalogue.sets()?.iter().all(|set| set.vectors == 0) {
            return Err(Error::NothingIndexed { under: request.under.map(PathBuf::from) });
        }
        let encoder = self.index_encoder(&catalogue, watch)?;
        let Some(set) = catalogue.find_set(&encoder.set_key())? else {
            return Err(Error::OtherModel {
                model: encoder.id().to_owned(),
                indexed: catalogue.sets()?.into_iter().map(|set| set.key.model).collect(),
            });
        };
        watch.check()?;
        let tasks = request.text.map_or_else(|| vec![Task::ImageSimilarity], task::all_of_request);
        let task = tasks.first().copied().unwrap_or(Task::SemanticSearch);
        let wish = request.text.filter(|_| request.verify.is_some()).and_then(|text| verified::wish(text, &tasks));
        let (text, minus) = looked_for(request, wish.as_ref());
        let query = Query::embed(
            encoder.as_ref(),
            &text.into_iter().collect::<Vec<_>>(),
            &images.iter().map(|(_, picture)| picture.rgb.clone()).collect::<Vec<_>>(),
            &minus.into_iter().collect::<Vec<_>>(),
        )?;
        let text_vector = query.texts.first().map(|(vector, _)| vector.clone());
        let search = SearchRequest {
            query,
            filter: Filter { under, ..request.filter.clone() },
            top_k: request.top_k,
            min_relevance: request.min_relevance,
            group_duplicates: request.group_duplicates,
            exact: request.exact,
        };
        let checker = wish.map(|wish| self.wish_checker(&wish, &encoder, watch)).transpose()?;
        let place = Place { catalogue: &catalogue, set: &set };
        let (outcome, phrases, report) = self.ranked(&place, search, checker.as_ref().zip(request.verify), watch)?;
        let mut notes: Vec<String> = match report {
            Some(report) => vec![report_note(task, &report)],
            None => task.note().into_iter().collect(),
        };
        if let Some(text) = request.text {
            notes.extend(language_note(encoder.id(), text));
            let (tokens, most) = encoder.token_count(text)?;
            if tokens > most {
                notes.push(format!("the model reads {most} tokens and the query has {tokens}: its end was not read"));
            }
        }
        if outcome.gave_up {
            let folder = request.under.map_or_else(|| "PATH".to_owned(), |folder| format!("'{folder}'"));
            notes.push(format!(
                "the files of the {} best hits are gone, and the search ended there: is the drive mounted? If they were moved or deleted, `clip-aware index {folder}` (index_folder) refreshes the index",
                outcome.vanished
            ));
        } else if outcome.vanished > 0 {
            notes.push(format!("{} indexed files are gone: index the folder again", outcome.vanished));
        }
        let mut concepts = Vec::new();
        if request.explain {
            let also: Vec<String> = request
                .text
                .map(|text| claims::read(text).things.iter().map(Thing::words).collect())
                .unwrap_or_default();
            let vocabulary = self.vocabulary((&catalogue, &set), &encoder, &also, watch)?;
            match vocabulary {
                Some(vocabulary) => {
                    concepts =
                        self.hit_concepts((&catalogue, &set), &vocabulary, &outcome.hits, text_vector.as_deref())?;
                }
                None => notes.push(format!("what hits are made of is told from {FEWEST_IMAGES} indexed images on")),
            }
        }
        let image = images.into_iter().next().map(|(path, _)| path);
        let query = request.text.map(str::to_owned).or(image).unwrap_or_default();
        Ok(Found { query, task, notes, outcome, concepts, phrases, model: encoder.id().to_owned() })
    }

    /// The hits of a search; where something is to be checked, those that pass first, then those that the model alone would
    /// show, each with what was checked.
    fn ranked(
        &self,
        place: &Place<'_>,
        mut search: SearchRequest,
        check: Option<(&Checker, Effort)>,
        watch: &Watch<'_>,
    ) -> Result<(SearchOutcome, Vec<Vec<Phrase>>, Option<Report>)> {
        let Some((checker, effort)) = check else {
            let outcome = search::search(place.catalogue, &self.vectors, place.set, &search)?;
            let phrases = vec![Vec::new(); outcome.hits.len()];
            return Ok((outcome, phrases, None));
        };
        let (top_k, least) = (search.top_k, search.min_relevance.unwrap_or(DEFAULT_MIN_RELEVANCE));
        if checker.detector().is_some() {
            // What boxes decide needs no relevance.
            search.top_k = search.top_k.max(effort.best);
            search.min_relevance = Some(0.0);
        }
        let mut outcome = search::search(place.catalogue, &self.vectors, place.set, &search)?;
        let hits = std::mem::take(&mut outcome.hits);
        let (checked, report) = self.verify_hits(checker, hits, top_k, effort, watch)?;
        let shown =
            |one: &verified::Checked| one.hit.relevance >= least || one.probability.is_some_and(|p| p >= PASSES);
        let (hits, phrases) = checked.into_iter().filter(shown).take(top_k).map(|one| (one.hit, one.phrases)).unzip();
        Ok((SearchOutcome { hits, min_relevance: least, ..outcome }, phrases, Some(report)))
    }
}

/// Where a search looks.
struct Place<'a> {
    catalogue: &'a Catalogue,
    set: &'a SetInfo,
}

/// What the model is asked: the text as it is, or what it can see of it, and what hits should not look like.
fn looked_for(request: &Request<'_>, wish: Option<&Wish>) -> (Option<String>, Option<String>) {
    let minus = request.minus.map(str::to_owned);
    match wish {
        None => (request.text.map(str::to_owned), minus),
        // Where nothing is left that can be seen, any picture is a candidate, best without what is excluded.
        Some(wish) => {
            let visible = wish.visible.clone().or_else(|| request.image.is_none().then(|| "a photo".to_owned()));
            (visible, minus.or_else(|| wish.minus.clone()))
        }
    }
}

/// What was checked, by what, and what was not.
fn report_note(task: Task, report: &Report) -> String {
    let cited = task.limit_cited().unwrap_or_else(|| "CLIP does not see all of this".to_owned());
    if let Some(why) = &report.without {
        return format!("{cited}: not verified, since {why}");
    }
    let unchecked = match report.unchecked.as_slice() {
        [] => String::new(),
        open => format!("; not verified: {}", open.join(", ")),
    };
    let time = if report.out_of_time { "; the time for checking was used up" } else { "" };
    format!(
        "{cited}: the best {} by CLIP were checked with {} ({}), {} pass{unchecked}{time}",
        report.looked,
        report.detector.as_deref().unwrap_or("no detector"),
        if report.checked.is_empty() { "nothing could be".to_owned() } else { report.checked.join(", ") },
        report.passed
    )
}

impl Engine {
    /// Groups of equal and nearly equal pictures under a folder, or anywhere under the roots.
    ///
    /// # Errors
    /// The folder is outside the roots, nothing is indexed, the caller cancelled.
    pub fn duplicates(&self, under: Option<&str>, watch: &Watch<'_>) -> Result<Vec<search::DuplicateGroup>> {
        let under = match under {
            Some(folder) => vec![self.resolve(folder)?],
            None => self.config.roots.clone(),
        };
        let catalogue = self.catalogue()?;
        let newest = catalogue.sets()?.into_iter().rev().find(|set| set.vectors > 0);
        let set = newest.ok_or(Error::NothingIndexed { under: None })?;
        let filter = Filter { under, ..Filter::default() };
        search::duplicate_groups(&catalogue, &self.vectors, &set, &filter, watch.cancel)
    }
}

fn check(request: &Request<'_>) -> Result<()> {
    let refuse = |name, reason: &str| Err(Error::Argument { name, reason: reason.into() });
    if request.text.is_none() && request.image.is_none() {
        return refuse("query", "is missing: say what to look for, or give `image`");
    }
    if request.top_k == 0 || request.top_k > MOST_HITS {
        return refuse("top_k", "must be 1 to 10000");
    }
    if request.min_relevance.is_some_and(|limit| !(0.0..=1.0).contains(&limit)) {
        return refuse("min_relevance", "must be 0 to 1");
    }
    Ok(())
}

/// Advice for a request in a language that the model did not learn. A model from a folder or an unlisted repository may
/// know any language, so nothing is said of it.
fn language_note(model: &str, text: &str) -> Option<String> {
    let language = other_than_english(text)?;
    let english = model == "starter" || registry::find(model).is_some_and(|entry| entry.languages == "English");
    english.then(|| {
        format!(
            "the query looks {language} and {model} knows English only: ask in English, or index with a multilingual model such as siglip2-b16-224"
        )
    })
}

/// Seconds since 1970 of the start of a day `YYYY-MM-DD`, read as UTC.
///
/// # Errors
/// Not such a day.
pub fn day(name: &'static str, text: &str) -> Result<i64> {
    let bad = || Error::Argument { name, reason: format!("must be a day like 2024-05-31, not `{text}`") };
    let mut parts = text.splitn(3, '-').map(str::parse::<i64>);
    let mut next = || parts.next().and_then(Result::ok).ok_or_else(bad);
    let (year, month, day) = (next()?, next()?, next()?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=length).contains(&day) {
        return Err(bad());
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar; years start in March so that leap days come last.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Ok((era * 146_097 + day_of_era - 719_468) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::{day, language_note};

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(day("after", "1970-01-01").unwrap(), 0);
        assert_eq!(day("after", "2000-02-29").unwrap(), 951_782_400);
        assert_eq!(day("after", "2026-11-23").unwrap(), 1_795_392_000);
        for wrong in ["2023-02-29", "2023-13-01", "23/1/2", "", "2023-1", "2023-04-31", "0000-01-01"] {
            assert!(day("after", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn another_language_gets_advice_only_where_the_model_does_not_know_it() {
        assert!(language_note("starter", "ein Hund im Schnee").is_some_and(|note| note.contains("German")));
        assert!(language_note("clip-vit-b32", "un perro en la nieve").is_some_and(|note| note.contains("Spanish")));
        assert_eq!(language_note("siglip2-b16-224", "un perro en la nieve"), None);
        assert_eq!(language_note("starter", "a dog in the snow"), None);
    }
}
