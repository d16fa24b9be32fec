//! From a path to the files of a model: what is there, by content and not by name.

use crate::gguf::ShardName;
use crate::shards::{self, LAYOUTS, Layout};
use crate::{OpenError, ParseError, apr, mmap};
use apr_model::Format;
use apr_tensor::Bytes;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Files that belong to a Transformers directory beside its weights, carried byte for byte.
pub const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
    ".gitattributes",
];

/// Directory of the chat templates that are not the default one, beside the weights.
const TEMPLATE_DIR: &str = "additional_chat_templates";

/// Whether a file with this name, or path in the model's directory, belongs to a Transformers directory.
pub(crate) fn is_companion(name: &str) -> bool {
    COMPANIONS.contains(&name) || template_name(name).is_some()
}

/// The name of the chat template that `additional_chat_templates/NAME.jinja` holds.
pub(crate) fn template_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(TEMPLATE_DIR)?.strip_prefix('/')?.strip_suffix(".jinja")?;
    (!name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])).then_some(name)
}

/// Paths, from `dir`, of the chat templates in their directory, sorted.
pub(crate) fn template_files(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir.join(TEMPLATE_DIR)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = format!("{TEMPLATE_DIR}/{}", entry.file_name().to_string_lossy());
        if template_name(&path).is_some() && entry.path().is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

const CONFIG_NAME: &str = "config.json";

/// Whether a file with this name, beside weights, says something about their model.
pub(crate) fn describes_model(name: &str) -> bool {
    const DOCUMENTS: [&str; 5] = ["README.md", "LICENSE", "LICENSE.txt", "NOTICE", ".gitattributes"];
    is_companion(name) && !DOCUMENTS.contains(&name)
}

/// The mapped files of one model.
#[derive(Debug)]
pub struct Source {
    /// The path as it was named.
    pub path: PathBuf,
    /// Format, decided by content.
    pub format: Format,
    /// Whether a directory was named.
    pub is_dir: bool,
    /// Files by name. Weights come first, the opened one (or the index) before the others.
    pub files: Vec<SourceFile>,
    /// Names in the directory that are not part of the model.
    pub left_behind: Vec<String>,
}

/// One mapped file.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Name inside its directory; a path for one that lies deeper.
    pub name: String,
    /// Content.
    pub bytes: Bytes,
}

impl Source {
    /// Finds and maps the files of the model at `path`: a file, or a directory with a model in it.
    pub fn locate(path: &Path) -> Result<Self, OpenError> {
        let meta = fs::metadata(path).map_err(|e| OpenError::io(path, e))?;
        if meta.is_dir() {
            Self::locate_dir(path)
        } else if meta.is_file() {
            Self::locate_file(path)
        } else {
            // Opening a pipe would wait for somebody to write into it.
            Err(OpenError::not_a_model(path, "neither a file nor a directory"))
        }
    }

    /// A model whose files are already in memory: the first one decides the format.
    pub fn from_memory(path: PathBuf, files: Vec<SourceFile>) -> Result<Self, OpenError> {
        let main = files.first().ok_or_else(|| OpenError::not_a_model(&path, "no files"))?;
        let format = detect(&path, &main.bytes)?;
        let is_dir = format == Format::SafeTensors;
        Ok(Self { path, format, is_dir, files, left_behind: Vec::new() })
    }

    /// The same model with the config.json at `path`: hyper-parameters for a bare SafeTensors file.
    pub fn with_config(mut self, path: &Path) -> Result<Self, OpenError> {
        if self.format != Format::SafeTensors {
            let detail = format!("a {} file states its own hyper-parameters; leave the config away", self.format);
            return Err(OpenError::unsupported(&self.path, &detail));
        }
        if self.companion(CONFIG_NAME).is_some() {
            let detail = "a config.json lies beside it already, and says what the hyper-parameters are";
            return Err(OpenError::unsupported(&self.path, detail));
        }
        let config = map_file(path)?;
        self.files.push(SourceFile { name: CONFIG_NAME.to_owned(), ..config });
        Ok(self)
    }

