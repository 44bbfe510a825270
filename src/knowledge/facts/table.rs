//! The rows, by topic; within a topic the most telling one first.

use super::{Fact, Provenance, Unit, Value};
use crate::knowledge::sources::{self, Source};
use crate::knowledge::topics::Topic;

const fn v(of: &'static str, value: f64) -> Value {
    Value { of, value }
}

const fn read(
    id: &'static str,
    topic: Topic,
    statement: &'static str,
    values: &'static [Value],
    unit: Unit,
    measured_on: &'static str,
    source: &'static Source,
) -> Fact {
    Fact { id, topic, statement, values, unit, measured_on, source, provenance: Provenance::Read }
}

const fn measured(
    id: &'static str,
    topic: Topic,
    statement: &'static str,
    values: &'static [Value],
    unit: Unit,
) -> Fact {
    const ON: &str = "128 COCO photos, OpenAI ViT-B/32";
    let source = &sources::MEASURED;
    Fact { id, topic, statement, values, unit, measured_on: ON, source, provenance: Provenance::Measured }
}

use Topic::{
    Calibration, Compositional, Counting, DomainShift, FineGrained, Negation, Spatial, Strengths, TextReading,
};
use Unit::{AveragePrecision, Cosine, F1, Percent, PercentagePoints};

