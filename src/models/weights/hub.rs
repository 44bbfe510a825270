//! The hub's endpoints over HTTP: repository information, file metadata, ranges of files.
//!
//! One HTTP client serves every request, so that proxies, certificates, time-outs, retries, cancellation and the rule
//! for the token hold everywhere. `hf-hub` brings the addresses and the answer's type ([`Repo::api_url`], [`RepoInfo`]);
//! its own `Api` is not used for requests, because in version 0.5 it drops the response's headers on an error (no
//! `Retry-After`, no reason), waits without limit, cannot be cancelled, checks no hash and keeps the `.part` file of a
//! transfer whose server ignored the range.

use std::cell::RefCell;
use std::error::Error as _;
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::{Repo, RepoType};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use super::exchange::{self, Answer};
use super::retry::Patience;
use super::source::Source;
use crate::error::{Error, Result};

/// Redirects followed for one request; the hub needs two.
const MAX_REDIRECTS: usize = 8;
/// Longest description of a repository that is read, bytes; the hub's are some hundred kilobytes.
const MAX_INFO: usize = 32 << 20;

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Repeating it would not help.
    Final(Error),
    /// It may work next time.
    Passing {
        /// What happened.
        reason: String,
        /// The HTTP status, when there was an answer.
        status: Option<u16>,
        /// The server's own wish.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// A passing failure without an HTTP status.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self::Passing { reason: reason.into(), status: None, retry_after: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What the hub says of a file before it is fetched.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    /// The etag without its quotes: the blob's name, and for the hub itself its hash.
    pub(super) etag: String,
    /// Length in bytes, when it is told.
    pub(super) size: Option<u64>,
}

/// A connection to one endpoint for the length of one fetch.
#[derive(Debug)]
pub(super) struct Hub<'a> {
    client: reqwest::blocking::Client,
    endpoint: Url,
    source: &'a Source,
    cancel: &'a AtomicBool,
    patience: RefCell<Patience<'a>>,
}

