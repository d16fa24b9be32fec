//! `apr pull`, `apr list`, `apr rm`, and references to what is in the cache: the commands from outside, against a hub on
//! this machine.
#![cfg(feature = "net")]

#[path = "../../apr-hub/tests/support/mod.rs"]
mod hub;
mod support;

use hub::{Reply, Repo, Server, noise};
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{code, json, nano, repository, stderr, stdout};

/// A home directory with a cache in it, and a hub.
struct Home {
    dir: tempfile::TempDir,
    endpoint: String,
}

impl Home {
    fn new(endpoint: &str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), endpoint: endpoint.to_owned() }
    }

    fn apr(&self, arguments: &[&str]) -> Output {
        self.apr_with(&[], arguments)
    }

    fn apr_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        let mut apr = assert_cmd::Command::new(env!("CARGO_BIN_EXE_apr"));
        for (name, _) in std::env::vars() {
            if name.starts_with("HF_")
                || name.ends_with("_PROXY")
                || name.ends_with("_proxy")
                || name.starts_with("XDG")
            {
                apr.env_remove(name);
            }
        }
        apr.env("HOME", self.dir.path()).env("HF_ENDPOINT", &self.endpoint).env("HF_TOKEN", "hf_secret");
        apr.envs(variables.iter().copied()).current_dir(self.dir.path()).args(arguments);
        apr.timeout(std::time::Duration::from_secs(300)).output().unwrap()
    }

    /// The same, and it must go well.
    fn well(&self, arguments: &[&str]) -> Output {
        let output = self.apr(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
        output
    }

    /// It must end so, and say so.
    fn fails(&self, arguments: &[&str], expected: i32, says: &str) {
        let output = self.apr(arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(says), "{arguments:?}: {} should say {says:?}", stderr(&output));
        assert!(!stderr(&output).contains("hf_secret") && stdout(&output).is_empty(), "{output:?}");
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join(".cache/huggingface/hub")
    }
}

/// The files of a directory of `models/`.
fn transformers() -> Repo {
    let dir = repository("models/nano-qwen2");
    let read = |name: &'static str| (name, std::fs::read(dir.join(name)).unwrap());
    let mut files: Vec<_> =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
            .map(read)
            .to_vec();
    files.push(("pytorch_model.bin", noise(5000, 7)));
    Repo::new("org/nano", &files)
}

fn ggufs() -> Repo {
    let read = |name: &str| std::fs::read(nano(name)).unwrap();
    Repo::new("org/nano-GGUF", &[("nano-Q4_0.gguf", read("Q4_0")), ("nano-Q8_0.gguf", read("Q8_0"))])
}

