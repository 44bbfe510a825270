//! What stands between an image and a request: the task, the index, a detail too many, a domain too far, or nothing.

use std::path::Path;
use std::sync::Arc;

use super::compose::Phrase;
use super::encoders::bad_argument;
use super::explain::Reading;
use super::sight::{Scored, Sight, best, set_of};
use super::{Engine, Watch, url_image};
use crate::error::{Error, Result};
use crate::index::calibration::{DEFAULT_MIN_RELEVANCE, QueryCalibration, dot, relevance};
use crate::index::{Catalogue, Part, Role, SetInfo, Standing};
use crate::knowledge::claims;
use crate::knowledge::general;
use crate::knowledge::language::other_than_english;
use crate::knowledge::plan;
use crate::knowledge::topics::Topic;

/// From here on an image is called a good match. The upper end of the cut-offs with the best F1
/// ([`DEFAULT_MIN_RELEVANCE`] is the lower one): half of the classes that are in a photo are small in it and stay below.
const GOOD: f32 = 0.4;
/// Images that an image is compared with to judge whether its domain is far.
const REFERENCES: usize = 400;
/// With fewer, their lowest percent means nothing.
const FEWEST_REFERENCES: usize = 20;
/// How far below the lower quartile of the indexed images an image is called far, in (estimated) distances of the
/// quartiles. Quartiles, so that a few far images among the indexed ones do not hide the next.
///
/// On COCO photos (`OpenAI` ViT-B/32, `tests/it/ranking.rs`) some 2 % of those that are not among the references fall
/// below. With the starter, whose world is rendered shapes, 2.5 % of other rendered scenes do, two of three photos, and all
/// pictures of noise, lines of text and blurred bones: what is below is likely far, what is above need not be near.
const FENCE: f32 = 1.25;
/// Cosine from which an indexed vector is taken for the image itself.
const ITSELF: f32 = 0.999;

/// The outcome, one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// CLIP cannot do what was asked, on any image.
    TaskNotForClip,
    /// A search does not see this image as it is now.
    IndexStale,
    /// It fits.
    GoodMatch,
    /// A shorter form of the request fits; a detail does not.
    QueryTooSpecific,
    /// No text of the model's world fits the image well.
    DomainFar,
    /// It fits a little: shown by a search, behind better ones.
    WeakMatch,
    /// The model sees nothing of it in the image.
    NoMatch,
}

impl Verdict {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskNotForClip => "task_not_for_clip",
            Self::IndexStale => "index_stale",
            Self::GoodMatch => "good_match",
            Self::QueryTooSpecific => "query_too_specific",
            Self::DomainFar => "domain_far",
            Self::WeakMatch => "weak_match",
            Self::NoMatch => "no_match",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// `task`, `index`, `match`, `detail`, `domain`.
    pub check: &'static str,
    /// Nothing stands in the way; `None` when it cannot be judged.
    pub ok: Option<bool>,
    /// What was found, with its numbers.
    pub says: String,
}

/// The verdict and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnosis {
    /// The outcome.
    pub verdict: Verdict,
    /// Calibrated relevance of the image for the request, 0 to 1.
    pub relevance: f32,
    /// Everything that was looked at, in the order in which it decides.
    pub evidence: Vec<Evidence>,
    /// What to do.
    pub next: String,
    /// The request's claims, each checked by what can see it.
    pub phrases: Vec<Phrase>,
    /// Labels of the detector, for the phrases' boxes.
    pub labels: Vec<String>,
}

/// A request or a form of it, judged.
struct Judged {
    scored: Scored,
    without: String,
    relevance: f32,
}

impl Engine {
    /// Says why a search for the request does or does not find the image. Returns the image's path as well.
    ///
    /// # Errors
    /// The image cannot be read, the model cannot be loaded, the index cannot be read.
    pub fn diagnose(&self, image: &str, query: &str, watch: &Watch<'_>) -> Result<(String, Diagnosis)> {
        let query = query.trim();
        if query.is_empty() {
            return bad_argument("query", "holds nothing to look for");
        }
        let sight = self.sight(image, watch)?;
        let diagnosis = self.diagnose_sight(&sight, query, Topic::of_request(query), watch)?;
        Ok((sight.path, diagnosis))
    }

