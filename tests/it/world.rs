//! A world of its own for each test: an empty HOME, a root with pictures, a data folder, and the built program in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Temporary folders and the program.
pub struct World {
    pub home: TempDir,
    pub root: PathBuf,
}

/// What a run printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The objects that `--json` printed, one per line.
    pub fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The only object that `--json` printed.
    pub fn object(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines.remove(0)
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

impl World {
    /// An empty root.
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().canonicalize().unwrap().join("pictures");
        std::fs::create_dir(&root).unwrap();
        Self { home, root }
    }

    /// A root with `count` rendered scenes in `scenes/`.
    pub fn with_scenes(count: u32) -> Self {
        let world = Self::new();
        world.scenes("scenes", 11, count);
        world
    }

    /// Renders scenes into a folder of the root; returns their truth.
    pub fn scenes(&self, folder: &str, seed: u64, count: u32) -> Vec<Value> {
        let out = self.root.join(folder);
        let (seed, count) = (seed.to_string(), count.to_string());
        let out_text = out.display().to_string();
        self.run(&[
            "scenes", "--kind", "gallery", "--seed", &seed, "--count", &count, "--side", "96", "--out", &out_text,
        ])
        .expect(0);
        let truth = std::fs::read_to_string(out.join("scenes.jsonl")).unwrap();
        truth.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The program in this world, with the starter model; nothing of the tester's own environment reaches it.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clip-aware"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("CLIP_AWARE_ROOT", &self.root)
            .env("CLIP_AWARE_MODEL", "starter")
            .current_dir(&self.root)
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command().args(arguments).output().unwrap())
    }

    /// Writes a file into the root.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// A folder with copies of the files of another, which may be changed.
pub fn copy_of(folder: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// What a finished process printed.
pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// File names of hits.
pub fn names(results: &Value) -> Vec<String> {
    let paths = results.as_array().unwrap().iter().map(|hit| hit["path"].as_str().unwrap().to_owned());
    paths.map(|path| Path::new(&path).file_name().unwrap().to_string_lossy().into_owned()).collect()
}
