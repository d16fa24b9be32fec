//! Merges: their check, and the two spellings of a SentencePiece model, scores and merges.
//!
//! SentencePiece merges the adjacent pair whose union has the best score; Transformers lists pairs in rank order. Both
//! give the same ids when the list has every pair of pieces that makes a piece, ordered by that piece's score.

use super::canonical::shorten;
use super::{TextIndex, Texts, TokenKind, TokenizerError, Vocab};
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Two adjacent tokens that become one; ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Merge {
    /// The left token.
    pub left: u32,
    /// The right token.
    pub right: u32,
    /// The token that they become.
    pub union: u32,
}

/// Left and right piece, as a file states them.
pub(super) type MergeTexts = (String, String);

/// Merges by rank, as a file states them.
#[derive(Clone, Copy)]
pub(super) enum MergeList<'a> {
    /// `"left right"`.
    Lines(&'a Texts),
    Pairs(&'a [MergeTexts]),
}

impl<'a> MergeList<'a> {
    fn len(self) -> usize {
        match self {
            MergeList::Lines(lines) => lines.len(),
            MergeList::Pairs(pairs) => pairs.len(),
        }
    }

    fn get(self, rank: usize) -> Result<(&'a str, &'a str), TokenizerError> {
        match self {
            MergeList::Lines(lines) => split(rank, &lines[rank]),
            MergeList::Pairs(pairs) => Ok((&pairs[rank].0, &pairs[rank].1)),
        }
    }
}

/// Fewer merges are not worth another thread.
const MERGES_PER_THREAD: usize = 1 << 14;

/// Finds the ids of merges: both pieces of every merge and their union must be tokens.
///
/// The first error is that of the lowest rank, whatever the number of threads.
pub(super) fn resolve(merges: MergeList<'_>, vocab: &Vocab, index: &TextIndex) -> Result<Vec<Merge>, TokenizerError> {
    let n_threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let n_parts = n_threads.min(merges.len().div_ceil(MERGES_PER_THREAD)).max(1);
    let part =
        |i: usize| resolve_range(merges, i * merges.len() / n_parts..(i + 1) * merges.len() / n_parts, vocab, index);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_parts).map(|i| scope.spawn(move || part(i))).collect();
        let mut found = part(0)?;
        for other in others {
            found.extend(other.join().expect("finding ids does not panic")?);
        }
        Ok(found)
    })
}

fn resolve_range(
    merges: MergeList<'_>,
    ranks: Range<usize>,
    vocab: &Vocab,
    index: &TextIndex,
) -> Result<Vec<Merge>, TokenizerError> {
    let mut union = String::new();
    let mut found = Vec::with_capacity(ranks.len());
    for rank in ranks {
        let (left, right) = merges.get(rank)?;
        union.clear();
        union.push_str(left);
        union.push_str(right);
        // Most vocabularies number tokens in the order of the merges that make them.
        let next = found.last().map_or(0, |merge: &Merge| merge.union) + 1;
        let union_id = match vocab.texts.get(next as usize) {
            Some(text) if text == union => Some(next),
            _ => index.get(&vocab.texts, &union),
        };
        match (index.get(&vocab.texts, left), index.get(&vocab.texts, right), union_id) {
            (Some(left), Some(right), Some(union)) => found.push(Merge { left, right, union }),
            _ => return Err(error(rank, left, right, "both pieces and their union must be tokens")),
        }
    }
    Ok(found)
}

fn error(rank: usize, left: &str, right: &str, detail: &'static str) -> TokenizerError {
    TokenizerError::Merge { rank, merge: format!("{} {}", shorten(left), shorten(right)), detail }
}

/// Splits `"left right"`; a piece has no space in this spelling.
pub(super) fn split(rank: usize, merge: &str) -> Result<(&str, &str), TokenizerError> {
    match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => Ok((left, right)),
        _ => Err(TokenizerError::Merge {
            rank,
            merge: shorten(merge),
            detail: "expected two pieces with one space between them",
        }),
    }
}

/// The tokens of kind [`TokenKind::Normal`], which alone take part in merges by score.
struct NormalTokens<'a> {
    vocab: &'a Vocab,
    index: TextIndex,
}

