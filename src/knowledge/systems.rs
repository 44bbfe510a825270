//! What to use where CLIP fails: our own tools first, then systems by other people.

use serde::Serialize;

use super::sources::{self, Source};
use super::tools;

/// What it takes to use a system with this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// This program does it now.
    RunsHere,
    /// This program does it once a file is downloaded.
    NeedsFile,
    /// Another program: read about it and run it elsewhere.
    Pointer,
}

impl Status {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::RunsHere => "runs_here",
            Self::NeedsFile => "needs_file",
            Self::Pointer => "pointer",
        }
    }
}

/// A tool of ours or a named system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct System {
    /// Its name in this table; of our tools the tool's name.
    pub id: &'static str,
    /// As people know it.
    pub name: &'static str,
    /// What it does about the limit, in one sentence without a full stop.
    pub does: &'static str,
    /// One of our tools.
    pub ours: bool,
    /// What has to be downloaded and from where; empty where nothing is published or needed.
    pub file: &'static str,
    /// Where to read about it.
    pub source: Option<&'static Source>,
}

impl System {
    /// What it takes today. `None` for a tool of ours that this build does not have: nobody must be sent to it.
    pub fn status(&self) -> Option<Status> {
        if self.ours {
            return tools::is_present(self.tool()).then_some(Status::RunsHere);
        }
        Some(if tools::LOADABLE.contains(&self.id) { Status::NeedsFile } else { Status::Pointer })
    }

    /// The MCP tool behind an entry of ours; `clip_search:minus` is one way to use `clip_search`.
    pub fn tool(&self) -> &'static str {
        self.id.split(':').next().unwrap_or(self.id)
    }
}

/// The system with this id.
pub fn find(id: &str) -> Option<&'static System> {
    ALL.iter().find(|system| system.id == id)
}

const fn ours(id: &'static str, name: &'static str, does: &'static str) -> System {
    System { id, name, does, ours: true, file: "", source: None }
}

const fn theirs(
    id: &'static str,
    name: &'static str,
    does: &'static str,
    file: &'static str,
    source: &'static Source,
) -> System {
    System { id, name, does, ours: false, file, source: Some(source) }
}

