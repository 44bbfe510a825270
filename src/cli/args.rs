//! The arguments, as clap reads them.

mod bench;

use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Parser, Subcommand};

use crate::config::{DeviceChoice, PrecisionChoice, Requested};
use crate::engine::scenes::Kind;
use crate::engine::skill::SkillClient;
pub use bench::BenchAction;

const EXAMPLES: &str = "\
Examples:
  clip-aware demo                                     a first look on rendered scenes, no network needed
  clip-aware models fetch clip-vit-b32                get a model for photos (605 MB)
  clip-aware --root ~/Photos index ~/Photos           embed a folder; run it again after changes
  clip-aware --root ~/Photos search \"a dog in the snow\" --sheet hits.png
  clip-aware serve                                    MCP server on stdio, for agents

Exit codes: 0 done or found, 1 nothing found or request refused, 2 error.";

/// Image search and classification that knows CLIP's limits: a command line and an MCP server.
#[derive(Debug, Parser)]
#[command(name = "clip-aware", version, about, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// Settings of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings of every command; each also from the environment, `CLIP_AWARE_<NAME>`, or the config file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Folder that files may be read from; repeatable [default: `$CLAUDE_PROJECT_DIR`, else the current folder].
    #[arg(long = "root", global = true, value_name = "DIR", env = "CLIP_AWARE_ROOT", value_delimiter = PATH_SEPARATOR, value_parser = path())]
    pub roots: Vec<PathBuf>,
    /// Where the index lives [default: the platform's data folder].
    #[arg(long, global = true, value_name = "DIR", env = "CLIP_AWARE_DATA_DIR", value_parser = path())]
    pub data_dir: Option<PathBuf>,
    /// Image-text model: a name of `models list`, a hub id `owner/name[@revision]`, a folder, or `starter`.
    #[arg(long, global = true, value_name = "ID|DIR", env = "CLIP_AWARE_MODEL")]
    pub model: Option<String>,
    /// Object detector: a name of `models list`, the folder or file of its weights, or `starter` (rendered shapes only).
    #[arg(long, global = true, value_name = "ID|DIR", env = "CLIP_AWARE_DETECTOR")]
    pub detector: Option<String>,
    /// Model that `identify` compares with, as for `--model` [default: a `dinov2-...` on this machine, else that of `--model`].
    #[arg(long, global = true, value_name = "ID|DIR", env = "CLIP_AWARE_IDENTIFIER")]
    pub identifier: Option<String>,
    /// The authors' file of a DCSM network (arXiv 2503.08723), which then scores the captions of `match` too.
    #[arg(long, global = true, value_name = "FILE", env = "CLIP_AWARE_DCSM", value_parser = path())]
    pub dcsm: Option<PathBuf>,
    /// Where models run [default: auto].
    #[arg(long, global = true, value_enum, env = "CLIP_AWARE_DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Number format of weights and activations [default: auto].
    #[arg(long, global = true, value_enum, env = "CLIP_AWARE_PRECISION")]
    pub precision: Option<PrecisionChoice>,
    /// Worker threads [default: all cores].
    #[arg(long, global = true, value_name = "N", env = "CLIP_AWARE_THREADS")]
    pub threads: Option<usize>,
    /// Never use the network.
    #[arg(long, global = true, env = "CLIP_AWARE_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub offline: bool,
    /// Print JSON, one object per line.
    #[arg(long, global = true, env = "CLIP_AWARE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
    /// Accept https URLs where an image is expected.
    #[arg(long, global = true, env = "CLIP_AWARE_ALLOW_URL", value_parser = clap::builder::FalseyValueParser::new())]
    pub allow_url: bool,
    /// Skip files larger than this [default: 512].
    #[arg(long, global = true, value_name = "N", env = "CLIP_AWARE_MAX_FILE_MIB")]
    pub max_file_mib: Option<u64>,
    /// Skip images with more pixels than this [default: 179].
    #[arg(long, global = true, value_name = "N", env = "CLIP_AWARE_MAX_MEGAPIXELS")]
    pub max_megapixels: Option<u64>,
    /// Config file, TOML, keys named like these options [default: clip-aware/config.toml in the config folder].
    #[arg(long, global = true, value_name = "FILE", env = "CLIP_AWARE_CONFIG", value_parser = path())]
    pub config: Option<PathBuf>,
    /// Log more to stderr; repeatable.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Any path, the empty one too: an MCP client sets a variable that its user left out to nothing, which means unset.
fn path() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// As in PATH.
const PATH_SEPARATOR: char = if cfg!(windows) { ';' } else { ':' };

