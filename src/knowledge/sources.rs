//! Where numbers and claims come from; every fact and every named system points at one of these.

use serde::Serialize;

/// A paper, a published table, or a measurement of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Title of the paper, or what the table is.
    pub title: &'static str,
    /// First author, or who publishes it.
    pub authors: &'static str,
    /// Where it appeared; empty where only the preprint is known.
    pub venue: &'static str,
    /// Year of publication.
    pub year: u16,
    /// Address; a path inside this repository for measurements of this project.
    pub url: &'static str,
}

impl Source {
    /// `Paiss et al. 2023, arXiv 2302.12066`: short enough for a note.
    pub fn short(&self) -> String {
        if let Some(number) = self.url.strip_prefix("https://arxiv.org/abs/") {
            return format!("{} {}, arXiv {number}", self.authors, self.year);
        }
        // A file of a repository by its path there.
        let place = self.url.split_once("/blob/main/").map_or(self.url, |(_, file)| file);
        format!("{} {}, {}", self.authors, self.year, place.trim_start_matches("https://"))
    }

    /// A link in Markdown; for a measurement of this project the file that repeats it.
    pub fn markdown(&self) -> String {
        if self.url.starts_with("https://arxiv.org/") {
            format!("[{}]({})", self.short(), self.url)
        } else if self.url.starts_with("https://") {
            format!("[{} {}]({})", self.authors, self.year, self.url)
        } else {
            format!("measured by this project, `{}`", self.url)
        }
    }
}

const fn arxiv(
    title: &'static str,
    authors: &'static str,
    venue: &'static str,
    year: u16,
    url: &'static str,
) -> Source {
    Source { title, authors, venue, year, url }
}

macro_rules! sources {
    ($($name:ident = $title:literal, $authors:literal, $venue:literal, $year:literal, $url:literal;)*) => {
        $(#[doc = concat!("`", $title, "`")]
        pub static $name: Source = arxiv($title, $authors, $venue, $year, $url);)*
        /// All sources, in the order of this file.
        pub fn all() -> &'static [&'static Source] {
            static ALL: &[&Source] = &[$(&$name),*];
            ALL
        }
    };
}