impl<'a> Hub<'a> {
    /// # Errors
    /// The endpoint is no http(s) address, or TLS cannot be set up.
    pub(super) fn new(source: &'a Source, cancel: &'a AtomicBool) -> Result<Self> {
        let refuse = |reason: String| Error::Hub {
            what: "the hub".into(),
            endpoint: source.endpoint.clone(),
            reason,
            status: None,
        };
        let endpoint = Url::parse(&source.endpoint).map_err(|e| refuse(format!("HF_ENDPOINT is no address: {e}")))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(refuse("HF_ENDPOINT is no http or https address".into()));
        }
        let client = client(&endpoint, source.stall_timeout).map_err(|e| refuse(reason_of(&e)))?;
        Ok(Self { client, endpoint, source, cancel, patience: RefCell::new(Patience::new(&source.retry, cancel)) })
    }

    /// The caller's flag.
    pub(super) fn cancel(&self) -> &'a AtomicBool {
        self.cancel
    }

    /// Something arrived; failures in a row are counted anew.
    pub(super) fn progressed(&self) {
        self.patience.borrow_mut().renew();
    }

    /// Repeats `attempt` until it succeeds, fails for good, or the patience is used up.
    ///
    /// # Errors
    /// The final failure; [`Error::Cancelled`].
    pub(super) fn persist<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        loop {
            match attempt() {
                Ok(value) => {
                    self.progressed();
                    return Ok(value);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { reason, status, retry_after }) => {
                    tracing::debug!(what, reason, "attempt failed");
                    if !self.patience.borrow_mut().wait(retry_after)? {
                        let asked =
                            retry_after.map(|s| format!(", asks to wait {} s", s.as_secs())).unwrap_or_default();
                        return Err(self.error(
                            what,
                            &format!("{reason}{asked}; gave up after several attempts"),
                            status,
                        ));
                    }
                }
            }
        }
    }

    /// The commit that a revision stands for, and the names of its files.
    ///
    /// # Errors
    /// No such repository or revision, no access, or no answer.
    pub(super) fn info(&self, repository: &str, revision: &str) -> Result<RepoInfo> {
        let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
        let what = format!("{repository}@{revision}");
        self.persist(&what, || {
            let mut answer = self.send(&Method::GET, &format!("api/{}", repo.api_url()), &HeaderMap::new(), &what)?;
            self.expect(&answer, &[200], &what)?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.next()? {
                body.extend_from_slice(&chunk);
                if body.len() > MAX_INFO {
                    return Err(self.error(&what, "the description is unreasonably long", None).into());
                }
            }
            serde_json::from_slice(&body)
                .map_err(|e| self.error(&what, &format!("the answer is no repository description: {e}"), None).into())
        })
    }

    /// Etag and length of a file.
    ///
    /// # Errors
    /// No such file, no access, or no answer.
    pub(super) fn metadata(&self, repository: &str, commit: &str, file: &str) -> Result<Metadata> {
        let what = format!("{repository}/{file}");
        self.persist(&what, || {
            let address = format!("{repository}/resolve/{commit}/{file}");
            let answer = self.send(&Method::HEAD, &address, &HeaderMap::new(), &what)?;
            if !answer.is_redirect() {
                self.expect(&answer, &[200], &what)?;
            }
            // The linked headers describe the large file behind a redirect, the plain ones the answer itself.
            let etag =
                answer.header("x-linked-etag").or_else(|| answer.header("etag")).map(clean_etag).unwrap_or_default();
            if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
                return Err(self.error(&what, &format!("the server sent no usable etag (`{etag}`)"), None).into());
            }
            let plain = || if answer.is_redirect() { None } else { answer.header("content-length") };
            let size = answer.header("x-linked-size").or_else(plain).and_then(|size| size.trim().parse().ok());
            Ok(Metadata { etag: etag.to_owned(), size })
        })
    }

    /// Begins one attempt to read a file from byte `from` on: an answer with status 200, 206 or 416.
    ///
    /// # Errors
    /// As the server's answer or its absence says.
    pub(super) fn open(&self, repository: &str, commit: &str, file: &str, from: u64) -> Result<Answer<'a>, Failure> {
        let what = format!("{repository}/{file}");
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            headers.insert("range", range.map_err(|_| Failure::passing("bad range"))?);
        }
        let answer = self.send(&Method::GET, &format!("{repository}/resolve/{commit}/{file}"), &headers, &what)?;
        self.expect(&answer, &[200, 206, 416], &what)?;
        Ok(answer)
    }

    /// Sends a request below the endpoint and follows redirects. A `HEAD` stops at the redirect that already describes
    /// the file.
    fn send(&self, method: &Method, address: &str, headers: &HeaderMap, what: &str) -> Result<Answer<'a>, Failure> {
        let address = format!("{}/{address}", self.source.endpoint);
        let mut url = Url::parse(&address).map_err(|e| self.error(what, &format!("bad address: {e}"), None))?;
        for _ in 0..MAX_REDIRECTS {
            let mut request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            // Only the endpoint itself gets the token: redirects lead to content networks of third parties.
            if let Some(token) = self.source.token.as_ref().filter(|_| url.origin() == self.endpoint.origin()) {
                request = request.bearer_auth(token.expose());
            }
            let request = request.build().map_err(|e| self.error(what, &reason_of(&e), None))?;
            let answer = exchange::send(&self.client, request, self.source.stall_timeout, self.cancel)?;
            let described = *method == Method::HEAD && answer.header("x-linked-etag").is_some();
            if !answer.is_redirect() || described {
                return Ok(answer);
            }
            let target = answer.header("location").unwrap_or_default();
            let next =
                url.join(target).map_err(|e| self.error(what, &format!("bad redirect to `{target}`: {e}"), None))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(self.error(what, "redirected to an unencrypted address", None).into());
            }
            url = next;
        }
        Err(self.error(what, "redirected too often", None).into())
    }

    /// Turns any other status than the expected ones into a failure.
    fn expect(&self, answer: &Answer, expected: &[u16], what: &str) -> Result<(), Failure> {
        let status = answer.status();
        if expected.contains(&status) {
            return Ok(());
        }
        let said = answer.header("x-error-message").map(printable).filter(|text| !text.is_empty());
        let code = answer.header("x-error-code").unwrap_or_default();
        let reason = match (status, code) {
            (401, _) if self.source.token.is_some() => {
                "the token is not accepted, or the repository does not exist".into()
            }
            (401, _) => "the repository does not exist, or it is private and no token is set".into(),
            (403, _) => "access is restricted: its owner must grant it to your account".into(),
            (404, "RevisionNotFound") => "no such revision".into(),
            (404, "EntryNotFound") => "no such file in the repository".into(),
            (404, "RepoNotFound") => "no such repository".into(),
            (404, _) => "not found".into(),
            (429, _) => "too many requests".into(),
            (status, _) => format!("HTTP status {status}"),
        };
        let reason = said.map_or(reason.clone(), |said| format!("{reason} ({said})"));
        if matches!(status, 408 | 429) || status >= 500 {
            // The hub sends seconds; a date, which HTTP allows too, falls back to the usual pause.
            let seconds = answer.header("retry-after").and_then(|s| s.trim().parse().ok());
            return Err(Failure::Passing {
                reason,
                status: Some(status),
                retry_after: seconds.map(Duration::from_secs),
            });
        }
        Err(self.error(what, &reason, Some(status)).into())
    }

    fn error(&self, what: &str, reason: &str, status: Option<u16>) -> Error {
        Error::Hub { what: what.to_owned(), endpoint: self.source.endpoint.clone(), reason: reason.to_owned(), status }
    }
}

/// The client: no redirects of its own, since those would take the token along within a host, and one time limit for
/// connecting, for the headers and for every read.
fn client(endpoint: &Url, stall_timeout: Duration) -> reqwest::Result<reqwest::blocking::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error means that another part of the program has installed a provider already: that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = || {
        let builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("clip-aware/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(
                reqwest::header::ACCEPT_ENCODING,
                HeaderValue::from_static("identity"),
            )]))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(stall_timeout)
            .timeout(stall_timeout);
        match endpoint.host() {
            Some(url::Host::Ipv4(ip)) if ip.is_loopback() => builder.no_proxy(),
            Some(url::Host::Ipv6(ip)) if ip.is_loopback() => builder.no_proxy(),
            Some(url::Host::Domain("localhost")) => builder.no_proxy(),
            _ => builder,
        }
    };
    match builder().build() {
        // A machine without any certificates (a bare container) can still use a plain mirror in its own network.
        Err(_) if endpoint.scheme() == "http" => builder().tls_certs_only([]).build(),
        client => client,
    }
}

/// An error with its causes, innermost last: reqwest's own text names only the outermost.
pub(super) fn reason_of(error: &reqwest::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason = format!("{reason}: {text}");
        }
        cause = error.source();
    }
    reason
}

/// An etag without weakness mark and quotes.
fn clean_etag(etag: &str) -> &str {
    etag.trim().trim_start_matches("W/").trim_matches('"')
}

/// Text from a server, short and without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned()
}