    /// The content of a companion file.
    pub fn companion(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|file| file.name == name).map(|file| &*file.bytes)
    }

    /// Total size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes.len() as u64).sum()
    }

    fn locate_file(path: &Path) -> Result<Self, OpenError> {
        let name = file_name(path);
        let dir = path.parent().unwrap_or(Path::new(""));
        if let Some(layout) = LAYOUTS.into_iter().find(|layout| layout.index == name) {
            return Self::sharded(layout, path, dir, false);
        }
        let main = map_file(path)?;
        let format = detect(path, &main.bytes)?;
        let mut files = vec![main];
        match format {
            Format::SafeTensors => push_companions(dir, &mut files)?,
            Format::Gguf => push_siblings(dir, &mut files)?,
            Format::Apr if apr::is_one_of_several(&files[0].bytes) => {
                let index = dir.join(shards::APR.index);
                return match index.is_file() {
                    true => Self::sharded(&shards::APR, &index, dir, false),
                    false => {
                        let index = shards::APR.index;
                        let detail = format!("one of several files of a model, and {index} does not lie beside it");
                        Err(OpenError::unsupported(path, &detail))
                    }
                };
            }
            Format::Apr => {}
        }
        Ok(Self { path: path.to_owned(), format, is_dir: false, files, left_behind: Vec::new() })
    }

    /// Order of preference: a split model's index, `model.safetensors` or `model.apr`, the only file with a model's magic.
    fn locate_dir(path: &Path) -> Result<Self, OpenError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|e| OpenError::io(path, e))? {
            let entry = entry.map_err(|e| OpenError::io(path, e))?;
            if entry.path().is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        let has = |name: &str| names.iter().any(|n| n == name);
        let laid_out = LAYOUTS.into_iter().find(|layout| has(layout.index) || has(layout.single));
        let mut source = match laid_out {
            Some(layout) if has(layout.index) => Self::sharded(layout, &path.join(layout.index), path, true)?,
            Some(layout) => Self::locate_file(&path.join(layout.single))?,
            None => Self::only_model_of(path, &names)?,
        };
        source.path = path.to_owned();
        source.is_dir = true;
        source.left_behind = names.into_iter().filter(|n| source.companion(n).is_none()).collect();
        Ok(source)
    }

    fn only_model_of(path: &Path, names: &[String]) -> Result<Self, OpenError> {
        let mut models = Vec::new();
        for name in names {
            let candidate = path.join(name);
            // The files of a split model are found by way of the first one that is there.
            let is_sibling = |model: &PathBuf| {
                let names = [file_name(model), name.clone()].map(|name| ShardName::parse(&name));
                matches!(names, [Some(a), Some(b)] if a.sibling(b.index) == *name)
            };
            if !models.iter().any(is_sibling) && probe(&candidate).is_some() {
                models.push(candidate);
            }
        }
        match models.as_slice() {
            [] => {
                let seen = if names.is_empty() { "it has no files".to_owned() } else { list(names) };
                Err(OpenError::not_a_model(path, format!("no file in this directory is a model ({seen})")))
            }
            [only] => Self::locate_file(only),
            several => {
                let names: Vec<String> = several.iter().map(|p| file_name(p)).collect();
                Err(OpenError::not_a_model(path, format!("several models ({}); name one of them", list(&names))))
            }
        }
    }

    fn sharded(layout: &Layout, index_path: &Path, dir: &Path, is_dir: bool) -> Result<Self, OpenError> {
        let format = layout.format;
        let index = map_file(index_path)?;
        let shards = layout.shards_of(&index.bytes).map_err(|e| e.in_file(index_path, format))?;
        let mut files = vec![index];
        for shard in shards {
            let path = dir.join(&shard);
            if let Some(elsewhere) = leads_elsewhere(&path)? {
                let detail = format!("shard {shard:?} is a link to {}, outside of the directory", elsewhere.display());
                let detail = format!("{detail}; put the file itself there, or open the directory that it is in");
                return Err(ParseError::new(detail).in_file(index_path, format));
            }
            files.push(map_file(&path)?);
        }
        if format == Format::SafeTensors {
            push_companions(dir, &mut files)?;
        }
        Ok(Self { path: index_path.to_owned(), format, is_dir, files, left_behind: Vec::new() })
    }
}

/// Where a file that an index names really is, if that is not in the directory that it is named in. In the cache of the
/// Hugging Face hub, files of `snapshots/REVISION` are links to `blobs` beside `snapshots`: that is the same repository.
fn leads_elsewhere(path: &Path) -> Result<Option<PathBuf>, OpenError> {
    let real = |path: &Path| fs::canonicalize(path).map_err(|e| OpenError::io(path, e));
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (file, dir) = (real(path)?, real(dir)?);
    let snapshots = dir.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repository| repository.join("blobs"));
    let is_here = file.starts_with(&dir) || blobs.is_some_and(|blobs| file.starts_with(blobs));
    Ok((!is_here).then_some(file))
}

