//! Which files of a repository are wanted: those that a model of a format that is read consists of.

use crate::{HubError, Part, glob};
use std::collections::BTreeMap;

/// A file that there is.
#[derive(Clone, Debug)]
pub struct Available<'a> {
    /// Name in the repository.
    pub name: &'a str,
    /// Length, where it is known.
    pub bytes: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The part of the repository that the reference means.
    pub part: &'a Part,
    /// Patterns of names, in place of the choice made here; none for that choice.
    pub include: &'a [String],
    /// Names of the files that belong to SafeTensors weights.
    pub companions: &'a [&'a str],
}

/// What is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Names of the files, ascending.
    pub files: Vec<String>,
    /// The file to open; absent where that is the directory.
    pub main: Option<String>,
    /// Weights that are left where they are, with the reason.
    pub skipped: Vec<Skipped>,
}

/// A file that is not wanted although it may hold weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: &'static str,
}

const PICKLE: &str = "a pickle, which can run code when it is read; SafeTensors, GGUF and APR can't";
const NOT_OF_IT: &str = "not of the model that was chosen; --include takes it";

/// Whether a file holds weights that this project reads, by its name.
pub(crate) fn is_weights(name: &str) -> bool {
    [".safetensors", ".gguf", ".apr"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a file says which files the tensors of a split model are in, by its name.
pub(crate) fn is_index(name: &str) -> bool {
    [".safetensors.index.json", ".apr.index.json"].iter().any(|ending| name.ends_with(ending))
}

/// Whether a file is, by its name, one that running Python's unpickler would be needed for.
fn is_pickle(name: &str) -> bool {
    [".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle"].iter().any(|ending| name.to_ascii_lowercase().ends_with(ending))
}

/// Of a file of a split model, `model-00002-of-00003.gguf`: what is before the number, and the names of all.
pub(crate) fn shard_set(name: &str) -> Option<(&str, Vec<String>)> {
    /// More files than any model is split into.
    const MAX_SHARDS: usize = 10_000;
    let (stem, ending) = name.rsplit_once('.')?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (base, index) = rest.rsplit_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<usize>().ok()).flatten();
    let n = number(count).filter(|n| (1..=MAX_SHARDS).contains(n) && count.len() == 5)?;
    number(index).filter(|i| (1..=n).contains(i) && index.len() == 5)?;
    Some((base, (1..=n).map(|i| format!("{base}-{i:05}-of-{n:05}.{ending}")).collect()))
}

/// Chooses among the files of a repository.
///
/// # Errors
/// Where nothing is what was asked for, or several models are; both name what there is.
pub fn select(there: &[Available<'_>], wanted: &Wanted<'_>) -> Result<Selection, HubError> {
    let names = || there.iter().map(|file| file.name);
    let (mut files, main) = if wanted.include.is_empty() {
        match wanted.part {
            Part::File(file) => one_file(there, file, wanted.companions)?,
            Part::Tag(tag) => one_of(there, ".gguf", Some(tag))?,
            Part::Model => whole_model(there, wanted.companions)?,
        }
    } else {
        if *wanted.part != Part::Model {
            return Err(HubError::Usage(
                "the reference names a file or a tag already; leave --include away".to_owned(),
            ));
        }
        let is_meant = |name: &&str| wanted.include.iter().any(|pattern| glob::matches(pattern, name));
        (names().filter(is_meant).filter(|name| !is_pickle(name)).map(str::to_owned).collect(), None)
    };
    files.sort();
    let skipped = names().filter(|name| !files.iter().any(|file| file == name)).filter_map(|name| {
        let reason = match () {
            () if is_pickle(name) => PICKLE,
            () if is_weights(name) => NOT_OF_IT,
            () => return None,
        };
        Some(Skipped { name: name.to_owned(), reason })
    });
    let skipped: Vec<Skipped> = skipped.collect();
    if files.is_empty() {
        let patterns = wanted.include.join(", ");
        let pickles = skipped.iter().filter(|file| file.reason == PICKLE).count();
        let why = if pickles > 0 { "; pickles, which can run code when they are read, are not fetched" } else { "" };
        return Err(HubError::Remote(format!("no file of the repository matches {patterns}{why}")));
    }
    Ok(Selection { files, main, skipped })
}

type Files = (Vec<String>, Option<String>);

/// A file that is named, with the rest of its split model, and beside SafeTensors weights what describes the model.
fn one_file(there: &[Available<'_>], file: &str, companions: &[&str]) -> Result<Files, HubError> {
    if !there.iter().any(|available| available.name == file) {
        return Err(HubError::Remote(format!("the repository has no file {file:?}")));
    }
    if is_pickle(file) {
        return Err(HubError::Usage(format!("{file} is {PICKLE}")));
    }
    let mut files: Vec<String> = vec![file.to_owned()];
    if let Some((_, shards)) = shard_set(file) {
        files.extend(shards.into_iter().filter(|shard| shard != file && there.iter().any(|f| f.name == shard)));
    }
    if file.ends_with(".apr") {
        files.extend(manifest(there, file));
    } else if file.ends_with(".safetensors") || is_index(file) {
        let dir = directory(file);
        let beside = there.iter().filter(|f| f.name != file && directory(f.name) == dir);
        let belongs = |name: &str| companions.contains(&base(name));
        files.extend(beside.filter(|f| belongs(f.name)).map(|f| f.name.to_owned()));
    }
    Ok((files, Some(file.to_owned())))
}

/// The manifest beside a file of a split APR model.
fn manifest(there: &[Available<'_>], file: &str) -> Option<String> {
    let is_it = |name: &str| name.ends_with(".apr.index.json") && directory(name) == directory(file);
    let found = shard_set(file).and_then(|_| there.iter().find(|available| is_it(available.name)));
    found.map(|available| available.name.to_owned())
}

/// The model in the top directory: SafeTensors before GGUF before APR.
fn whole_model(there: &[Available<'_>], companions: &[&str]) -> Result<Files, HubError> {
    let top: Vec<&str> = there.iter().map(|file| file.name).filter(|name| !name.contains('/')).collect();
    let tensors: Vec<&str> = top.iter().copied().filter(|name| name.ends_with(".safetensors")).collect();
    if !tensors.is_empty() {
        let indexed = top.contains(&"model.safetensors.index.json");
        // Beside the model may lie the same weights in the layout of their author's own program, or an adapter.
        let is_shard = |name: &str| shard_set(name).is_some_and(|(base, _)| !base.starts_with("consolidated"));
        let has_shards = indexed && tensors.iter().any(|name| is_shard(name));
        let is_single = !indexed && tensors.contains(&"model.safetensors");
        let is_part = |name: &str| match () {
            () if is_index(name) => name.ends_with(".safetensors.index.json"),
            () if !name.ends_with(".safetensors") => companions.contains(&name),
            () if is_single => name == "model.safetensors",
            () => !has_shards || is_shard(name),
        };
        return Ok((top.iter().filter(|name| is_part(name)).map(|name| (*name).to_owned()).collect(), None));
    }
    for ending in [".gguf", ".apr"] {
        if there.iter().any(|file| file.name.ends_with(ending)) {
            return one_of(there, ending, None);
        }
    }
    let pickles: Vec<&str> = there.iter().map(|file| file.name).filter(|name| is_pickle(name)).take(3).collect();
    let why = match pickles.as_slice() {
        [] => String::new(),
        some => format!("; {} is {PICKLE}", some.join(", ")),
    };
    Err(HubError::Remote(format!("the repository has no SafeTensors, GGUF or APR model{why}")))
}

/// The only model in files with this ending, or the one with a tag.
fn one_of(there: &[Available<'_>], ending: &str, tag: Option<&str>) -> Result<Files, HubError> {
    // Files of a split model are one model. What only encodes images or predicts ahead belongs to another one.
    let mut models: BTreeMap<&str, (Vec<String>, Option<u64>)> = BTreeMap::new();
    for file in there.iter().filter(|file| file.name.ends_with(ending) && !base(file.name).starts_with("mmproj")) {
        let model = shard_set(file.name).map_or(file.name, |(base, _)| base);
        let (files, bytes) = models.entry(model).or_insert((Vec::new(), Some(0)));
        files.push(file.name.to_owned());
        *bytes = bytes.zip(file.bytes).map(|(a, b)| a.saturating_add(b));
    }
    let list = |models: &BTreeMap<&str, (Vec<String>, Option<u64>)>| {
        let shown = models.iter().take(24).map(|(name, (_, bytes))| match bytes {
            Some(bytes) if *bytes < 1_000_000_000 => format!("{name} ({:.1} MB)", *bytes as f64 / 1e6),
            Some(bytes) => format!("{name} ({:.2} GB)", *bytes as f64 / 1e9),
            None => (*name).to_owned(),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    let matching: Vec<_> = models.iter().filter(|(name, _)| tag.is_none_or(|tag| has_tag(name, tag))).collect();
    match (matching.as_slice(), tag) {
        ([(_, (files, _))], _) => {
            let main = files.iter().min().cloned();
            let manifest = main.as_deref().and_then(|main| manifest(there, main).filter(|_| ending == ".apr"));
            Ok((files.iter().cloned().chain(manifest).collect(), main))
        }
        ([], Some(tag)) if models.is_empty() => {
            Err(HubError::Remote(format!("the repository has no GGUF files, so none with the tag {tag}")))
        }
        ([], _) => {
            let tag = tag.unwrap_or_default();
            Err(HubError::Remote(format!("no GGUF model has the tag {tag}; there are {}", list(&models))))
        }
        _ => {
            let tagged =
                models.clone().into_iter().filter(|(name, _)| matching.iter().any(|(m, _)| *m == name)).collect();
            let how = "name one of them with ORG/NAME:TAG, such as :Q4_K_M, or with ORG/NAME/FILE";
            Err(HubError::Usage(format!("several models: {}; {how}", list(&tagged))))
        }
    }
}

/// Whether a file name has `tag` as a word of its own: `Q4_K` is none of `model-Q4_K_M.gguf`.
fn has_tag(name: &str, tag: &str) -> bool {
    let (name, tag) = (name.to_ascii_lowercase(), tag.to_ascii_lowercase());
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    name.match_indices(&tag)
        .any(|(at, _)| is_edge(name[..at].chars().next_back()) && is_edge(name[at + tag.len()..].chars().next()))
}

fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(dir, _)| dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(names: &[&str], part: &Part, include: &[&str]) -> Result<Selection, HubError> {
        let there: Vec<_> = names.iter().map(|name| Available { name, bytes: Some(1_000_000_000) }).collect();
        let include: Vec<String> = include.iter().map(|&pattern| pattern.to_owned()).collect();
        let companions = &["config.json", "tokenizer.json", "README.md"];
        select(&there, &Wanted { part, include: &include, companions })
    }

    #[test]
    fn what_makes_a_model_is_chosen() {
        let tag = |tag: &str| Part::Tag(tag.to_owned());
        let file = |file: &str| Part::File(file.to_owned());
        let transformers = [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "pytorch_model.bin",
            "x.h5",
            "onnx/model.onnx",
            "y.safetensors",
        ];
        let sharded = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
        ];
        let ggufs = [
            "m-Q4_K.gguf",
            "m-Q4_K_M.gguf",
            "m-q8_0-00001-of-00002.gguf",
            "m-q8_0-00002-of-00002.gguf",
            "mmproj-m.gguf",
        ];
        let nested = ["README.md", "UD-Q2/m-00001-of-00002.gguf", "UD-Q2/m-00002-of-00002.gguf"];
        let split_apr = ["m-00001-of-00002.apr", "m-00002-of-00002.apr", "m.apr.index.json", "README.md"];
        for (names, part, include, expected, main) in [
            (&transformers as &[&str], Part::Model, &[] as &[&str], &[0usize, 1, 2] as &[usize], None),
            (&sharded, Part::Model, &[], &[0, 1, 2, 3], None),
            (&ggufs, tag("Q4_K_M"), &[], &[1], Some(1)),
            (&ggufs, tag("q4_k"), &[], &[0], Some(0)),
            (&ggufs, tag("Q8_0"), &[], &[2, 3], Some(2)),
            (&ggufs, file("mmproj-m.gguf"), &[], &[4], Some(4)),
            (&ggufs, file("m-q8_0-00002-of-00002.gguf"), &[], &[2, 3], Some(3)),
            (&nested, Part::Model, &[], &[1, 2], Some(1)),
            (&nested, tag("UD-Q2"), &[], &[1, 2], Some(1)),
            (&["one.gguf", "mmproj.gguf"], Part::Model, &[], &[0], Some(0)),
            (&["m.apr", "README.md"], Part::Model, &[], &[0], Some(0)),
            (&split_apr, Part::Model, &[], &[0, 1, 2], Some(0)),
            (&split_apr, file("m-00002-of-00002.apr"), &[], &[0, 1, 2], Some(1)),
            (
                &["a/model.safetensors", "a/config.json", "config.json"],
                file("a/model.safetensors"),
                &[],
                &[0, 1],
                Some(0),
            ),
            (&transformers, Part::Model, &["*.onnx", "*.bin", "x*"], &[4, 5], None),
        ] {
            let found = selected(names, &part, include).unwrap();
            let mut expected: Vec<_> = expected.iter().map(|&i| names[i]).collect();
            expected.sort_unstable();
            assert_eq!(found.files, expected, "{part:?} of {names:?}");
            assert_eq!(found.main.as_deref(), main.map(|i: usize| names[i]), "{part:?} of {names:?}");
        }
        let skipped = selected(&transformers, &Part::Model, &[]).unwrap().skipped;
        let expected = [("pytorch_model.bin", PICKLE), ("y.safetensors", NOT_OF_IT)];
        assert_eq!(skipped, expected.map(|(name, reason)| Skipped { name: name.to_owned(), reason }));
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_said() {
        let tag = |tag: &str| Part::Tag(tag.to_owned());
        let ggufs = ["m-Q4_0.gguf", "m-Q8_0.gguf", "n-Q8_0.gguf"];
        for (names, part, include, says) in [
            (
                &["pytorch_model.bin", "config.json"] as &[&str],
                Part::Model,
                &[] as &[&str],
                "pytorch_model.bin is a pickle",
            ),
            (&["README.md"], Part::Model, &[], "no SafeTensors, GGUF or APR model"),
            (&ggufs, Part::Model, &[], "several models: m-Q4_0.gguf (1.00 GB)"),
            (&ggufs, tag("Q8_0"), &[], "several models: m-Q8_0.gguf"),
            (&ggufs, tag("Q4"), &[], "no GGUF model has the tag Q4; there are m-Q4_0.gguf"),
            (&["config.json"], tag("Q4"), &[], "no GGUF files"),
            (&ggufs, Part::File("x.gguf".to_owned()), &[], "no file \"x.gguf\""),
            (&["x.bin"], Part::File("x.bin".to_owned()), &[], "x.bin is a pickle"),
            (&["x.bin"], Part::Model, &["*.bin"], "pickles"),
            (&ggufs, Part::Model, &["*.txt"], "no file of the repository matches *.txt"),
            (&ggufs, tag("Q8_0"), &["*"], "leave --include away"),
        ] {
            let error = selected(names, &part, include).unwrap_err().to_string();
            assert!(error.contains(says), "{part:?} of {names:?}: {error}");
        }
    }
}
