//! How to write the source of a checkpoint again, byte for byte.

use crate::{Format, Relayout};
use apr_tensor::{ByteOrder, Bytes, DType};

/// A source as a recipe: its files, each a sequence of pieces.
///
/// A reader makes one; a converter stores it in the target (the *capsule*); converting back follows it. The recipe
/// knows nothing about formats, so every format's round trip takes the same path.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Format of the source.
    pub format: Format,
    /// Order of the bytes of its numbers, those in tensors included.
    pub byte_order: ByteOrder,
    /// [`Checkpoint::identity`](crate::Checkpoint::identity) when the recipe was made: a checkpoint that has another
    /// one by now may not be written by this recipe. None where it was not asked for: then nothing may.
    pub identity: Option<[u8; 32]>,
    /// The files of the source. The first one is the file, or the main file of the directory, that was opened.
    pub files: Vec<OriginFile>,
    /// Whether the source was named as a directory.
    pub is_dir: bool,
}

/// One file of a source.
#[derive(Clone, Debug)]
pub struct OriginFile {
    /// Name inside its directory.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// Its content, in order.
    pub pieces: Vec<Piece>,
}

/// A run of bytes of a source file.
#[derive(Clone, Debug)]
pub enum Piece {
    /// These bytes.
    Literal(Bytes),
    /// This many zero bytes.
    Zeros(u64),
    /// The text of the capsule that the source itself carried (its own, older origins), base64.
    Capsule,
    /// The data of a tensor, as it was stored.
    Tensor {
        /// Canonical name.
        name: String,
        /// Stored dtype.
        dtype: DType,
        /// How it was stored.
        relayout: Relayout,
    },
    /// The data of a tensor of gains, as it was stored: a gain that counts from one may be that of several that count from
    /// zero, so what the tensor is by now does not give it back. It only has to be the same gains.
    Kept {
        /// Canonical name.
        name: String,
        /// Stored dtype.
        dtype: DType,
        /// Stored bytes.
        bytes: Bytes,
    },
}