sources! {
    CLIP = "Learning Transferable Visual Models From Natural Language Supervision", "Radford et al.", "ICML", 2021,
        "https://arxiv.org/abs/2103.00020";
    COUNTBENCH = "Teaching CLIP to Count to Ten", "Paiss et al.", "ICCV", 2023, "https://arxiv.org/abs/2302.12066";
    HALF_TRUTHS = "Half-Truths Break Similarity-Based Retrieval", "Kargi et al.", "", 2026,
        "https://arxiv.org/abs/2602.23906";
    VSR = "Visual Spatial Reasoning", "Liu et al.", "TACL", 2023,
        "https://github.com/cambridgeltl/visual-spatial-reasoning";
    WHATSUP = "What's \"up\" with vision-language models? Investigating their struggle with spatial reasoning",
        "Kamath et al.", "EMNLP", 2023, "https://arxiv.org/abs/2310.19785";
    NEGBENCH = "Vision-Language Models Do Not Understand Negation", "Alhamoud et al.", "CVPR", 2025,
        "https://arxiv.org/abs/2501.09425";
    IDEAL = "Is CLIP ideal? No. Can we fix it? Yes!", "Kang et al.", "ICCV", 2025, "https://arxiv.org/abs/2503.08723";
    ARO = "When and why vision-language models behave like bags-of-words, and what to do about it?",
        "Yuksekgonul et al.", "ICLR", 2023, "https://arxiv.org/abs/2210.01936";
    BAG_OF_WORDS = "CLIP Behaves like a Bag-of-Words Model Cross-modally but not Uni-modally", "Koishigarina et al.",
        "ICLR", 2026, "https://arxiv.org/abs/2502.03566";
    FSC_CLIP = "FSC-CLIP, extended results (Preserving Multi-Modal Capabilities of Pre-trained VLMs for Improving Vision-Linguistic Compositionality)",
        "Oh et al.", "EMNLP", 2024, "https://github.com/ytaek-oh/fsc-clip";
    SUGARCREPE = "SugarCrepe: Fixing Hackable Benchmarks for Vision-Language Compositionality", "Hsieh et al.",
        "NeurIPS", 2023, "https://github.com/RAIVNLab/sugar-crepe";
    MODALITY_GAP = "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive Representation Learning",
        "Liang et al.", "NeurIPS", 2022, "https://arxiv.org/abs/2203.02053";
    TYPOGRAPHIC = "Multimodal Neurons in Artificial Neural Networks", "Goh et al.", "Distill", 2021,
        "https://distill.pub/2021/multimodal-neurons";
    OPEN_CLIP = "open_clip, zero-shot results on 35 data sets", "open_clip", "", 2024,
        "https://github.com/mlfoundations/open_clip/blob/main/docs/openclip_classification_results.csv";
    MEASURED = "OpenAI ViT-B/32 on 128 COCO photos, real vectors", "clip-aware", "", 2026, "tests/it/ranking.rs";
    DETR = "End-to-End Object Detection with Transformers", "Carion et al.", "ECCV", 2020,
        "https://arxiv.org/abs/2005.12872";
    FASTER_RCNN = "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", "Ren et al.",
        "NeurIPS", 2015, "https://arxiv.org/abs/1506.01497";
    DINOV2 = "DINOv2: Learning Robust Visual Features without Supervision", "Oquab et al.", "TMLR", 2024,
        "https://arxiv.org/abs/2304.07193";
    RESNET = "Deep Residual Learning for Image Recognition", "He et al.", "CVPR", 2016,
        "https://arxiv.org/abs/1512.03385";
    ARCFACE = "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", "Deng et al.", "CVPR", 2019,
        "https://arxiv.org/abs/1801.07698";
    COSFACE = "CosFace: Large Margin Cosine Loss for Deep Face Recognition", "Wang et al.", "CVPR", 2018,
        "https://arxiv.org/abs/1801.09414";
    LXMERT = "LXMERT: Learning Cross-Modality Encoder Representations from Transformers", "Tan and Bansal", "EMNLP",
        2019, "https://arxiv.org/abs/1908.07490";
    MDETR = "MDETR: Modulated Detection for End-to-End Multi-Modal Understanding", "Kamath et al.", "ICCV", 2021,
        "https://arxiv.org/abs/2104.12763";
    VILT = "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision", "Kim et al.", "ICML",
        2021, "https://arxiv.org/abs/2102.03334";
    GQA = "GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question Answering",
        "Hudson and Manning", "CVPR", 2019, "https://arxiv.org/abs/1902.09506";
    SWIG = "Grounded Situation Recognition", "Pratt et al.", "ECCV", 2020, "https://arxiv.org/abs/2003.12058";
    PC_CLIP = "Finetuning CLIP to Reason about Pairwise Differences", "Sam et al.", "TMLR", 2025,
        "https://arxiv.org/abs/2409.09721";
    SPLICE = "Interpreting CLIP with Sparse Linear Concept Embeddings (SpLiCE)", "Bhalla et al.", "NeurIPS", 2024,
        "https://arxiv.org/abs/2402.10376";
    BIOMED_CLIP = "BiomedCLIP: a multimodal biomedical foundation model pretrained from fifteen million scientific image-text pairs",
        "Zhang et al.", "", 2023, "https://arxiv.org/abs/2303.00915";
    REMOTE_CLIP = "RemoteCLIP: A Vision Language Foundation Model for Remote Sensing", "Liu et al.", "", 2023,
        "https://arxiv.org/abs/2306.11029";
    COCO = "Microsoft COCO: Common Objects in Context", "Lin et al.", "ECCV", 2014, "https://arxiv.org/abs/1405.0312";
    FASTER_RCNN_V2 = "torchvision, Faster R-CNN with ResNet-50-FPN v2", "PyTorch", "", 2022,
        "https://github.com/pytorch/vision/issues/5763";
    YOLOX = "YOLOX: Exceeding YOLO Series in 2021", "Ge et al.", "", 2021,
        "https://github.com/Megvii-BaseDetection/YOLOX";
    RT_DETR = "DETRs Beat YOLOs on Real-time Object Detection", "Lv et al.", "CVPR", 2024,
        "https://arxiv.org/abs/2304.08069";
    D_FINE = "D-FINE: Redefine Regression Task of DETRs as Fine-grained Distribution Refinement", "Peng et al.", "", 2024,
        "https://github.com/Peterande/D-FINE";
    RF_DETR = "RF-DETR, benchmarks", "Roboflow", "", 2025, "https://rfdetr.roboflow.com/develop/learn/benchmarks/";
    OWL_VIT = "Simple Open-Vocabulary Object Detection with Vision Transformers", "Minderer et al.", "ECCV", 2022,
        "https://arxiv.org/abs/2205.06230";
    GROUNDING_DINO = "Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection",
        "Liu et al.", "ECCV", 2024, "https://arxiv.org/abs/2303.05499";
    SIGLIP = "Sigmoid Loss for Language Image Pre-Training", "Zhai et al.", "ICCV", 2023,
        "https://arxiv.org/abs/2303.15343";
    SIGLIP2 = "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization, and Dense Features",
        "Tschannen et al.", "", 2025, "https://arxiv.org/abs/2502.14786";
    DFN = "Data Filtering Networks", "Fang et al.", "ICLR", 2024, "https://arxiv.org/abs/2309.17425";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_complete_and_named_once() {
        for (at, source) in all().iter().enumerate() {
            assert!(!source.title.is_empty() && !source.authors.is_empty(), "{source:?}");
            assert!((2014..=2026).contains(&source.year), "{source:?}");
            assert!(source.url.starts_with("https://") || source.url.starts_with("tests/"), "{source:?}");
            assert!(all()[..at].iter().all(|other| other.url != source.url), "{} is there twice", source.url);
        }
        assert_eq!(OPEN_CLIP.short(), "open_clip 2024, docs/openclip_classification_results.csv");
        assert_eq!(COUNTBENCH.short(), "Paiss et al. 2023, arXiv 2302.12066");
    }
}
