//! The articles themselves.

use super::{Article, Example, Right, Topic};

/// What is known about a topic.
pub(super) fn of(topic: Topic) -> &'static Article {
    match topic {
        Topic::Counting => &COUNTING,
        Topic::FineGrained => &FINE_GRAINED,
        Topic::Spatial => &SPATIAL,
        Topic::Compositional => &COMPOSITIONAL,
        Topic::Negation => &NEGATION,
        Topic::TextReading => &TEXT_READING,
        Topic::Calibration => &CALIBRATION,
        Topic::DomainShift => &DOMAIN_SHIFT,
        Topic::Strengths => &STRENGTHS,
    }
}

const fn right(tool: &'static str, call: &'static str, outcome: &'static str) -> Right {
    Right { tool, example: Example { call, outcome } }
}

const fn example(call: &'static str, outcome: &'static str) -> Example {
    Example { call, outcome }
}

static COUNTING: Article = Article {
    topic: Topic::Counting,
    title: "CLIP does not count",
    what: "it knows what is there, not how many: \"three dogs\" and \"five dogs\" score alike",
    why: "Captions of the web seldom say a number, and where they do the right image can be told from the others in the \
          batch without it, so the contrastive loss gives no reason to count. The image is pooled into a single vector, \
          which adds up what is seen without keeping one from another. Small numbers leave a weak trace that the thing \
          itself drowns.",
    cues: &[
        "a number before a plural: \"three dogs\", \"4 chairs\"",
        "how many, count, number of, headcount, at least, exactly, fewer than",
        "only one, a pair, a dozen, alone",
    ],
    facts: &["countbench", "clevr-counts"],
    instead: &["detect_count", "clip_search:look", "detr", "faster_rcnn", "vilt"],
    wrong: example(
        "classify_image(images: [\"p.jpg\"], labels: [\"one dog\", \"two dogs\", \"three dogs\"])",
        "a confident number that is hardly better than a guess",
    ),
    right: &[
        right(
            "detect_count",
            "detect_count(images: [\"p.jpg\"], targets: [\"dog\"])",
            "one box for each dog, and their number",
        ),
        right(
            "clip_search",
            "clip_search(query: \"dogs\", thumbnails: true), then count in the pictures",
            "the pictures with dogs; the counting is done by who looks at them",
        ),
    ],
};

static FINE_GRAINED: Article = Article {
    topic: Topic::FineGrained,
    title: "CLIP is weak at fine kinds and blind to individuals",
    what: "car models, aircraft variants, rare species and persons are confused with their like",
    why: "The text side separates what captions separate: \"a bird on a branch\" is enough to match its image, so \
          differences that only experts name are learnt only where the web names them often (common dog breeds, yes; \
          aircraft variants, no). At 224 pixels in patches of 32 or 14, the detail that decides may fall inside one \
          patch. An individual without public pictures has no name in the model at all.",
    cues: &[
        "names of breeds, species, car or aircraft models",
        "names of persons, \"the same dog\", \"which of my cats\"",
        "exact type, variant, edition, model year",
    ],
    facts: &["aircraft", "cars-flowers", "coarse-kinds"],
    instead: &[
        "identify_image",
        "clip_search:image",
        "larger_clip",
        "dinov2",
        "resnet50",
        "arcface",
        "cosface",
        "pc_clip",
    ],
    wrong: example(
        "classify_image(images: [\"jet.jpg\"], labels: [\"A320\", \"A321\", \"737-700\", \"737-800\"])",
        "one of them with a high probability, more often wrong than right",
    ),
    right: &[
        right(
            "identify_image",
            "identify_image(image: \"jet.jpg\", gallery: \"types/\") with a subfolder of examples for each type",
            "the nearest labelled examples, or \"unknown\"",
        ),
        right(
            "clip_search",
            "clip_search(image: \"jet.jpg\", folder: \"labelled/\")",
            "the pictures that look most alike; their names are the candidates to compare by eye",
        ),
    ],
};

