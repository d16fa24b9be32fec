//! References to models: `org/name`, with a revision, and with the file or the variant that is meant.

use crate::HubError;
use crate::name::{check_given, shortened};
use std::fmt;

/// Prefix of a reference that can't be taken for a path.
const SCHEME: &str = "hf://";

/// A repository of models: `org/name`, or a single name for the oldest ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoId(String);

/// What is meant of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The model in it.
    Model,
    /// The GGUF file whose name has this tag: `Q4_K_M`.
    Tag(String),
    /// One file.
    File(String),
}

/// `[hf://]ORG/NAME[@REVISION][:TAG | /FILE]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub repo: RepoId,
    /// A branch, tag or commit; `main` where none is named.
    pub revision: Option<String>,
    /// What is meant of it.
    pub part: Part,
}

impl RepoId {
    /// A name by the rules of the hub, which also make it a safe directory name.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let is_name = |part: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            let edge = |c: char| matches!(c, '-' | '.');
            (1..=96).contains(&part.len())
                && part.bytes().all(inner)
                && !part.starts_with(edge)
                && !part.ends_with(edge)
                && !part.contains("--")
                && !part.contains("..")
        };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
            let why = "expected ORG/NAME of letters, digits, -, _ and .";
            return Err(HubError::Usage(format!("{} is no name of a model on the hub: {why}", shortened(text))));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name: `org/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of the repository in the cache.
    pub(crate) fn dir_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }

    /// The repository of a directory in the cache.
    pub(crate) fn from_dir_name(name: &str) -> Option<Self> {
        Self::parse(&name.strip_prefix("models--")?.replacen("--", "/", 1)).ok()
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Reference {
    /// Reads a reference where nothing else can be meant.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        // The repository ends at the first mark, or at the second slash.
        let slash = rest.match_indices('/').nth(1).map(|(at, _)| at);
        let mark = rest.find(['@', ':']);
        let end = [slash, mark].into_iter().flatten().min().unwrap_or(rest.len());
        let repo = RepoId::parse(&rest[..end])?;
        let (revision, rest) = match rest[end..].strip_prefix('@') {
            Some(rest) => revision(rest)?,
            None => (None, &rest[end..]),
        };
        let part = match (rest.chars().next(), rest.get(1..)) {
            (None, _) => Part::Model,
            (Some(':'), Some(tag)) if !tag.is_empty() && !tag.contains(['/', ':', '@']) => Part::Tag(tag.to_owned()),
            (Some('/'), Some(file)) => {
                check_given("file", file)?;
                Part::File(file.to_owned())
            }
            _ => {
                let form = "[hf://]ORG/NAME[@REVISION][:TAG or /FILE]";
                return Err(HubError::Usage(format!("{} is no reference to a model: {form}", shortened(text))));
            }
        };
        Ok(Self { repo, revision, part })
    }

    /// Reads a reference where a path may be meant too: with `hf://`, or two names and a slash between them, unless the
    /// second one is a model file's.
    pub fn parse_if_meant(text: &str) -> Option<Result<Self, HubError>> {
        if text.starts_with(SCHEME) {
            return Some(Self::parse(text));
        }
        let is_file = |name: &str| crate::select::is_weights(name) || name.ends_with(".json");
        let is_meant = |reference: &Reference| {
            let name = reference.repo.as_str();
            name.contains('/') && !is_file(name)
        };
        Self::parse(text).ok().filter(is_meant).map(Ok)
    }

    /// The same with a revision that was given beside it.
    pub fn at(mut self, revision: Option<&str>) -> Result<Self, HubError> {
        let Some(given) = revision else { return Ok(self) };
        check_given("revision", given)?;
        if let Some(own) = self.revision.as_deref().filter(|own| *own != given) {
            return Err(HubError::Usage(format!("the reference names the revision {own:?}, --revision {given:?}")));
        }
        self.revision = Some(given.to_owned());
        Ok(self)
    }

    /// The revision, named or not.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

