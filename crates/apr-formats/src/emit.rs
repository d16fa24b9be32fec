//! Files from pieces: streamed, hashed, and put in place only when complete.

use crate::loss::{Loss, TensorLoss};
use crate::plan::{OutFile, OutPiece, Recode};
use crate::rows::Rows;
use crate::shards::{LAYOUTS, Layout};
use crate::source::{describes_model, template_files};
use crate::{WriteError, WriteOptions, capsule, writeback};
use apr_model::{Checkpoint, Format, Piece, Relayout, Tensor};
use apr_tensor::{ByteOrder, Bytes, DType, codec, swap_blocks};
use rayon::prelude::*;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tempfile::{NamedTempFile, TempDir};

/// Bytes moved at a time: what a conversion holds in memory, times the few chunks in flight.
const CHUNK_BYTES: usize = 4 << 20;
/// Bytes of decoded values that one thread works on at a time.
const PORTION_BYTES: usize = 256 << 10;
/// Chunks that the hasher may lag behind the writer.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Bytes given to the system at a time, up to a multiple of it in the file. A larger or unaligned write costs the system
/// more for the same bytes: they are not in the processor's cache, or fill pages in two goes.
const WRITE_BYTES: u64 = 256 << 10;
/// Bytes after which what is written so far is sent to disk, while more is written: otherwise the disk idles until the
/// end, and then everybody waits for it.
const SEND_BYTES: u64 = 32 << 20;

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Where.
    pub path: PathBuf,
    /// Length.
    pub len_bytes: u64,
    /// BLAKE3 of its content.
    pub blake3: [u8; 32],
}

/// An exact change of a tensor's stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Canonical name.
    pub tensor: String,
    /// Dtype in the source.
    pub from: DType,
    /// Dtype in the target.
    pub to: DType,
    /// What happened to its rows or to what its values count from.
    pub relaid: Option<Relaid>,
    /// Whether the bytes of numbers changed their order.
    pub swapped: bool,
}

/// A change between two ways to store one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relaid {
    /// Rows stand in another order.
    Permuted,
    /// Rows became columns.
    Transposed,
    /// Gains that counted from zero count from one, or the other way about.
    Shifted,
}

impl Relaid {
    fn between(from: Relayout, to: Relayout) -> Option<Self> {
        match (from, to) {
            _ if from == to => None,
            (Relayout::Transposed, _) | (_, Relayout::Transposed) => Some(Self::Transposed),
            (Relayout::PlusOne, _) | (_, Relayout::PlusOne) => Some(Self::Shifted),
            _ => Some(Self::Permuted),
        }
    }
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) files: Vec<WrittenFile>,
    pub(crate) steps: Vec<Step>,
    pub(crate) lossy: Vec<TensorLoss>,
    pub(crate) n_verbatim: usize,
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum EmitError {
    Write(WriteError),
    /// The pieces don't give the file that the recipe promises.
    NotTheOriginal(String),
}

impl From<WriteError> for EmitError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// Where the files go.
pub(crate) enum Placement {
    /// The first file here, the others beside it.
    File(PathBuf),
    /// All files into this directory.
    Dir(PathBuf),
}

impl Placement {
    /// Refuses a target that exists, unless it is to be replaced.
    pub(crate) fn check_free(&self, force: bool) -> Result<(), WriteError> {
        let (path, taken) = match self {
            Placement::File(path) => (path, fs::symlink_metadata(path).is_ok()),
            Placement::Dir(path) => match fs::read_dir(path) {
                Ok(mut entries) => (path, entries.next().is_some()),
                Err(_) => (path, fs::symlink_metadata(path).is_ok()),
            },
        };
        if matches!(self, Placement::File(path) if path.is_dir()) {
            let detail = "this is a directory; name a file".to_owned();
            return Err(WriteError::Cannot { path: path.clone(), detail });
        }
        if let (true, Ok(elsewhere)) = (taken, fs::read_link(path))
            && !path.is_dir()
        {
            let elsewhere = elsewhere.display();
            let detail =
                format!("this is a symbolic link to {elsewhere}, which would not be replaced; name the file itself");
            return Err(WriteError::Cannot { path: path.clone(), detail });
        }
        if taken && !force { Err(WriteError::Exists { path: path.clone() }) } else { Ok(()) }
    }

