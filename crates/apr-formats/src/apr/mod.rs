//! APR version 2, as `docs/apr-format.md` describes it byte by byte.

mod anatomy;
mod header;
mod manifest;
mod metadata;
mod reader;
mod writer;

pub(crate) use anatomy::describe;
pub use header::{Header, TensorInfo};
pub(crate) use manifest::{is_one_of_several, weights};
pub(crate) use reader::{read, summary};
pub(crate) use writer::layout;

/// Key of the capsule in the metadata.
pub(crate) const CAPSULE_KEY: &str = "apr.capsule";
/// Everything starts at a multiple of this.
pub(crate) const ALIGNMENT: u64 = 64;
/// Size of the fixed header.
pub(crate) const HEADER_BYTES: usize = 64;

/// Header flags.
pub(crate) mod flag {
    /// Compressed tensors (two kinds) and encryption: not written by anything seen, refused.
    pub(crate) const UNSUPPORTED: [(u16, &str); 3] =
        [(0x0001, "LZ4 compression"), (0x0002, "ZSTD compression"), (0x0004, "encryption")];
    /// One of several files of a model.
    pub(crate) const SHARDED: u16 = 0x0010;
    /// Some tensors are quantised.
    pub(crate) const QUANTIZED: u16 = 0x0020;
    /// The metadata holds a tokenizer.
    pub(crate) const HAS_VOCAB: u16 = 0x0200;
    /// Tensors are row-major.
    pub(crate) const LAYOUT_ROW_MAJOR: u16 = 0x0400;
    /// Tensors are column-major: refused.
    pub(crate) const LAYOUT_COLUMN_MAJOR: u16 = 0x0800;
}

/// Start of the table of tensor checksums, behind the data.
pub(crate) const CHECKSUM_MAGIC: &[u8; 8] = b"APRCRC32";