/// The revision at the start of `text`, and what follows. One with slashes is written with `%2F`, except for those that
/// the hub itself makes: `refs/pr/1`, `refs/convert/parquet`.
fn revision(text: &str) -> Result<(Option<String>, &str), HubError> {
    let of_the_hub = ["refs/pr/", "refs/convert/"].iter().find(|prefix| text.starts_with(**prefix));
    let from = of_the_hub.map_or(0, |prefix| prefix.len());
    let end = text[from..].find(['/', ':']).map_or(text.len(), |at| from + at);
    let revision = text[..end].replace("%2F", "/").replace("%2f", "/");
    check_given("revision", &revision)?;
    Ok((Some(revision), &text[end..]))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        if let Some(revision) = &self.revision {
            let plain = revision.starts_with("refs/pr/") || revision.starts_with("refs/convert/");
            write!(f, "@{}", if plain { revision.clone() } else { revision.replace('/', "%2F") })?;
        }
        match &self.part {
            Part::Model => Ok(()),
            Part::Tag(tag) => write!(f, ":{tag}"),
            Part::File(file) => write!(f, "/{file}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_and_written() {
        let tag = |tag: &str| Part::Tag(tag.to_owned());
        let file = |file: &str| Part::File(file.to_owned());
        for (text, repo, revision, part, shown) in [
            ("org/name", "org/name", None, Part::Model, "org/name"),
            ("hf://org/name", "org/name", None, Part::Model, "org/name"),
            ("hf://gpt2", "gpt2", None, Part::Model, "gpt2"),
            ("org/name@v1.0", "org/name", Some("v1.0"), Part::Model, "org/name@v1.0"),
            ("org/name:Q4_K_M", "org/name", None, tag("Q4_K_M"), "org/name:Q4_K_M"),
            ("org/n@dev:Q8_0", "org/n", Some("dev"), tag("Q8_0"), "org/n@dev:Q8_0"),
            ("org/n/a/b.gguf", "org/n", None, file("a/b.gguf"), "org/n/a/b.gguf"),
            ("hf://org/n@refs/pr/1/x.gguf", "org/n", Some("refs/pr/1"), file("x.gguf"), "org/n@refs/pr/1/x.gguf"),
            ("org/n@a%2Fb", "org/n", Some("a/b"), Part::Model, "org/n@a%2Fb"),
            ("gpt2@main", "gpt2", Some("main"), Part::Model, "gpt2@main"),
        ] {
            let found = Reference::parse(text).unwrap();
            assert_eq!(found.repo.as_str(), repo, "{text}");
            assert_eq!(found.revision.as_deref(), revision, "{text}");
            assert_eq!(found.part, part, "{text}");
            assert_eq!(found.to_string(), shown);
            assert_eq!(RepoId::from_dir_name(&found.repo.dir_name()), Some(found.repo));
        }
        for text in [
            "",
            "/",
            "a/",
            "/etc/passwd",
            "../x",
            "./a/b",
            "a/..",
            "a--b/c",
            "a/b--c",
            "-a/b",
            "a/b.",
            "a b/c",
            "hf://",
            "a/b:",
            "a/b:x/y",
            "a/b@",
            "a/b@../x",
            "a/b@x/../y",
            "a/b/../c",
            "a/b//c",
            "a/b/",
            "hf://a/b/c\0d",
            "a/b@x:",
        ] {
            assert!(matches!(Reference::parse(text), Err(HubError::Usage(_))), "{text:?}");
        }
    }

    #[test]
    fn a_path_is_not_taken_for_a_reference() {
        for (text, meant) in [
            ("org/name", true),
            ("hf://gpt2", true),
            ("hf://bad name", true),
            ("model.gguf", false),
            ("models/a.gguf", false),
            ("models/a.gguf/b.gguf", false),
            ("org/name/b.gguf", true),
            ("./org/name", false),
            ("/org/name", false),
            ("../org/name", false),
            ("~/org/name", false),
            ("org name/x", false),
        ] {
            assert_eq!(Reference::parse_if_meant(text).is_some(), meant, "{text}");
        }
    }

    #[test]
    fn two_revisions_must_be_one() {
        let at = |text: &str, given| Reference::parse(text).unwrap().at(given).map(|r| r.revision().to_owned());
        assert_eq!(at("a/b", None).unwrap(), "main");
        assert_eq!(at("a/b", Some("dev")).unwrap(), "dev");
        assert_eq!(at("a/b@dev", Some("dev")).unwrap(), "dev");
        assert!(at("a/b@dev", Some("main")).is_err());
        assert!(at("a/b", Some("../../x")).is_err());
    }
}
