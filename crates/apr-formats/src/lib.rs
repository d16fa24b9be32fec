//! Floor 2: bytes to checkpoint and back, for every format: the only crate that reads hostile model bytes.
//!
//! *In:* a path. *Out:* a [`Checkpoint`], or an error that says where the file breaks which rule; and, the other way,
//! the files of a checkpoint in any format, written atomically.
//! *Afterwards:* every range lies in its file, names are unique, sizes agree with dtypes; a written model that came
//! from this format before is the same file again, byte for byte.
//! *Absent on purpose:* pairwise converters (a conversion is a reader and a writer), re-quantising that nobody asked
//! for, and guessing a format from a name.
#![deny(unsafe_code)]

mod anatomy;
pub mod apr;
mod capsule;
mod convert;
mod cursor;
mod emit;
mod error;
pub mod gguf;
mod importance;
mod integrity;
mod json_entries;
mod kept;
mod limits;
mod loss;
#[expect(unsafe_code, reason = "a memory map, and what happens where its bytes are gone, is between us and the system")]
mod mmap;
mod origin;
mod plan;
mod recoding;
mod restore;
mod rows;
pub mod safetensors;
mod shards;
mod source;
mod summary;
mod unknown;
#[expect(unsafe_code, reason = "a hint to the system that no safe library offers")]
mod writeback;

pub use anatomy::{Anatomy, Region, Section, anatomy};
pub use convert::{PlannedTensor, Target, WriteOptions, Written, plan, write};
pub use emit::{Relaid, Step, WrittenFile};
pub use error::{OpenError, OpenErrorKind, ParseError, WriteError};
pub use importance::Importance;
pub use integrity::{Integrity, check_integrity};
pub use limits::Limits;
pub use loss::TensorLoss;
pub use mmap::exit_where_mapped_bytes_are_gone;
pub use recoding::{DTypeRequest, FileTypeRequest, Recoding};
pub use source::{COMPANIONS, Source, SourceFile};
pub use summary::{Summary, TensorSummary};

use apr_model::{Checkpoint, Format};
use std::path::Path;

pub(crate) use gguf::no_overlap as gguf_no_overlap;
pub(crate) use gguf::{interleaved, relayout as gguf_relayout};

/// Opens the model at `path`: a file, or a directory with a model in it. Reads headers; weights stay mapped.
pub fn open(path: &Path, limits: &Limits) -> Result<Checkpoint, OpenError> {
    open_source(&Source::locate(path)?, limits)
}

/// Opens a model whose files are located already.
pub fn open_source(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    let mut checkpoint = open_to_run(source, limits)?;
    checkpoint.origin.identity = Some(checkpoint.identity());
    Ok(checkpoint)
}

/// [`open_source`] for a model that will not be written: it is not hashed for its identity, and no recipe of its source
/// is followed.
pub fn open_to_run(source: &Source, limits: &Limits) -> Result<Checkpoint, OpenError> {
    match source.format {
        Format::Gguf => gguf::read(source, limits),
        Format::SafeTensors => safetensors::read(source, limits),
        Format::Apr => apr::read(source, limits),
    }
}

/// What the container of a located model holds, without asking whether the model can be used.
pub fn summarize(source: &Source, limits: &Limits) -> Result<Summary, OpenError> {
    match source.format {
        Format::Gguf => gguf::summary(source, limits),
        Format::SafeTensors => safetensors::summary(source, limits),
        Format::Apr => apr::summary(source, limits),
    }
}

/// A format that a model had, and the names and lengths in bytes of its files then.
pub type CapsuleEntry = (Format, Vec<(String, u64)>);

/// The sources that a checkpoint's capsule describes, newest first.
pub fn capsule_contents(checkpoint: &Checkpoint, limits: &Limits) -> Result<Vec<CapsuleEntry>, String> {
    let Some(text) = &checkpoint.capsule else { return Ok(Vec::new()) };
    let layers = capsule::layers(text, limits)?;
    Ok(layers
        .into_iter()
        .map(|layer| (layer.origin.format, layer.origin.files.into_iter().map(|file| (file.name, file.len)).collect()))
        .collect())
}