impl Global {
    /// What was asked for, in the form that [`crate::config::Config::resolve`] takes.
    pub fn into_requested(self) -> Requested {
        Requested {
            roots: self.roots.into_iter().filter(|root| !root.as_os_str().is_empty()).collect(),
            working_dir: None,
            data_dir: self.data_dir.filter(|dir| !dir.as_os_str().is_empty()),
            model: self.model.filter(|model| !model.is_empty()),
            detector: self.detector.filter(|detector| !detector.is_empty()),
            identifier: self.identifier.filter(|identifier| !identifier.is_empty()),
            dcsm: self.dcsm.filter(|file| !file.as_os_str().is_empty()),
            device: self.device,
            precision: self.precision,
            threads: self.threads,
            offline: self.offline,
            json: self.json,
            allow_url: self.allow_url,
            max_file_mib: self.max_file_mib,
            max_megapixels: self.max_megapixels,
            config_file: self.config.filter(|file| !file.as_os_str().is_empty()),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Embed the images of folders, incrementally.
    Index(IndexArgs),
    /// Find images by words, by an image, or both.
    Search(super::search::SearchArgs),
    /// Tell which of the given labels fits each image.
    Classify(ClassifyArgs),
    /// Tell which task a request is, whether CLIP suits it, and what to call instead.
    Route(super::route::RouteArgs),
    /// Explain why CLIP fails at something, with cited numbers; with an image, show it there.
    Explain(ExplainArgs),
    /// Say why a search does or does not find an image.
    Diagnose(DiagnoseArgs),
    /// Find and count objects, with boxes.
    Detect(DetectArgs),
    /// Tell how two things in a picture stand to each other.
    Relate(super::relate::RelateArgs),
    /// Tell which caption is true of a picture, phrase by phrase.
    Match(super::compose::MatchCaptionsArgs),
    /// Tell which label of a gallery of examples a picture belongs to, or that it is unknown.
    Identify(super::identify::IdentifyArgs),
    /// Print the vectors of texts and images.
    Embed(EmbedArgs),
    /// List groups of equal and nearly equal pictures.
    Duplicates(DuplicatesArgs),
    /// Show what is indexed, and what could not be.
    Status,
    /// Remove a folder, or an old model's vectors, from the index.
    Forget(ForgetArgs),
    /// List, fetch and check models.
    Models(ModelsArgs),
    /// Run the MCP server on stdio.
    Serve,
    /// Install the agent skill for Claude Code, Cursor and Windsurf.
    Skill(SkillArgs),
    /// Show on rendered scenes what CLIP can do and what it cannot, over a real MCP connection.
    Demo(DemoArgs),
    /// Render scenes of coloured shapes with their truth; the starter models' training data.
    #[command(hide = true)]
    Scenes(ScenesArgs),
    /// Measure speed on this machine.
    Bench(BenchArgs),
    /// Check the installation: model, index, roots, device.
    Doctor,
}

/// Arguments of `index`.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Folders to index, inside the roots; subfolders included.
    #[arg(required = true, value_name = "DIR")]
    pub folders: Vec<String>,
}

/// Arguments of `classify`.
#[derive(Debug, Args)]
pub struct ClassifyArgs {
    /// Images, or folders of images.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<String>,
    /// The candidate labels, separated by commas.
    #[arg(long, required = true, value_name = "A,B,C", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Prompt with `{}` for the label; repeatable; several are averaged [default: a small ensemble].
    #[arg(long, value_name = "TEXT")]
    pub template: Vec<String>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The topic, or another name of it.
    #[arg(
        required_unless_present = "query",
        help = "counting, fine_grained, spatial, compositional, negation, text_reading, calibration, domain_shift or strengths"
    )]
    pub topic: Option<String>,
    /// A request; its wording tells the topic.
    #[arg(long, value_name = "TEXT")]
    pub query: Option<String>,
    /// An image to show it on: the request is scored against its counterfactuals.
    #[arg(long, value_name = "PATH")]
    pub image: Option<String>,
}

/// Arguments of `diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// The image that is found, or not.
    #[arg(long, value_name = "PATH")]
    pub image: String,
    /// What was searched for.
    #[arg(long, value_name = "TEXT")]
    pub query: String,
}

