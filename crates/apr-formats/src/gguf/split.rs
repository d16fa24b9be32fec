//! A model split over files: their names, and the keys by which they know each other.
//!
//! Source: llama.cpp's `llama_split_path` and the checks of its loader; the first file holds all metadata.

use super::keys::Keys;
use super::{Header, Value};
use crate::{ParseError, Source, SourceFile};
use apr_model::Finding;

pub(super) const NO_KEY: &str = "split.no";
pub(super) const COUNT_KEY: &str = "split.count";
pub(super) const TENSORS_KEY: &str = "split.tensors.count";
/// Keys of a file's place in the model: all that differs in metadata between a model in one file and in several. In the
/// order in which `llama-gguf-split` writes them.
pub(super) const KEYS: [&str; 3] = [NO_KEY, TENSORS_KEY, COUNT_KEY];

/// Most files: their number is stored in 16 bits.
pub(crate) const MAX_FILES: usize = u16::MAX as usize;

/// The name of one of several files: `PREFIX-00001-of-00003.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardName {
    pub(crate) prefix: String,
    /// From zero.
    pub(crate) index: usize,
    pub(crate) n_files: usize,
}

impl ShardName {
    /// None where the name is not such a one.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".gguf")?;
        let (rest, n_files) = stem.rsplit_once("-of-")?;
        let (prefix, no) = rest.rsplit_once('-')?;
        let number = |text: &str| {
            let digits = text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<usize>().ok().filter(|_| digits)
        };
        let (no, n_files) = (number(no)?, number(n_files)?);
        let sound = !prefix.is_empty() && (1..=n_files).contains(&no) && n_files <= MAX_FILES;
        sound.then(|| Self { prefix: prefix.to_owned(), index: no - 1, n_files })
    }

    /// Name of another file of the same model.
    pub(crate) fn sibling(&self, index: usize) -> String {
        Self { index, ..self.clone() }.to_string()
    }
}

impl std::fmt::Display for ShardName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{:05}-of-{:05}.gguf", self.prefix, self.index + 1, self.n_files)
    }
}

/// The files of a source that are parts of its model, the one with the metadata first; alone where it is whole.
pub(super) fn files(source: &Source) -> Vec<&SourceFile> {
    let first = &source.files[0];
    let Some(name) = ShardName::parse(&first.name) else { return vec![first] };
    let mut files: Vec<_> = source
        .files
        .iter()
        .filter_map(|file| Some((ShardName::parse(&file.name)?, file)))
        .filter(|(other, _)| other.prefix == name.prefix && other.n_files == name.n_files)
        .collect();
    files.sort_by_key(|(name, _)| name.index);
    files.into_iter().map(|(_, file)| file).collect()
}

/// What a header says of its place: number of the file and number of files; None in a model of one file, which a file
/// that was merged calls a model of none.
fn place(header: &Header<'_>) -> Result<Option<(u32, u32)>, ParseError> {
    let keys = Keys(header);
    match keys.count(COUNT_KEY)? {
        None | Some(0 | 1) => Ok(None),
        Some(n_files) => Ok(Some((keys.required_count(NO_KEY)?, n_files))),
    }
}

/// Checks that the files are all of one model, in order. An error comes with the number of the file it is about.
pub(super) fn check(files: &[&SourceFile], headers: &[Header<'_>]) -> Result<(), (usize, ParseError)> {
    let wrong = |index: usize, detail: String| Err((index, ParseError::new(detail)));
    let n_stated = match place(&headers[0]).map_err(|e| (0, e))? {
        None if files.len() == 1 => return Ok(()),
        None => {
            return wrong(
                0,
                format!("its name is that of the first of {} files, and {COUNT_KEY} says nothing", files.len()),
            );
        }
        Some((_, n)) => n as usize,
    };
    let Some(name) = ShardName::parse(&files[0].name) else {
        let detail =
            format!("one of {n_stated} files of a model, whose name does not end in -00001-of-{n_stated:05}.gguf");
        return wrong(0, format!("{detail}; give all of them the names that they had"));
    };
    if name.n_files != n_stated {
        return wrong(0, format!("its name says {} files, {COUNT_KEY} says {n_stated}", name.n_files));
    }
    if files.len() != n_stated {
        let has = |index: usize| files.iter().any(|file| file.name == name.sibling(index));
        let missing = (0..n_stated).find(|&index| !has(index)).map(|index| name.sibling(index));
        let there: Vec<_> = files.iter().take(6).map(|file| file.name.as_str()).collect();
        let missing = missing.unwrap_or_default();
        let n_missing = n_stated - files.len();
        let detail =
            format!("{missing} is missing ({n_missing} of {n_stated} files); put it beside {}", there.join(", "));
        return wrong(0, detail);
    }
    let n_tensors: usize = headers.iter().map(|header| header.tensors.len()).sum();
    for (index, header) in headers.iter().enumerate() {
        let stated = place(header).map_err(|e| (index, e))?;
        if stated != Some((index as u32, n_stated as u32)) {
            let found =
                stated.map_or("none of several".to_owned(), |(no, n)| format!("file {} of {n}", no.saturating_add(1)));
            return wrong(index, format!("it says that it is {found}, expected file {} of {n_stated}", index + 1));
        }
        if header.byte_order != headers[0].byte_order {
            return wrong(index, "it has another byte order than the first file".to_owned());
        }
    }
    for (index, header) in headers.iter().enumerate() {
        let stated = Keys(header).count(TENSORS_KEY).map_err(|e| (index, e))?;
        if let Some(stated) = stated.filter(|&n| n as usize != n_tensors) {
            return wrong(index, format!("{TENSORS_KEY} is {stated}, the files have {n_tensors}"));
        }
    }
    Ok(())
}

/// Keys in later files, where readers don't look for them.
pub(super) fn notes(files: &[&SourceFile], headers: &[Header<'_>]) -> Vec<Finding> {
    let ours = |key: &str| KEYS.contains(&key) || key == "general.alignment";
    let unread = |header: &Header<'_>| header.pairs.iter().filter(|(key, _)| !ours(key)).count();
    let later = files.iter().zip(headers).skip(1).map(|(file, header)| (file, unread(header)));
    let note = |(file, n): (&&SourceFile, usize)| {
        Finding::note("metadata-in-later-file", &file.name, format!("{n} keys that only count in the first file"))
    };
    later.filter(|(_, n)| *n > 0).map(note).collect()
}

/// The values of [`KEYS`] for one of several files, as llama.cpp types them.
pub(super) fn values(index: usize, n_files: usize, n_tensors: usize) -> [Value<'static>; 3] {
    [Value::U16(index as u16), Value::I32(n_tensors as i32), Value::U16(n_files as u16)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_five_digits_twice_and_a_prefix() {
        let name = ShardName::parse("a-of-b-00002-of-00010.gguf").unwrap();
        assert_eq!((name.prefix.as_str(), name.index, name.n_files), ("a-of-b", 1, 10));
        assert_eq!(name.sibling(9), "a-of-b-00010-of-00010.gguf");
        for other in [
            "a.gguf",
            "a-00000-of-00010.gguf",
            "a-00011-of-00010.gguf",
            "a-1-of-00010.gguf",
            "a-00001-of-10.gguf",
            "-00001-of-00010.gguf",
            "a-00001-of-00010.safetensors",
            "a-+0001-of-00010.gguf",
            "a-00001-of-99999.gguf",
            "a-00001-of-00000.gguf",
        ] {
            assert_eq!(ShardName::parse(other), None, "{other}");
        }
    }
}
