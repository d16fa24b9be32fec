//! Writing a checkpoint as files of a format: the original again where there was one, a fresh layout otherwise.

use crate::emit::{self, EmitError, Placement, Step, WrittenFile};
use crate::loss::TensorLoss;
use crate::plan::{OutFile, Plan, Recode};
use crate::recoding::Recoding;
use crate::shards::Layout;
use crate::{Limits, WriteError, apr, capsule, gguf, kept, restore, safetensors};
use apr_model::{Checkpoint, Format, Origin};
use apr_tensor::{DType, Shape};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Where to write, and as what.
#[derive(Clone, Debug)]
pub struct Target {
    /// File, or directory for a SafeTensors model.
    pub path: PathBuf,
    /// Format to write.
    pub format: Format,
}

impl Target {
    /// Decides the format of a target: `to` where given, else the path's extension, else a SafeTensors directory if
    /// the path is one or ends in a separator.
    ///
    /// The extension is what follows the last dot of the file name; a name such as `Qwen2.5-x` has none that is known,
    /// and then `to` is asked for. The path itself is never changed.
    pub fn new(path: &Path, to: Option<Format>) -> Result<Self, WriteError> {
        let extension = path.extension().and_then(|e| e.to_str()).and_then(Format::from_name);
        let names_dir = names_dir(path);
        let format = to.or(extension.filter(|_| !names_dir)).or(names_dir.then_some(Format::SafeTensors));
        let Some(format) = format else {
            let detail = "the target's name does not tell its format; end it in .gguf, .safetensors or .apr, \
                          or pass --to gguf|safetensors|apr";
            return Err(WriteError::Cannot { path: path.to_owned(), detail: detail.to_owned() });
        };
        if names_dir && Layout::of(format).is_none() {
            let detail = format!("a {format} model is one file, and this is a directory; name a file in it");
            return Err(WriteError::Cannot { path: path.to_owned(), detail });
        }
        Ok(Self { path: path.to_owned(), format })
    }

    /// A SafeTensors target is a directory unless its name ends in `.safetensors`; an APR target is a file unless there is
    /// a directory, or its name ends in a separator.
    fn placement(&self) -> Placement {
        let is_file =
            self.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) && !self.path.is_dir();
        match self.format {
            Format::SafeTensors if !is_file => Placement::Dir(self.path.clone()),
            Format::Apr if names_dir(&self.path) => Placement::Dir(self.path.clone()),
            _ => Placement::File(self.path.clone()),
        }
    }
}

fn names_dir(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().ends_with(std::path::MAIN_SEPARATOR)
}

/// How to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Replace what is there.
    pub force: bool,
    /// Let the source's recipe travel along, and follow one that came along.
    pub capsule: bool,
    /// Change the values.
    pub recoding: Option<Recoding>,
    /// Most bytes of tensors in a file; the model is split over several where it has more.
    pub shard_bytes: Option<u64>,
    /// Compute what would be written, and write nothing.
    pub dry_run: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { force: false, capsule: true, recoding: None, shard_bytes: None, dry_run: false }
    }
}

/// What a tensor would be stored as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Canonical name.
    pub name: String,
    /// Dtype of the source.
    pub from: DType,
    /// Dtype of the target.
    pub to: DType,
    /// What was asked for: another dtype than `to` where rows don't fill its blocks.
    pub wanted: DType,
    /// Row-major shape.
    pub shape: Shape,
    /// Bytes in the target.
    pub len_bytes: u64,
    /// Whether the importance of its columns is used.
    pub by_importance: bool,
}

/// What [`write()`] would make of each tensor, in the order of the target; nothing is written.
pub fn plan(checkpoint: &Checkpoint, format: Format, recoding: &Recoding) -> Result<Vec<PlannedTensor>, WriteError> {
    let plan = Plan::new(checkpoint, format, Some(recoding))?;
    let planned = |recode: Recode| {
        let tensor = checkpoint.tensors.get(&recode.name).expect("plan lists tensors of the checkpoint");
        PlannedTensor {
            from: tensor.dtype,
            to: recode.dtype,
            wanted: recode.wanted,
            shape: tensor.shape.clone(),
            len_bytes: recode.len_bytes as u64,
            by_importance: recode.importance.is_some(),
            name: recode.name,
        }
    };
    Ok(plan.tensors.into_iter().map(planned).collect())
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Files, the main one first.
    pub files: Vec<WrittenFile>,
    /// Whether these are the files of an earlier source again, checked by BLAKE3; otherwise why not.
    pub restored: Result<(), String>,
    /// Exact changes of stored form.
    pub steps: Vec<Step>,
    /// Changes of value.
    pub lossy: Vec<TensorLoss>,
    /// Tensors copied as they were.
    pub n_verbatim: usize,
    /// Length of the capsule's text in the target.
    pub capsule_bytes: usize,
    /// What other programs make of the target otherwise than this project.
    pub elsewhere: Vec<String>,
}

