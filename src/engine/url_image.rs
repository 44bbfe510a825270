//! Reads an image by URL when the caller has allowed it: https only, public addresses only, limits on size and time.
//!
//! The address check sits in the resolver that the HTTP client itself uses, so the addresses that were checked are the
//! ones that are connected to; a name that resolves differently a moment later changes nothing.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::error::{Error, Result};

/// Limits of a fetch.
#[derive(Debug, Clone, Copy)]
pub struct UrlPolicy {
    /// Most bytes of the body.
    pub max_bytes: u64,
    /// Time for all of it.
    pub timeout: Duration,
    /// Most redirects.
    pub max_redirects: usize,
    /// Plain http and addresses of this machine and its networks are allowed; for tests against a loopback server.
    trust_local: bool,
}

impl Default for UrlPolicy {
    fn default() -> Self {
        Self { max_bytes: 32 << 20, timeout: Duration::from_secs(20), max_redirects: 3, trust_local: false }
    }
}

/// Whether an image argument is a URL.
pub fn is_url(argument: &str) -> bool {
    argument.starts_with("https://") || argument.starts_with("http://")
}

/// Fetches the bytes of an image.
///
/// # Errors
/// [`Error::Url`] with the reason: not https, a private address, too large, too slow, not an image, no answer.
pub fn fetch(address: &str, policy: UrlPolicy) -> Result<Vec<u8>> {
    let fail = |reason: String| Error::Url { url: address.to_owned(), reason };
    let url = Url::parse(address).map_err(|error| fail(error.to_string()))?;
    allowed(&url, policy).map_err(&fail)?;
    let client = client(policy).map_err(|error| fail(chain(&error)))?;
    let response = client.get(url).send().map_err(|error| fail(chain(&error)))?;
    if !response.status().is_success() {
        return Err(fail(format!("the server answered {}", response.status())));
    }
    let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("unknown").to_owned();
    if !(kind.starts_with("image/") || kind.starts_with("application/octet-stream")) {
        return Err(fail(format!("the server sends {kind}, not an image")));
    }
    let too_large = || fail(format!("larger than {} MiB", policy.max_bytes >> 20));
    if response.content_length().is_some_and(|n| n > policy.max_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // The length header may lie or be absent: one byte over the limit is read to notice.
    response.take(policy.max_bytes + 1).read_to_end(&mut bytes).map_err(|error| fail(error.to_string()))?;
    if bytes.len() as u64 > policy.max_bytes { Err(too_large()) } else { Ok(bytes) }
}

fn client(policy: UrlPolicy) -> reqwest::Result<reqwest::blocking::Client> {
    // A second installation is refused, which is as good as the first one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .timeout(policy.timeout)
        .connect_timeout(policy.timeout / 2)
        // A proxy would resolve the name itself, past the check.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > policy.max_redirects {
                attempt.error("too many redirects")
            } else {
                match allowed(attempt.url(), policy) {
                    Ok(()) => attempt.follow(),
                    Err(reason) => attempt.error(reason),
                }
            }
        }))
        .dns_resolver(Arc::new(PublicResolver { trust_local: policy.trust_local }))
        .user_agent(concat!("clip-aware/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Scheme and literal addresses; names are checked when they are resolved.
fn allowed(url: &Url, policy: UrlPolicy) -> Result<(), String> {
    if policy.trust_local {
        return Ok(());
    }
    if url.scheme() != "https" {
        return Err(format!("`{}` is not allowed, only https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user name or a password is not allowed".into());
    }
    let literal = match url.host() {
        Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
        Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
        Some(Host::Domain(_)) => None,
        None => return Err("the URL names no host".into()),
    };
    match literal {
        Some(ip) if !is_public(ip) => Err(format!("{ip} is not a public address")),
        _ => Ok(()),
    }
}

#[derive(Debug)]
struct PublicResolver {
    trust_local: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let trust_local = self.trust_local;
        Box::pin(async move {
            // The blocking client runs this on a thread of its own, so a blocking look-up holds nobody up.
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = (host.as_str(), 0).to_socket_addrs()?.collect();
            if let Some(bad) = found.iter().find(|a| !trust_local && !is_public(a.ip())) {
                return Err(format!("{host} resolves to {}, which is not a public address", bad.ip()).into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether an address belongs to the public internet (IANA special-purpose registries, RFC 6890).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // IPv4 in its several IPv6 clothes: mapped, compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] => embedded(high, low) && !(high == 0 && low <= 1),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, documentation, and everything that is not global unicast (2000::/3).
        [0x2001, 0 | 0xdb8, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// An error with its causes; reqwest's own text hides them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// Answers each connection with one of `answers`, in order; returns the address.
    fn serve(answers: Vec<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut head = [0u8; 4096];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(&answer);
            }
        });
        format!("http://{address}/picture.png")
    }

    fn answer(kind: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn local() -> UrlPolicy {
        UrlPolicy { max_bytes: 1 << 20, timeout: Duration::from_secs(2), max_redirects: 2, trust_local: true }
    }

    #[test]
    fn a_picture_arrives_whole() {
        let body = vec![7u8; 5000];
        assert_eq!(fetch(&serve(vec![answer("image/png", &body)]), local()).unwrap(), body);
    }

    #[test]
    fn a_body_without_a_length_is_cut_off_at_the_limit() {
        let error = fetch(&serve(vec![answer("image/png", &vec![0; 2 << 20])]), local()).unwrap_err();
        assert!(error.to_string().contains("larger than 1 MiB"), "{error}");
    }

    #[test]
    fn a_page_is_not_an_image() {
        let error = fetch(&serve(vec![answer("text/html", b"<html>")]), local()).unwrap_err();
        assert!(error.to_string().contains("text/html"), "{error}");
    }

    #[test]
    fn a_silent_server_runs_into_the_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let policy = UrlPolicy { timeout: Duration::from_millis(300), ..local() };
        let started = std::time::Instant::now();
        let error = fetch(&format!("http://{}/x.png", listener.local_addr().unwrap()), policy).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(2), "{error}");
    }

    #[test]
    fn endless_redirects_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = [0u8; 4096];
                let _ = stream.read(&mut head);
                let redirect = format!(
                    "HTTP/1.1 302 Found\r\nlocation: http://{address}/again\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                let _ = stream.write_all(redirect.as_bytes());
            }
        });
        let error = fetch(&format!("http://{address}/x.png"), local()).unwrap_err();
        assert!(error.to_string().contains("too many redirects"), "{error}");
    }

    #[test]
    fn http_and_private_addresses_are_refused_before_any_connection() {
        for (address, reason) in [
            ("http://example.org/a.png", "only https"),
            ("https://127.0.0.1/a.png", "not a public address"),
            ("https://10.1.2.3/a.png", "not a public address"),
            ("https://169.254.169.254/latest/meta-data", "not a public address"),
            ("https://[::1]/a.png", "not a public address"),
            ("https://[::ffff:192.168.0.1]/a.png", "not a public address"),
            ("https://2130706433/a.png", "not a public address"),
            ("https://user:secret@example.org/a.png", "user name"),
            ("https://localhost/a.png", "not a public address"),
        ] {
            let error = fetch(address, UrlPolicy::default()).unwrap_err().to_string();
            assert!(error.contains(reason), "{address}: {error}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_not_public() {
        for ip in [
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fc00::1",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
