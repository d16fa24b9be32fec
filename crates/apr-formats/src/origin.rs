//! Recipes of sources: cutting a container into literals, padding, tensors and the capsule.

use apr_model::{OriginFile, Piece, Relayout};
use apr_tensor::{Bytes, DType};
use std::ops::Range;

/// Shorter runs of zeros are kept as literals.
const MIN_ZEROS: usize = 64;

/// A file with tensors in it.
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) bytes: Bytes,
    /// Where the text of its own capsule lies.
    pub(crate) capsule: Option<Range<usize>>,
    pub(crate) tensors: Vec<Span>,
}

/// Where one tensor lies, and how it is stored there.
pub(crate) struct Span {
    pub(crate) range: Range<usize>,
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) relayout: Relayout,
}

impl Container {
    /// The recipe of this file: everything that is not a tensor or the capsule is a literal.
    pub(crate) fn into_file(self) -> OriginFile {
        let Container { name, bytes, capsule, mut tensors } = self;
        tensors.sort_by_key(|span| (span.range.start, span.range.end));
        let mut cuts: Vec<(Range<usize>, Piece)> = tensors
            .into_iter()
            .map(|s| (s.range, Piece::Tensor { name: s.name, dtype: s.dtype, relayout: s.relayout }))
            .collect();
        cuts.extend(capsule.map(|range| (range, Piece::Capsule)));
        cuts.sort_by_key(|(range, _)| range.start);

        let mut pieces = Vec::with_capacity(2 * cuts.len() + 1);
        let mut pos = 0;
        for (range, piece) in cuts {
            push_literal(&mut pieces, &bytes, pos..range.start);
            // A tensor without bytes may stand inside another one.
            pos = pos.max(range.end);
            pieces.push(piece);
        }
        push_literal(&mut pieces, &bytes, pos..bytes.len());
        OriginFile { name, len: bytes.len() as u64, pieces }
    }
}

/// A file carried as it is.
pub(crate) fn whole_file(name: &str, bytes: &Bytes) -> OriginFile {
    let pieces = if bytes.is_empty() { Vec::new() } else { vec![Piece::Literal(bytes.clone())] };
    OriginFile { name: name.to_owned(), len: bytes.len() as u64, pieces }
}

fn push_literal(pieces: &mut Vec<Piece>, bytes: &Bytes, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    let literal = bytes.slice(range).expect("cuts are disjoint ranges of the file");
    if literal.len() >= MIN_ZEROS && literal.iter().all(|&b| b == 0) {
        pieces.push(Piece::Zeros(literal.len() as u64));
    } else {
        pieces.push(Piece::Literal(literal));
    }
}