/// Every fact.
pub static ALL: &[Fact] = &[
    read(
        "countbench",
        Counting,
        "CLIP ViT-B/32 picks the right count in 31.67 % of CountBench; trained with a counting loss it reaches about 75 %",
        &[v("CLIP ViT-B/32", 31.67), v("with a counting loss", 75.0)],
        Percent,
        "CountBench, two to ten objects",
        &sources::COUNTBENCH,
    ),
    read(
        "clevr-counts",
        Counting,
        "a larger model does not count better: on CLEVR counts OpenAI ViT-B/32 gets 23.2 % right, ViT-L/14 19.43 %",
        &[v("OpenAI ViT-B/32", 23.2), v("OpenAI ViT-L/14", 19.43)],
        Percent,
        "CLEVR counts, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "aircraft",
        FineGrained,
        "OpenAI ViT-B/32 names the aircraft variant in 19.53 % of FGVC Aircraft, ViT-L/14 in 31.81 %",
        &[v("OpenAI ViT-B/32", 19.53), v("OpenAI ViT-L/14", 31.81)],
        Percent,
        "FGVC Aircraft, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "cars-flowers",
        FineGrained,
        "car models (Stanford Cars) 59.63 % with ViT-B/32 and 77.88 % with ViT-L/14; flower species (Oxford Flowers) 66.7 % and 79.23 %",
        &[
            v("Cars, OpenAI ViT-B/32", 59.63),
            v("Cars, OpenAI ViT-L/14", 77.88),
            v("Flowers, OpenAI ViT-B/32", 66.7),
            v("Flowers, OpenAI ViT-L/14", 79.23),
        ],
        Percent,
        "Stanford Cars, Oxford Flowers-102, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "vsr",
        Spatial,
        "judging whether a spatial sentence is true, frozen CLIP gets 56 % (54.5 % on unseen concepts) where guessing gives 50 % and people reach 95.4 %",
        &[v("CLIP, frozen", 56.0), v("CLIP, frozen, zero-shot split", 54.5), v("guessing", 50.0), v("human", 95.4)],
        Percent,
        "VSR, random split",
        &sources::VSR,
    ),
    read(
        "vsr-trained",
        Spatial,
        "trained for it, models that look at both modalities together do better: ViLT 69.3 % and LXMERT 70.1 %, fine-tuned CLIP 65.1 %; on unseen concepts ViLT 63 % and LXMERT 61.2 %",
        &[
            v("ViLT", 69.3),
            v("LXMERT", 70.1),
            v("CLIP, fine-tuned", 65.1),
            v("ViLT, zero-shot split", 63.0),
            v("LXMERT, zero-shot split", 61.2),
        ],
        Percent,
        "VSR",
        &sources::VSR,
    ),
    read(
        "whatsup",
        Spatial,
        "all 18 vision-language models tested do poorly on photos that differ in the arrangement only: BLIP fine-tuned for question answering gets 56 %, people 99 %",
        &[v("models tested", 18.0), v("BLIP, VQAv2", 56.0), v("human", 99.0)],
        Percent,
        "What'sUp, COCO-spatial, GQA-spatial",
        &sources::WHATSUP,
    ),
    read(
        "clevr-distance",
        Spatial,
        "asked how far the nearest object is, OpenAI ViT-B/32 is right in 23.35 % (CLEVR distance)",
        &[v("OpenAI ViT-B/32", 23.35)],
        Percent,
        "CLEVR distance, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "impossible",
        Compositional,
        "proof: no space in which a unit vector per image meets a unit vector per text by cosine can represent content together with any one of attribute binding, spatial relations or negation",
        &[],
        Unit::None,
        "a proof about CLIP-like joint spaces",
        &sources::IDEAL,
    ),
    read(
        "half-truths",
        Compositional,
        "with a plausible but wrong detail added, CLIP still prefers the correct shorter caption in only 40.6 % of the cases, 32.9 % when the detail is a relation; a fine-tuned CS-CLIP reaches 69.3 %",
        &[v("CLIP", 40.6), v("CLIP, relations", 32.9), v("CS-CLIP", 69.3)],
        Percent,
        "COCO captions",
        &sources::HALF_TRUTHS,
    ),
    read(
        "bag-of-words",
        Compositional,
        "each tower by itself still knows which attribute belongs to which thing; the cosine between the towers loses it",
        &[],
        Unit::None,
        "linear probes on CLIP's text and image vectors",
        &sources::BAG_OF_WORDS,
    ),
    read(
        "sugarcrepe",
        Compositional,
        "fine-tuned against swapped captions, FSC-CLIP reaches 85.1 % (ViT-B/32) and 86.1 % (ViT-L/14) on SugarCrepe",
        &[v("FSC-CLIP ViT-B/32", 85.1), v("FSC-CLIP ViT-L/14", 86.1)],
        Percent,
        "SugarCrepe",
        &sources::FSC_CLIP,
    ),
    read(
        "fsc-clip",
        Compositional,
        "the same FSC-CLIP ViT-B/32 is uneven elsewhere: ARO 85.1 %, VALSE 75.3 %, What'sUp 40.6 %, SPEC 34.2 %, EqBen 29.8 %",
        &[v("ARO", 85.1), v("VALSE", 75.3), v("What'sUp", 40.6), v("SPEC", 34.2), v("EqBen", 29.8)],
        Percent,
        "FSC-CLIP ViT-B/32 fine-tuned on COCO",
        &sources::FSC_CLIP,
    ),
    read(
        "swap-is-hardest",
        Compositional,
        "of replaced, added and swapped words, models are weakest at swapped ones: same words, other roles",
        &[],
        Unit::None,
        "SugarCrepe",
        &sources::SUGARCREPE,
    ),
    read(
        "negbench",
        Negation,
        "on negated captions models often perform at chance",
        &[],
        Unit::None,
        "NegBench, 18 task variations",
        &sources::NEGBENCH,
    ),
    read(
        "negbench-tuned",
        Negation,
        "fine-tuned on millions of negated captions, CLIP gains 10 points of recall and 28 points on multiple choice",
        &[v("recall on negated queries", 10.0), v("multiple choice", 28.0)],
        PercentagePoints,
        "NegBench",
        &sources::NEGBENCH,
    ),
    read(
        "digits",
        TextReading,
        "OpenAI ViT-B/32 reads single handwritten digits (MNIST) with 48.39 % and house numbers (SVHN) with 31.59 %; ViT-L/14 76.34 % and 58.4 %",
        &[
            v("MNIST, OpenAI ViT-B/32", 48.39),
            v("SVHN, OpenAI ViT-B/32", 31.59),
            v("MNIST, OpenAI ViT-L/14", 76.34),
            v("SVHN, OpenAI ViT-L/14", 58.4),
        ],
        Percent,
        "MNIST, SVHN, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "rendered-text",
        TextReading,
        "whether a rendered sentence is kind or unkind: ViT-B/32 58.65 %, where guessing gives 50 %",
        &[v("OpenAI ViT-B/32", 58.65), v("guessing", 50.0)],
        Percent,
        "Rendered SST2, two classes, zero-shot",
        &sources::OPEN_CLIP,
    ),
    read(
        "typographic",
        TextReading,
        "a written word can outvote the picture: an apple with a note that names another thing is taken for that thing",
        &[],
        Unit::None,
        "typographic attacks on CLIP",
        &sources::TYPOGRAPHIC,
    ),
    measured(
        "cosine-levels",
        Calibration,
        "cosine of a photo and a class that is in it: median 0.223, 5 to 95 % of the cases 0.181 to 0.287; of one that is not: median 0.189, 0.157 to 0.225",
        &[
            v("present, median", 0.223),
            v("present, 5 %", 0.181),
            v("present, 95 %", 0.287),
            v("absent, median", 0.189),
            v("absent, 5 %", 0.157),
            v("absent, 95 %", 0.225),
        ],
        Cosine,
    ),
    measured(
        "calibration-ap",
        Calibration,
        "normalising each image over neutral texts and each query over the collection raises pooled average precision from 0.401 to 0.47",
        &[v("bare cosine", 0.401), v("normalised", 0.47)],
        AveragePrecision,
    ),
    measured(
        "calibration-f1",
        Calibration,
        "the best single threshold reaches F1 0.419 on bare cosines and 0.497 on normalised scores",
        &[v("bare cosine", 0.419), v("normalised", 0.497)],
        F1,
    ),
    measured(
        "image-cosines",
        Calibration,
        "two images are on another scale than an image and a text: different photos have a median cosine of 0.47, 99 % lie below 0.707, the most is 0.888; copies of one photo have 0.998 and more",
        &[
            v("different photos, median", 0.47),
            v("different photos, 99 %", 0.707),
            v("different photos, most", 0.888),
            v("copies, least", 0.998),
        ],
        Cosine,
    ),
    read(
        "modality-gap",
        Calibration,
        "images and texts lie in two narrow cones apart from each other, so even a perfect match has a low cosine",
        &[],
        Unit::None,
        "CLIP and other two-tower models",
        &sources::MODALITY_GAP,
    ),
    read(
        "satellite-tissue",
        DomainShift,
        "OpenAI ViT-B/32 gets 50.44 % of ten kinds of satellite tiles (EuroSAT) and 62.24 % of tumour or not in tissue (PatchCamelyon, where guessing gives 50 %)",
        &[v("EuroSAT", 50.44), v("PatchCamelyon", 62.24), v("PatchCamelyon, guessing", 50.0)],
        Percent,
        "EuroSAT, PatchCamelyon, zero-shot, OpenAI ViT-B/32",
        &sources::OPEN_CLIP,
    ),
    read(
        "imagenet-variants",
        DomainShift,
        "the same thousand classes, other pictures: ImageNet 63.32 %, drawings (ImageNet Sketch) 42.29 %, hard photos (ImageNet-A) 31.55 %",
        &[v("ImageNet", 63.32), v("ImageNet Sketch", 42.29), v("ImageNet-A", 31.55)],
        Percent,
        "ImageNet and variants, zero-shot, OpenAI ViT-B/32",
        &sources::OPEN_CLIP,
    ),
    measured(
        "zero-shot-coco",
        Strengths,
        "asked for one of the COCO classes, the first answer is in the photo for 84.7 % of the photos, one of the first five for 99.2 %",
        &[v("first answer", 84.7), v("one of five", 99.2)],
        Percent,
    ),
    measured(
        "retrieval-coco",
        Strengths,
        "searching the photos by class name: mean average precision 0.556, where random order gives 0.058",
        &[v("CLIP", 0.556), v("random order", 0.058)],
        AveragePrecision,
    ),
    read(
        "coarse-kinds",
        Strengths,
        "kinds of things, zero-shot, OpenAI ViT-B/32: STL-10 97.13 %, CIFAR-10 89.83 %, 37 breeds of cats and dogs (Oxford-IIIT Pet) 87 %, dishes (Food-101) 84 %, everyday things from six regions (GeoDE) 82.17 %",
        &[v("STL-10", 97.13), v("CIFAR-10", 89.83), v("Oxford-IIIT Pet", 87.0), v("Food-101", 84.0), v("GeoDE", 82.17)],
        Percent,
        "zero-shot, OpenAI ViT-B/32",
        &sources::OPEN_CLIP,
    ),
];