    /// [`Engine::diagnose`] for an image that was looked at already.
    ///
    /// # Errors
    /// The model fails; the index cannot be read.
    pub(super) fn diagnose_sight(
        &self,
        sight: &Sight,
        query: &str,
        topic: Topic,
        watch: &Watch<'_>,
    ) -> Result<Diagnosis> {
        let catalogue = self.catalogue()?;
        let set = set_of(&catalogue, &sight.encoder)?;
        let index = index_evidence(&catalogue, set.as_ref(), sight)?;
        watch.check()?;
        let judged = self.judge(&catalogue, set.as_ref(), sight, query)?;
        let domain = self.domain_evidence(&catalogue, set.as_ref(), sight)?;
        let Some((request, shorter)) = judged.split_first() else {
            return bad_argument("query", "holds nothing to look for");
        };
        let detail = detail_evidence(request, shorter);
        let matched = match_evidence(request, sight);
        let task = task_evidence(topic);
        let verdict = if task.ok == Some(false) {
            Verdict::TaskNotForClip
        } else if index.ok == Some(false) {
            Verdict::IndexStale
        } else if request.relevance >= GOOD {
            Verdict::GoodMatch
        } else if detail.ok == Some(false) {
            Verdict::QueryTooSpecific
        } else if request.relevance >= DEFAULT_MIN_RELEVANCE {
            Verdict::WeakMatch
        } else if domain.ok == Some(false) {
            Verdict::DomainFar
        } else {
            Verdict::NoMatch
        };
        let next = next_step(verdict, topic, query, sight, shorter);
        let (phrases, labels) = self.claimed(sight, query, watch)?;
        Ok(Diagnosis {
            verdict,
            relevance: request.relevance,
            evidence: vec![task, index, matched, detail, domain],
            next,
            phrases,
            labels,
        })
    }

    /// What each tool sees of the request's claims, and the detector's labels. That nothing could be looked at is no reason to
    /// say nothing of the rest.
    fn claimed(&self, sight: &Sight, query: &str, watch: &Watch<'_>) -> Result<(Vec<Phrase>, Vec<String>)> {
        let claims = claims::read(&plan::frame(query).core);
        if claims.claims.is_empty() || other_than_english(query).is_some() {
            return Ok((Vec::new(), Vec::new()));
        }
        let looked = self.checker(&[claims], Some(Arc::clone(&sight.encoder)), watch).and_then(|checker| {
            let labels = checker.detector().map(|detector| detector.labels().to_vec()).unwrap_or_default();
            let phrases = checker.file(self, &sight.path, Some(&sight.vector), watch)?;
            Ok((phrases.into_iter().next().unwrap_or_default(), labels))
        });
        match looked {
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => {
                tracing::warn!("phrases are not checked: {error}");
                Ok((Vec::new(), Vec::new()))
            }
            looked => looked,
        }
    }

    /// The request and its shorter forms on the image, each held against the collection as a search would.
    fn judge(&self, catalogue: &Catalogue, set: Option<&SetInfo>, sight: &Sight, query: &str) -> Result<Vec<Judged>> {
        let shorter = general::forms(query);
        let texts: Vec<String> =
            std::iter::once(query.to_owned()).chain(shorter.iter().map(|form| form.text.clone())).collect();
        let scored = sight.score(&texts)?;
        let left_out = std::iter::once(String::new()).chain(shorter.into_iter().map(|form| form.without));
        let vectors = set.map(|set| self.vectors.vectors(catalogue, set)).transpose()?;
        let parts: Vec<Part<'_>> =
            scored.iter().map(|one| Part { vector: &one.vector, role: Role::Text { weight: 1.0 } }).collect();
        let ranking = vectors.as_ref().map(|vectors| vectors.rank(&parts));
        let usual = |(index, one): (usize, &Scored)| {
            let usual = ranking.as_ref().and_then(|ranking| ranking.usual(index));
            usual.unwrap_or_else(|| QueryCalibration::for_text(&[one.sigma]))
        };
        let usual: Vec<QueryCalibration> = scored.iter().enumerate().map(usual).collect();
        let judged = scored.into_iter().zip(usual).zip(left_out).map(|((scored, usual), without)| {
            let relevance = relevance(usual.standardise(scored.sigma));
            Judged { scored, without, relevance }
        });
        Ok(judged.collect())
    }

