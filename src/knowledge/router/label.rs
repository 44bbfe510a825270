//! The ten tasks that a request to an image tool can be.

/// A task; the names are the contract's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Label {
    /// Retrieval by scene, object, style, mood, event.
    SemanticSearch,
    /// Assigning one of some broad categories.
    ZeroShotClassification,
    /// The query is an image.
    ImageSimilarity,
    /// The number of things matters.
    Counting,
    /// Species, breed, model, variant, identity.
    FineGrained,
    /// Where things are, to each other or in the picture.
    Spatial,
    /// Which attribute or role belongs to which thing.
    Compositional,
    /// Something must be absent.
    Negation,
    /// Written words, clocks, plates, codes.
    TextReading,
    /// Editing, generating, file work, metadata, no picture at all.
    OutOfScope,
}

impl Label {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All, in the contract's order; the position is the output of the model.
    pub const ALL: [Self; Self::COUNT] = [
        Self::SemanticSearch,
        Self::ZeroShotClassification,
        Self::ImageSimilarity,
        Self::Counting,
        Self::FineGrained,
        Self::Spatial,
        Self::Compositional,
        Self::Negation,
        Self::TextReading,
        Self::OutOfScope,
    ];

    /// The contract's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SemanticSearch => "semantic_search",
            Self::ZeroShotClassification => "zero_shot_classification",
            Self::ImageSimilarity => "image_similarity",
            Self::Counting => "counting",
            Self::FineGrained => "fine_grained",
            Self::Spatial => "spatial",
            Self::Compositional => "compositional",
            Self::Negation => "negation",
            Self::TextReading => "text_reading",
            Self::OutOfScope => "out_of_scope",
        }
    }

    /// The label of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }

    /// Position in [`Label::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// CLIP suits it.
    pub fn clip_suitable(self) -> bool {
        matches!(self, Self::SemanticSearch | Self::ZeroShotClassification | Self::ImageSimilarity)
    }
}