impl<'a> NormalTokens<'a> {
    fn of(vocab: &'a Vocab) -> Result<Self, TokenizerError> {
        Ok(NormalTokens { vocab, index: vocab.index()? })
    }

    fn id(&self, text: &str) -> Option<u32> {
        self.index.get(&self.vocab.texts, text).filter(|&id| self.vocab.kinds[id as usize] == TokenKind::Normal)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &'a str)> {
        let rows = (0u32..).zip(self.vocab.texts.iter().zip(&self.vocab.kinds));
        rows.filter(|(_, (_, kind))| **kind == TokenKind::Normal).map(|(id, (text, _))| (id, text))
    }
}

/// Every pair of normal pieces that makes a normal piece, best score first; pairs of equal score by the ids of their
/// union, left and right piece.
pub(super) fn from_scores(vocab: &Vocab, scores: &[f32]) -> Result<Vec<Merge>, TokenizerError> {
    let tokens = NormalTokens::of(vocab)?;
    let mut found = Vec::new();
    for (union, text) in tokens.iter() {
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let (Some(left), Some(right)) = (tokens.id(left), tokens.id(right)) {
                found.push(Merge { left, right, union });
            }
        }
    }
    let score = |merge: &Merge| scores[merge.union as usize];
    let ids = |merge: &Merge| [merge.union, merge.left, merge.right];
    found.sort_unstable_by(|a, b| score(b).total_cmp(&score(a)).then_with(|| ids(a).cmp(&ids(b))));
    Ok(found)
}

/// Scores that order pieces as `merges` does: the normal tokens are sorted by the first merge that makes them (those
/// that no merge makes come last), then by id; the score is the negated place. This is the rule by which SentencePiece
/// itself numbers the pieces of a BPE model, so a trained model gets its own scores back.
pub(super) fn to_scores(vocab: &Vocab, merges: &[MergeTexts]) -> Result<Vec<f32>, TokenizerError> {
    let tokens = NormalTokens::of(vocab)?;
    let mut first_rank: HashMap<u32, usize> = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        if let Some(id) = tokens.id(&format!("{left}{right}")) {
            first_rank.entry(id).or_insert(rank);
        }
    }
    let mut order: Vec<u32> = tokens.iter().map(|(id, _)| id).collect();
    order.sort_by_key(|id| (first_rank.get(id).copied().unwrap_or(usize::MAX), *id));
    let mut scores = vec![0.0; vocab.texts.len()];
    for (place, id) in order.into_iter().enumerate().skip(1) {
        scores[id as usize] = -(place as f32); // exact: a vocabulary has at most 2^22 tokens
    }
    Ok(scores)
}

/// Checks that `scores` say the same as `merges`: the same pairs of normal pieces, in an order of falling scores.
pub(super) fn agree(vocab: &Vocab, scores: &[f32], merges: &[MergeTexts]) -> Result<(), TokenizerError> {
    let tokens = NormalTokens::of(vocab)?;
    let mut listed: HashSet<Merge> = HashSet::with_capacity(merges.len());
    let mut last = f32::INFINITY;
    for (rank, (left, right)) in merges.iter().enumerate() {
        let ids = [left, right, &format!("{left}{right}")].map(|text| tokens.id(text));
        let [Some(left_id), Some(right_id), Some(union)] = ids else {
            continue; // a pair with a control or byte token never meets in text
        };
        let score = scores[union as usize];
        if score > last {
            return Err(error(rank, left, right, "its piece scores better than that of an earlier merge"));
        }
        last = score;
        listed.insert(Merge { left: left_id, right: right_id, union });
    }
    match from_scores(vocab, scores)?.into_iter().find(|merge| !listed.contains(merge)) {
        None => Ok(()),
        Some(merge) => {
            let [left, right] = [merge.left, merge.right].map(|id| shorten(&vocab.texts[id as usize]));
            Err(TokenizerError::Unsupported {
                what: "tokenizer.json: model.merges",
                found: format!("without the merge {left:?} {right:?}"),
                expected: "every pair of pieces that makes a piece (a SentencePiece model merges them all)".to_owned(),
            })
        }
    }
}
