//! From cosines to relevance: how much more a query fits an image than neutral texts do.
//!
//! A bare cosine means little: each image has its own level and spread, each query too, each model again (`OpenAI`
//! ViT-B/32: texts that are true of a photo 0.18 to 0.29, texts that are not 0.16 to 0.23). Three steps make scores
//! comparable, and all constants here act after the first, so they carry over to models with other cosine scales:
//!
//! 1. [`ImageCalibration`]: subtract the image's mean and divide by its standard deviation over the null texts.
//! 2. [`QueryCalibration`]: correct for the level and spread of the query over the collection. Empirical Bayes: both
//!    are shrunk to a prior, since a query that fits many images has a high mean for a good reason, and since
//!    a handful of images says nothing about either.
//! 3. [`relevance`]: a logistic fit of "the image shows it".
//!
//! Constants: fit on 126 labelled COCO photos x 71 categories, vectors of `OpenAI` ViT-B/32, LVIS names as null texts;
//! `tests/it/ranking.rs` measures them. Ten-fold over photos: pooled average precision 0.481 (bare cosine 0.401,
//! both steps without shrinkage 0.470), predicted and observed relevance agree within 0.05 up to 0.5.
//! Over 10 random photos: 0.471, without shrinkage 0.364; over a single one: 0.47.

/// Neutral texts, one per line; see [`null_texts`].
const NULL_TEXTS: &str = include_str!("../../assets/null_texts.txt");

/// Spread of a query's image-normalised scores over photos: median over queries.
const PRIOR_SPREAD: f32 = 0.86;
/// Photos after which the data weigh as much as the prior.
const PRIOR_PHOTOS: f32 = 30.0;
/// Share of a query's mean that is taken for its own bias; the rest is signal.
const LEVEL_SHARE: f32 = 0.5;
/// The most that the level correction can reach, so that "dog" over nothing but dogs keeps its meaning.
const LEVEL_LIMIT: f32 = 1.0;
/// Exponent of the measured spread against the prior's.
const SPREAD_SHARE: f32 = 0.75;
/// Slope and intercept of the logistic.
const SLOPE: f32 = 1.356;
const INTERCEPT: f32 = -4.204;

/// Median cosine of two different photos, and its spread as a share of the distance to 1.
const PRIOR_IMAGE_COSINE: f32 = 0.47;
const PRIOR_IMAGE_SPREAD: f32 = 0.16;
/// Images after which their mean cosine with a query image weighs as much as the prior.
const PRIOR_IMAGES: f32 = 10.0;
/// Cosines from here on are the same picture, and tell nothing about the level of different ones.
pub const NEAR_DUPLICATE_COSINE: f32 = 0.97;

/// Bits in which the difference hashes of one picture, rescaled or recompressed, may differ; of 64.
const SAME_LOOK_BITS: u32 = 10;

/// Whether two pictures are the same but for scale and compression. The model alone cannot say: to a small one every
/// red circle is the same, so what the pixels look like must agree too.
pub fn same_picture(cosine: f32, look: u64, other_look: u64) -> bool {
    cosine >= NEAR_DUPLICATE_COSINE && (look ^ other_look).count_ones() <= SAME_LOOK_BITS
}

/// Spread below this is numerical noise: a model that knows none of the null texts.
const LEAST_SPREAD: f32 = 1e-3;

/// Relevance under which a result is left out when the caller names no other limit.
///
/// F1 on the photos named above is 0.46, 0.48, 0.48, 0.49, 0.47 at 0.15, 0.2, 0.25, 0.3, 0.4; the lower end of the best, since
/// a missed image is a worse answer than one too many in a ranked list.
pub const DEFAULT_MIN_RELEVANCE: f32 = 0.2;

/// Probability of "none of these" from which a classification names no label.
///
/// Higher than one half: a wrongly withheld label is a worse answer than a doubtful one with its probability beside it. On
/// the photos named above, with 1, 5 and 20 labels, it keeps 0.92, 0.90, 0.92 of the right labels and notices 0.61, 0.42,
/// 0.24 of the trials without one; at 0.5 it would be 0.74, 0.68, 0.65 and 0.91, 0.84, 0.73.
pub const NONE_OF_THESE_CUTOFF: f32 = 0.8;

