//! Requests over HTTP: redirects, and who gets to see the token.

use super::retry::Fail;
use super::settings::{Settings, Token};
use crate::HubError;
use crate::name::shortened;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, Method, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const MAX_REDIRECTS: usize = 10;

/// A client that follows redirects by itself, because what is sent depends on where to.
#[derive(Debug)]
pub struct Transport {
    agent: ureq::Agent,
    endpoint: Uri,
    token: Option<Token>,
}

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Uri,
    /// The first byte wanted, where not all are.
    pub(crate) from: u64,
    /// Whether a redirect to where the bytes are is an answer in itself: its headers say what the hub knows of the file.
    pub(crate) stay: bool,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Headers of the last answer.
    pub(crate) headers: HeaderMap,
    /// Headers of what the hub itself answered, of the last answer that has each, on the way to where the bytes are.
    pub(crate) hub_headers: HeaderMap,
    body: ureq::Body,
}

impl Transport {
    pub(crate) fn new(settings: &Settings) -> Result<Self, HubError> {
        let endpoint = parse(&settings.endpoint)
            .ok_or_else(|| HubError::Usage(format!("HF_ENDPOINT: {} is no URL", shortened(&settings.endpoint))))?;
        if settings.token.is_some() && !is_private(&endpoint) {
            let detail = "the token would travel in the open; use https, or set HF_HUB_DISABLE_IMPLICIT_TOKEN=1";
            return Err(HubError::Usage(format!("HF_ENDPOINT is {}: {detail}", shown(&endpoint))));
        }
        let patience = Some(settings.patience);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("apr/", env!("CARGO_PKG_VERSION")))
            // What is measured and hashed are the bytes of the file.
            .accept_encoding("identity")
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_per_read(patience)
            .timeout_per_write(patience)
            .tls_config(tls(&endpoint)?);
        Ok(Self { agent: config.build().into(), endpoint, token: settings.token.clone() })
    }

    /// A URL below the endpoint; `path` is in its encoded form.
    pub(crate) fn url(&self, path: &str) -> Result<Uri, HubError> {
        let base = self.endpoint.path().trim_end_matches('/');
        let authority = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let scheme = self.endpoint.scheme_str().unwrap_or_default();
        let text = format!("{scheme}://{authority}{base}{path}");
        parse(&text).ok_or_else(|| HubError::Usage(format!("{} is no URL", shortened(&text))))
    }

    pub(crate) fn send(&self, ask: &Ask<'_>) -> Result<Answer, Fail> {
        let mut url = ask.url.clone();
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let at_hub = same_origin(&url, &self.endpoint);
            let mut request = ureq::http::Request::builder().method(ask.method.clone()).uri(url.clone());
            if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header(AUTHORIZATION, token.header());
            }
            if ask.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", ask.from));
            }
            let request = request.body(()).map_err(|error| HubError::Network(format!("{}: {error}", shown(&url))))?;
            let response = self.agent.run(request).map_err(|error| failure(&url, error))?;
            let (parts, body) = response.into_parts();
            if at_hub {
                for (name, value) in &parts.headers {
                    hub_headers.insert(name, value.clone());
                }
            }
            let status = parts.status.as_u16();
            let location = parts.headers.get(LOCATION).and_then(|value| value.to_str().ok());
            if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) {
                let next = join(&url, location).ok_or_else(|| {
                    HubError::Refused(format!("{} redirects to {}, which is no URL", shown(&url), shortened(location)))
                })?;
                let is_answer = parts.headers.contains_key("x-linked-etag") || !same_origin(&next, &self.endpoint);
                if !(ask.stay && at_hub && is_answer) {
                    if url.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                        let detail = format!("{} redirects from https to {}: refused", shown(&url), shown(&next));
                        return Err(HubError::Refused(detail).into());
                    }
                    url = next;
                    continue;
                }
            }
            if matches!(status, 408 | 429 | 500 | 502 | 503 | 504) {
                let seconds = header(&parts.headers, RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
                let message = format!("{} answers {}", shown(&url), parts.status);
                return Err(Fail::Passing { message, after: seconds.map(Duration::from_secs) });
            }
            return Ok(Answer { status, headers: parts.headers, hub_headers, body });
        }
        let detail = format!("{} redirects more than {MAX_REDIRECTS} times", shown(ask.url));
        Err(HubError::Network(detail).into())
    }
}

impl Answer {
    /// A header of the hub's own answer.
    pub(crate) fn of_hub(&self, name: &str) -> Option<&str> {
        header(&self.hub_headers, name)
    }

    /// The announced length of the body.
    pub(crate) fn len_bytes(&self) -> Option<u64> {
        header(&self.headers, CONTENT_LENGTH.as_str())?.trim().parse().ok()
    }

    pub(crate) fn into_reader(self) -> impl Read {
        self.body.into_reader()
    }

