//! How and from where weights may be had: the settings that `huggingface_hub` reads, with its precedence.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::retry::Retry;

/// The hub when `HF_ENDPOINT` names no mirror.
const HUB: &str = "https://huggingface.co";
/// No byte for this long ends an attempt, unless `HF_HUB_DOWNLOAD_TIMEOUT` says otherwise.
const STALL: Duration = Duration::from_secs(30);

/// An access token. Its text never reaches a log: `Debug` prints a placeholder.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes the token's text; line ends and blanks around it are dropped, and nothing is left of an empty one.
    pub fn new(text: &str) -> Option<Self> {
        let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text, for the `Authorization` header alone.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// How weights may be looked for. The network is off unless `allow_download` is set and `offline` is not.
#[derive(Debug, Clone)]
pub struct Source {
    /// No network at all; wins over `allow_download`.
    pub offline: bool,
    /// A model that is not on this machine may be downloaded. Off by default: a search must not turn into a
    /// download of several gigabytes that nobody asked for.
    pub allow_download: bool,
    /// The hub or a mirror of it, without a trailing slash; may have a path.
    pub endpoint: String,
    /// Sent to the endpoint's own origin and to nobody else.
    pub token: Option<Token>,
    /// The hub cache: `models--owner--name/{blobs,refs,snapshots}` lie in it.
    pub cache_dir: PathBuf,
    /// How often, and how long, a failing request is repeated.
    pub retry: Retry,
    /// No byte for this long ends an attempt.
    pub stall_timeout: Duration,
}

impl Default for Source {
    fn default() -> Self {
        Self::from_env(false)
    }
}

impl Source {
    /// Reads the environment as `huggingface_hub` does. `offline` is the caller's own switch; `HF_HUB_OFFLINE` or
    /// `TRANSFORMERS_OFFLINE` set it as well. Downloads are off until the caller sets `allow_download`.
    ///
    /// Source: `huggingface_hub` 2.4, `constants.py` and `utils/_auth.py`.
    pub fn from_env(offline: bool) -> Self {
        Self::from_variables(offline, std::env::home_dir().as_deref(), &|name| std::env::var_os(name))
    }

    /// As [`Source::from_env`], with the variables and the home folder given.
    ///
    /// Cache: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `HF_HOME/hub`; `HF_HOME` is by default
    /// `XDG_CACHE_HOME/huggingface`, and that `~/.cache/huggingface`. Token: `HF_TOKEN`, else
    /// `HUGGING_FACE_HUB_TOKEN`, else the file `HF_TOKEN_PATH`, by default `HF_HOME/token`; none at all with
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN`. An empty variable counts as unset, where the reference would take it for the
    /// current folder.
    pub fn from_variables(offline: bool, home: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|v| !v.is_empty());
        let path = |name: &str| set(name).map(|v| expand(&v, home, variable));
        let on = |name: &str| {
            set(name).is_some_and(|v| {
                matches!(v.to_string_lossy().to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
            })
        };
        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| home.unwrap_or(Path::new(".")).join(".cache")).join("huggingface")
        });
        let cache_dir =
            path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| hf_home.join("hub"));
        let token = || {
            let given = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
            given.and_then(|v| Token::new(&v.to_string_lossy())).or_else(|| {
                let file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
                std::fs::read_to_string(file).ok().and_then(|text| Token::new(&text))
            })
        };
        let endpoint = set("HF_ENDPOINT").map_or_else(|| HUB.to_owned(), |v| v.to_string_lossy().trim().to_owned());
        let seconds = set("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|v| v.to_string_lossy().trim().parse::<u64>().ok());
        Self {
            offline: offline || on("HF_HUB_OFFLINE") || on("TRANSFORMERS_OFFLINE"),
            allow_download: false,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: if on("HF_HUB_DISABLE_IMPLICIT_TOKEN") { None } else { token() },
            cache_dir,
            retry: Retry::default(),
            stall_timeout: seconds.filter(|s| *s > 0).map_or(STALL, Duration::from_secs),
        }
    }

    /// Whether a request may leave this machine.
    pub fn may_download(&self) -> bool {
        self.allow_download && !self.offline
    }
}

/// `~`, `$NAME` and `${NAME}` in a path; an unknown name stays as it is, as in Python's `os.path.expandvars`.
fn expand(raw: &OsString, home: Option<&Path>, variable: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    let Some(text) = raw.to_str() else { return PathBuf::from(raw) };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = &after[1..];
        let (name, tail) = match after.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            Some(parts) => parts,
            None => {
                after.split_at(after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len()))
            }
        };
        match variable(name).filter(|_| !name.is_empty()).and_then(|v| v.into_string().ok()) {
            Some(value) => out.push_str(&value),
            None => out.push_str(&rest[at..rest.len() - tail.len()]),
        }
        rest = tail;
    }
    out.push_str(rest);
    expand_home(&out, home)
}

/// `~` alone or before a slash is the home folder.
pub(super) fn expand_home(text: &str, home: Option<&Path>) -> PathBuf {
    match (text.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        (Some(rest), Some(home)) if rest.starts_with(['/', std::path::MAIN_SEPARATOR]) => home.join(&rest[1..]),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(variables: &[(&str, &str)]) -> Source {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        Source::from_variables(false, Some(Path::new("/home/ada")), &find)
    }

    #[test]
    fn cache_folder_follows_the_precedence_of_huggingface_hub() {
        let dir = |variables: &[(&str, &str)]| source(variables).cache_dir;
        assert_eq!(dir(&[]), Path::new("/home/ada/.cache/huggingface/hub"));
        assert_eq!(dir(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(dir(&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(dir(&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        assert_eq!(dir(&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")]), Path::new("/new"));
        assert_eq!(dir(&[("HF_HUB_CACHE", "")]), Path::new("/home/ada/.cache/huggingface/hub"));
    }

    #[test]
    fn paths_expand_the_home_folder_and_variables() {
        let dir = |value: &str| source(&[("HF_HUB_CACHE", value), ("DISK", "/disk")]).cache_dir;
        assert_eq!(dir("~/models"), Path::new("/home/ada/models"));
        assert_eq!(dir("$DISK/hub"), Path::new("/disk/hub"));
        assert_eq!(dir("${DISK}2/hub"), Path::new("/disk2/hub"));
        assert_eq!(dir("/a/$NONE/${NONE}/$"), Path::new("/a/$NONE/${NONE}/$"));
    }

    #[test]
    fn token_comes_from_the_environment_then_from_the_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let dir = home.path().to_str().unwrap();
        let token = |variables: &[(&str, &str)]| {
            let mut all = vec![("HF_HOME", dir)];
            all.extend_from_slice(variables);
            source(&all).token.map(|t| t.expose().to_owned())
        };
        assert_eq!(token(&[]).as_deref(), Some("hf_file"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]).as_deref(), Some("hf_old"));
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "a"), ("HF_TOKEN", " hf_new ")]).as_deref(), Some("hf_new"));
        assert_eq!(token(&[("HF_TOKEN", "x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", "/nowhere")]), None);
    }

    #[test]
    fn a_token_is_never_printed() {
        let source = source(&[("HF_TOKEN", "hf_secret")]);
        assert!(!format!("{source:?}").contains("hf_secret"));
    }

    #[test]
    fn network_is_off_unless_asked_for() {
        let mut asked = source(&[]);
        assert!(!asked.may_download());
        asked.allow_download = true;
        assert!(asked.may_download());
        for (name, value) in [("HF_HUB_OFFLINE", "1"), ("HF_HUB_OFFLINE", "true"), ("TRANSFORMERS_OFFLINE", "YES")] {
            assert!(source(&[(name, value)]).offline, "{name}={value}");
        }
        assert!(!source(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn endpoint_may_have_a_path_and_loses_its_slash() {
        assert_eq!(source(&[]).endpoint, "https://huggingface.co");
        assert_eq!(source(&[("HF_ENDPOINT", "https://mirror.example/hf/")]).endpoint, "https://mirror.example/hf");
    }
}