/// The neutral texts against which images are calibrated: objects, scenes, activities, textures, documents.
///
/// Pooled average precision with 50, 100, 200, 400, 1203 of the LVIS names: 0.471, 0.479, 0.482, 0.484, 0.485
/// (standard deviation over draws 0.010, 0.007, 0.005, 0.003, 0); about 500 are enough.
pub fn null_texts() -> Vec<String> {
    NULL_TEXTS.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Names a list of null texts, so that a changed list is noticed.
pub fn null_fingerprint(texts: &[String]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(text.as_bytes());
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Drops null vectors that equal an earlier one: texts that a small vocabulary cannot tell apart would count many times.
pub fn distinct_nulls(vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    const SAME: f32 = 0.999_99;
    let mut kept: Vec<Vec<f32>> = Vec::with_capacity(vectors.len());
    for vector in vectors {
        if !kept.iter().any(|other| dot(other, &vector) > SAME) {
            kept.push(vector);
        }
    }
    kept
}

/// Level and spread of one image's cosines over the null texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageCalibration {
    /// Mean cosine.
    pub mean: f32,
    /// Standard deviation of the cosines, never zero.
    pub spread: f32,
}

impl ImageCalibration {
    /// Measures an image. Shapes: `image` `[dim]`, each of `nulls` `[dim]`, all of unit length.
    pub fn measure(image: &[f32], nulls: &[Vec<f32>]) -> Self {
        let cosines: Vec<f32> = nulls.iter().map(|null| dot(image, null)).collect();
        let (mean, spread) = mean_and_spread(&cosines);
        Self { mean, spread: spread.max(LEAST_SPREAD) }
    }

    /// Standard deviations that a cosine lies above what neutral texts reach on this image.
    pub fn normalise(&self, cosine: f32) -> f32 {
        (cosine - self.mean) / self.spread
    }
}

/// Level and spread of one query over a collection: what a score is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryCalibration {
    level: f32,
    spread: f32,
}

impl QueryCalibration {
    /// For a text query, from its image-normalised scores ([`ImageCalibration::normalise`]) over the whole collection,
    /// which may be empty.
    pub fn for_text(normalised: &[f32]) -> Self {
        Self::for_text_moments(Moments::of(normalised))
    }

    /// As [`QueryCalibration::for_text`].
    pub fn for_text_moments(normalised: Moments) -> Self {
        let count = normalised.count as f32;
        let weight = count / (count + PRIOR_PHOTOS);
        let level = LEVEL_LIMIT * (LEVEL_SHARE * weight * normalised.mean() / LEVEL_LIMIT).tanh();
        let exponent = SPREAD_SHARE * weight;
        let spread = PRIOR_SPREAD.powf(1.0 - exponent) * normalised.spread().clamp(0.3, 3.0).powf(exponent);
        Self { level, spread }
    }

    /// For an image query, from its cosines with the whole collection; copies of the query among them do not count.
    ///
    /// Different photos have cosines around 0.47, copies of one at least 0.998 (`OpenAI` ViT-B/32). The level is learnt from
    /// the collection, the spread follows from it, so that models which press all photos together get the same scale.
    pub fn for_image(cosines: &[f32]) -> Self {
        Self::for_image_moments(Moments::below(cosines, NEAR_DUPLICATE_COSINE))
    }

    /// As [`QueryCalibration::for_image`], from the cosines below [`NEAR_DUPLICATE_COSINE`].
    pub fn for_image_moments(others: Moments) -> Self {
        let count = others.count as f32;
        let level = (count * others.mean() + PRIOR_IMAGES * PRIOR_IMAGE_COSINE) / (count + PRIOR_IMAGES);
        Self { level, spread: (PRIOR_IMAGE_SPREAD * (1.0 - level)).max(LEAST_SPREAD) }
    }

    /// The score of an image that the query does not speak of.
    pub fn level(&self) -> f32 {
        self.level
    }

    /// Standard deviation of the query's scores, never zero.
    pub fn spread(&self) -> f32 {
        self.spread
    }

    /// A score in units of the query's spread; 0 is an image that the query does not speak of.
    pub fn standardise(&self, score: f32) -> f32 {
        (score - self.level) / self.spread
    }
}

/// Probability in `[0, 1]` that the image shows what was asked, from [`QueryCalibration::standardise`].
pub fn relevance(standardised: f32) -> f32 {
    sigmoid(SLOPE * standardised + INTERCEPT)
}

/// What one image says about a list of labels.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelScores {
    /// Softmax over the labels, or each label's own sigmoid; in the order of the labels.
    pub probabilities: Vec<f32>,
    /// The label with the highest cosine; `None` without labels.
    pub best: Option<usize>,
    /// Probability that none of the labels fits, from the null texts; `None` without a calibration.
    pub none_of_these: Option<f32>,
}

