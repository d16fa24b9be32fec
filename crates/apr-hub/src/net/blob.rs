//! One blob: fetched into a file beside its place, from where an earlier attempt ended, and checked before it is there.

use super::api::{Hub, announced, expect_success};
use super::http::{Answer, Ask, header, shown};
use super::retry::{Attempts, Fail};
use crate::digest::Hasher;
use crate::{Digest, Event, HubError, Observer};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use ureq::http::header::CONTENT_RANGE;
use ureq::http::{Method, Uri};

/// Bytes after which a connection that breaks was worth while, and is not counted as a failure in a row.
const WORTH_WHILE_BYTES: u64 = 1 << 20;

/// A blob that is wanted.
pub(super) struct Blob<'a> {
    pub(super) url: Uri,
    /// Name of the file, for messages.
    pub(super) name: &'a str,
    pub(super) commit: &'a str,
    pub(super) bytes: u64,
    pub(super) digest: &'a Digest,
    /// Its place.
    pub(super) path: PathBuf,
    /// Where it grows.
    pub(super) incomplete: PathBuf,
}

/// The file that a blob grows in, with the digest of what is there.
struct Growing<'a> {
    blob: &'a Blob<'a>,
    file: File,
    len: u64,
    hasher: Hasher,
    received: u64,
}

/// Fetches a blob; the lock is the caller's. `fresh` leaves nothing of an earlier attempt. The observer is told how many
/// bytes of it are there; returned is how many came over the network.
pub(super) fn fetch_blob(hub: &Hub, blob: &Blob<'_>, fresh: bool, observer: Observer<'_>) -> Result<u64, HubError> {
    let mut growing = Growing::open(blob, fresh, observer)?;
    let mut resumed = growing.len > 0;
    let mut attempts = Attempts::new(hub.first_wait);
    loop {
        while growing.len < blob.bytes {
            let before = growing.len;
            if let Err(fail) = growing.go_on(hub, observer) {
                if growing.len >= before + WORTH_WHILE_BYTES {
                    attempts.got_on();
                }
                attempts.wait_after(fail, observer)?;
            }
        }
        let found = growing.hasher.clone().finish();
        if found == *blob.digest {
            return growing.finish();
        }
        growing.restart()?;
        if !resumed {
            let (name, url) = (blob.name, shown(&blob.url));
            fs::remove_file(&blob.incomplete).map_err(|error| HubError::io(&blob.incomplete, error))?;
            return Err(HubError::Refused(format!("{name}: {url} sent {found}, the hub announced {}", blob.digest)));
        }
        // What was there before may have been damaged on this disk: once more, from the start.
        resumed = false;
    }
}

impl<'a> Growing<'a> {
    fn open(blob: &'a Blob<'a>, fresh: bool, observer: Observer<'_>) -> Result<Self, HubError> {
        let io = |error| HubError::io(&blob.incomplete, error);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&blob.incomplete).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        if fresh || len > blob.bytes {
            file.set_len(0).map_err(io)?;
        }
        let mut growing = Self {
            blob,
            len: 0,
            hasher: blob.digest.hasher(blob.bytes),
            file: file.try_clone().map_err(io)?,
            received: 0,
        };
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(io)? {
                0 => break,
                n => {
                    growing.hasher.update(&buffer[..n]);
                    growing.len += n as u64;
                }
            }
            growing.tell(observer)?;
        }
        Ok(growing)
    }

    fn tell(&self, observer: Observer<'_>) -> Result<(), HubError> {
        match observer(Event::Bytes { done: self.len, total: self.blob.bytes }).is_break() {
            true => Err(HubError::Interrupted),
            false => Ok(()),
        }
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(|error| HubError::io(&self.blob.incomplete, error))?;
        self.len = 0;
        self.hasher = self.blob.digest.hasher(self.blob.bytes);
        Ok(())
    }

    /// One request for what is missing.
    fn go_on(&mut self, hub: &Hub, observer: Observer<'_>) -> Result<(), Fail> {
        let blob = self.blob;
        let answer = hub.transport.send(&Ask { method: Method::GET, url: &blob.url, from: self.len, stay: false })?;
        if answer.status == 416 {
            self.restart()?;
            return Err(Fail::passing(format!("{}: {} has no such range", blob.name, shown(&blob.url))));
        }
        expect_success(&answer, blob.name, &blob.url)?;
        self.hold_against(&answer)?;
        if answer.status == 200 && self.len > 0 {
            // The server sends all of it whatever is asked.
            self.restart()?;
        }
        let wanted = blob.bytes - self.len;
        if let Some(len) = answer.len_bytes().filter(|len| *len != wanted) {
            return Err(refused(blob, format!("{len} bytes come where {wanted} of {} are missing", blob.bytes)));
        }
        let io = |error| HubError::io(&blob.incomplete, error);
        self.file.seek(SeekFrom::Start(self.len)).map_err(io)?;
        let mut reader = answer.into_reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let broken = |error: std::io::Error| Fail::passing(format!("{}: {error}", blob.name));
            let n = reader.read(&mut buffer).map_err(broken)?;
            if n == 0 {
                break;
            }
            if n as u64 > blob.bytes - self.len {
                // Whoever sends too much sends something else.
                self.restart()?;
                return Err(refused(blob, format!("more than its {} bytes come", blob.bytes)));
            }
            self.file.write_all(&buffer[..n]).map_err(io)?;
            self.hasher.update(&buffer[..n]);
            self.len += n as u64;
            self.received += n as u64;
            self.tell(observer)?;
        }
        if self.len < blob.bytes {
            let detail = format!("{}: the connection ended after {} of {} bytes", blob.name, self.len, blob.bytes);
            return Err(Fail::passing(detail));
        }
        Ok(())
    }

    /// Whether an answer is about the file and the bytes that were asked for.
    fn hold_against(&self, answer: &Answer) -> Result<(), Fail> {
        let blob = self.blob;
        if let Some(commit) = answer.of_hub("x-repo-commit").filter(|commit| *commit != blob.commit) {
            let commit = crate::name::shortened(commit);
            return Err(refused(blob, format!("it comes from the commit {commit}, not from {}", blob.commit)));
        }
        if let Some(digest) = announced(answer).filter(|digest| digest != blob.digest) {
            return Err(refused(blob, format!("the hub announces {digest} now, and {} before", blob.digest)));
        }
        if answer.status == 206 {
            let range = header(&answer.headers, CONTENT_RANGE.as_str()).unwrap_or_default();
            let expected = format!("bytes {}-{}/{}", self.len, blob.bytes - 1, blob.bytes);
            if range.trim() != expected {
                let range = crate::name::shortened(range);
                return Err(refused(blob, format!("the range {range} comes where {expected:?} was asked for")));
            }
        }
        Ok(())
    }

    /// Brings it to disk and under its name.
    fn finish(self) -> Result<u64, HubError> {
        let blob = self.blob;
        self.file.sync_all().map_err(|error| HubError::io(&blob.incomplete, error))?;
        fs::rename(&blob.incomplete, &blob.path).map_err(|error| HubError::io(&blob.path, error))?;
        Ok(self.received)
    }
}

fn refused(blob: &Blob<'_>, detail: String) -> Fail {
    HubError::Refused(format!("{} from {}: {detail}", blob.name, shown(&blob.url))).into()
}
