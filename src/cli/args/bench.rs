//! The arguments of `bench`.

use clap::Subcommand;

use super::Tower;

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchAction {
    /// Time of a tower, median over rounds.
    Encode {
        /// Which.
        #[arg(long, value_enum, default_value = "image")]
        tower: Tower,
        /// Images or texts at once.
        #[arg(long, default_value_t = 16, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
        batch: usize,
        /// candle-transformers' CLIP as it comes instead of ours, for comparison.
        #[arg(long)]
        baseline: bool,
    },
    /// Time of the object detector on one picture, median over rounds: the network alone.
    Detect,
    /// Time of a search over made-up vectors, without the model, through a catalogue and files of its own.
    Search {
        /// How many.
        #[arg(long, default_value_t = 500_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=20_000_000))]
        vectors: usize,
        /// Numbers in each.
        #[arg(long, default_value_t = 512, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=8192))]
        dim: usize,
        /// Vectors that resemble those of photos, linked into a graph: searches by it, and exact ones beside them.
        #[arg(long)]
        graph: bool,
    },
    /// Time to decode, resize and crop the images of a folder.
    Decode {
        /// The folder.
        dir: String,
    },
}
