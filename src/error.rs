//! The one error type: every variant carries the values that explain it, and [`Error::hint`] names the next step.
//!
//! Inputs that an index run passes over (a corrupt photo, say) are data with a reason, not errors; their reason is the
//! text of one of these.

use std::path::PathBuf;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with the values that explain it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- files and pixels -------------------------------------------------------------------------------------------
    /// No file or folder at this path.
    #[error("no such file or folder: {}", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder was needed.
    #[error("not a folder: {}", path.display())]
    NotAFolder {
        /// What was given.
        path: PathBuf,
    },
    /// A file was needed.
    #[error("not a file: {}", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The path lies outside the allow-list of roots.
    #[error("{} is outside the allowed roots ({})", path.display(), list(roots))]
    OutsideRoots {
        /// The path as given, after resolving `..` and links.
        path: PathBuf,
        /// The allowed roots.
        roots: Vec<PathBuf>,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb ("read", "create").
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds nothing.
    #[error("{} is empty", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are no image format that is read here.
    #[error("{} is not an image that can be read here ({found})", path.display())]
    UnsupportedImage {
        /// The file.
        path: PathBuf,
        /// What its first bytes say.
        found: String,
    },
    /// The image data are broken.
    #[error("{} cannot be decoded: {reason}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// The image is over the limits, found before decoding.
    #[error("{} is too large: {what}, the limit is {limit}", path.display())]
    ImageTooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large, with its size.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An image given by URL could not be had.
    #[error("cannot fetch {url}: {reason}")]
    Url {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// Image URLs are off.
    #[error("{url} is a URL and reading images from URLs is off")]
    UrlsAreOff {
        /// The address.
        url: String,
    },

    // ---- models -----------------------------------------------------------------------------------------------------
    /// The name is neither in the registry, nor a hub id, nor a folder.
    #[error("unknown model `{name}`")]
    UnknownModel {
        /// As given.
        name: String,
        /// The registry's names.
        known: Vec<String>,
    },
    /// No detector has this name.
    #[error("unknown detector `{name}`")]
    UnknownDetector {
        /// As given.
        name: String,
        /// The registry's names.
        known: Vec<String>,
    },
    /// A known detector's weights are not on this machine.
    #[error("the detector {name} is not on this machine")]
    DetectorAbsent {
        /// The registry's name.
        name: &'static str,
        /// Where its authors publish the weights.
        url: &'static str,
        /// Where they are looked for.
        folder: PathBuf,
    },
    /// A detector of the hub is not on this machine and the network is off.
    #[error("the detector {name} is not on this machine and the network is off")]
    DetectorNotFetched {
        /// As `models fetch` takes it.
        name: String,
        /// The files that are missing.
        missing: Vec<String>,
    },
    /// A classifier is not on this machine, and may not be downloaded.
    #[error("the classifier {name} is not on this machine")]
    ClassifierAbsent {
        /// As `models fetch` takes it.
        name: String,
    },
    /// Pictures are to be compared and there is no model for it.
    #[error("no model that compares pictures is on this machine")]
    NoIdentifier {
        /// The one that is quickest to get.
        easiest: &'static str,
    },
    /// Objects are asked for and there is no detector.
    #[error("no object detector is on this machine")]
    NoDetector {
        /// The one that a single command fetches.
        easiest: &'static str,
        /// Where the weights of known detectors are looked for.
        folder: PathBuf,
        /// The address of the smallest one.
        url: &'static str,
    },
    /// The detector cannot find what was asked for.
    #[error("{detector} does not know `{target}`{}", nearest(similar))]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// The detector.
        detector: String,
        /// Labels that are written alike.
        similar: Vec<String>,
        /// All labels.
        labels: Vec<String>,
        /// A detector for any words that a single command fetches.
        open: &'static str,
    },
    /// Things like an example picture are asked for, and the detector knows names only.
    #[error("{} the like of an example picture", blind(detector.as_deref()))]
    NotByExample {
        /// The detector, where there is one.
        detector: Option<String>,
        /// One that can, which a single command fetches.
        open: &'static str,
    },
    /// A file of a model is broken or says what cannot be run.
    #[error("{file} of model {model}: {reason}")]
    ModelFile {
        /// The model.
        model: String,
        /// The file's name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint lacks tensors or has them in another shape.
    #[error("checkpoint of {model} does not fit its config: {}", tensor_list(missing, wrong))]
    Tensors {
        /// The model.
        model: String,
        /// Names that are not there.
        missing: Vec<String>,
        /// `name: found [..], expected [..]`.
        wrong: Vec<String>,
    },
    /// The weights are not on this machine and the network is off.
    #[error("{model} is not on this machine and the network is off")]
    Offline {
        /// The model.
        model: String,
        /// The files that are missing.
        missing: Vec<String>,
    },
    /// The model card is not in the cache and the hub is out of reach.
    #[error("the card of {repository} is not on this machine, and {reason}")]
    NoCard {
        /// `owner/name`.
        repository: String,
        /// The network is off, or what happened.
        reason: String,
        /// The registry's name, where it has the model.
        known: Option<&'static str>,
    },
    /// The hub answered with an error, or did not answer.
    #[error("cannot fetch {what} from {endpoint}: {reason}")]
    Hub {
        /// The file or repository.
        what: String,
        /// The hub's address.
        endpoint: String,
        /// Why.
        reason: String,
        /// The HTTP status, when there was an answer.
        status: Option<u16>,
    },
    /// The downloaded bytes are not those that were promised.
    #[error("{file} arrived damaged: {reason}")]
    Checksum {
        /// The file.
        file: String,
        /// Which check failed.
        reason: String,
    },
    /// Not enough room for a download.
    #[error("{} has {free_mib} MiB free, {needed_mib} MiB are needed for {what}", path.display())]
    DiskFull {
        /// What was to be stored.
        what: String,
        /// Where.
        path: PathBuf,
        /// MiB needed.
        needed_mib: u64,
        /// MiB free.
        free_mib: u64,
    },
    /// A text is given to a model that embeds images only.
    #[error("{model} reads no texts: it embeds images only")]
    ReadsNoTexts {
        /// The model.
        model: String,
    },
    /// The tokenizer refused.
    #[error("cannot tokenize: {reason}")]
    Tokenizer {
        /// Its words.
        reason: String,
    },
    /// A tensor operation failed.
    #[error("tensor error in {stage}: {source}")]
    Tensor {
        /// The stage of the model.
        stage: &'static str,
        /// candle's words.
        source: candle_core::Error,
    },
    /// The asked device is not in this build or not on this machine.
    #[error("device `{device}` is not available: {reason}")]
    Device {
        /// As asked.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The device does not compute in this number format.
    #[error("precision `{precision}` is not available on device `{device}`")]
    Precision {
        /// As asked.
        precision: &'static str,
        /// The device.
        device: &'static str,
    },

    // ---- index ------------------------------------------------------------------------------------------------------
    /// The catalogue is broken or locked.
    #[error("catalogue {}: {source}", path.display())]
    Catalogue {
        /// The database file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The catalogue was written by a newer version.
    #[error("catalogue {} has format {found}, this version reads up to {known}", path.display())]
    CatalogueTooNew {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// Nothing is indexed for what was asked.
    #[error("no image is indexed{}", under.as_ref().map(|p| format!(" under {}", p.display())).unwrap_or_default())]
    NothingIndexed {
        /// The folder that was asked for.
        under: Option<PathBuf>,
    },

    /// The index holds no vectors of the model that was named.
    #[error("the index holds no vectors of {model}, only of {}", indexed.join(", "))]
    OtherModel {
        /// The model that was named.
        model: String,
        /// The models whose vectors are there.
        indexed: Vec<String>,
    },
    /// Another process (or another call) is indexing the same folder.
    #[error("{} is being indexed by another process", folder.display())]
    IndexBusy {
        /// The folder.
        folder: PathBuf,
    },

    // ---- requests ---------------------------------------------------------------------------------------------------
    /// An argument's value cannot be used.
    #[error("`{name}` {reason}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The demo's server process failed.
    #[error("the MCP server of the demo failed: {reason}")]
    Server {
        /// What happened.
        reason: String,
    },
    /// The config file is broken.
    #[error("config file {}: {reason}", path.display())]
    ConfigFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The next step that a caller can take, when there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OutsideRoots { .. } => {
                "start with `--root DIR` (repeatable, or CLIP_AWARE_ROOT) for a folder that holds it".into()
            }
            Self::NotFound { .. } => {
                "check the path; relative paths start at the current folder, then at the roots".into()
            }
            Self::UnsupportedImage { .. } => {
                "JPEG, PNG, WebP, GIF, BMP, TIFF and HEIC are read; convert other formats first".into()
            }
            Self::ImageTooLarge { .. } => "raise the limit with `--max-megapixels N`, or scale the image down".into(),
            Self::UrlsAreOff { .. } => "start with `--allow-url`, or save the image inside a root".into(),
            Self::UnknownModel { known, .. } => {
                format!(
                    "use one of {}, a hub id `owner/name[@revision]`, or the path of a model folder or a file of weights",
                    known.join(", ")
                )
            }
            Self::UnknownDetector { known, .. } => {
                format!(
                    "use one of {}, a hub id `owner/name[@revision]`, or the path of a folder or file with weights",
                    known.join(", ")
                )
            }
            Self::DetectorAbsent { url, folder, .. } => {
                format!("download {url} into {}, or give the file to `--detector`", folder.display())
            }
            Self::DetectorNotFetched { name, .. } => format!(
                "with a network, run `clip-aware models fetch {name}`; without one, give a folder with its config.json, preprocessor_config.json and weights to `--detector`"
            ),
            Self::ClassifierAbsent { name } => format!(
                "with a network, run `clip-aware models fetch {name}`; without one, give its folder, in Hugging Face layout"
            ),
            Self::NoIdentifier { easiest } => format!(
                "run `clip-aware models fetch {easiest}`; without a network, give a model folder to `--identifier`; `--identifier starter` needs no download and knows rendered shapes only"
            ),
            Self::NoDetector { easiest, folder, url } => format!(
                "run `clip-aware models fetch {easiest}`; or, for a faster one, download {url} into {}, or give the path of weights to `--detector`; `clip-aware models list` shows the others; `--detector starter` needs no download and finds rendered shapes only",
                folder.display()
            ),
            Self::UnknownTarget { labels, open, .. } => format!(
                "it finds {}; for any words, run `clip-aware models fetch {open}` and use `--detector {open}`; `clip-aware classify` tells whether a picture shows other things, without counting them",
                labels.join(", ")
            ),
            Self::NotByExample { open, .. } => {
                format!("run `clip-aware models fetch {open}` and use `--detector {open}`")
            }
            Self::Offline { model, .. } => format!(
                "with a network, run `clip-aware models fetch {model}`; without one, give a model folder, or `--model starter` for a first look"
            ),
            Self::NoCard { known, .. } => {
                let instead = known
                    .map(|name| format!("; the resource clip-aware://models/{name} says what this program knows of it"))
                    .unwrap_or_default();
                format!(
                    "read it once with a network, without `--offline` and HF_HUB_OFFLINE: it stays in the Hugging Face cache{instead}"
                )
            }
            Self::Hub { status: Some(401 | 403), .. } => {
                "set HF_TOKEN to a token that may read this repository, and accept its terms on the hub".into()
            }
            Self::Hub { status: Some(404), .. } => "check the id and the revision".into(),
            Self::Hub { .. } => "run the command again: what has arrived is kept; HF_ENDPOINT chooses a mirror".into(),
            Self::Checksum { .. } => "run the command again: the damaged file was removed".into(),
            Self::DiskFull { .. } => "free some space, or set HF_HOME to a larger disk".into(),
            Self::Tensors { .. } => {
                "the checkpoint belongs to another architecture or is damaged: `clip-aware models verify` checks it"
                    .into()
            }
            Self::ReadsNoTexts { .. } => {
                "search with an `image`, or name an image-text model: `clip-aware models list` shows them".into()
            }
            Self::Device { .. } => "use `--device cpu`, or a build with the feature `cuda` or `metal`".into(),
            Self::Precision { .. } => "use `--precision f32`".into(),
            Self::CatalogueTooNew { .. } => "update clip-aware, or choose another `--data-dir`".into(),
            Self::Catalogue { .. } => {
                "is the disk full or read-only? `--data-dir DIR` chooses another place for the index".into()
            }
            Self::IndexBusy { .. } => "wait until it is done; what it has stored so far can be searched already".into(),
            Self::NothingIndexed { under } => format!(
                "run `clip-aware index {}` (MCP: index_folder) first",
                under.as_ref().map_or("DIR".into(), |p| p.display().to_string())
            ),
            Self::OtherModel { model, .. } => format!(
                "leave `--model` out to search with the model of the index, or run `clip-aware index --model {model} DIR`"
            ),
            _ => return None,
        })
    }

    /// An [`Error::Io`] from its parts; for `map_err`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { action, path, source },
        }
    }

    /// An [`Error::Tensor`] for a stage; for `map_err`.
    pub fn tensor(stage: &'static str) -> impl FnOnce(candle_core::Error) -> Self {
        move |source| Self::Tensor { stage, source }
    }
}

fn nearest(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; did you mean {}?", similar.join(" or ")) }
}

fn blind(detector: Option<&str>) -> String {
    detector.map_or_else(|| "no detector on this machine finds".into(), |id| format!("{id} finds things by name, not"))
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn tensor_list(missing: &[String], wrong: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut parts = Vec::new();
    for (what, names) in [("missing", missing), ("wrong shape", wrong)] {
        if !names.is_empty() {
            let more = names.len().saturating_sub(SHOWN);
            let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
            let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
            parts.push(format!("{} {what}: {shown}{tail}", names.len()));
        }
    }
    parts.join(". ")
}
