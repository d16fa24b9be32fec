//! Merges: their check, and the two spellings of a SentencePiece model, scores and merges.
//!
//! SentencePiece merges the adjacent pair whose union has the best score; Transformers lists pairs in rank order. Both
//! give the same ids when the list has every pair of pieces that makes a piece, ordered by that piece's score.

use super::canonical::shorten;
use super::{TokenKind, TokenizerError, Vocab};
use std::collections::{HashMap, HashSet};

/// Left and right piece.
pub(super) type Merge = (String, String);

/// Checks that both pieces of every merge and their union are tokens.
pub(super) fn check(merges: &[Merge], ids: &HashMap<&str, u32>) -> Result<(), TokenizerError> {
    let mut union = String::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        union.clear();
        union.push_str(left);
        union.push_str(right);
        if ![left, right, &union].into_iter().all(|text| ids.contains_key(text.as_str())) {
            return Err(error(rank, left, right, "both pieces and their union must be tokens"));
        }
    }
    Ok(())
}

fn error(rank: usize, left: &str, right: &str, detail: &'static str) -> TokenizerError {
    TokenizerError::Merge { rank, merge: format!("{} {}", shorten(left), shorten(right)), detail }
}

/// Splits `"left right"`; a piece has no space in this spelling.
pub(super) fn split(rank: usize, merge: &str) -> Result<Merge, TokenizerError> {
    match merge.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(TokenizerError::Merge {
            rank,
            merge: shorten(merge),
            detail: "expected two pieces with one space between them",
        }),
    }
}

fn normal_ids(vocab: &Vocab) -> HashMap<&str, u32> {
    let normal = |(id, (text, kind)): (u32, (_, &TokenKind))| (*kind == TokenKind::Normal).then_some((text, id));
    (0u32..).zip(vocab.texts.iter().map(String::as_str).zip(&vocab.kinds)).filter_map(normal).collect()
}

/// Every pair of normal pieces that makes a normal piece, best score first; pairs of equal score by the ids of their
/// union, left and right piece.
pub(super) fn from_scores(vocab: &Vocab, scores: &[f32]) -> Vec<Merge> {
    let ids = normal_ids(vocab);
    let mut found: Vec<(f32, [u32; 3], &str, &str)> = Vec::new();
    for (&union, &id) in &ids {
        for (cut, _) in union.char_indices().skip(1) {
            let (left, right) = union.split_at(cut);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                found.push((scores[id as usize], [id, left_id, right_id], left, right));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// Scores that order pieces as `merges` does: the normal tokens are sorted by the first merge that makes them (those
/// that no merge makes come last), then by id; the score is the negated place. This is the rule by which SentencePiece
/// itself numbers the pieces of a BPE model, so a trained model gets its own scores back.
pub(super) fn to_scores(vocab: &Vocab, merges: &[Merge]) -> Vec<f32> {
    let ids = normal_ids(vocab);
    let mut first_rank: HashMap<u32, usize> = HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        if let Some(&id) = ids.get(format!("{left}{right}").as_str()) {
            first_rank.entry(id).or_insert(rank);
        }
    }
    let mut order: Vec<u32> = ids.into_values().collect();
    order.sort_by_key(|id| (first_rank.get(id).copied().unwrap_or(usize::MAX), *id));
    let mut scores = vec![0.0; vocab.texts.len()];
    for (place, id) in order.into_iter().enumerate().skip(1) {
        scores[id as usize] = -(place as f32); // exact: a vocabulary has at most 2^22 tokens
    }
    scores
}

/// Checks that `scores` say the same as `merges`: the same pairs of normal pieces, in an order of falling scores.
pub(super) fn agree(vocab: &Vocab, scores: &[f32], merges: &[Merge]) -> Result<(), TokenizerError> {
    let ids = normal_ids(vocab);
    let mut listed: HashSet<(&str, &str)> = HashSet::with_capacity(merges.len());
    let mut last = f32::INFINITY;
    for (rank, (left, right)) in merges.iter().enumerate() {
        let union = format!("{left}{right}");
        let (Some(_), Some(_), Some(&id)) = (ids.get(left.as_str()), ids.get(right.as_str()), ids.get(union.as_str()))
        else {
            continue; // a pair with a control or byte token never meets in text
        };
        let score = scores[id as usize];
        if score > last {
            return Err(error(rank, left, right, "its piece scores better than that of an earlier merge"));
        }
        last = score;
        listed.insert((left, right));
    }
    for (left, right) in from_scores(vocab, scores) {
        if !listed.contains(&(left.as_str(), right.as_str())) {
            return Err(TokenizerError::Unsupported {
                what: "tokenizer.json: model.merges",
                found: format!("without the merge {:?} {:?}", shorten(&left), shorten(&right)),
                expected: "every pair of pieces that makes a piece (a SentencePiece model merges them all)".to_owned(),
            });
        }
    }
    Ok(())
}