    /// Refuses a place where files of another model would be taken for a part of this one: they are neither replaced
    /// nor removed here.
    pub(crate) fn check_neighbours(&self, format: Format, files: &[OutFile]) -> Result<(), WriteError> {
        let (dir, whole_dir) = match self {
            // Only beside SafeTensors do other files say something of the model.
            Placement::File(path) if format == Format::SafeTensors => (parent_of(path), false),
            Placement::File(_) => return Ok(()),
            Placement::Dir(path) => (path.clone(), true),
        };
        // Where there is no directory yet there is nothing in it; creating the files says what else is wrong.
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
        let templates = (format == Format::SafeTensors).then(|| template_files(&dir)).transpose();
        let mut names = templates.map_err(io_error(&dir))?.unwrap_or_default();
        for entry in entries {
            names.push(entry.map_err(io_error(&dir))?.file_name().to_string_lossy().into_owned());
        }
        for name in names {
            let of_layout = |layout: &Layout| name == layout.index || layout.is_shard_name(&name);
            // What is searched for first would hide what is written here.
            let own = LAYOUTS.into_iter().position(|layout| layout.format == format).unwrap_or_default();
            let weights = whole_dir && LAYOUTS[..=own].iter().copied().any(of_layout);
            if (weights || (format == Format::SafeTensors && describes_model(&name)))
                && !files.iter().any(|file| file.name == name)
            {
                let detail = format!(
                    "{name} of another model is there, and would be read as a part of this one; remove it, or choose \
                     another directory"
                );
                return Err(WriteError::Cannot { path: dir, detail });
            }
        }
        Ok(())
    }

    /// Name of the main file.
    pub(crate) fn main_name(&self, format: Format) -> String {
        match self {
            Placement::File(path) => file_name(path),
            Placement::Dir(_) => Layout::of(format).expect("other formats have no directories").single.to_owned(),
        }
    }
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |error| WriteError::Io { path, error }
}

/// Writes `files`; `expected` are the digests they must have.
///
/// Every file is complete and on disk under a temporary name before the first one gets its own. A dry run computes the same
/// bytes and puts them nowhere.
pub(crate) fn emit(
    checkpoint: &Checkpoint,
    files: Vec<OutFile>,
    placement: &Placement,
    options: &WriteOptions,
    expected: Option<Vec<[u8; 32]>>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Emitted, EmitError> {
    let staging = Staging::new(placement, options.dry_run)?;
    let total = files.iter().flat_map(|file| &file.pieces).map(OutPiece::len_bytes).sum();
    let mut stream = Stream { checkpoint, progress, done: 0, total, emitted: Emitted::default() };
    let mut staged = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = staging.final_path(&file.name);
        let (temporary, len_bytes, blake3) = stream.file(file, &staging, &path)?;
        if let Some(promised) = expected.as_ref().map(|list| list[index]).filter(|promised| *promised != blake3) {
            return Err(EmitError::NotTheOriginal(format!(
                "{} would have BLAKE3 {}, the original has {}: the data changed since it was converted",
                file.name,
                capsule::hex(&blake3),
                capsule::hex(&promised)
            )));
        }
        staged.extend(temporary);
        stream.emitted.files.push(WrittenFile { path, len_bytes, blake3 });
    }
    let emitted = stream.emitted;
    check_source(checkpoint, placement)?;
    match options.dry_run {
        true => drop(kept(&emitted.files, options.force)?),
        false => staging.commit(staged, &emitted.files, options.force)?,
    }
    Ok(emitted)
}

