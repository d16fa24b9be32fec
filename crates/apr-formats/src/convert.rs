//! Writing a checkpoint as files of a format: the original again where there was one, a fresh layout otherwise.

use crate::emit::{self, EmitError, Placement, Step, TensorLoss, WrittenFile};
use crate::plan::{OutFile, Plan};
use crate::source::INDEX_NAME;
use crate::{Limits, WriteError, apr, capsule, gguf, restore, safetensors};
use apr_model::{Checkpoint, Format, Tensor};
use apr_tensor::DType;
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
        let names_dir = path.is_dir() || path.to_string_lossy().ends_with(std::path::MAIN_SEPARATOR);
        let format = to.or(extension.filter(|_| !names_dir)).or(names_dir.then_some(Format::SafeTensors));
        let Some(format) = format else {
            let detail = "the target's name does not tell its format; end it in .gguf, .safetensors or .apr, \
                          or pass --to gguf|safetensors|apr";
            return Err(WriteError::Cannot { path: path.to_owned(), detail: detail.to_owned() });
        };
        if names_dir && format != Format::SafeTensors {
            let detail = format!("a {format} model is one file, and this is a directory; name a file in it");
            return Err(WriteError::Cannot { path: path.to_owned(), detail });
        }
        Ok(Self { path: path.to_owned(), format })
    }

    /// A SafeTensors target is a directory unless its name ends in `.safetensors`.
    fn placement(&self) -> Placement {
        let is_file =
            self.path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) && !self.path.is_dir();
        match self.format {
            Format::SafeTensors if !is_file => Placement::Dir(self.path.clone()),
            _ => Placement::File(self.path.clone()),
        }
    }
}

/// A dtype asked for: the one way to change values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DTypeRequest(DType);

impl DTypeRequest {
    /// Asks for `dtype`, if this version can encode it.
    pub fn new(dtype: DType) -> Result<Self, String> {
        if dtype.info().encodes {
            return Ok(Self(dtype));
        }
        let can: Vec<_> = apr_tensor::DTYPES.iter().filter(|row| row.encodes).map(|row| row.name).collect();
        Err(format!("this version decodes {dtype} and does not encode it; it encodes {}", can.join(" ")))
    }

    /// The dtype of one tensor, and whether it must hold exactly the same values.
    ///
    /// Vectors are too small to matter and too sensitive to quantise: they become F32 beside quantised matrices.
    /// A matrix whose rows don't fill the blocks keeps its dtype.
    pub(crate) fn for_tensor(self, tensor: &Tensor, format: Format) -> (DType, bool) {
        let is_vector = tensor.shape.dims().len() < 2;
        if is_vector && (self.0.is_quantized() || format == Format::Gguf) {
            return (DType::F32, true);
        }
        if !tensor.shape.row_elements().is_multiple_of(self.0.info().block_elements) {
            return (tensor.dtype, true);
        }
        (self.0, false)
    }
}

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Replace what is there.
    pub force: bool,
    /// Let the source's recipe travel along, and follow one that came along.
    pub capsule: bool,
    /// Change the values' dtype.
    pub dtype: Option<DTypeRequest>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { force: false, capsule: true, dtype: None }
    }
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
}

/// Writes `checkpoint` to `target`. `progress` gets bytes done and bytes in all, and may ask to stop.
pub fn write(
    checkpoint: &Checkpoint,
    target: &Target,
    options: &WriteOptions,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Written, WriteError> {
    let placement = target.placement();
    placement.check_free(options.force)?;
    // Computed anew: a caller may have changed the checkpoint since it was read.
    let identity = checkpoint.identity();
    let layers = match &checkpoint.capsule {
        Some(text) if options.capsule => capsule::layers(text, &Limits::default()),
        _ => Ok(Vec::new()),
    };

    // First choice: a source of this format that is still the same model.
    let mut emit = |files: Vec<OutFile>, digests| {
        if target.format == Format::SafeTensors {
            placement.check_neighbours(&files)?;
        }
        emit::emit(checkpoint, files, &placement, options.force, digests, progress)
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
                });
            }
            Err(EmitError::Write(error)) => return Err(error),
            Err(EmitError::NotTheOriginal(reason)) => reason,
        },
    };

    let inner = checkpoint.capsule.as_deref().unwrap_or_default();
    let text = match (options.capsule, checkpoint.origin.identity == Some(identity)) {
        (false, _) => None,
        (true, true) => {
            let digests = || restore::digests(checkpoint, &checkpoint.origin);
            let text = capsule::push(digests, &checkpoint.origin, inner);
            Some(text.map_err(|detail| WriteError::Cannot {
                path: target.path.clone(),
                detail: format!("the source's capsule can't be carried on: {detail}; --no-capsule leaves it out"),
            })?)
        }
        // A checkpoint that was changed after it was read is no form of its source; older forms travel on.
        (true, false) => std::str::from_utf8(inner).ok().filter(|text| !text.is_empty()).map(str::to_owned),
    };
    let plan = Plan::new(checkpoint, target.format, options.dtype)?;
    let name = placement.main_name();
    let files = match target.format {
        Format::Gguf => vec![gguf::layout(checkpoint, &plan, text.as_deref(), name, &target.path)?],
        Format::Apr => vec![apr::layout(checkpoint, &plan, text.as_deref(), name, &target.path)?],
        Format::SafeTensors => {
            let older = layers.iter().flatten().map(|layer| &layer.origin);
            let directory = std::iter::once(&checkpoint.origin)
                .chain(older)
                .find(|origin| origin.format == Format::SafeTensors && origin.identity == Some(identity));
            let companions: Vec<_> = directory
                .map(|o| o.files.iter().filter(|f| crate::COMPANIONS.contains(&f.name.as_str())).cloned().collect())
                .unwrap_or_default();
            safetensors::layout(checkpoint, &plan, text.as_deref(), name, &companions, &target.path)?
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
    if options.dtype.is_some() {
        return Err("another dtype was asked for".to_owned());
    }
    let (origin, inner, digests) = if checkpoint.origin.format == target.format {
        (&checkpoint.origin, checkpoint.capsule.as_deref().unwrap_or_default().to_vec(), None)
    } else {
        if !options.capsule {
            return Err("the capsule is not used (--no-capsule)".to_owned());
        }
        let layers = layers.as_ref().map_err(Clone::clone)?;
        let layer = layers.iter().find(|layer| layer.origin.format == target.format);
        let layer = layer.ok_or_else(|| format!("the model was no {} model before", target.format))?;
        (&layer.origin, layer.inner(), Some(layer.digests.clone()))
    };
    if origin.identity != Some(*identity) {
        return Err("its hyper-parameters, tokenizer, chat template or tensor shapes changed since".to_owned());
    }
    let mut files = restore::files(checkpoint, origin, inner.into())?;
    if let Placement::File(path) = target.placement() {
        let sharded = files.iter().any(|file| file.name == INDEX_NAME);
        if sharded {
            return Err("it was a sharded model; name a directory as target to get its shards back".to_owned());
        }
        let main = files.first_mut().ok_or("the recipe has no files")?;
        main.name = emit::file_name(&path);
    }
    Ok((files, digests))
}