static SPATIAL: Article = Article {
    topic: Topic::Spatial,
    title: "CLIP does not see where things are",
    what: "\"the cup left of the laptop\" and \"the cup right of the laptop\" score alike",
    why: "Image and text each become a single vector; what is where in the picture is averaged away in it. Captions \
          seldom say left or right, and the viewer's and the object's left are mixed, so there is little to learn from. \
          Kang et al. prove that no space of this kind can hold content and spatial relations together.",
    cues: &[
        "left of, right of, above, below, under, on top of, between, in front of, behind",
        "in the upper corner, at the centre, at the edge",
        "closest, farthest, facing, next to",
    ],
    facts: &["vsr", "whatsup", "vsr-trained", "impossible", "clevr-distance"],
    instead: &["spatial_relation", "clip_search:look", "detr", "lxmert", "mdetr", "vilt", "swig", "dcsm"],
    wrong: example(
        "clip_search(query: \"cup to the left of a laptop\")",
        "pictures with cups and laptops in any arrangement, ranked as if it mattered",
    ),
    right: &[
        right(
            "spatial_relation",
            "spatial_relation(image: \"desk.jpg\", subject: \"cup\", object: \"laptop\")",
            "left of, with both boxes",
        ),
        right(
            "clip_search",
            "clip_search(query: \"a cup and a laptop on a desk\", thumbnails: true), then look where they are",
            "the pictures that hold both things; the arrangement is judged by who looks at them",
        ),
    ],
};

static COMPOSITIONAL: Article = Article {
    topic: Topic::Compositional,
    title: "CLIP does not bind attributes and roles",
    what: "\"a red car and a blue truck\" and \"a blue car and a red truck\" score alike; so do \"dog chases cat\" and \"cat chases dog\"",
    why: "The contrastive loss is met by a bag of words: among the other images of a batch, the right one is the one \
          with a car, a truck, red and blue in it, in whatever pairs. Each tower keeps some of the binding, but the cosine \
          between two pooled vectors does not compare it. Kang et al. prove that no such space can hold content and \
          attribute binding together. A wrong detail may even raise the score, since its words fit the scene.",
    cues: &[
        "two things with an attribute each: \"red car and blue truck\"",
        "who does what to whom: \"the dog chases the cat\", \"a woman giving a man a book\"",
        "captions that differ in the order of their words only",
    ],
    facts: &["half-truths", "impossible", "bag-of-words", "swap-is-hardest", "sugarcrepe", "fsc-clip"],
    instead: &["match_captions", "clip_search:look", "dcsm", "negclip", "pc_clip", "mdetr", "lxmert", "swig", "splice"],
    wrong: example(
        "classify_image(images: [\"p.jpg\"], labels: [\"red car and blue truck\", \"blue car and red truck\"])",
        "about half and half, or a confident guess",
    ),
    right: &[
        right(
            "match_captions",
            "match_captions(image: \"p.jpg\", captions: [\"red car and blue truck\", \"blue car and red truck\"])",
            "each phrase checked against the thing that it speaks of",
        ),
        right(
            "clip_search",
            "clip_search(query: \"a car and a truck, red and blue\", thumbnails: true), then look which is which",
            "the pictures with both; the binding is judged by who looks at them",
        ),
    ],
};

static NEGATION: Article = Article {
    topic: Topic::Negation,
    title: "CLIP ignores \"no\" and \"without\"",
    what: "\"a street without cars\" finds streets with cars",
    why: "Captions say what is in a picture, hardly ever what is not, so \"no\" and \"without\" are nearly unlearnt, while \
          the word behind them is well known and pulls its images up. In a space of cosines, \"not X\" would have to be far \
          from X and near everything else at once, which a single direction cannot be.",
    cues: &[
        "no, not, without, except, excluding, free of, missing",
        "isn't, aren't, doesn't, nobody, nothing, empty of",
        "names are none: \"no parking sign\", \"no-bake cake\"",
    ],
    facts: &["negbench", "negbench-tuned", "impossible"],
    instead: &["match_captions", "detect_count", "clip_search:minus", "clip_search:look", "dcsm"],
    wrong: example("clip_search(query: \"a street without cars\")", "streets, those with cars first among them"),
    right: &[right(
        "clip_search",
        "clip_search(query: \"a street\", minus: \"cars\")",
        "streets, those with cars pushed down; a soft exclusion: open the hits that must be sure",
    )],
};