/// How a model turns cosines into probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LabelScoring {
    /// `softmax(scale * cosine)` over the labels.
    Softmax {
        /// `exp(logit_scale)`.
        scale: f32,
    },
    /// `sigmoid(scale * cosine + bias)` for each label.
    Sigmoid {
        /// `exp(logit_scale)`.
        scale: f32,
        /// `logit_bias`.
        bias: f32,
    },
}

/// Zero-shot classification of one image from its cosines with the labels' texts.
///
/// A softmax always names a winner; "none of these" asks instead whether the winner beats neutral texts by as much as
/// a label that is in the photo does ([`none_of_these`]).
pub fn classify(cosines: &[f32], scoring: LabelScoring, image: Option<&ImageCalibration>) -> LabelScores {
    let best = cosines.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0))).map(|(i, _)| i);
    let probabilities = match scoring {
        LabelScoring::Softmax { scale } => softmax(cosines, scale),
        LabelScoring::Sigmoid { scale, bias } => cosines.iter().map(|c| sigmoid(scale * c + bias)).collect(),
    };
    let top = best.and_then(|index| cosines.get(index));
    let none_of_these = image.zip(top).map(|(image, top)| none_of_these(image.normalise(*top), cosines.len()));
    LabelScores { probabilities, best, none_of_these }
}

/// Probability that no label fits, from the image-normalised score of the best one.
///
/// The best of many wrong labels scores higher than a single wrong one, so the limit grows with the logarithm of their
/// number. Measured on the photos named above, half of the trials with one label that is in the photo and half
/// without any; precision and recall of "none", and share of the answerable trials kept: 1 label 0.78, 0.91, 0.74;
/// 5 labels 0.72, 0.84, 0.67; 20 labels 0.68, 0.75, 0.64. Right labels that are rejected are mostly small things.
pub fn none_of_these(best: f32, labels: usize) -> f32 {
    const ONE_LABEL: f32 = 1.0;
    const PER_LOG_LABEL: f32 = 0.35;
    const STEEPNESS: f32 = SLOPE / PRIOR_SPREAD;
    let limit = ONE_LABEL + PER_LOG_LABEL * (labels.max(1) as f32).ln();
    sigmoid(STEEPNESS * (limit - best))
}

fn softmax(cosines: &[f32], scale: f32) -> Vec<f32> {
    let most = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = cosines.iter().map(|cosine| (scale * (cosine - most)).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Mean and population standard deviation; zeros for nothing.
fn mean_and_spread(values: &[f32]) -> (f32, f32) {
    let moments = Moments::of(values);
    (moments.mean(), moments.spread())
}

/// Number, sum and sum of squares of some scores: what their mean and spread are made of, piece by piece.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    /// Of all values.
    pub fn of(values: &[f32]) -> Self {
        Self::below(values, f32::INFINITY)
    }

    /// Of the values below a limit.
    pub fn below(values: &[f32], limit: f32) -> Self {
        // f64: a million squares lose digits in f32. Lanes: the compiler turns them into vector instructions.
        const LANES: usize = 8;
        let (mut counts, mut sums, mut squares) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let mut add = |values: &[f32; LANES], limit: f32| {
            for lane in 0..LANES {
                let (kept, one) = if values[lane] < limit { (f64::from(values[lane]), 1.0) } else { (0.0, 0.0) };
                counts[lane] += one;
                sums[lane] += kept;
                squares[lane] += kept * kept;
            }
        };
        let (whole, rest) = values.as_chunks::<LANES>();
        for values in whole {
            add(values, limit);
        }
        let mut last = [f32::INFINITY; LANES];
        for (slot, value) in last.iter_mut().zip(rest) {
            *slot = *value;
        }
        add(&last, limit);
        Self { count: counts.iter().sum(), sum: sums.iter().sum(), squares: squares.iter().sum() }
    }

    fn mean(&self) -> f32 {
        (self.sum / self.count.max(1.0)) as f32
    }

    fn spread(&self) -> f32 {
        let count = self.count.max(1.0);
        (self.squares / count - (self.sum / count).powi(2)).max(0.0).sqrt() as f32
    }
}

impl std::iter::Sum for Moments {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            count: a.count + b.count,
            sum: a.sum + b.sum,
            squares: a.squares + b.squares,
        })
    }
}

/// Inner product; of unit vectors, their cosine. Shapes: `[dim]`, `[dim]`.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Sixteen partial sums let the compiler use vector registers; a single one fixes the order of additions.
    const LANES: usize = 16;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests;
