//! A hub on this machine: the API, files, and everything that goes wrong with them, over 127.0.0.1.
#![allow(dead_code, reason = "each test binary uses another part")]

use sha2::Digest as _;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for.
    pub(crate) fn from(&self) -> usize {
        self.header("range").map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap())
    }
}

/// An answer, true or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// No length is announced: the body comes in chunks.
    pub(crate) chunked: bool,
    /// Announced in place of the length.
    pub(crate) announce: Option<usize>,
    /// Silence before the body.
    pub(crate) pause: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Reply { status, ..Reply::default() }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply { status: 200, body: body.into(), ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A server, until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_over(|stream| stream, answer)
    }

    /// A server that speaks through what `wrap` makes of a connection.
    pub(crate) fn start_over<S: Read + Write>(
        wrap: impl Fn(TcpStream) -> S + Send + Sync + 'static,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let wrap = Arc::new(wrap);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, ended, answer) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (log, answer, wrap) = (Arc::clone(&log), Arc::clone(&answer), Arc::clone(&wrap));
                // Whoever hangs up is no failure of the server.
                std::thread::spawn(move || stream.and_then(|stream| serve(wrap(stream), &log, &*answer)));
            }
        });
        Self { url, seen, stop }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of what was asked, with the first byte where it is not 0.
    pub(crate) fn asked(&self) -> Vec<String> {
        let line = |seen: &Seen| match seen.from() {
            0 => format!("{} {}", seen.method, seen.path),
            from => format!("{} {} from {from}", seen.method, seen.path),
        };
        self.seen().iter().map(line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.url.trim_start_matches("http://")));
    }
}

fn serve(stream: impl Read + Write, log: &Mutex<Vec<Seen>>, answer: &dyn Fn(&Seen) -> Reply) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = stream.by_ref().lines();
    let Some(request) = lines.next().transpose()? else { return Ok(()) };
    let mut words = request.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let seen = Seen { method, path, headers };
    log.lock().unwrap().push(seen.clone());
    let reply = answer(&seen);
    let stream = stream.get_mut();
    let mut head = format!("HTTP/1.1 {} Words\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match reply.chunked {
        true => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        false => head.push_str(&format!("Content-Length: {}\r\n\r\n", reply.announce.unwrap_or(reply.body.len()))),
    }
    stream.write_all(head.as_bytes())?;
    if seen.method == "HEAD" {
        return stream.flush();
    }
    std::thread::sleep(reply.pause);
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    if !reply.chunked {
        stream.write_all(body)?;
        return stream.flush();
    }
    for chunk in body.chunks(1000) {
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// A repository with files; those of more than 1000 bytes are kept by Git LFS.
#[derive(Clone, Debug)]
pub(crate) struct Repo {
    pub(crate) id: String,
    pub(crate) commit: String,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// Where files of LFS are sent from; here where there is none.
    pub(crate) cdn: Option<String>,
}

/// Bytes that differ from place to place.
pub(crate) fn noise(n: usize, seed: u8) -> Vec<u8> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(9) >> 8) as u8 ^ seed).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&sha2::Sha256::digest(bytes))
}

pub(crate) fn git_sha1(bytes: &[u8]) -> String {
    hex(&sha1::Sha1::digest([format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat()))
}

pub(crate) fn is_lfs(bytes: &[u8]) -> bool {
    bytes.len() > 1000
}

/// Name of the blob.
pub(crate) fn etag(bytes: &[u8]) -> String {
    if is_lfs(bytes) { sha256(bytes) } else { git_sha1(bytes) }
}

impl Repo {
    pub(crate) fn new(id: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let files: BTreeMap<_, _> = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect();
        let all: Vec<u8> = files.values().flatten().copied().collect();
        Self { id: id.to_owned(), commit: git_sha1(&all), files, cdn: None }
    }

    /// The answer of the API.
    pub(crate) fn listing(&self) -> serde_json::Value {
        let sibling = |(name, bytes): (&String, &Vec<u8>)| {
            let mut file = serde_json::json!({"rfilename": name, "size": bytes.len(), "blobId": git_sha1(bytes)});
            if is_lfs(bytes) {
                file["lfs"] = serde_json::json!({"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
            }
            file
        };
        serde_json::json!({
            "id": self.id, "modelId": self.id, "sha": self.commit, "private": false, "tags": [], "downloads": 0,
            "siblings": self.files.iter().map(sibling).collect::<Vec<_>>(),
        })
    }

    /// The answer of a hub in order.
    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap();
        for revision in ["main", self.commit.as_str()] {
            let api = format!("/api/models/{}", self.id);
            if path == format!("{api}/revision/{revision}") {
                return Reply::ok(self.listing().to_string()).with("Content-Type", "application/json");
            }
            if path == format!("{api}/tree/{revision}") {
                return Reply::ok(self.tree().to_string()).with("Content-Type", "application/json");
            }
            if let Some(bytes) =
                path.strip_prefix(&format!("/{}/resolve/{revision}/", self.id)).and_then(|name| self.files.get(name))
            {
                return self.resolve(seen, bytes);
            }
        }
        if path.starts_with("/cdn/") {
            let bytes = self.files.values().find(|bytes| path.ends_with(&sha256(bytes))).unwrap();
            return ranged(seen, bytes).with("ETag", "\"of-the-cdn\"");
        }
        Reply::status(404).with("X-Error-Code", "RepoNotFound")
    }

    fn tree(&self) -> serde_json::Value {
        let entry = |(name, bytes): (&String, &Vec<u8>)| {
            let mut file =
                serde_json::json!({"type": "file", "path": name, "size": bytes.len(), "oid": git_sha1(bytes)});
            if is_lfs(bytes) {
                file["lfs"] = serde_json::json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
            }
            file
        };
        self.files.iter().map(entry).collect()
    }

    fn resolve(&self, seen: &Seen, bytes: &[u8]) -> Reply {
        let reply = if is_lfs(bytes) {
            let digest = sha256(bytes);
            let host = self.cdn.as_deref().unwrap_or_default();
            Reply::status(302)
                .with("Location", format!("{host}/cdn/{digest}?Signature=secret"))
                .with("X-Linked-Etag", format!("\"{digest}\""))
                .with("X-Linked-Size", bytes.len().to_string())
        } else {
            ranged(seen, bytes).with("ETag", format!("\"{}\"", git_sha1(bytes)))
        };
        reply.with("X-Repo-Commit", &*self.commit)
    }
}

/// The bytes that were asked for.
pub(crate) fn ranged(seen: &Seen, bytes: &[u8]) -> Reply {
    match seen.from() {
        0 => Reply::ok(bytes),
        from if from >= bytes.len() => Reply::status(416),
        from => Reply { status: 206, ..Reply::ok(&bytes[from..]) }
            .with("Content-Range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
    }
}
