//! Changes of a file's metadata. Tensors stay the bytes they are.
//!
//! A header can't be replaced in the file: whoever stops the program, or the machine, between two of its pages would leave
//! a file that is neither the old nor the new one. So the result is a new file, which takes the old one's name once it is
//! complete. Its data is copied by the system (`copy_file_range`), which on file systems that can share blocks shares
//! them where the data has kept its place.

use super::container::{self, Pairs};
use super::typed_text::Type;
use super::{CAPSULE_KEY, Header, split};
use crate::cursor::align_up;
use crate::emit::{file_name, io_error, parent_of, sync_dir};
use crate::source::map_file;
use crate::{Limits, OpenError, WriteError};
use apr_model::Format;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Longest key. Source: the GGUF specification.
const MAX_KEY_BYTES: usize = 65_535;

/// Bytes copied between two looks at whether to stop.
const COPY_BYTES: u64 = 64 << 20;

/// What to change, in this order: keys get other names, keys go, values are set.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// Old and new names.
    pub rename: Vec<(String, String)>,
    /// Keys to remove.
    pub remove: Vec<String>,
    /// `KEY` or `KEY:TYPE`, and the value's text. A key that is there keeps its type where none is given; that of a new
    /// key follows from the text.
    pub set: Vec<(String, String)>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedKey {
    /// The key, as it is called afterwards unless it goes.
    pub key: String,
    /// What it was called, where it got another name.
    pub was: Option<String>,
    /// Type and value before; None for a new key.
    pub before: Option<(String, String)>,
    /// Type and value after; None where the key goes.
    pub after: Option<(String, String)>,
}

/// A planned edit: nothing is written yet.
#[derive(Debug)]
pub struct Edit {
    /// The changes.
    pub changes: Vec<EditedKey>,
    /// Where the data of the tensors starts now.
    pub data_offset_before: u64,
    /// Where it will start.
    pub data_offset_after: u64,
    /// Length of the file to be written.
    pub len_bytes: u64,
    path: PathBuf,
    header: Vec<u8>,
}

/// Why there is no edit.
#[derive(Debug)]
pub enum EditError {
    /// The file can't be read.
    Open(OpenError),
    /// A change can't be made.
    Refused(String),
}

/// Plans `edits` of the GGUF file at `path`.
pub fn plan_edit(path: &Path, edits: &Edits, limits: &Limits) -> Result<Edit, EditError> {
    let file = map_file(path).map_err(EditError::Open)?;
    let format = crate::source::detect(path, &file.bytes).map_err(EditError::Open)?;
    if format != Format::Gguf {
        let detail = format!("a {format} model; metadata of GGUF files is edited, convert it first");
        return Err(EditError::Open(OpenError::unsupported(path, detail)));
    }
    let parsed = Header::parse(&file.bytes, limits);
    let header = parsed.map_err(|e| EditError::Open(e.in_file(path, Format::Gguf)))?;
    let mut pairs = Pairs::of(&header, &file.bytes);
    let changes = changed(&mut pairs, edits, limits).map_err(EditError::Refused)?;
    let mut bytes = container::head(header.version, header.tensors.len(), &pairs);
    bytes.extend_from_slice(&file.bytes[header.tensor_infos.clone()]);
    let data_offset_after = align_up(bytes.len() as u64, header.alignment).expect("a header in memory is short");
    bytes.resize(data_offset_after as usize, 0);
    let data_len = (file.bytes.len() as u64).saturating_sub(header.data_offset);
    let len_bytes = data_offset_after + data_len;
    let read_again = Header::parse_start(&bytes, len_bytes, limits);
    read_again.map_err(|e| EditError::Refused(format!("the header would not be read again: {}", e.detail)))?;
    Ok(Edit {
        changes,
        data_offset_before: header.data_offset,
        data_offset_after,
        len_bytes,
        path: path.to_owned(),
        header: bytes,
    })
}