/// Every entry: ours, then the others by what they are for.
pub static ALL: &[System] = &[
    ours("detect_count", "detect_count", "finds each object with a box and counts them"),
    ours("spatial_relation", "spatial_relation", "finds both things and compares their boxes"),
    ours("match_captions", "match_captions", "checks a caption phrase by phrase: attributes, roles, negation"),
    ours("identify_image", "identify_image", "compares with labelled example images that you give"),
    ours("clip_search", "clip_search", "ranks by calibrated relevance instead of bare cosine"),
    ours(
        "clip_search:look",
        "clip_search",
        "narrows the folder down; then open the best hits (thumbnails: true) and look",
    ),
    ours("clip_search:minus", "clip_search", "`minus` pushes hits down that look like the excluded thing"),
    ours(
        "clip_search:image",
        "clip_search",
        "with an example `image` it finds pictures that look alike, whatever their name",
    ),
    ours("classify_image", "classify_image", "says which of your labels fits, with an honest \"none of these\""),
    ours("index_folder", "index_folder", "brings the index up to date with the files"),
    theirs(
        "larger_clip",
        "a larger CLIP or SigLIP",
        "knows more names; helps with fine kinds, not with counting or arrangement",
        "clip-aware models fetch clip-vit-l14",
        &sources::CLIP,
    ),
    theirs(
        "detr",
        "DETR",
        "detects objects of 80 everyday kinds with boxes to count and compare",
        "clip-aware models fetch detr-resnet-50",
        &sources::DETR,
    ),
    theirs(
        "faster_rcnn",
        "Faster R-CNN",
        "detects objects of 80 everyday kinds with boxes, in two stages",
        "torchvision, fasterrcnn_resnet50_fpn_v2",
        &sources::FASTER_RCNN,
    ),
    theirs(
        "dinov2",
        "DINOv2",
        "image vectors from pictures alone: fine visual likeness to labelled examples",
        "clip-aware models fetch dinov2-small",
        &sources::DINOV2,
    ),
    theirs(
        "resnet50",
        "ResNet-50",
        "names the thousand ImageNet classes, many dog breeds and birds among them",
        "clip-aware models fetch resnet-50",
        &sources::RESNET,
    ),
    theirs(
        "arcface",
        "ArcFace",
        "tells faces of different people apart on aligned 112x112 crops; most weights are for non-commercial use",
        "your own insightface checkpoint (IResNet), --identifier FILE; mind the licence",
        &sources::ARCFACE,
    ),
    theirs(
        "cosface",
        "CosFace",
        "tells faces of different people apart on aligned 112x112 crops; most weights are for non-commercial use",
        "your own insightface checkpoint (IResNet), --identifier FILE; mind the licence",
        &sources::COSFACE,
    ),
    theirs(
        "lxmert",
        "LXMERT",
        "answers questions on relations (trained for GQA among others): text and image attend to each other",
        "unc-nlp/lxmert-base-uncased on the Hugging Face hub",
        &sources::LXMERT,
    ),
    theirs(
        "mdetr",
        "MDETR",
        "finds what a sentence speaks of, phrase by phrase, and answers GQA questions",
        "the authors' repository, ashkamath/mdetr",
        &sources::MDETR,
    ),
    theirs(
        "vilt",
        "ViLT",
        "answers questions on a picture: text and image attend to each other, no detector needed",
        "dandelin/vilt-b32-finetuned-vqa on the Hugging Face hub",
        &sources::VILT,
    ),
    theirs(
        "swig",
        "SWiG / JSL",
        "names the verb of a scene and grounds who does what to whom",
        "the authors' repository, allenai/swig",
        &sources::SWIG,
    ),
    theirs(
        "dcsm",
        "DCSM",
        "scores the whole map of cosines between image patches and words instead of two single vectors",
        "the authors' repository, Raphoo/DCSM_Ideal_CLIP; then clip-aware match --dcsm FILE",
        &sources::IDEAL,
    ),
    theirs(
        "pc_clip",
        "PC-CLIP",
        "CLIP fine-tuned on descriptions of how two images differ",
        "the authors' repository, dsam99/pc_clip; then clip-aware --model FILE",
        &sources::PC_CLIP,
    ),
    theirs(
        "negclip",
        "NegCLIP",
        "CLIP ViT-B/32 fine-tuned against captions with swapped words",
        "the authors' repository, mertyg/vision-language-models-are-bows; then clip-aware --model FILE",
        &sources::ARO,
    ),
    theirs(
        "splice",
        "SpLiCE",
        "writes a CLIP vector as a few named concepts, which shows what the model saw; no training",
        "",
        &sources::SPLICE,
    ),
    theirs(
        "domain_clip",
        "a CLIP of the domain",
        "BiomedCLIP for medicine, RemoteCLIP for satellite images: trained on captions of that world",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, chendelong/RemoteCLIP on the Hugging Face hub",
        &sources::BIOMED_CLIP,
    ),
    System {
        id: "ocr",
        name: "an OCR engine",
        does: "reads the words themselves: Tesseract, PaddleOCR, or a vision-language model that opens the image",
        ours: false,
        file: "",
        source: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_unique_and_complete() {
        for (at, system) in ALL.iter().enumerate() {
            assert!(ALL[..at].iter().all(|other| other.id != system.id), "{} is there twice", system.id);
            assert!(!system.does.is_empty() && !system.does.ends_with('.'), "{}", system.id);
            assert!(system.ours || system.source.is_some() || system.id == "ocr", "{} has no source", system.id);
        }
        for id in tools::LOADABLE {
            assert!(find(id).is_some_and(|system| !system.ours && !system.file.is_empty()), "{id}");
        }
    }

    #[test]
    fn a_tool_that_is_not_in_this_build_has_no_status() {
        for system in ALL.iter().filter(|system| system.ours) {
            assert_eq!(system.status().is_some(), tools::is_present(system.tool()), "{}", system.id);
        }
        assert_eq!(find("larger_clip").and_then(System::status), Some(Status::NeedsFile));
        assert_eq!(find("splice").and_then(System::status), Some(Status::Pointer));
    }
}