/// Arguments of `detect`.
#[derive(Debug, Args)]
pub struct DetectArgs {
    /// Images, or folders of images.
    #[arg(required = true, value_name = "IMAGE|DIR")]
    pub images: Vec<String>,
    /// What to count, in words ("people", "bikes"); repeatable [default: all that the detector knows].
    #[arg(long, value_name = "T")]
    pub target: Vec<String>,
    /// Or an image of a thing: what looks like it is counted, by a detector for any words (`models list`).
    #[arg(long, value_name = "IMAGE", conflicts_with = "target")]
    pub like: Option<String>,
    /// Where in that image: left, top, right, bottom in pixels [default: all of it].
    #[arg(long, value_name = "X0,Y0,X1,Y1", requires = "like", value_parser = edges, allow_hyphen_values = true)]
    pub like_box: Option<[f32; 4]>,
    /// List the boxes from this score on, 0 to 1, from one look at the picture [default: what counts best with the
    /// detector].
    #[arg(long, value_name = "X")]
    pub threshold: Option<f32>,
    /// Write the pictures with boxes and labels into this folder.
    #[arg(long, value_name = "DIR")]
    pub annotate: Option<PathBuf>,
    /// Look at more tiles of large pictures, for small things and crowds; slower.
    #[arg(long)]
    pub tile: bool,
}

/// A box as it is written in answers: `10,20,30.5,40`.
fn edges(text: &str) -> Result<[f32; 4], String> {
    let edges = text.trim_matches(['[', ']']).split(',').map(|edge| edge.trim().parse::<f32>());
    let edges: Option<Vec<f32>> = edges.map(Result::ok).collect();
    edges.and_then(|edges| edges.try_into().ok()).ok_or_else(|| "four numbers: left, top, right, bottom".to_owned())
}

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// A text to embed; repeatable.
    #[arg(long, value_name = "TEXT")]
    pub text: Vec<String>,
    /// An image to embed; repeatable.
    #[arg(long, value_name = "PATH", required_unless_present = "text")]
    pub image: Vec<String>,
}

/// Arguments of `duplicates`.
#[derive(Debug, Args)]
pub struct DuplicatesArgs {
    /// Only under this folder.
    #[arg(value_name = "DIR")]
    pub folder: Option<String>,
}

/// Arguments of `forget`.
#[derive(Debug, Args)]
#[group(required = true)]
pub struct ForgetArgs {
    /// An indexed folder; the images themselves stay.
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// A vector set's number from `status`.
    #[arg(long, value_name = "N")]
    pub set: Option<i64>,
}

/// Arguments of `models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ModelsAction,
}

/// What to do with models.
#[derive(Debug, Subcommand)]
pub enum ModelsAction {
    /// The known models: size, licence, what each is good for, published accuracy.
    List,
    /// Download a model into the Hugging Face cache.
    Fetch {
        /// A name of `models list` or a hub id.
        #[arg(required = true)]
        model: Vec<String>,
    },
    /// Print the card of a model: licence, training data, intended use, as its publisher states them.
    Card {
        /// A name of `models list` or a hub id `owner/name`.
        model: String,
    },
    /// Compare a model's outputs with published reference values.
    Verify {
        /// A name of `models list`, a hub id or a folder.
        model: String,
        /// A photo on which reference values were published, under its published name; repeatable.
        #[arg(long, value_name = "PATH")]
        image: Vec<String>,
    },
}

/// Arguments of `skill`.
#[derive(Debug, Args)]
pub struct SkillArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: SkillAction,
}

/// What to do with the skill.
#[derive(Debug, Subcommand)]
pub enum SkillAction {
    /// Write the skill's files where the clients look for skills; files that you have changed are kept.
    Install(InstallArgs),
}

/// Arguments of `skill install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The project's folder, or a folder named `skills` [default: the current folder].
    #[arg(value_name = "DIR", conflicts_with = "for_user")]
    pub dir: Option<PathBuf>,
    /// Only for these clients.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = SkillClient::DEFAULT)]
    pub client: Vec<SkillClient>,
    /// For all your projects: in your home folder.
    #[arg(long = "global", id = "for_user")]
    pub for_user: bool,
    /// Replace files that differ from the skill of this version.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Seed of the rendered scenes.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Where the gallery and the pictures go.
    #[arg(long, value_name = "DIR", default_value = "clip-aware-demo")]
    pub out: PathBuf,
}

/// Arguments of `scenes`.
#[derive(Debug, Args)]
pub struct ScenesArgs {
    /// Seed.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub count: usize,
    /// Side length, pixels.
    #[arg(long, default_value_t = 256)]
    pub side: u32,
    /// Kind of scene.
    #[arg(long, value_enum, default_value = "natural")]
    pub kind: Kind,
    /// One raw RGB file instead of PNGs.
    #[arg(long)]
    pub raw: bool,
    /// Where to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure.
    #[command(subcommand)]
    pub what: BenchAction,
}

/// A tower of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tower {
    /// The image tower.
    Image,
    /// The text tower.
    Text,
}