/// Writes `checkpoint` to `target`, or in a dry run says what that would give. `progress` gets bytes done and bytes in all, and may ask to stop.
pub fn write(
    checkpoint: &Checkpoint,
    target: &Target,
    options: &WriteOptions,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Written, WriteError> {
    let placement = target.placement();
    placement.check_free(options.force)?;
    check_shards(target, options)?;
    // Computed anew: a caller may have changed the checkpoint since it was read.
    let identity = checkpoint.identity();
    let layers = match &checkpoint.capsule {
        Some(text) if options.capsule => capsule::layers(text, &Limits::default()),
        _ => Ok(Vec::new()),
    };

    // First choice: a source of this format that is still the same model.
    let mut emit = |files: Vec<OutFile>, digests| {
        placement.check_neighbours(target.format, &files)?;
        emit::emit(checkpoint, files, &placement, options, digests, progress)
    };
    let reason = match recipe(checkpoint, target, options, &identity, &layers) {
        Err(reason) => reason,
        Ok((files, digests)) => match emit(files, digests) {
            Ok(emitted) => {
                return Ok(Written {
                    files: emitted.files,
                    restored: Ok(()),
                    steps: emitted.steps,
                    lossy: emitted.lossy,
                    n_verbatim: emitted.n_verbatim,
                    capsule_bytes: 0,
                    elsewhere: Vec::new(),
                });
            }
            Err(EmitError::Write(error)) => return Err(error),
            Err(EmitError::NotTheOriginal(reason)) => reason,
        },
    };

    let plan = Plan::new(checkpoint, target.format, options.recoding.as_ref())?;
    let inner = checkpoint.capsule.as_deref().unwrap_or_default();
    let text = match (options.capsule, checkpoint.origin.identity == Some(identity)) {
        (false, _) => None,
        (true, true) => {
            let digests = || restore::digests(checkpoint, &checkpoint.origin);
            let text = capsule::push(digests, &kept::recipe(checkpoint, &plan), inner);
            Some(text.map_err(|detail| WriteError::Cannot {
                path: target.path.clone(),
                detail: format!("the source's capsule can't be carried on: {detail}; --no-capsule leaves it out"),
            })?)
        }
        // A checkpoint that was changed after it was read is no form of its source; older forms travel on.
        (true, false) => std::str::from_utf8(inner).ok().filter(|text| !text.is_empty()).map(str::to_owned),
    };
    let name = placement.main_name(target.format);
    let files = match target.format {
        Format::Gguf => {
            if shard_name(target).is_some() {
                let detail =
                    format!("its name is that of one of several files, and {reason}; --shard-size makes new ones");
                return Err(WriteError::Cannot { path: target.path.clone(), detail });
            }
            let same = checkpoint.origin.format == Format::Gguf && checkpoint.origin.identity == Some(identity);
            if same && options.recoding.is_none() {
                let files = gguf::repack(checkpoint, text.as_deref(), name, options.shard_bytes);
                files.map_err(|detail| WriteError::Cannot { path: target.path.clone(), detail })?
            } else {
                gguf::layout(checkpoint, &plan, text.as_deref(), name, options.shard_bytes, &target.path)?
            }
        }
        Format::Apr => apr::layout(checkpoint, &plan, text.as_deref(), name, options.shard_bytes, &target.path)?,
        Format::SafeTensors => {
            let older = layers.iter().flatten().map(|layer| &layer.origin);
            let directory = std::iter::once(&checkpoint.origin)
                .chain(older)
                .find(|origin| origin.format == Format::SafeTensors && origin.identity == Some(identity));
            let companions: Vec<_> = directory
                .map(|o| o.files.iter().filter(|f| crate::source::is_companion(&f.name)).cloned().collect())
                .unwrap_or_default();
            safetensors::layout(
                checkpoint,
                &plan,
                text.as_deref(),
                name,
                &companions,
                options.shard_bytes,
                &target.path,
            )?
        }
    };
    match emit(files, None) {
        Ok(emitted) => Ok(Written {
            files: emitted.files,
            restored: Err(reason),
            steps: emitted.steps,
            lossy: emitted.lossy,
            n_verbatim: emitted.n_verbatim,
            capsule_bytes: text.map_or(0, |text| text.len()),
            elsewhere: match checkpoint.spec.known() {
                Some(spec) if target.format == Format::Gguf => gguf::differences(spec),
                Some(_) if target.format == Format::SafeTensors => safetensors::differences(checkpoint),
                _ => Vec::new(),
            },
        }),
        Err(EmitError::Write(error)) => Err(error),
        Err(EmitError::NotTheOriginal(detail)) => Err(WriteError::Cannot { path: target.path.clone(), detail }),
    }
}

type Recipe = (Vec<OutFile>, Option<Vec<[u8; 32]>>);

/// The files of an earlier source in the target's format, or why there are none to write again.
fn recipe(
    checkpoint: &Checkpoint,
    target: &Target,
    options: &WriteOptions,
    identity: &[u8; 32],
    layers: &Result<Vec<capsule::Layer>, String>,
) -> Result<Recipe, String> {
    if options.recoding.is_some() {
        return Err("another dtype was asked for".to_owned());
    }
    if options.shard_bytes.is_some() {
        return Err("files of another size were asked for".to_owned());
    }
    let own = &checkpoint.origin;
    let (origin, inner, digests) = if own.format == target.format && fits(own, target).is_ok() {
        (own, checkpoint.capsule.as_deref().unwrap_or_default().to_vec(), None)
    } else {
        if !options.capsule {
            return Err("the capsule is not used (--no-capsule)".to_owned());
        }
        let layers = layers.as_ref().map_err(Clone::clone)?;
        let of_format = || layers.iter().filter(|layer| layer.origin.format == target.format);
        let Some(layer) = of_format().find(|layer| fits(&layer.origin, target).is_ok()) else {
            let other =
                of_format().map(|layer| &layer.origin).chain((own.format == target.format).then_some(own)).next();
            let never = || Err(format!("the model was no {} model before", target.format));
            return other.map_or_else(never, |origin| fits(origin, target).map(|()| unreachable!("tried above")));
        };
        (&layer.origin, layer.inner(), Some(layer.digests.clone()))
    };
    if origin.identity != Some(*identity) {
        return Err("its hyper-parameters, tokenizer, chat template or tensor shapes changed since".to_owned());
    }
    let mut files = restore::files(checkpoint, origin, inner.into())?;
    if let Placement::File(path) = target.placement() {
        let name = emit::file_name(&path);
        match gguf::ShardName::parse(&name).filter(|_| target.format == Format::Gguf && files.len() > 1) {
            Some(name) => files.iter_mut().enumerate().for_each(|(index, file)| file.name = name.sibling(index)),
            None => files.first_mut().ok_or("the recipe has no files")?.name = name,
        }
    }
    Ok((files, digests))
}

/// Whether a source can be written to a target of its format again: both are one file, or both are several.
fn fits(origin: &Origin, target: &Target) -> Result<(), String> {
    if let Some(layout) = Layout::of(target.format) {
        let is_split = origin.files.iter().any(|file| file.name == layout.index);
        if is_split && matches!(target.placement(), Placement::File(_)) {
            return Err("it was a sharded model; name a directory as target to get its shards back".to_owned());
        }
        return Ok(());
    }
    let is_split = origin.files.len() > 1;
    let n_files = origin.files.len();
    match (is_split, shard_name(target)) {
        (false, None) => Ok(()),
        (true, Some(name)) if name.n_files == n_files => Ok(()),
        (true, _) => Err(format!(
            "it was split over {n_files} files; name NAME-00001-of-{n_files:05}.gguf as target to get them back"
        )),
        (false, Some(_)) => Err("it was one file".to_owned()),
    }
}

/// The place that the name of a GGUF target gives it among several files.
fn shard_name(target: &Target) -> Option<gguf::ShardName> {
    let name = emit::file_name(&target.path);
    gguf::ShardName::parse(&name).filter(|name| target.format == Format::Gguf && name.n_files > 1)
}

fn check_shards(target: &Target, options: &WriteOptions) -> Result<(), WriteError> {
    let cannot = |detail: &str| Err(WriteError::Cannot { path: target.path.clone(), detail: detail.to_owned() });
    match (shard_name(target), options.shard_bytes) {
        (_, Some(_)) if Layout::of(target.format).is_some() && matches!(target.placement(), Placement::File(_)) => {
            cannot("files of a given size stand in a directory, with an index; name a directory, with a / at its end")
        }
        (_, Some(0)) => cannot("files of at most 0 bytes hold no tensor"),
        (Some(_), Some(_)) => cannot("how many files there will be is not known before; name it NAME.gguf"),
        (Some(name), None) if name.index > 0 => cannot("name the first of the files"),
        _ => Ok(()),
    }
}