/// Refuses to give a name to what was made of files that somebody wrote to meanwhile: pages read before and after that
/// are of two models, and what lies behind a new end in the same page is read as zeros.
fn check_source(checkpoint: &Checkpoint, placement: &Placement) -> Result<(), WriteError> {
    let literals = checkpoint.origin.files.iter().flat_map(|file| &file.pieces).filter_map(|piece| match piece {
        Piece::Literal(bytes) | Piece::Kept { bytes, .. } => Some(bytes),
        Piece::Zeros(_) | Piece::Capsule | Piece::Tensor { .. } => None,
    });
    let (Placement::File(path) | Placement::Dir(path)) = placement;
    checkpoint.tensors.iter().map(|tensor| &tensor.data).chain(literals).try_for_each(|bytes| {
        let because = |error: io::Error| io::Error::other(format!("not written, because {error}"));
        bytes.check_unchanged().map_err(because).map_err(io_error(path))
    })
}

impl OutPiece {
    /// Length, without that of checksums.
    pub(crate) fn len_bytes(&self) -> u64 {
        match self {
            OutPiece::Literal(bytes) => bytes.len() as u64,
            OutPiece::Zeros(n) => *n,
            OutPiece::Tensor(recode) => recode.len_bytes as u64,
            OutPiece::TensorChecksums | OutPiece::FileChecksum => 0,
        }
    }
}

/// Temporary files on the target's file system.
struct Staging {
    /// Directory that the final files lie in.
    dir: PathBuf,
    /// A new directory under construction, which becomes `dir`.
    new_dir: Option<TempDir>,
    /// Whether nothing is written.
    dry_run: bool,
}

impl Staging {
    fn new(placement: &Placement, dry_run: bool) -> Result<Self, WriteError> {
        match placement {
            Placement::File(path) => Ok(Self { dir: parent_of(path), new_dir: None, dry_run }),
            Placement::Dir(path) if dry_run || path.exists() => Ok(Self { dir: path.clone(), new_dir: None, dry_run }),
            Placement::Dir(path) => {
                // `Path::parent` ignores a trailing separator.
                let parent = parent_of(path);
                let new_dir = tempfile::Builder::new()
                    .prefix(&format!(".{}.", file_name(path)))
                    .suffix(".partial")
                    .permissions(fs::Permissions::from_mode(0o777))
                    .tempdir_in(&parent)
                    .map_err(io_error(&parent))?;
                Ok(Self { dir: path.clone(), new_dir: Some(new_dir), dry_run })
            }
        }
    }

    fn final_path(&self, name: &str) -> PathBuf {
        if self.dir == Path::new(".") { PathBuf::from(name) } else { self.dir.join(name) }
    }

    fn create(&self, name: &str) -> Result<NamedTempFile, WriteError> {
        let dir = self.new_dir.as_ref().map_or(self.dir.as_path(), TempDir::path);
        tempfile::Builder::new()
            .prefix(&format!(".{}.", file_name(Path::new(name))))
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(io_error(dir))
    }

    /// Gives every file its name. A file beside the main one that is there already with the same content stays.
    fn commit(self, staged: Vec<NamedTempFile>, files: &[WrittenFile], force: bool) -> Result<(), WriteError> {
        if let Some(new_dir) = self.new_dir {
            for (temporary, file) in staged.into_iter().zip(files) {
                let path = new_dir.path().join(file.path.strip_prefix(&self.dir).unwrap_or(&file.path));
                let dir = parent_of(&path);
                if dir != new_dir.path() {
                    fs::create_dir_all(&dir).map_err(io_error(&dir))?;
                }
                temporary.persist_noclobber(&path).map_err(|e| WriteError::Io { path, error: e.error })?;
            }
            sync_dir(new_dir.path());
            fs::rename(new_dir.path(), &self.dir).map_err(io_error(&self.dir))?;
            // It has moved: there is nothing left to remove.
            let _moved = new_dir.keep();
            sync_dir(self.dir.parent().unwrap_or(Path::new(".")));
            return Ok(());
        }
        let keep = kept(files, force)?;
        // The main file comes last: where it is new, everything it needs is in place.
        for ((temporary, file), _) in staged.into_iter().zip(files).zip(keep).filter(|(_, keep)| !keep).rev() {
            let dir = parent_of(&file.path);
            if dir != self.dir {
                fs::create_dir_all(&dir).map_err(io_error(&dir))?;
            }
            let persisted = if force { temporary.persist(&file.path) } else { temporary.persist_noclobber(&file.path) };
            persisted.map_err(|e| match e.error.kind() {
                io::ErrorKind::AlreadyExists => WriteError::Exists { path: file.path.clone() },
                _ => WriteError::Io { path: file.path.clone(), error: e.error },
            })?;
        }
        sync_dir(&self.dir);
        Ok(())
    }
}