static TEXT_READING: Article = Article {
    topic: Topic::TextReading,
    title: "CLIP does not read reliably",
    what: "it recognises that there is text, and a few frequent words; not what a plate, a receipt or a sign says",
    why: "Reading was never asked of it: it picked up the look of words that stand both in many images and in their \
          captions, such as logos. Letters are small against patches of 32 or 14 pixels at an input of 224, and their order \
          is lost in the pooled vector. What it does read can mislead it: a word in the picture may outvote the thing \
          itself.",
    cues: &[
        "says, reads, written, the word, in quotes",
        "license plate, serial number, wifi password, price, phone number, date on a receipt",
        "screenshots, documents, whiteboards asked for by their content",
    ],
    facts: &["digits", "rendered-text", "typographic"],
    instead: &["clip_search:look", "ocr"],
    wrong: example(
        "clip_search(query: \"receipt over 49.90 EUR\")",
        "receipts, in no useful order: the amount is not read",
    ),
    right: &[right(
        "clip_search",
        "clip_search(query: \"a receipt\", thumbnails: true), then OCR or open the hits",
        "the receipts; what they say is read by a tool that reads",
    )],
};

static CALIBRATION: Article = Article {
    topic: Topic::Calibration,
    title: "A cosine of 0.25 may be a hit",
    what: "a bare cosine says little: no fixed threshold separates hits from misses",
    why: "Image and text vectors lie in two narrow cones apart from each other (the modality gap), so the cosine of a \
          perfect match is far below 1 and the useful range is a few hundredths wide. Every image and every query has a \
          level of its own, and every model again: training fixes the order within a batch, never the scale. Here each \
          image is measured against neutral texts and each query against the collection; relevance from 0 to 1 is what \
          remains.",
    cues: &[
        "why is the similarity so low, is 0.25 good",
        "a fixed threshold, a percentage of match",
        "comparing cosines of different queries, images or models",
    ],
    facts: &["cosine-levels", "calibration-ap", "calibration-f1", "noise-margin", "image-cosines", "modality-gap"],
    instead: &["clip_search", "classify_image", "splice"],
    wrong: example("keep = cosine > 0.8", "nothing is kept: even what is plainly in the photo stays far below"),
    right: &[right(
        "clip_search",
        "clip_search(query: \"a dog\") and read `relevance`, not `score`",
        "0 to 1, comparable between queries; the default cut-off is calibrated",
    )],
};

static DOMAIN_SHIFT: Article = Article {
    topic: Topic::DomainShift,
    title: "CLIP is weak far from the pictures of the web",
    what: "X-rays, tissue, satellite tiles, microscopy, diagrams and sensor images are told apart poorly",
    why: "It learnt from pictures that people caption on the web; a domain whose pictures or words are rare there has \
          hardly a direction of its own. The scores of the words that matter then differ by no more than those of words that do \
          not. Prompts in the words of the domain help little where the words are rare \
          too.",
    cues: &[
        "X-ray, CT, histology, microscopy, satellite, radar, thermal, defect inspection",
        "technical drawings, charts, board layouts, game maps",
        "all results look arbitrary although the words are simple",
    ],
    facts: &["satellite-tissue", "imagenet-variants"],
    instead: &["identify_image", "clip_search:image", "dinov2", "domain_clip", "larger_clip"],
    wrong: example(
        "classify_image(images: [\"slide.png\"], labels: [\"tumour\", \"healthy tissue\"])",
        "an answer with a probability; on two classes little better than a coin",
    ),
    right: &[
        right(
            "identify_image",
            "identify_image(image: \"slide.png\", gallery: \"slides/\") with labelled examples of your own",
            "the nearest of your own examples, or \"unknown\"",
        ),
        right(
            "clip_search",
            "clip_search(image: \"slide.png\"): likeness between images of the domain itself",
            "the most alike slides; the words are left out of it",
        ),
    ],
};

static STRENGTHS: Article = Article {
    topic: Topic::Strengths,
    title: "What CLIP is good at",
    what: "it finds and sorts pictures by what they show as a whole: things, scenes, activities, styles, moods",
    why: "Trained on hundreds of millions of images with captions, it knows what most nouns, places, activities and styles \
          look like, without any example of yours. One vector per image makes a search over many thousands of pictures \
          instant. What a caption of a few words would say, it knows; what needs a second look, it does not.",
    cues: &[
        "a dog in the snow, sunset over the sea, people at a table",
        "photos like this one",
        "which of these kinds is it: beach, city, forest",
    ],
    facts: &["zero-shot-coco", "retrieval-coco", "coarse-kinds"],
    instead: &["clip_search", "classify_image", "index_folder"],
    wrong: example(
        "clip_search(query: \"IMG_2041 from my trip, the good one\")",
        "names, dates and opinions are not in the pixels",
    ),
    right: &[right(
        "clip_search",
        "clip_search(query: \"a dog running in the snow\")",
        "ranked pictures with a relevance from 0 to 1",
    )],
};
