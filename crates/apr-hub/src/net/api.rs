//! The hub's API: what a repository has at a revision, and what the hub knows of a file.

use super::http::{Answer, Ask, Transport, shown};
use super::retry::{Fail, until_well};
use super::settings::Settings;
use crate::name::{check_listed, is_commit, shortened};
use crate::{Digest, HubError, Observer, RepoId};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use ureq::http::{Method, Uri};

/// Longest answer of the API that is read, and most files of a repository.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
const MAX_FILES: usize = 100_000;

/// A hub, to be asked.
#[derive(Debug)]
pub struct Hub {
    pub(super) transport: Transport,
    pub(super) first_wait: Duration,
}

/// A repository at a revision.
#[derive(Clone, Debug)]
pub struct RepoInfo {
    /// The commit that the revision stands for now.
    pub commit: String,
    /// Its files; their names are checked.
    pub files: Vec<RemoteFile>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    /// Name, with `/`.
    pub name: String,
    /// Length, where the hub says so.
    pub bytes: Option<u64>,
    /// Digest of its content, where the hub says so.
    pub digest: Option<Digest>,
}

#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

impl Hub {
    /// A hub that is reached by these settings. No connection is made yet.
    pub fn new(settings: &Settings) -> Result<Self, HubError> {
        Ok(Self { transport: Transport::new(settings)?, first_wait: settings.first_wait })
    }

    /// What a repository has at a revision.
    pub fn info(&self, repo: &RepoId, revision: &str, observer: Observer<'_>) -> Result<RepoInfo, HubError> {
        let path = format!("/api/models/{repo}/revision/{}?blobs=true", escaped(revision, false));
        let url = self.transport.url(&path)?;
        let what = format!("{repo} at {revision}");
        let text = until_well(self.first_wait, observer, || {
            let answer = self.transport.send(&Ask { method: Method::GET, url: &url, from: 0, stay: false })?;
            expect_success(&answer, &what, &url)?;
            answer.text(&url, MAX_ANSWER_BYTES)
        })?;
        let listing: Listing = serde_json::from_slice(&text)
            .map_err(|error| HubError::Refused(format!("{}: not an answer of a hub: {error}", shown(&url))))?;
        repo_info(listing)
    }

    /// What the hub knows of a file without sending it: length and digest.
    pub(super) fn file(
        &self,
        repo: &RepoId,
        commit: &str,
        name: &str,
        observer: Observer<'_>,
    ) -> Result<RemoteFile, HubError> {
        let url = self.file_url(repo, commit, name)?;
        let answer = until_well(self.first_wait, observer, || {
            let answer = self.transport.send(&Ask { method: Method::HEAD, url: &url, from: 0, stay: true })?;
            let redirects = (300..400).contains(&answer.status);
            if !redirects {
                expect_success(&answer, name, &url)?;
            }
            Ok(answer)
        })?;
        let linked = answer.of_hub("x-linked-size").and_then(|size| size.trim().parse().ok());
        let own = answer.len_bytes().filter(|_| answer.status == 200);
        Ok(RemoteFile { name: name.to_owned(), bytes: linked.or(own), digest: announced(&answer) })
    }

    /// Where a file of a commit is.
    pub(super) fn file_url(&self, repo: &RepoId, commit: &str, name: &str) -> Result<Uri, HubError> {
        self.transport.url(&format!("/{repo}/resolve/{commit}/{}", escaped(name, true)))
    }
}

/// The digest of the whole file that the hub announces with it.
pub(super) fn announced(answer: &Answer) -> Option<Digest> {
    let etag = answer.of_hub("x-linked-etag").or_else(|| answer.of_hub("etag"))?.trim();
    Digest::from_etag(etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"'))
}

/// Holds a listing against what is taken from a server.
fn repo_info(listing: Listing) -> Result<RepoInfo, HubError> {
    if !is_commit(&listing.sha) {
        return Err(HubError::Refused(format!("the hub names the commit {}: refused", shortened(&listing.sha))));
    }
    if listing.siblings.len() > MAX_FILES {
        return Err(HubError::Refused(format!("the hub lists {} files: refused", listing.siblings.len())));
    }
    let mut seen = BTreeSet::new();
    let mut files = Vec::with_capacity(listing.siblings.len());
    for sibling in listing.siblings {
        let name = sibling.rfilename;
        check_listed(&name)?;
        if !seen.insert(name.clone()) {
            return Err(HubError::Refused(format!("the hub lists {} twice: refused", shortened(&name))));
        }
        let (etag, bytes) = match sibling.lfs {
            Some(lfs) => (lfs.sha256, lfs.size.or(sibling.size)),
            None => (sibling.blob_id, sibling.size),
        };
        let digest = etag.map(|etag| {
            Digest::from_etag(&etag).ok_or_else(|| {
                HubError::Refused(format!("{name}: the hub's digest of it is {}: refused", shortened(&etag)))
            })
        });
        files.push(RemoteFile { digest: digest.transpose()?, bytes, name });
    }
    Ok(RepoInfo { commit: listing.sha, files })
}

/// An answer of 200 or 206, or what another one means.
pub(super) fn expect_success(answer: &Answer, what: &str, url: &Uri) -> Result<(), Fail> {
    if matches!(answer.status, 200 | 206) {
        return Ok(());
    }
    let said = answer.of_hub("x-error-message").map_or(String::new(), |text| format!(" ({})", shortened(text)));
    let code = answer.of_hub("x-error-code").unwrap_or_default();
    Err(HubError::Remote(match (answer.status, code) {
        (404, "RevisionNotFound") => format!("the hub has no such revision: {what}"),
        (404, "EntryNotFound") => format!("the hub has no such file: {what}"),
        (404, _) => format!("the hub does not have {what}{said}"),
        (401, _) => {
            format!("the hub does not have {what}, or asks for another token than the one that was sent, if any{said}")
        }
        (403, _) => format!("the hub does not give out {what}: its terms must be accepted on its page first{said}"),
        (status, _) => return Err(HubError::Network(format!("{} answers {status}{said}", shown(url))).into()),
    })
    .into())
}

/// A name as it stands in a URL; with `path`, slashes stay.
fn escaped(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            b'/' if path => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
