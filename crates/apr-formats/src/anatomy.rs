//! What each byte of a file is: for people who look at one.

use crate::{Limits, OpenError, Source, SourceFile, apr, gguf, safetensors};
use apr_model::Format;
use apr_tensor::ByteOrder;
use std::ops::Range;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Numbers at the beginning.
    Header,
    /// Keys and values.
    Metadata,
    /// Descriptions of tensors.
    Index,
    /// Values of tensors.
    Data,
    /// Checksums.
    Checksum,
    /// Zeros that nothing describes.
    Padding,
    /// Other bytes that nothing describes.
    Unknown,
}

impl Section {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Section::Header => "header",
            Section::Metadata => "metadata",
            Section::Index => "index",
            Section::Data => "data",
            Section::Checksum => "checksum",
            Section::Padding => "padding",
            Section::Unknown => "unknown",
        }
    }
}

/// Bytes with one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where they lie in the file.
    pub range: Range<usize>,
    /// The part of the file.
    pub section: Section,
    /// What they are.
    pub what: String,
    /// What they say, where that is short.
    pub value: String,
    /// The tensor that they belong to, by its stored name.
    pub tensor: Option<String>,
}

/// A file taken apart.
#[derive(Clone, Debug)]
pub struct Anatomy {
    /// Order of the numbers, those in tensors included.
    pub byte_order: ByteOrder,
    /// Regions in file order, which cover the file without gap or overlap.
    pub regions: Vec<Region>,
}

/// Takes a file of a model apart. A file without weights is one region.
pub fn anatomy(source: &Source, file: &SourceFile, limits: &Limits) -> Result<Anatomy, OpenError> {
    let mut parts = Parts { file: &file.bytes, regions: Vec::new(), byte_order: ByteOrder::Little };
    let described = match source.format {
        Format::Gguf => gguf::describe(&mut parts, limits),
        Format::Apr if !file.name.ends_with(".json") => apr::describe(&mut parts, limits),
        Format::SafeTensors if file.name.ends_with(".safetensors") => safetensors::describe(&mut parts, limits),
        Format::SafeTensors | Format::Apr => {
            parts.add(0..file.bytes.len(), Section::Metadata, "a file beside the weights", String::new());
            Ok(())
        }
    };
    described.map_err(|e| e.in_file(&source.path.with_file_name(&file.name), source.format))?;
    Ok(Anatomy { byte_order: parts.byte_order, regions: parts.covering() })
}

/// Regions of a file, as a format names them.
pub(crate) struct Parts<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) byte_order: ByteOrder,
    regions: Vec<Region>,
}

impl Parts<'_> {
    pub(crate) fn add(&mut self, range: Range<usize>, section: Section, what: impl Into<String>, value: String) {
        self.regions.push(Region { range, section, what: what.into(), value, tensor: None });
    }

    /// A region that belongs to a tensor.
    pub(crate) fn of_tensor(&mut self, tensor: &str, range: Range<usize>, section: Section, what: &str, value: String) {
        self.regions.push(Region { range, section, what: what.to_owned(), value, tensor: Some(tensor.to_owned()) });
    }

    /// The regions in order, with what lies between them.
    fn covering(mut self) -> Vec<Region> {
        self.regions.retain(|region| !region.range.is_empty());
        self.regions.sort_by_key(|region| region.range.start);
        let mut covering = Vec::with_capacity(self.regions.len());
        let mut at = 0;
        let between = |range: Range<usize>| {
            let zeros = self.file[range.clone()].iter().all(|byte| *byte == 0);
            let (section, what) = match zeros {
                true => (Section::Padding, "zeros up to the next alignment"),
                false => (Section::Unknown, "bytes that nothing describes"),
            };
            Region { range, section, what: what.to_owned(), value: String::new(), tensor: None }
        };
        for region in self.regions {
            if region.range.start > at {
                covering.push(between(at..region.range.start));
            }
            at = region.range.end;
            covering.push(region);
        }
        if at < self.file.len() {
            covering.push(between(at..self.file.len()));
        }
        covering
    }
}