fn serve(repos: Vec<Repo>) -> Server {
    Server::start(move |seen| {
        let replies = repos.iter().filter(|repo| {
            let is_blob = |bytes: &Vec<u8>| seen.path.contains(&hub::sha256(bytes));
            seen.path.contains(&format!("/{}/", repo.id)) || repo.files.values().any(is_blob)
        });
        replies.map(|repo| repo.answer(seen)).next().unwrap_or_else(|| Reply::status(404))
    })
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_model_is_pulled_listed_used_and_removed() {
    let repo = transformers();
    let total: usize = repo.files.iter().filter(|(name, _)| *name != "pytorch_model.bin").map(|(_, b)| b.len()).sum();
    let server = serve(vec![repo.clone()]);
    let home = Home::new(&server.url);
    assert!(stdout(&home.well(&["list"])).starts_with("no models in "));
    home.fails(&["inspect", "org/nano"], 3, "`apr pull org/nano` fetches it");
    home.fails(&["inspect", "org/nano"], 3, "org/nano: no such file or directory");
    assert!(server.asked().is_empty(), "looking at a model asks nobody");

    let dry = json(&home.well(&["pull", "org/nano", "--dry-run", "--json"]));
    assert_eq!((&dry["schema"], &dry["dry_run"]), (&"apr.pull/1".into(), &true.into()));
    assert_eq!((&dry["bytes"], &dry["bytes_fetched"]), (&total.into(), &total.into()));
    assert_eq!(dry["files"][0]["state"], "would_fetch");
    assert_eq!(dry["skipped"][0]["name"], "pytorch_model.bin");
    assert!(!home.cache().exists(), "a dry run writes nothing");

    let pulled = home.well(&["pull", "org/nano"]);
    let said = stdout(&pulled);
    for part in ["org/nano at main (commit ", "left there: pytorch_model.bin: a pickle", "model.safetensors", "fetched"]
    {
        assert!(said.contains(part), "{said} should say {part:?}");
    }
    assert!(!stderr(&pulled).contains("hf_secret") && !said.contains("hf_secret"));
    let path = said.lines().last().unwrap();
    assert_eq!(Path::new(path), home.cache().join("models--org--nano/snapshots").join(&repo.commit));
    assert!(stdout(&home.well(&["pull", "org/nano"])).contains("all of it in the cache"));

    // From here on, without a network.
    let asked = server.asked().len();
    let direct = json(&home.well(&["inspect", path, "--json"]));
    for name in ["org/nano", "hf://org/nano", "org/nano@main", &format!("org/nano@{}", repo.commit)] {
        let inspected = json(&home.well(&["inspect", name, "--json"]));
        assert_eq!((&inspected["path"], &inspected["spec"]), (&name.into(), &direct["spec"]));
    }
    home.well(&["validate", "org/nano"]);
    home.well(&["rosetta", "verify", "org/nano", text(&repository("models/nano-qwen2"))]);
    let offline = json(&home.well(&["pull", "org/nano", "--offline", "--verify", "--json"]));
    assert_eq!((&offline["offline"], &offline["bytes_fetched"]), (&true.into(), &0.into()));
    assert_eq!(offline["files"].as_array().unwrap().len(), 5);
    let by_variable = home.apr_with(&[("HF_HUB_OFFLINE", "1")], &["pull", "org/nano", "-o", "copy"]);
    assert_eq!(code(&by_variable), 0, "{by_variable:?}");
    let copy = home.dir.path().join("copy/model.safetensors");
    assert!(copy.symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read(copy).unwrap(), repo.files["model.safetensors"]);
    home.fails(&["pull", "org/nano", "--offline", "-o", "copy"], 7, "exists; --force replaces it");
    home.fails(&["pull", "org/other", "--offline"], 3, "org/other is not in the cache");
    home.fails(&["pull", "org/nano", "--offline", "--revision", "v2"], 3, "at revision v2; there is main");

    let list = json(&home.well(&["list", "--verify", "--json"]));
    let model = &list["models"][0];
    assert_eq!(
        (&model["repo"], &model["refs"][0], &model["format"]),
        (&"org/nano".into(), &"main".into(), &"safetensors".into())
    );
    assert_eq!(
        (&model["bytes"], &model["missing"], &list["bytes"]),
        (&total.into(), &serde_json::json!([]), &total.into())
    );
    assert!(model["last_used"].as_str().unwrap().ends_with('Z'));
    assert!(stdout(&home.well(&["ls"])).contains("complete"));
    let blob = home.cache().join("models--org--nano/blobs").join(hub::etag(&repo.files["model.safetensors"]));
    let mut damaged = repo.files["model.safetensors"].clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, damaged).unwrap();
    let verified = home.apr(&["list", "--verify"]);
    assert_eq!(code(&verified), 5, "{verified:?}");
    assert!(stdout(&verified).contains("DAMAGED: model.safetensors"), "{verified:?}");
    home.fails(&["pull", "org/nano", "--offline", "--verify"], 5, "model.safetensors is damaged");
    home.fails(&["pull", "org/nano", "--offline", "-o", "other"], 7, "its name says sha256:");
    assert!(!home.dir.path().join("other/model.safetensors").exists());
    std::fs::remove_file(&blob).unwrap();
    assert!(stdout(&home.well(&["list"])).contains("without model.safetensors"));
    home.fails(&["inspect", "org/nano"], 3, "only in part: model.safetensors is missing");

    home.fails(&["rm", "org/nano"], 2, "nobody to ask");
    home.fails(&["rm", "org/nano/config.json", "-y"], 2, "not single files");
    home.fails(&["rm", "org/other", "-y"], 3, "not in the cache");
    let would = json(&home.well(&["rm", "org/nano", "--dry-run", "--json"]));
    assert_eq!((&would["n_blobs"], &would["commits"][0]), (&4.into(), &repo.commit.as_str().into()));
    assert!(home.cache().join("models--org--nano").exists());
    home.well(&["rm", "org/nano", "-y"]);
    assert!(!home.cache().join("models--org--nano").exists());
    assert_eq!(server.asked().len(), asked);
}

#[test]
fn one_of_several_gguf_files_is_named_by_its_tag() {
    let server = serve(vec![ggufs()]);
    let home = Home::new(&server.url);
    home.fails(&["pull", "org/nano-GGUF"], 2, "several models: nano-Q4_0.gguf");
    home.fails(&["pull", "org/nano-GGUF:Q5_0"], 11, "no GGUF model has the tag Q5_0");
    let pulled = json(&home.well(&["pull", "org/nano-GGUF:q8_0", "--json"]));
    assert!(pulled["path"].as_str().unwrap().ends_with("/nano-Q8_0.gguf"), "{pulled}");
    for name in ["org/nano-GGUF:Q8_0", "org/nano-GGUF", "hf://org/nano-GGUF/nano-Q8_0.gguf"] {
        assert_eq!(json(&home.well(&["inspect", name, "--json"]))["format"], "gguf");
    }
    home.fails(&["inspect", "org/nano-GGUF:Q4_0"], 3, "`apr pull org/nano-GGUF:Q4_0`");
    let dry = json(&home.well(&["pull", "org/nano-GGUF", "--include", "*Q4*", "--dry-run", "--json"]));
    assert_eq!(dry["files"].as_array().unwrap().len(), 1);
    home.fails(&["pull", "org/nano-GGUF:Q8_0", "--include", "*"], 2, "leave --include away");
    let once = |expected: &str| server.asked().iter().filter(|line| line.contains(expected)).count();
    assert_eq!(once("nano-Q8_0.gguf"), 1);
}