    /// The whole body of a short answer.
    pub(crate) fn text(self, url: &Uri, max_bytes: u64) -> Result<Vec<u8>, Fail> {
        let mut text = Vec::new();
        let read = self.into_reader().take(max_bytes + 1).read_to_end(&mut text);
        read.map_err(|error| Fail::passing(format!("{}: {error}", shown(url))))?;
        if text.len() as u64 > max_bytes {
            let detail = format!("{} answers with more than {max_bytes} bytes: refused", shown(url));
            return Err(HubError::Refused(detail).into());
        }
        Ok(text)
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A URL for people: what follows the `?` may be a secret.
pub(crate) fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    // Of user:password@host, the host.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{}://{host}{}", url.scheme_str().unwrap_or_default(), url.path())
}

fn parse(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    (matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty()))
        .then_some(url)
}

/// Where a redirect leads: RFC 3986, 5.2, without dots in the path, which servers don't send.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    if location.starts_with("http://") || location.starts_with("https://") {
        return parse(location);
    }
    if location.starts_with("//") {
        return parse(&format!("{scheme}:{location}"));
    }
    let path = match location.strip_prefix('/') {
        Some(_) => location.to_owned(),
        None => format!("{}/{location}", base.path().rsplit_once('/').map_or("", |(dir, _)| dir)),
    };
    parse(&format!("{scheme}://{authority}{path}"))
}

fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |url: &Uri| {
        url.port_u16().or(match url.scheme_str() {
            Some("https") => Some(443),
            _ => Some(80),
        })
    };
    let host = |url: &Uri| url.host().map(str::to_ascii_lowercase);
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// Whether nobody on the way can read what is sent there.
fn is_private(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme_str() == Some("https") || is_here
}

fn failure(url: &Uri, error: ureq::Error) -> Fail {
    use ureq::Error;
    let message = format!("{}: {error}", shown(url));
    match error {
        Error::Io(ref io) if is_tls(io) => HubError::Network(message).into(),
        Error::Io(_) | Error::Timeout(_) | Error::ConnectionFailed | Error::HostNotFound | Error::Protocol(_) => {
            Fail::passing(message)
        }
        _ => HubError::Network(message).into(),
    }
}

/// Whether a connection was refused by the rules of TLS, such as for its certificate; that stays so.
fn is_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// The roots that the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others), and cryptography in Rust.
fn tls(endpoint: &Uri) -> Result<TlsConfig, HubError> {
    let secure = endpoint.scheme_str() == Some("https");
    if let Some(lacking) = lacking_instructions() {
        // A server on this machine needs no encryption; whatever else is asked fails by name, in rustls.
        if secure {
            return Err(HubError::Unavailable(format!("https needs a processor with {lacking}")));
        }
        return Ok(TlsConfig::builder().build());
    }
    let found = rustls_native_certs::load_native_certs();
    if secure && found.certs.is_empty() {
        let detail =
            "this system has no certificates to know the hub by; install them (ca-certificates), or name a file";
        return Err(HubError::Unavailable(format!("{detail} of them with SSL_CERT_FILE")));
    }
    let roots: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls_graviola::default_provider()))
        .build())
}

/// An instruction set that the cryptography needs and this processor lacks: its own check is a panic.
fn lacking_instructions() -> Option<&'static str> {
    macro_rules! lacking {
        ($detected:ident, $($name:tt),+) => {
            [$(($name, std::arch::$detected!($name))),+].into_iter().find(|(_, there)| !there).map(|(name, _)| name)
        };
    }
    #[cfg(target_arch = "x86_64")]
    return lacking!(is_x86_feature_detected, "aes", "ssse3", "avx", "avx2", "adx", "bmi1", "bmi2", "pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return lacking!(is_aarch64_feature_detected, "neon", "aes", "sha2", "pmull");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let base = url("https://hub.co/a/b?x=1");
        for (location, expected) in [
            ("https://cdn.co/x?y", Some("https://cdn.co/x?y")),
            ("//cdn.co/x", Some("https://cdn.co/x")),
            ("/c/d", Some("https://hub.co/c/d")),
            ("c", Some("https://hub.co/a/c")),
            ("ftp://x/y", Some("https://hub.co/a/ftp://x/y")),
            ("https://", None),
        ] {
            assert_eq!(join(&base, location), expected.map(url), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (a, b, expected) in [
            ("https://hub.co/a", "https://HUB.co:443/b", true),
            ("https://hub.co", "http://hub.co", false),
            ("https://hub.co", "https://cdn.hub.co", false),
            ("https://hub.co", "https://hub.co.evil.com", false),
            ("http://127.0.0.1:80", "http://127.0.0.1", true),
            ("http://127.0.0.1:1", "http://127.0.0.1:2", false),
        ] {
            assert_eq!(same_origin(&url(a), &url(b)), expected, "{a} {b}");
        }
        assert_eq!(shown(&url("https://u:secret@cdn.co/x?Signature=secret")), "https://cdn.co/x");
        assert!(is_private(&url("http://127.0.0.1:8")) && is_private(&url("http://[::1]:8")));
        assert!(is_private(&url("https://hub.co")) && !is_private(&url("http://hub.co")));
    }
}