    /// Whether the texts of the model's world fit this image as well as they fit the indexed ones.
    fn domain_evidence(&self, catalogue: &Catalogue, set: Option<&SetInfo>, sight: &Sight) -> Result<Evidence> {
        let mut known = Vec::new();
        if let Some(set) = set {
            let vectors = self.vectors.vectors(catalogue, set)?;
            let step = vectors.len().div_ceil(REFERENCES).max(1);
            for row in (0..vectors.len()).step_by(step) {
                if let Some(vector) = vectors.vector(row).filter(|vector| dot(vector, &sight.vector) < ITSELF) {
                    known.push(best(&vector, &sight.nulls));
                }
            }
        }
        Ok(far(sight.best(), known))
    }
}

/// What the index knows of the image.
fn index_evidence(catalogue: &Catalogue, set: Option<&SetInfo>, sight: &Sight) -> Result<Evidence> {
    let found = |ok, says: String| Ok(Evidence { check: "index", ok, says });
    let model = sight.encoder.id();
    if url_image::is_url(&sight.path) {
        return found(None, "an image from the web is in no index".into());
    }
    let Some(set) = set else {
        let others: Vec<String> =
            catalogue.sets()?.into_iter().filter(|set| set.vectors > 0).map(|set| set.key.model).collect();
        return if others.is_empty() {
            found(None, "nothing is indexed yet".into())
        } else {
            found(Some(false), format!("the index holds no vectors of {model}, only of {}", others.join(", ")))
        };
    };
    match catalogue.standing(Path::new(&sight.path), set)? {
        Standing::Current(_) => found(Some(true), format!("indexed with {model}, unchanged since")),
        Standing::Changed => found(Some(false), "the file was changed since it was indexed".into()),
        Standing::NoVector => found(Some(false), format!("known to the index, but not embedded with {model}")),
        Standing::Refused(reason) => found(Some(false), format!("refused by the last index run: {reason}")),
        Standing::Unknown => found(Some(false), "in no indexed folder, or added since the last index run".into()),
    }
}

/// Judges [`best`] of an image by that of indexed ones: `ok` is false when it lies far below them, `None` when there are
/// too few.
pub fn far(own: f32, mut known: Vec<f32>) -> Evidence {
    if known.len() < FEWEST_REFERENCES {
        let says = format!(
            "cannot be judged: {} other images are indexed with this model, {FEWEST_REFERENCES} are needed",
            known.len()
        );
        return Evidence { check: "domain", ok: None, says };
    }
    known.sort_by(f32::total_cmp);
    let at = |share: f32| known.get((known.len() as f32 * share) as usize).copied().unwrap_or_default();
    let (quartile, median) = (at(0.25), at(0.5));
    let low = quartile - FENCE * 2.0 * (median - quartile);
    let near = own >= low;
    let says = format!(
        "the neutral texts that fit best reach cosine {own:.3}; on {} indexed images {median:.3} in the median, usual down to {low:.3}{}",
        known.len(),
        if near { "" } else { ": no text of the model's world fits" }
    );
    Evidence { check: "domain", ok: Some(near), says }
}

fn task_evidence(topic: Topic) -> Evidence {
    let article = topic.article();
    if topic.clip_suitable() {
        return Evidence {
            check: "task",
            ok: Some(true),
            says: "a search by what the picture shows: CLIP suits".into(),
        };
    }
    let fact = article.facts().next().map(|fact| format!("; {}", fact.cited())).unwrap_or_default();
    Evidence { check: "task", ok: Some(false), says: format!("{}: {}{fact}", topic.name(), article.title) }
}

fn match_evidence(request: &Judged, sight: &Sight) -> Evidence {
    let says = format!(
        "relevance {:.2}, cosine {:.3}, {:+.1} sigma above {} neutral texts",
        request.relevance,
        request.scored.cosine,
        request.scored.sigma,
        sight.nulls.len()
    );
    Evidence { check: "match", ok: Some(request.relevance >= GOOD), says }
}