#[test]
fn each_failure_has_its_status() {
    let server = Server::start(|seen| match seen.path.split('/').nth(4) {
        Some("gated") => Reply::status(403),
        Some("private") => Reply::status(401),
        Some("odd") => Reply::ok("<html>"),
        _ => Reply::status(404).with("X-Error-Code", "RepoNotFound"),
    });
    let home = Home::new(&server.url);
    home.fails(&["pull", "org/none"], 11, "the hub does not have org/none at main");
    home.fails(&["pull", "org/private"], 11, "asks for another token");
    home.fails(&["pull", "org/gated"], 11, "its terms must be accepted");
    home.fails(&["pull", "org/odd"], 10, "not an answer of a hub");
    home.fails(&["pull", "../etc"], 2, "no name of a model");
    home.fails(&["pull", "org/none@main", "--revision", "dev"], 2, "--revision");
    home.fails(&["pull", "org/none", "--force", "--offline"], 2, "cannot be used with");
    let output = home.apr_with(&[("HF_ENDPOINT", "ftp://x")], &["pull", "org/none"]);
    assert_eq!((code(&output), stderr(&output).contains("is no URL")), (2, true), "{output:?}");
    let report = json(&home.apr(&["pull", "org/none", "--json"]));
    assert_eq!((&report["schema"], &report["error"]["kind"]), (&"apr.error/1".into(), &"remote_not_found".into()));
}

/// Encrypted by rustls on both sides; the certificates are those of `tests/tls`, made with openssl.
fn serve_tls(repo: Repo) -> Server {
    use rustls::pki_types::pem::PemObject;
    let read = |name: &str| std::fs::read(repository("crates/apr/tests/tls").join(name)).unwrap();
    let certificate = rustls::pki_types::CertificateDer::from_pem_slice(&read("server.pem")).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&read("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(rustls_graviola::default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = std::sync::Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
    let wrap = move |stream| {
        rustls::StreamOwned::new(rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap(), stream)
    };
    Server::start_over(wrap, move |seen| repo.answer(seen))
}

#[test]
fn a_hub_is_known_by_its_certificate() {
    let repo = transformers();
    let server = serve_tls(repo.clone());
    let home = Home::new(&server.url.replace("http://127.0.0.1", "https://localhost"));
    let authority = repository("crates/apr/tests/tls/authority.pem");
    let trusting = |endpoint: &str, file: &Path| {
        let variables = [("SSL_CERT_FILE", text(file)), ("SSL_CERT_DIR", "none"), ("HF_ENDPOINT", endpoint)];
        home.apr_with(&variables, &["pull", "org/nano"])
    };
    let pulled = trusting(&home.endpoint, &authority);
    assert_eq!(code(&pulled), 0, "{pulled:?}");
    home.well(&["validate", "org/nano"]);
    // Another authority, another name, no authority at all.
    let other = repository("crates/apr/tests/tls/server.pem");
    let another_host = home.endpoint.replace("localhost", "127.0.0.1");
    let none = home.dir.path().join("none.pem");
    for (endpoint, file, expected, says) in [
        (&home.endpoint, &other, 10, "invalid peer certificate"),
        (&another_host, &authority, 10, "not valid for name"),
        (&home.endpoint, &none, 9, "SSL_CERT_FILE"),
    ] {
        let output = trusting(endpoint, file);
        assert_eq!(code(&output), expected, "{output:?}");
        assert!(stderr(&output).contains(says), "{output:?}");
        assert!(!stderr(&output).contains("trying again"), "what a certificate is stays so: {output:?}");
    }
}

/// A path is a path, also where a reference could be meant.
#[test]
fn a_directory_comes_before_the_cache() {
    let server = serve(vec![]);
    let home = Home::new(&server.url);
    std::fs::create_dir_all(home.dir.path().join("org")).unwrap();
    std::fs::copy(nano("Q8_0"), home.dir.path().join("org/nano")).unwrap();
    assert_eq!(json(&home.well(&["inspect", "org/nano", "--json"]))["format"], "gguf");
    home.fails(&["inspect", "hf://org/nano"], 3, "org/nano is not in the cache");
    home.fails(&["inspect", "hf://no name"], 2, "no name of a model");
    // The name of a file is no reference.
    home.fails(&["inspect", "org/none.gguf"], 3, "error: org/none.gguf: no such file or directory\n");
}
