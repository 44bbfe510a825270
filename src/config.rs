//! What was asked for, resolved once: flag > environment > config file > default.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most worker threads.
const MOST_THREADS: usize = 256;
/// Files above this are skipped unless `--max-file-mib` says otherwise, MiB. Camera raws and panoramas stay below it.
pub const DEFAULT_MAX_FILE_MIB: u64 = 512;
/// Images above this are skipped unless `--max-megapixels` says otherwise: what Pillow calls a decompression bomb.
pub const DEFAULT_MAX_MEGAPIXELS: u64 = 179;

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
    /// The fastest that keeps cosine 0.999 to f32 on this device; an index keeps the one that it was made with.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// bfloat16; on a CPU without its products 16-bit integers of the same accuracy.
    Bf16,
    /// 16-bit floats of more digits and a smaller range, on a GPU only: what one from before bf16 multiplies fast.
    F16,
    /// 8-bit integers: a cosine of 0.995 to f32, faster, and half of bf16's memory.
    Int8,
}

impl PrecisionChoice {
    /// The precision that is recorded with vectors under this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "f32" => Some(Self::F32),
            "bf16" => Some(Self::Bf16),
            "f16" => Some(Self::F16),
            "int8" => Some(Self::Int8),
            _ => None,
        }
    }
}

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Allow-list of folders that files may be read from; absolute, resolved, never empty.
    pub roots: Vec<PathBuf>,
    /// Where relative paths start when they are found there, before the roots are tried. The shell's current folder; none
    /// in the server, whose current folder means nothing to an agent.
    pub working_dir: Option<PathBuf>,
    /// Where the index lives.
    pub data_dir: PathBuf,
    /// `--model`: a registry name, a hub id, a folder, `starter`; `None` leaves the choice to the device.
    pub model: Option<String>,
    /// `--detector`, likewise.
    pub detector: Option<String>,
    /// `--identifier`, likewise: what `identify` compares with.
    pub identifier: Option<String>,
    /// `--dcsm`: the file of a network that scores captions by dense cosine similarity maps.
    pub dcsm: Option<PathBuf>,
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