impl Edit {
    /// Writes the file, over the one that was read where `target` is none.
    ///
    /// Until it is complete and on disk, what was there stays; it keeps the permissions of the file that was read.
    /// `progress` gets bytes done and bytes in all, and may ask to stop.
    pub fn write(
        &self,
        target: Option<&Path>,
        force: bool,
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), WriteError> {
        let cannot = |path: &Path, detail: String| WriteError::Cannot { path: path.to_owned(), detail };
        let path = target.unwrap_or(&self.path);
        let there = fs::symlink_metadata(path);
        if target.is_none() && there.as_ref().is_ok_and(|meta| meta.is_symlink()) {
            let to = fs::read_link(path).unwrap_or_default();
            let detail = format!("a link to {}; name that file, or another one to write with -o", to.display());
            return Err(cannot(path, detail));
        }
        if target.is_some() && there.is_ok() && !force {
            return Err(WriteError::Exists { path: path.to_owned() });
        }
        let dir = parent_of(path);
        let mut source = File::open(&self.path).map_err(io_error(&self.path))?;
        let meta = source.metadata().map_err(io_error(&self.path))?;
        let data_len = self.len_bytes - self.data_offset_after;
        if meta.len().saturating_sub(self.data_offset_before) != data_len {
            return Err(cannot(&self.path, "the file changed while it was read".to_owned()));
        }
        let mut temporary = tempfile::Builder::new()
            .prefix(&format!(".{}.", file_name(path)))
            .suffix(".partial")
            .permissions(meta.permissions())
            .tempfile_in(&dir)
            .map_err(io_error(&dir))?;
        let out = temporary.as_file_mut();
        out.write_all(&self.header).map_err(io_error(path))?;
        source.seek(SeekFrom::Start(self.data_offset_before)).map_err(io_error(&self.path))?;
        let mut done = 0;
        while done < data_len {
            let n = io::copy(&mut (&source).take(COPY_BYTES.min(data_len - done)), out).map_err(io_error(path))?;
            if n == 0 {
                return Err(cannot(&self.path, "the file changed while it was copied".to_owned()));
            }
            done += n;
            if progress(self.data_offset_after + done, self.len_bytes).is_break() {
                return Err(WriteError::Interrupted);
            }
        }
        out.sync_all().map_err(io_error(path))?;
        let replace = target.is_none() || force;
        let persisted = if replace { temporary.persist(path) } else { temporary.persist_noclobber(path) };
        persisted.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists { path: path.to_owned() },
            _ => WriteError::Io { path: path.to_owned(), error: e.error },
        })?;
        sync_dir(&dir);
        Ok(())
    }
}

fn changed(pairs: &mut Pairs, edits: &Edits, limits: &Limits) -> Result<Vec<EditedKey>, String> {
    let mut changes = Vec::new();
    for (from, to) in &edits.rename {
        may_change(from)?;
        may_change(to)?;
        well_formed(to)?;
        if pairs.get(to).is_some() {
            return Err(format!("key {to:?} is there already, {from:?} can't be called that"));
        }
        let value = pairs.shown(from, limits)?.ok_or_else(|| format!("there is no key {from:?} to rename"))?;
        pairs.rename(from, to);
        changes.push(EditedKey {
            key: to.clone(),
            was: Some(from.clone()),
            before: Some(value.clone()),
            after: Some(value),
        });
    }
    for key in &edits.remove {
        // Without its capsule a file gives up the way back, and is sound.
        if key != CAPSULE_KEY {
            may_change(key)?;
        }
        let before = pairs.shown(key, limits)?.ok_or_else(|| format!("there is no key {key:?} to remove"))?;
        pairs.remove(key);
        changes.push(EditedKey { key: key.clone(), was: None, before: Some(before), after: None });
    }
    for (name, text) in &edits.set {
        let typed = name.rsplit_once(':').and_then(|(key, kind)| Some((key, Some(Type::named(kind)?))));
        let (key, given) = typed.unwrap_or((name, None));
        may_change(key)?;
        let before = pairs.shown(key, limits)?;
        let stored = pairs.get(key).map(|value| pairs.kind(value));
        if stored.is_none() {
            well_formed(key)?;
        }
        let kind = given.or(stored).unwrap_or_else(|| Type::inferred(text));
        pairs.set(key, kind.id(), |out| kind.write(text, out)).map_err(|e| format!("key {key:?}: {e}"))?;
        let after = pairs.shown(key, limits)?;
        changes.push(EditedKey { key: key.to_owned(), was: None, before, after });
    }
    Ok(changes)
}

/// Keys that say where tensors lie, which no edit of metadata can make true.
fn may_change(key: &str) -> Result<(), String> {
    let why = match key {
        "general.alignment" => "it says where the tensors lie",
        CAPSULE_KEY => "it is the way back to another file; it can only be removed",
        _ if split::KEYS.contains(&key) => "it says which files make up the model; convert merges and splits them",
        _ => return Ok(()),
    };
    Err(format!("key {key:?} can't be edited: {why}"))
}

fn well_formed(key: &str) -> Result<(), String> {
    let sound = !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.contains(|c: char| c.is_control() || c == ' ');
    let shown: String = key.chars().take(80).collect();
    if sound { Ok(()) } else { Err(format!("{shown:?} is no key: 1 to {MAX_KEY_BYTES} bytes without spaces")) }
}