/// Which files stay as they are, or the one that can't be put in place: it exists and is not to be replaced.
fn kept(files: &[WrittenFile], force: bool) -> Result<Vec<bool>, WriteError> {
    let same = |file: &WrittenFile| fs::read(&file.path).is_ok_and(|old| *blake3::hash(&old).as_bytes() == file.blake3);
    let keep: Vec<bool> = files.iter().enumerate().map(|(i, file)| i > 0 && file.path.exists() && same(file)).collect();
    match files.iter().zip(&keep).find(|(file, keep)| !**keep && file.path.exists()) {
        Some((file, _)) if !force => Err(WriteError::Exists { path: file.path.clone() }),
        _ => Ok(keep),
    }
}

/// Makes renames durable, where the file system can.
pub(crate) fn sync_dir(dir: &Path) {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    // The files' content is on disk already; a system that can't sync a directory loses at most the new name.
    drop(File::open(dir).and_then(|dir| dir.sync_all()));
}

struct Stream<'a> {
    checkpoint: &'a Checkpoint,
    progress: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    done: u64,
    total: u64,
    emitted: Emitted,
}

/// The ends of one file: bytes are written here, hashed on another thread, and sent to disk by a third.
struct Sink<'f> {
    /// None in a dry run.
    file: Option<&'f mut File>,
    path: &'f Path,
    hasher: mpsc::SyncSender<Bytes>,
    /// Takes ranges of the file: the system may let the caller wait for the disk.
    sender: mpsc::SyncSender<Range<u64>>,
    /// Length when the sender was last asked.
    sent_bytes: u64,
    crc: Option<crc32fast::Hasher>,
    tensor_crcs: Vec<u32>,
    len_bytes: u64,
}

impl Sink<'_> {
    fn write(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        // Where pages are missing the system would stop in the middle of a write and begin again.
        chunk.prefetch();
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            let to_boundary = (WRITE_BYTES - self.len_bytes % WRITE_BYTES) as usize;
            let (part, after) = rest.split_at(rest.len().min(to_boundary));
            if let Some(file) = &mut self.file {
                file.write_all(part).map_err(io_error(self.path))?;
            }
            self.len_bytes += part.len() as u64;
            rest = after;
        }
        if let Some(crc) = &mut self.crc {
            crc.update(&chunk);
        }
        // A sender that is still at work takes no request.
        let unsent = self.sent_bytes..self.len_bytes;
        if unsent.end - unsent.start >= SEND_BYTES && self.sender.try_send(unsent).is_ok() {
            self.sent_bytes = self.len_bytes;
        }
        self.hasher.send(chunk).expect("the hasher lives until the sender is dropped");
        Ok(())
    }
}