/// What flags and environment said; `None` where they said nothing.
#[derive(Debug, Clone, Default)]
pub struct Requested {
    /// `--root`, repeatable.
    pub roots: Vec<PathBuf>,
    /// Where relative paths start, before the roots.
    pub working_dir: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--model`.
    pub model: Option<String>,
    /// `--detector`.
    pub detector: Option<String>,
    /// `--identifier`.
    pub identifier: Option<String>,
    /// `--dcsm`.
    pub dcsm: Option<PathBuf>,
    /// `--device`.
    pub device: Option<DeviceChoice>,
    /// `--precision`.
    pub precision: Option<PrecisionChoice>,
    /// `--threads`.
    pub threads: Option<usize>,
    /// `--offline`.
    pub offline: bool,
    /// `--json`.
    pub json: bool,
    /// `--allow-url`.
    pub allow_url: bool,
    /// `--max-file-mib`.
    pub max_file_mib: Option<u64>,
    /// `--max-megapixels`.
    pub max_megapixels: Option<u64>,
    /// `--config`: this file instead of the default one.
    pub config_file: Option<PathBuf>,
}

/// The config file: TOML, every key optional, named like the flags.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    #[serde(default)]
    root: Vec<PathBuf>,
    data_dir: Option<PathBuf>,
    model: Option<String>,
    detector: Option<String>,
    identifier: Option<String>,
    dcsm: Option<PathBuf>,
    device: Option<DeviceChoice>,
    precision: Option<PrecisionChoice>,
    threads: Option<usize>,
    offline: Option<bool>,
    json: Option<bool>,
    allow_url: Option<bool>,
    max_file_mib: Option<u64>,
    max_megapixels: Option<u64>,
}

impl Config {
    /// Resolves the settings: what flags and environment said, then the config file, then the defaults.
    ///
    /// # Errors
    /// The config file is broken, a root does not exist or is no folder, a value is out of range.
    pub fn resolve(requested: Requested) -> Result<Self> {
        let file = ConfigFile::load(requested.config_file.as_deref())?;
        let roots = if !requested.roots.is_empty() {
            requested.roots
        } else if !file.root.is_empty() {
            file.root
        } else {
            vec![default_root()?]
        };
        let threads = match requested.threads.or(file.threads) {
            Some(0) => return Err(Error::Argument { name: "threads", reason: "must be at least 1".into() }),
            // Each thread holds a picture; more than this many only cost memory.
            Some(n) => n.min(MOST_THREADS),
            None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        };
        let data_dir = match requested.data_dir.or(file.data_dir) {
            Some(dir) => std::path::absolute(&dir).map_err(Error::io("resolve", &dir))?,
            None => default_data_dir()?,
        };
        Ok(Self {
            roots: roots.iter().map(|root| existing_folder(root)).collect::<Result<_>>()?,
            working_dir: requested.working_dir,
            data_dir,
            model: requested.model.or(file.model),
            detector: requested.detector.or(file.detector),
            identifier: requested.identifier.or(file.identifier),
            dcsm: requested.dcsm.or(file.dcsm),
            device: requested.device.or(file.device).unwrap_or_default(),
            precision: requested.precision.or(file.precision).unwrap_or_default(),
            threads,
            offline: requested.offline || file.offline.unwrap_or(false),
            json: requested.json || file.json.unwrap_or(false),
            allow_url: requested.allow_url || file.allow_url.unwrap_or(false),
            max_file_bytes: limit(
                "max-file-mib",
                requested.max_file_mib.or(file.max_file_mib).unwrap_or(DEFAULT_MAX_FILE_MIB),
                1 << 20,
            )?,
            max_pixels: limit(
                "max-megapixels",
                requested.max_megapixels.or(file.max_megapixels).unwrap_or(DEFAULT_MAX_MEGAPIXELS),
                1_000_000,
            )?,
        })
    }
}

impl ConfigFile {
    /// The named file must exist; the default one may be absent.
    fn load(named: Option<&Path>) -> Result<Self> {
        let path = match (named, dirs::config_dir()) {
            (Some(path), _) => path.to_path_buf(),
            (None, Some(dir)) => dir.join("clip-aware").join("config.toml"),
            (None, None) => return Ok(Self::default()),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| Error::ConfigFile { path, reason: error.message().to_owned() })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(Self::default()),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }
}

/// Claude Code tells its servers the project's folder; elsewhere it is where the program was started.
fn default_root() -> Result<PathBuf> {
    match std::env::var_os("CLAUDE_PROJECT_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => std::env::current_dir().map_err(Error::io("find", ".")),
    }
}

fn default_data_dir() -> Result<PathBuf> {
    dirs::data_dir()
        .map(|dir| dir.join("clip-aware"))
        .ok_or(Error::Argument { name: "data-dir", reason: "has no default here: HOME is not set".into() })
}

fn limit(name: &'static str, value: u64, unit: u64) -> Result<u64> {
    if value == 0 {
        return Err(Error::Argument { name, reason: "must be at least 1".into() });
    }
    Ok(value.saturating_mul(unit))
}

fn existing_folder(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().map_err(Error::io("open root", path))?;
    if real.is_dir() { Ok(real) } else { Err(Error::NotAFolder { path: path.to_path_buf() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("config.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), "model = \"starter\"\nthreads = 3\ndevice = \"cpu\"\n");
        let requested = Requested {
            roots: vec![dir.path().to_path_buf()],
            data_dir: Some(dir.path().join("data")),
            threads: Some(2),
            config_file: Some(file),
            ..Requested::default()
        };
        let config = Config::resolve(requested).unwrap();
        assert_eq!(config.threads, 2);
        assert_eq!(config.model.as_deref(), Some("starter"));
        assert_eq!(config.device, DeviceChoice::Cpu);
        assert_eq!(config.precision, PrecisionChoice::Auto);
        assert_eq!(config.max_pixels, 179_000_000);
    }

    #[test]
    fn an_unknown_key_in_the_file_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), "modle = \"starter\"\n");
        let error = Config::resolve(Requested { config_file: Some(file), ..Requested::default() }).unwrap_err();
        assert!(error.to_string().contains("modle"), "{error}");
    }

    #[test]
    fn a_root_must_be_an_existing_folder() {
        let dir = tempfile::tempdir().unwrap();
        let file = write(dir.path(), "");
        for (root, expected) in [(dir.path().join("absent"), "no such"), (file.clone(), "not a folder")] {
            let requested = Requested { roots: vec![root], config_file: Some(file.clone()), ..Requested::default() };
            let error = Config::resolve(requested).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