fn push_companions(dir: &Path, files: &mut Vec<SourceFile>) -> Result<(), OpenError> {
    for name in COMPANIONS {
        let path = dir.join(name);
        if path.is_file() {
            files.push(map_file(&path)?);
        }
    }
    for name in template_files(dir).map_err(|e| OpenError::io(&dir.join(TEMPLATE_DIR), e))? {
        let file = map_file(&dir.join(&name))?;
        files.push(SourceFile { name, ..file });
    }
    Ok(())
}

/// The other files of a split GGUF model, as its name has it, where they are there: what is missing, and whether it is
/// split at all, is for the reader of its metadata to say.
fn push_siblings(dir: &Path, files: &mut Vec<SourceFile>) -> Result<(), OpenError> {
    let Some(name) = ShardName::parse(&files[0].name) else { return Ok(()) };
    for index in (0..name.n_files).filter(|&index| index != name.index) {
        let path = dir.join(name.sibling(index));
        if path.is_file() {
            files.push(map_file(&path)?);
        }
    }
    Ok(())
}

pub(crate) fn map_file(path: &Path) -> Result<SourceFile, OpenError> {
    let bytes = mmap::map(path).map_err(|e| OpenError::io(path, e))?;
    Ok(SourceFile { name: file_name(path), bytes })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// The format of the file at `path`, if its first bytes are a model's.
fn probe(path: &Path) -> Option<Format> {
    use std::io::Read;
    let mut head = Vec::new();
    File::open(path).ok()?.take(16).read_to_end(&mut head).ok()?;
    format_of(&head)
}

fn format_of(head: &[u8]) -> Option<Format> {
    if head.starts_with(b"GGUF") {
        return Some(Format::Gguf);
    }
    if head.starts_with(b"APR\0") || head.starts_with(b"APR2") {
        return Some(Format::Apr);
    }
    // A SafeTensors file has no magic: eight bytes of header length, then the JSON object.
    (head.len() > 8 && head[8] == b'{').then_some(Format::SafeTensors)
}

/// The format of a file by its content; otherwise an error that says what the file is instead.
pub(crate) fn detect(path: &Path, bytes: &[u8]) -> Result<Format, OpenError> {
    if let Some(format) = format_of(bytes) {
        return Ok(format);
    }
    if path.extension().is_some_and(|e| e == "safetensors") && !looks_like_text(bytes) {
        // Let the reader say what is wrong with it.
        return Ok(Format::SafeTensors);
    }
    Err(OpenError::not_a_model(path, what_it_is(bytes)))
}

fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.len() >= 8 && bytes[..bytes.len().min(64)].iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
}

fn what_it_is(bytes: &[u8]) -> String {
    const EXPECTED: &str = "expected GGUF, SafeTensors or APR version 2";
    if bytes.is_empty() {
        return format!("the file is empty, {EXPECTED}");
    }
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        return "a Git-LFS pointer, not the model itself; fetch it with `git lfs pull`".to_owned();
    }
    if bytes.starts_with(b"APRN") || bytes.starts_with(b"APR1") {
        let magic = String::from_utf8_lossy(&bytes[..4]);
        return format!(
            "an APR file of an older generation (magic {magic}), which holds no language model; {EXPECTED}"
        );
    }
    if bytes.starts_with(b"FUGG") {
        return format!("the magic of GGUF backwards, which no version of it has in either byte order; {EXPECTED}");
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return format!("a PyTorch pickle, which can run code when read; convert it to SafeTensors first; {EXPECTED}");
    }
    let head = bytes[..bytes.len().min(8)].escape_ascii();
    format!("it starts with \"{head}\", {EXPECTED}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: &str) {
        let error = detect(Path::new("model"), bytes).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} should say {expect:?}");
    }

    #[test]
    fn what_is_not_a_model_is_named() {
        check(b"", "the file is empty");
        check(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git-LFS pointer");
        check(b"APRN0000", "older generation (magic APRN)");
        check(b"FUGG", "backwards");
        check(b"PK\x03\x04abcd", "pickle");
        check(b"hello world, this is text", "it starts with \"hello wo\"");
    }
}
