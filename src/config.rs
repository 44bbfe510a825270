//! What was asked for, resolved once: flag > environment > config file > default.

use std::path::PathBuf;

/// Where the models run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// A GPU when the build and the machine have one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU (feature `cuda`).
    Cuda,
    /// An Apple GPU (feature `metal`).
    Metal,
}

/// The number format of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// The fastest that keeps cosine 0.999 to f32 on this device.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit integers.
    Int8,
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Allow-list of folders that files may be read from; absolute, resolved, never empty.
    pub roots: Vec<PathBuf>,
    /// Where the index lives.
    pub data_dir: PathBuf,
    /// `--model`: a registry name, a hub id, a folder, `starter`; `None` leaves the choice to the device.
    pub model: Option<String>,
    /// `--detector`, likewise.
    pub detector: Option<String>,
    /// `--device`.
    pub device: DeviceChoice,
    /// `--precision`.
    pub precision: PrecisionChoice,
    /// Worker threads, at least 1.
    pub threads: usize,
    /// No network at all.
    pub offline: bool,
    /// One JSON object per input on stdout.
    pub json: bool,
    /// Images may be https URLs.
    pub allow_url: bool,
    /// Files larger than this are skipped, bytes.
    pub max_file_bytes: u64,
    /// Images with more pixels than this are skipped before decoding.
    pub max_pixels: u64,
}