impl Stream<'_> {
    fn file(
        &mut self,
        out: &OutFile,
        staging: &Staging,
        final_path: &Path,
    ) -> Result<(Option<NamedTempFile>, u64, [u8; 32]), EmitError> {
        let mut temporary = if staging.dry_run { None } else { Some(staging.create(&out.name)?) };
        let wants_crc = out.pieces.iter().any(|p| matches!(p, OutPiece::FileChecksum | OutPiece::TensorChecksums));
        let (hasher, chunks) = mpsc::sync_channel::<Bytes>(CHUNKS_IN_FLIGHT);
        let (sender, ranges) = mpsc::sync_channel::<Range<u64>>(0);
        let same_file = temporary.as_ref().map(|temporary| temporary.as_file().try_clone()).transpose();
        let same_file = same_file.map_err(io_error(final_path))?;
        let (len_bytes, digest) = std::thread::scope(|scope| {
            scope.spawn(move || {
                let Some(file) = same_file else { return };
                ranges.iter().for_each(|range| writeback::begin(&file, range.start, range.end - range.start));
            });
            let hashing = scope.spawn(move || {
                let mut hasher = blake3::Hasher::new();
                for chunk in chunks {
                    hasher.update(&chunk);
                    // Both ends are done with these pages of the source.
                    chunk.release();
                }
                *hasher.finalize().as_bytes()
            });
            let mut sink = Sink {
                file: temporary.as_mut().map(NamedTempFile::as_file_mut),
                path: final_path,
                hasher,
                sender,
                sent_bytes: 0,
                crc: wants_crc.then(crc32fast::Hasher::new),
                tensor_crcs: Vec::new(),
                len_bytes: 0,
            };
            let result = out.pieces.iter().try_for_each(|piece| self.piece(piece, &mut sink));
            let len_bytes = sink.len_bytes;
            drop(sink);
            let digest = hashing.join().expect("the hasher does not panic");
            result.map(|()| (len_bytes, digest))
        })?;
        if let Some(temporary) = &temporary {
            temporary.as_file().sync_all().map_err(io_error(final_path))?;
        }
        Ok((temporary, len_bytes, digest))
    }

    fn piece(&mut self, piece: &OutPiece, sink: &mut Sink<'_>) -> Result<(), EmitError> {
        match piece {
            OutPiece::Literal(bytes) => self.verbatim(bytes, sink)?,
            OutPiece::Zeros(n) => {
                let mut left = *n as usize;
                while left > 0 {
                    let chunk = left.min(CHUNK_BYTES);
                    self.chunk(vec![0; chunk].into(), sink)?;
                    left -= chunk;
                }
            }
            OutPiece::Tensor(recode) => {
                let outer = sink.crc.as_mut().map(std::mem::take);
                self.tensor(recode, sink)?;
                // The file's checksum goes on where it was, over the tensor's: every byte is read once.
                sink.crc = outer.map(|mut outer| {
                    let inner = sink.crc.take().expect("put there above");
                    outer.combine(&inner);
                    sink.tensor_crcs.push(inner.finalize());
                    outer
                });
            }
            OutPiece::TensorChecksums => {
                let bytes: Vec<u8> = sink.tensor_crcs.iter().flat_map(|crc| crc.to_le_bytes()).collect();
                self.chunk(bytes.into(), sink)?;
            }
            OutPiece::FileChecksum => {
                let crc = sink.crc.clone().expect("a file with a checksum piece has a hasher").finalize();
                self.chunk(crc.to_le_bytes().to_vec().into(), sink)?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: Bytes, sink: &mut Sink<'_>) -> Result<(), WriteError> {
        self.done += chunk.len() as u64;
        sink.write(chunk)?;
        match (self.progress)(self.done.min(self.total), self.total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(WriteError::Interrupted),
        }
    }

    fn verbatim(&mut self, bytes: &Bytes, sink: &mut Sink<'_>) -> Result<(), WriteError> {
        for start in (0..bytes.len()).step_by(CHUNK_BYTES) {
            let end = bytes.len().min(start + CHUNK_BYTES);
            self.chunk(bytes.slice(start..end).expect("inside the bytes"), sink)?;
        }
        Ok(())
    }

    fn tensor(&mut self, recode: &Recode, sink: &mut Sink<'_>) -> Result<(), EmitError> {
        let tensor = self.checkpoint.tensors.get(&recode.name).expect("files are planned from this checkpoint");
        if recode.is_verbatim(tensor) && !recode.finite {
            self.carried(recode, tensor);
            return Ok(self.verbatim(&tensor.data.clone(), sink)?);
        }
        let rows = Rows::of(tensor, recode);
        let mut loss = Loss::default();
        // Portions don't depend on the number of threads: neither do the sums over them.
        let rows_per_portion = (PORTION_BYTES / (4 * rows.columns).max(1)).max(1);
        let portions: Vec<_> =
            (0..rows.n).step_by(rows_per_portion).map(|start| start..rows.n.min(start + rows_per_portion)).collect();
        for chunk in portions.chunks(CHUNK_BYTES / PORTION_BYTES) {
            let done: Vec<_> = chunk.par_iter().map(|range| stored_rows(recode, &rows, range.clone())).collect();
            for portion in done {
                let (bytes, portion_loss) = portion?;
                loss.merge(&portion_loss);
                self.chunk(bytes.into(), sink)?;
            }
        }
        tensor.data.release();
        let (from, to) = (tensor.dtype, recode.dtype);
        if loss.n_changed > 0 {
            self.emitted.lossy.push(loss.of_tensor(&recode.name, from, to, tensor.shape.n_elements()));
        } else {
            self.carried(recode, tensor);
        }
        Ok(())
    }

    /// Notes that a tensor was written with the values it has.
    fn carried(&mut self, recode: &Recode, tensor: &Tensor) {
        let (from, to) = (tensor.dtype, recode.dtype);
        let relaid = Relaid::between(tensor.relayout, recode.relayout);
        let swapped = recode.byte_order != self.checkpoint.origin.byte_order;
        if from == to && relaid.is_none() && !swapped {
            self.emitted.n_verbatim += 1;
        } else {
            self.emitted.steps.push(Step { tensor: recode.name.clone(), from, to, relaid, swapped });
        }
    }
}

/// The stored form of target rows `range`, and what it loses.
fn stored_rows(recode: &Recode, rows: &Rows<'_>, range: Range<usize>) -> Result<(Vec<u8>, Loss), EmitError> {
    let portion = rows.portion(range.clone());
    let same_values = recode.dtype == portion.dtype && rows.offset == 0.0;
    let refused = |detail: String| WriteError::Tensor { name: recode.name.clone(), detail };
    let not_finite = |row: usize, values: &[f32], when: &str| {
        // Without a branch per value, as there is none in nearly every row.
        if !recode.finite || values.iter().fold(true, |all, value| all & value.is_finite()) {
            return Ok(());
        }
        let column = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
        let (index, value) = (row * rows.columns + column, values[column]);
        Err(refused(format!("value {index} (row {row}, column {column}) is {value} {when}")))
    };
    let mut loss = Loss::default();
    let mut bytes = Vec::with_capacity(range.len() * rows.columns);
    let (mut values, mut check) = (vec![0.0; rows.columns], vec![0.0; rows.columns]);
    for row in range {
        if recode.finite || !same_values {
            codec::decode(portion.dtype, portion.row(row), &mut values);
            not_finite(row, &values, "in the source")?;
        }
        if same_values {
            bytes.extend_from_slice(portion.row(row));
            continue;
        }
        values.iter_mut().for_each(|value| *value += rows.offset);
        let start = bytes.len();
        codec::encode_weighted(recode.dtype, &values, recode.importance.as_deref(), &mut bytes)
            .map_err(|error| refused(format!("row {row}: {error}")))?;
        codec::decode(recode.dtype, &bytes[start..], &mut check);
        not_finite(row, &check, &format!("as {}", recode.dtype))?;
        if rows.offset < 0.0 {
            // What computes is the gain, one plus what is stored: that is what must be the same.
            codec::decode(portion.dtype, portion.row(row), &mut values);
            check.iter_mut().for_each(|value| *value += 1.0);
        }
        let changed = loss.n_changed;
        loss.add(&values, &check);
        if recode.exact && loss.n_changed > changed {
            let what = if rows.offset == 0.0 { "values that" } else { "gains that less or more by one" };
            return Err(EmitError::NotTheOriginal(format!(
                "tensor {} holds {what} {} can't hold",
                recode.name, recode.dtype
            )));
        }
    }
    if recode.byte_order == ByteOrder::Big {
        swap_blocks(recode.dtype, &mut bytes);
    }
    Ok((bytes, loss))
}
