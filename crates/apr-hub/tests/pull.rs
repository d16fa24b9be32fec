//! Pulls from a hub on this machine, in order and out of order.
#![cfg(feature = "net")]

mod support;

use apr_hub::{
    Cache, Event, FileState, Hub, HubError, Mode, PullPlan, Reference, Settings, Wanted, cached_snapshot, fetch,
    plan_pull, plan_removal, resolve,
};
use std::ops::ControlFlow;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Reply, Repo, Server, etag, git_sha1, noise, ranged, sha256};

const WEIGHTS: &str = "model.safetensors";

/// A model of 300,000 bytes and its config.
fn repo() -> Repo {
    Repo::new(
        "org/model",
        &[
            ("config.json", b"{}".to_vec()),
            (WEIGHTS, noise(300_000, 1)),
            ("pytorch_model.bin", noise(2000, 2)),
            ("onnx/model.onnx", noise(10, 3)),
        ],
    )
}

/// A cache of its own, and how a hub is asked.
struct Client {
    dir: tempfile::TempDir,
    hub: Hub,
    notes: Mutex<Vec<String>>,
}

struct Variables(Vec<(&'static str, String)>);

impl apr_hub::Environment for Variables {
    fn get(&self, name: &str) -> Option<std::ffi::OsString> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }
}

impl Client {
    fn new(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let variables = Variables(vec![("HF_ENDPOINT", server.url.clone()), ("HF_TOKEN", "hf_secret".to_owned())]);
        let mut settings = Settings::new(&variables).unwrap();
        settings.first_wait = Duration::from_millis(2);
        settings.patience = Duration::from_secs(60);
        Self { dir, hub: Hub::new(&settings).unwrap(), notes: Mutex::default() }
    }

    fn cache(&self) -> Cache {
        Cache::at(self.dir.path().join("hub"))
    }

    fn plan(&self, reference: &str, mode: Mode) -> Result<PullPlan, HubError> {
        let reference = Reference::parse(reference).unwrap();
        let wanted = Wanted { part: &reference.part, include: &[], companions: &["config.json"] };
        plan_pull(&self.hub, &self.cache(), &reference, &wanted, mode, &mut |event| self.hear(event))
    }

    fn hear(&self, event: Event<'_>) -> ControlFlow<()> {
        if let Event::Note(note) = event {
            self.notes.lock().unwrap().push(note.to_owned());
        }
        ControlFlow::Continue(())
    }

    fn pull_in(&self, reference: &str, mode: Mode) -> Result<u64, HubError> {
        let plan = self.plan(reference, mode)?;
        fetch(&self.hub, &self.cache(), &plan, mode, &mut |event| self.hear(event))
    }

    fn pull(&self, reference: &str) -> Result<u64, HubError> {
        self.pull_in(reference, Mode::default())
    }

    fn repo_dir(&self) -> PathBuf {
        self.cache().root().join("models--org--model")
    }

    fn blob(&self, content: &[u8]) -> PathBuf {
        self.repo_dir().join("blobs").join(etag(content))
    }

    fn incomplete(&self, content: &[u8]) -> PathBuf {
        self.repo_dir().join("blobs").join(format!("{}.incomplete", etag(content)))
    }

    fn put(&self, path: &Path, content: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// A hub that answers as `twist` has it, and in order where that has nothing to say. It is told how many times this path
/// was asked for before.
fn twisted(repo: &Repo, twist: impl Fn(&support::Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let repo = repo.clone();
    let counts = Mutex::new(std::collections::HashMap::<String, usize>::new());
    Server::start(move |seen| {
        let n = {
            let mut counts = counts.lock().unwrap();
            let n = counts.entry(seen.path.clone()).or_default();
            *n += 1;
            *n - 1
        };
        twist(seen, n).unwrap_or_else(|| repo.answer(seen))
    })
}

fn in_order(repo: &Repo) -> Server {
    twisted(repo, |_, _| None)
}

fn is_cdn(seen: &support::Seen) -> bool {
    seen.path.starts_with("/cdn/")
}

/// Every file below a directory: links as `-> target`, others as their length.
fn tree(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(&below).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            match std::fs::read_link(&path) {
                Ok(target) => lines.push(format!("{name} -> {}", target.display())),
                Err(_) if path.is_dir() => open.push(path),
                Err(_) => lines.push(format!("{name}: {}", path.metadata().unwrap().len())),
            }
        }
    }
    lines.sort();
    lines
}

#[test]
fn a_pull_fills_the_cache_and_a_second_one_fetches_nothing() {
    let repo = repo();
    let (config, weights) = (etag(&repo.files["config.json"]), etag(&repo.files[WEIGHTS]));
    let server = in_order(&repo);
    let client = Client::new(&server);
    assert_eq!(client.pull("org/model").unwrap(), 300_002);
    let commit = &repo.commit;
    let mut expected = [
        format!("blobs/{config}: 2"),
        format!("blobs/{weights}: 300000"),
        "refs/main: 40".to_owned(),
        format!("snapshots/{commit}/config.json -> ../../blobs/{config}"),
        format!("snapshots/{commit}/{WEIGHTS} -> ../../blobs/{weights}"),
    ];
    expected.sort();
    assert_eq!(tree(&client.repo_dir()), expected);
    let reference = Reference::parse("org/model").unwrap();
    let path = resolve(&client.cache(), &reference).unwrap();
    assert_eq!(std::fs::read(path.join(WEIGHTS)).unwrap(), repo.files[WEIGHTS]);

    let before = server.asked().len();
    assert_eq!(client.pull("org/model").unwrap(), 0);
    assert_eq!(server.asked()[before..], ["GET /api/models/org/model/revision/main?blobs=true"]);
    assert_eq!(client.pull_in("org/model", Mode { force: true, verify: false }).unwrap(), 300_002);
    assert_eq!(tree(&client.repo_dir()), expected);
    // A commit by its id needs no ref.
    assert_eq!(client.pull(&format!("org/model@{commit}")).unwrap(), 0);
    assert_eq!(tree(&client.repo_dir()), expected);
}

#[test]
fn what_makes_no_sense_is_asked_for_in_no_way() {
    let repo = repo();
    let server = in_order(&repo);
    let client = Client::new(&server);
    let plan = client.plan("org/model", Mode::default()).unwrap();
    assert_eq!(plan.skipped.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["pytorch_model.bin"]);
    assert_eq!(plan.missing_bytes(), 300_002);
    assert!(plan.files.iter().all(|file| file.state == FileState::Absent));
    assert!(!client.cache().root().exists(), "a plan writes nothing");
}

#[test]
fn a_connection_that_ends_early_is_resumed_where_it_ended() {
    let repo = repo();
    let content = repo.files[WEIGHTS].clone();
    let server = twisted(&repo, move |seen, n| {
        (is_cdn(seen) && n < 3).then(|| Reply { cut: Some(50_000), ..ranged(seen, &content) })
    });
    let client = Client::new(&server);
    assert_eq!(client.pull("org/model").unwrap(), 300_002, "no byte twice");
    let asked: Vec<_> = server.asked().into_iter().filter(|line| line.contains("/cdn/")).collect();
    let from = |line: &String| line.rsplit_once(" from ").map_or(0, |(_, from)| from.parse::<usize>().unwrap());
    assert_eq!(asked.iter().map(from).collect::<Vec<_>>(), [0, 50_000, 100_000, 150_000]);
    assert_eq!(std::fs::read(client.blob(&repo.files[WEIGHTS])).unwrap(), repo.files[WEIGHTS]);
    let notes = client.notes.lock().unwrap().join("\n");
    assert!(notes.contains("trying again") && !notes.contains("secret"), "{notes}");
}

#[test]
fn an_earlier_attempt_is_gone_on_from_whatever_it_left() {
    let repo = repo();
    let content = &repo.files[WEIGHTS];
    let mut damaged = content[..100_000].to_vec();
    damaged[77] ^= 1;
    let longer = [content.as_slice(), b"!"].concat();
    // What lies there, and how many bytes come then.
    for (there, expected) in [
        (&content[..100_000], 200_000),
        (&content[..], 0),
        (&longer, 300_000),
        (&damaged, 200_000 + 300_000),
        (b"", 300_000),
    ] {
        let server = in_order(&repo);
        let client = Client::new(&server);
        client.put(&client.incomplete(content), there);
        assert_eq!(client.pull("org/model").unwrap(), expected + 2, "{} bytes", there.len());
        assert_eq!(&std::fs::read(client.blob(content)).unwrap(), content);
        assert!(!client.incomplete(content).exists());
    }
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let repo = repo();
    let content = repo.files[WEIGHTS].clone();
    let server = twisted(&repo, move |seen, _| is_cdn(seen).then(|| Reply::ok(content.clone())));
    let client = Client::new(&server);
    client.put(&client.incomplete(&repo.files[WEIGHTS]), &repo.files[WEIGHTS][..100_000]);
    assert_eq!(client.pull("org/model").unwrap(), 300_002);
    assert_eq!(std::fs::read(client.blob(&repo.files[WEIGHTS])).unwrap(), repo.files[WEIGHTS]);
}

/// What a server sends in place of the weights, and what is said of it; nothing of it comes under a blob's name.
#[test]
fn wrong_bytes_lengths_and_ranges_are_refused() {
    let repo = repo();
    let content = repo.files[WEIGHTS].clone();
    let mut other = content.clone();
    other[299_999] ^= 1;
    let partial =
        |range: &str| Reply { status: 206, ..Reply::ok(&content[100_000..]) }.with("Content-Range", range.to_owned());
    let chunked = |body: &[u8]| Reply { chunked: true, ..Reply::ok(body) };
    for (name, there, reply, says) in [
        ("wrong bytes", 0, Reply::ok(other.clone()), format!("the hub announced sha256:{}", sha256(&content))),
        ("shorter", 0, Reply::ok(&content[1..]), "299999 bytes come where 300000".to_owned()),
        ("longer", 0, Reply::ok([&content[..], b"!"].concat()), "300001 bytes come where 300000".to_owned()),
        ("longer in chunks", 0, chunked(&[&content[..], b"!"].concat()), "more than its 300000 bytes".to_owned()),
        ("shorter in chunks", 0, chunked(&content[1..]), "ended after 299999 of 300000 bytes".to_owned()),
        ("another range", 100_000, partial("bytes 0-199999/300000"), "the range \"bytes 0-199999/300000\"".to_owned()),
        ("another size", 100_000, partial("bytes 100000-299999/300001"), "/300001".to_owned()),
        ("no range", 100_000, partial(""), "the range \"\"".to_owned()),
        ("gone on the cdn", 0, Reply::status(404), "does not have".to_owned()),
        ("the page of a portal", 0, Reply::ok("<html>Log in</html>"), "19 bytes come where 300000".to_owned()),
    ] {
        let server = twisted(&repo, move |seen, _| is_cdn(seen).then(|| reply.clone()));
        let client = Client::new(&server);
        if there > 0 {
            client.put(&client.incomplete(&content), &content[..there]);
        }
        let error = client.pull("org/model").unwrap_err().to_string();
        assert!(error.contains(&says), "{name}: {error}");
        assert!(!error.contains("Signature"), "{error}");
        assert!(!client.blob(&content).exists(), "{name}");
        assert!(resolve(&client.cache(), &Reference::parse("org/model").unwrap()).is_err(), "{name}");
        assert!(!client.repo_dir().join("refs/main").exists(), "{name}");
    }
}

/// What the hub says of a file when it sends it must be what it said when it listed it.
#[test]
fn a_hub_that_contradicts_itself_is_refused() {
    let repo = repo();
    for (header, value, says) in [
        ("X-Linked-Etag", "0".repeat(64), "announces sha256:0000"),
        ("X-Repo-Commit", "1".repeat(40), "comes from the commit \"1111"),
    ] {
        let honest = repo.clone();
        let server = twisted(&repo, move |seen, _| {
            seen.path.contains("resolve").then(|| honest.answer(seen).with(header, value.clone()))
        });
        let error = Client::new(&server).pull("org/model").unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_may_pass_is_tried_again_and_what_lasts_is_not() {
    let repo = repo();
    for (status, n_failures, expected) in
        [(429, 2, Ok(())), (503, 4, Ok(())), (500, 5, Err("given up after 5 attempts"))]
    {
        let server = twisted(&repo, move |seen, n| (is_cdn(seen) && n < n_failures).then(|| Reply::status(status)));
        let client = Client::new(&server);
        match (client.pull("org/model"), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{status}: {error}"),
            (found, _) => panic!("{status}: {found:?}"),
        }
        assert_eq!(client.notes.lock().unwrap().len(), n_failures.min(4));
    }
    for (status, code, says) in [
        (401, "", "asks for another token"),
        (403, "GatedRepo", "its terms must be accepted"),
        (404, "RepoNotFound", "does not have org/model at main"),
        (404, "RevisionNotFound", "no such revision: org/model at main"),
    ] {
        let server = twisted(&repo, move |_, _| Some(Reply::status(status).with("X-Error-Code", code)));
        let error = Client::new(&server).pull("org/model").unwrap_err();
        assert!(matches!(error, HubError::Remote(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(server.asked().len(), 1, "{status} is asked once");
    }
}

#[test]
fn a_server_says_how_long_to_wait() {
    let repo = repo();
    let server = twisted(&repo, |seen, n| {
        (seen.path.starts_with("/api") && n == 0).then(|| Reply::status(429).with("Retry-After", "1"))
    });
    let client = Client::new(&server);
    let start = Instant::now();
    client.plan("org/model", Mode::default()).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let server = twisted(&repo, |_, _| Some(Reply::status(503).with("Retry-After", "86400")));
    let error = Client::new(&server).pull("org/model").unwrap_err().to_string();
    assert!(error.contains("come back in 86400 s"), "{error}");
}

#[test]
fn a_silent_server_is_left_after_a_while() {
    let repo = repo();
    let content = repo.files[WEIGHTS].clone();
    let server = twisted(&repo, move |seen, n| {
        (is_cdn(seen) && n == 0).then(|| Reply { pause: Duration::from_secs(20), ..Reply::ok(content.clone()) })
    });
    let variables = Variables(vec![("HF_ENDPOINT", server.url.clone())]);
    let mut settings = Settings::new(&variables).unwrap();
    settings.first_wait = Duration::from_millis(2);
    // Long enough for a machine that is busy, far shorter than the silence.
    settings.patience = Duration::from_secs(1);
    let client = Client { hub: Hub::new(&settings).unwrap(), ..Client::new(&server) };
    let start = Instant::now();
    client.pull("org/model").unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut repo = repo();
    let far = repo.clone();
    let cdn = Server::start(move |seen| far.answer(seen));
    repo.cdn = Some(cdn.url.clone());
    let server = in_order(&repo);
    Client::new(&server).pull("org/model").unwrap();
    assert!(!server.seen().is_empty() && !cdn.seen().is_empty());
    for seen in server.seen() {
        assert_eq!(seen.header("authorization"), Some("Bearer hf_secret"), "{seen:?}");
    }
    for seen in cdn.seen() {
        assert_eq!(seen.header("authorization"), None, "{seen:?}");
        assert!(!seen.headers.values().any(|value| value.contains("hf_secret")), "{seen:?}");
    }
    // Nor in the open over a network.
    let variables =
        Variables(vec![("HF_ENDPOINT", "http://hub.example".to_owned()), ("HF_TOKEN", "hf_secret".to_owned())]);
    let error = Hub::new(&Settings::new(&variables).unwrap()).unwrap_err().to_string();
    assert!(error.contains("in the open") && !error.contains("hf_secret"), "{error}");
}

/// What the API says, changed in one place, and what is said of it.
#[test]
fn a_hostile_listing_is_refused_by_name() {
    let repo = repo();
    let file = |name: &str| serde_json::json!({"rfilename": name, "size": 1, "blobId": "0".repeat(40)});
    type Change = Box<dyn Fn(&mut serde_json::Value)>;
    let adding = |name: &'static str| -> Change {
        Box::new(move |listing| listing["siblings"].as_array_mut().unwrap().push(file(name)))
    };
    let setting = |key: &'static str, value: serde_json::Value| -> Change {
        Box::new(move |listing| listing["siblings"][1][key] = value.clone())
    };
    // In order of their names, the second file is the weights.
    let changes: Vec<(Change, &str)> = vec![
        (adding("../../../evil"), "\"../../../evil\""),
        (adding("/etc/passwd"), "absolute path"),
        (adding("a\0b"), "'\\0'"),
        (adding("..\\evil"), "'\\\\'"),
        (adding("config.json"), "twice"),
        (Box::new(|listing| listing["sha"] = "../../x".into()), "the commit \"../../x\""),
        (Box::new(|listing| listing["sha"] = "A".repeat(40).into()), "the commit"),
        (setting("lfs", serde_json::json!({"sha256": "../../../x", "size": 1})), "digest of it is \"../../../x\""),
        (setting("size", (-1).into()), "not an answer of a hub"),
        (Box::new(|listing| listing["siblings"] = "none".into()), "not an answer of a hub"),
        (Box::new(move |listing| listing["siblings"] = vec![file("a"); 100_001].into()), "100001 files"),
    ];
    for (change, says) in changes {
        let mut listing = repo.listing();
        change(&mut listing);
        let body = listing.to_string();
        let server = Server::start(move |_| Reply::ok(body.clone()));
        let client = Client::new(&server);
        let error = client.pull("org/model").unwrap_err();
        assert!(matches!(error, HubError::Refused(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!client.cache().root().exists(), "nothing is written");
    }
    let server = Server::start(|_| Reply { announce: Some(0), ..Reply::status(200) });
    assert!(Client::new(&server).pull("org/model").unwrap_err().to_string().contains("not an answer"));
}

#[test]
fn a_size_that_no_disk_has_is_refused_before_anything_is_fetched() {
    let repo = repo();
    let mut listing = repo.listing();
    listing["siblings"][1]["lfs"]["size"] = (1u64 << 60).into();
    let body = listing.to_string();
    let server = twisted(&repo, move |seen, _| seen.path.starts_with("/api").then(|| Reply::ok(body.clone())));
    let error = Client::new(&server).pull("org/model").unwrap_err().to_string();
    assert!(error.contains("1152921504606846978 bytes are to be written"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_hub_without_sizes_in_its_listing_is_asked_for_each_file() {
    let repo = repo();
    let mut listing = repo.listing();
    for file in listing["siblings"].as_array_mut().unwrap() {
        let name = file["rfilename"].clone();
        *file = serde_json::json!({ "rfilename": name });
    }
    let body = listing.to_string();
    let server = twisted(&repo, move |seen, _| seen.path.starts_with("/api").then(|| Reply::ok(body.clone())));
    let client = Client::new(&server);
    assert_eq!(client.pull("org/model").unwrap(), 300_002);
    assert_eq!(server.asked().iter().filter(|line| line.starts_with("HEAD")).count(), 2);
    assert_eq!(std::fs::read(client.blob(&repo.files[WEIGHTS])).unwrap(), repo.files[WEIGHTS]);
    // Without a digest, nothing says that what comes is what was meant.
    let server = twisted(&repo, {
        let body = listing.to_string();
        move |seen, _| match seen.method.as_str() {
            "HEAD" => Some(Reply::ok("{}").with("ETag", "\"v1\"")),
            _ => seen.path.starts_with("/api").then(|| Reply::ok(body.clone())),
        }
    });
    let error = Client::new(&server).pull("org/model").unwrap_err().to_string();
    assert!(error.contains("does not say its length and digest"), "{error}");
}

#[test]
fn redirects_end() {
    let server = Server::start(|seen| Reply::status(302).with("Location", seen.path.clone()));
    let error = Client::new(&server).pull("org/model").unwrap_err().to_string();
    assert!(error.contains("more than 10 times"), "{error}");
}

#[test]
fn pulls_side_by_side_fetch_each_file_once() {
    let repo = repo();
    let slow = repo.clone();
    let server = twisted(&repo, move |seen, _| {
        is_cdn(seen).then(|| Reply { pause: Duration::from_millis(300), ..slow.answer(seen) })
    });
    let client = Client::new(&server);
    let fetched: u64 = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4).map(|_| scope.spawn(|| client.pull("org/model").unwrap())).collect();
        pulls.into_iter().map(|pull| pull.join().unwrap()).sum()
    });
    assert_eq!(fetched, 300_002);
    assert_eq!(std::fs::read(client.blob(&repo.files[WEIGHTS])).unwrap(), repo.files[WEIGHTS]);
}

#[test]
fn damage_is_found_and_mended_where_it_is_looked_for() {
    let repo = repo();
    let content = &repo.files[WEIGHTS];
    let server = in_order(&repo);
    let client = Client::new(&server);
    client.pull("org/model").unwrap();
    let mut damaged = content.clone();
    damaged[5] ^= 1;
    std::fs::write(client.blob(content), &damaged).unwrap();
    let snapshot = || cached_snapshot(&client.cache(), &Reference::parse("org/model").unwrap()).unwrap();
    assert_eq!(snapshot().damaged(&mut |_| ControlFlow::Continue(())).unwrap(), [WEIGHTS]);
    assert_eq!(client.pull("org/model").unwrap(), 0, "its length is right");
    assert_eq!(client.pull_in("org/model", Mode { force: false, verify: true }).unwrap(), 300_000);
    assert!(snapshot().damaged(&mut |_| ControlFlow::Continue(())).unwrap().is_empty());
    // A length is seen without being looked for.
    std::fs::write(client.blob(content), b"short").unwrap();
    assert_eq!(client.pull("org/model").unwrap(), 300_000);
    assert_eq!(&std::fs::read(client.blob(content)).unwrap(), content);
}

#[test]
fn a_pull_that_is_stopped_goes_on_later() {
    let repo = repo();
    let server = in_order(&repo);
    let client = Client::new(&server);
    let plan = client.plan("org/model", Mode::default()).unwrap();
    let mut stop = |event: Event<'_>| match event {
        Event::Bytes { done, .. } if done > 1000 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let error = fetch(&client.hub, &client.cache(), &plan, Mode::default(), &mut stop).unwrap_err();
    assert!(matches!(error, HubError::Interrupted), "{error}");
    let error = resolve(&client.cache(), &Reference::parse("org/model").unwrap()).unwrap_err().to_string();
    assert!(error.contains("not in the cache"), "{error}");
    let left = client.incomplete(&repo.files[WEIGHTS]).metadata().unwrap().len();
    assert!((1..300_000).contains(&left), "{left}");
    let planned = client.plan("org/model", Mode::default()).unwrap();
    assert_eq!(planned.files[1].state, FileState::Partial(left));
    assert_eq!(client.pull("org/model").unwrap(), 300_000 - left);
}

/// Two commits share their weights.
#[test]
fn removing_a_revision_leaves_what_others_have() {
    let old = repo();
    let mut new = old.clone();
    new.files.insert("config.json".to_owned(), b"{\"new\": 1}".to_vec());
    new.commit = git_sha1(b"new");
    let turn = AtomicUsize::new(0);
    let (first, second) = (old.clone(), new.clone());
    let server = Server::start(move |seen| match turn.load(Ordering::SeqCst) {
        0 if seen.path.starts_with("/api") && seen.path.contains("main") => {
            turn.store(1, Ordering::SeqCst);
            first.answer(seen)
        }
        _ if seen.path.contains(&first.commit) || seen.path.starts_with("/cdn") => first.answer(seen),
        _ => second.answer(seen),
    });
    let client = Client::new(&server);
    assert_eq!(client.pull("org/model").unwrap(), 300_002);
    assert_eq!(client.pull("org/model").unwrap(), 10, "the weights are there");
    let cache = client.cache();
    let remove = |reference: &str| {
        let reference = Reference::parse(reference).unwrap();
        let removal = plan_removal(&cache, &reference).unwrap();
        removal.run(&cache, &reference).unwrap();
        removal
    };
    // Somebody's file outside, in reach of a link: a link goes, never what it leads to.
    let outside = client.dir.path().join("outside");
    std::fs::write(&outside, "mine").unwrap();
    let snapshots = client.repo_dir().join("snapshots");
    symlink(&outside, snapshots.join(&old.commit).join("evil.gguf")).unwrap();

    let removal = remove(&format!("org/model@{}", old.commit));
    assert_eq!(removal.blobs, [(git_sha1(b"{}"), 2)]);
    assert_eq!((removal.kept, removal.refs.len()), (1, 0), "main is another commit now");
    assert!(!snapshots.join(&old.commit).exists());
    assert_eq!(std::fs::read(&outside).unwrap(), b"mine");
    let path = resolve(&cache, &Reference::parse("org/model").unwrap()).unwrap();
    assert_eq!(std::fs::read(path.join(WEIGHTS)).unwrap(), old.files[WEIGHTS]);

    let removal = remove("org/model@main");
    assert_eq!((removal.blobs.len(), removal.refs.as_slice()), (2, &["main".to_owned()][..]));
    assert_eq!(removal.len_bytes(), 300_010);
    assert!(tree(&client.repo_dir()).is_empty());
    remove("org/model");
    assert!(!client.repo_dir().exists());
    assert!(plan_removal(&cache, &Reference::parse("org/model").unwrap()).is_err());
    assert!(plan_removal(&cache, &Reference::parse("org/model:Q8_0").unwrap()).is_err());
}