/// Whether a detail stands in the way: without it the image is a match.
fn detail_evidence(request: &Judged, shorter: &[Judged]) -> Evidence {
    let Some(form) = fittest(shorter) else {
        return Evidence { check: "detail", ok: None, says: "no detail to leave out".into() };
    };
    let gain = form.scored.sigma - request.scored.sigma;
    let too_specific =
        form.relevance >= GOOD && request.relevance < GOOD && Reading::of(gain) == Reading::PrefersRequest;
    let says = if too_specific {
        format!(
            "without \"{}\": \"{}\" has relevance {:.2}, {gain:+.1} sigma",
            form.without, form.scored.text, form.relevance
        )
    } else {
        let effect = if Reading::of(gain) == Reading::Noise { ", which is noise" } else { "" };
        format!("leaving out \"{}\" changes the score by {gain:+.1} sigma{effect}", form.without)
    };
    Evidence { check: "detail", ok: Some(!too_specific), says }
}

/// The shorter form that fits best.
fn fittest(shorter: &[Judged]) -> Option<&Judged> {
    shorter.iter().max_by(|a, b| a.relevance.total_cmp(&b.relevance).then(a.scored.sigma.total_cmp(&b.scored.sigma)))
}

fn next_step(verdict: Verdict, topic: Topic, query: &str, sight: &Sight, shorter: &[Judged]) -> String {
    match verdict {
        Verdict::TaskNotForClip => topic.way_out(query),
        Verdict::IndexStale => match Path::new(&sight.path).parent() {
            Some(folder) => format!("index_folder(folder: \"{}\"), then search again", folder.display()),
            None => "index_folder on its folder, then search again".into(),
        },
        Verdict::GoodMatch => "clip_search finds it; if it ranks low, others fit better still: raise top_k".into(),
        Verdict::QueryTooSpecific => match fittest(shorter) {
            Some(form) => format!(
                "clip_search(query: \"{}\"), then check \"{}\" by looking at the hits",
                form.scored.text, form.without
            ),
            None => "search with fewer details".into(),
        },
        Verdict::DomainFar => {
            "search by example instead of words: clip_search(image: ...); or compare with labelled images of the domain"
                .into()
        }
        Verdict::WeakMatch => "clip_search shows it behind better ones; min_relevance 0 lists all".into(),
        Verdict::NoMatch => match sight.nearest(1).first() {
            Some((text, _)) => format!("the model sees rather \"{text}\"; open the image, or ask in other words"),
            None => "open the image, or ask in other words".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, sigma: f32, relevance: f32) -> Judged {
        let scored = Scored { text: text.into(), vector: Vec::new(), cosine: 0.2, sigma };
        Judged { scored, without: "in the rain".into(), relevance }
    }

    #[test]
    fn a_detail_is_blamed_only_when_the_rest_fits_and_the_difference_is_no_noise() {
        let request = judged("a dog in the rain", 1.0, 0.1);
        let cases = [
            (vec![judged("a dog", 4.0, 0.9)], Some(false)),
            (vec![judged("a dog", 2.0, 0.6)], Some(true)),
            (vec![judged("a dog", 4.0, 0.3)], Some(true)),
            (vec![], None),
        ];
        for (shorter, ok) in cases {
            assert_eq!(detail_evidence(&request, &shorter).ok, ok);
        }
        let fits = judged("a dog in the rain", 4.0, 0.9);
        assert_eq!(detail_evidence(&fits, &[judged("a dog", 6.0, 0.95)]).ok, Some(true));
    }

    #[test]
    fn far_is_what_lies_far_below_enough_images() {
        let known: Vec<f32> = (0..200).map(|i| 0.2 + i as f32 * 0.0005).collect();
        assert_eq!(far(0.16, known.clone()).ok, Some(false));
        assert_eq!(far(0.25, known.clone()).ok, Some(true));
        assert_eq!(far(0.16, known[..19].to_vec()).ok, None);
        assert!(far(0.16, known.clone()).says.contains("0.250 in the median"));
        // A few far ones among the indexed do not hide another.
        assert_eq!(far(0.14, [known, vec![0.1; 20]].concat()).ok, Some(false));
    }
}
