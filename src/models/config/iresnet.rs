//! `config.json` of an `IResNet`. insightface writes none: it is this program's own, and what its lists do not say follows from
//! the tensors (`models::iresnet`).

use super::{Section, Source, limit};
use crate::error::Result;

/// `iresnet50`.
const DEPTHS: [usize; 4] = [3, 4, 14, 3];
/// Of every published one.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];
const DIM: usize = 512;
const SIDE: usize = 112;

#[derive(Debug, Clone, PartialEq)]
pub(in crate::models) struct IresnetConfig {
    /// Blocks and channels of each layer; the stem has those of the first.
    pub layers: Vec<(usize, usize)>,
    /// Length of the vectors.
    pub dim: usize,
    /// Side of the crops, pixels.
    pub image_size: usize,
}

impl IresnetConfig {
    /// Side of the last map: each layer halves it, rounded up.
    pub fn last_side(&self) -> usize {
        (0..self.layers.len()).fold(self.image_size, |side, _| side.div_ceil(2))
    }
}

impl Source<'_> {
    pub(super) fn iresnet(&self) -> Result<IresnetConfig> {
        let top = Section { source: self, name: "", fields: Some(self.top) };
        let depths = top.counts("depths", &DEPTHS, limit::LAYERS)?;
        let widths = top.counts("hidden_sizes", &WIDTHS, limit::WIDTH)?;
        if depths.len() != widths.len() {
            return Err(top.refused("depths", &format!("{depths:?}, which does not fit hidden_sizes {widths:?}")));
        }
        Ok(IresnetConfig {
            layers: depths.into_iter().zip(widths).collect(),
            dim: top.count("embedding_size", DIM, limit::WIDTH)?,
            image_size: top.side("image_size", SIDE)?,
        })
    }
}
