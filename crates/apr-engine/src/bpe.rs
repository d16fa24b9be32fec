//! Byte-pair merging: from a word to token ids.
//!
//! The crate tokenizers has this algorithm too, over maps of strings, which it fills when a model is loaded: most of the
//! time of loading one with 152,000 tokens, and most of its memory. Here a merge is three numbers. The steps around it
//! (normalizing, cutting text into words, finding added tokens) are the crate's; a test holds the ids against it.

use apr_model::{BpeTables, Merge, TextIndex, TokenizerModel, TokenizerSpec, byte_of_piece};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::BuildHasher;

/// What turns a word into ids.
pub(crate) struct Bpe {
    /// Tokens of one character.
    of_char: HashMap<char, u32>,
    /// The token of each byte, for characters without a token.
    of_byte: [Option<u32>; 256],
    /// The token for what has none.
    unk: Option<u32>,
    fuse_unk: bool,
    /// By rank; None where they are the tokenizer's own list.
    own_merges: Option<Vec<Merge>>,
    /// Finds the rank of a merge by its left and right token.
    ranks: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The tokens that a word can be as a whole; None where words are merged first.
    whole_words: Option<WholeWords>,
}

struct WholeWords {
    index: TextIndex,
    is_in_base: Vec<bool>,
}

/// A token of the word that is being merged, and its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    /// None where it has become a part of the symbol before it.
    id: Option<u32>,
    before: Option<usize>,
    after: Option<usize>,
}

/// A merge that could be made: rank, place of the left symbol, union. The lowest rank is made first, and of equal ranks
/// the leftmost.
type Candidate = Reverse<(u32, usize, u32)>;

impl Bpe {
    pub(crate) fn new(spec: &TokenizerSpec) -> Self {
        let BpeTables { is_in_base, merges, unk, fuse_unk, byte_fallback, ignore_merges } = spec.bpe_tables();
        let texts = &spec.vocab.texts;
        let base = (0u32..).zip(texts).zip(&is_in_base).filter(|(_, is_in_base)| **is_in_base).map(|(row, _)| row);
        let mut of_char = HashMap::new();
        let mut of_byte = [None; 256];
        for (id, text) in base {
            let mut chars = text.chars();
            if let (Some(only), None) = (chars.next(), chars.next()) {
                of_char.insert(only, id);
            } else if let Some(byte) = byte_fallback.then(|| byte_of_piece(text)).flatten() {
                of_byte[usize::from(byte)] = Some(id);
            }
        }
        let hasher = DefaultHashBuilder::default();
        let mut ranks = HashTable::with_capacity(merges.len());
        for (rank, merge) in (0u32..).zip(merges.iter()) {
            let same_pair = |&other: &u32| pair(&merges[other as usize]) == pair(merge);
            let hash_of = |&other: &u32| hasher.hash_one(pair(&merges[other as usize]));
            match ranks.entry(hasher.hash_one(pair(merge)), same_pair, hash_of) {
                Entry::Vacant(free) => drop(free.insert(rank)),
                Entry::Occupied(mut earlier) => *earlier.get_mut() = rank, // the later one counts
            }
        }
        let own_merges = match merges {
            Cow::Owned(merges) => Some(merges),
            Cow::Borrowed(_) => None,
        };
        let index = ignore_merges.then(|| TextIndex::new(texts).expect("a spec's texts are distinct"));
        Bpe {
            of_char,
            of_byte,
            unk,
            fuse_unk,
            own_merges,
            ranks,
            hasher,
            whole_words: index.map(|index| WholeWords { index, is_in_base }),
        }
    }

    /// Adds the ids of a word.
    pub(crate) fn encode_word(&self, word: &str, spec: &TokenizerSpec, ids: &mut Vec<u32>) {
        if let Some(whole) = &self.whole_words
            && let Some(id) = whole.index.get(&spec.vocab.texts, word).filter(|&id| whole.is_in_base[id as usize])
        {
            ids.push(id);
            return;
        }
        let mut symbols = self.symbols(word);
        self.merge(&mut symbols, self.merges(spec));
        ids.extend(symbols.iter().filter_map(|symbol| symbol.id));
    }

    /// One symbol for each character that has a token, else for each of its bytes, else for the unknown token.
    fn symbols(&self, word: &str) -> Vec<Symbol> {
        let mut found: Vec<u32> = Vec::with_capacity(word.len());
        // An unknown token waits until it is known where a run of them ends.
        let mut waiting = None;
        for character in word.chars() {
            if let Some(&id) = self.of_char.get(&character) {
                found.extend(waiting.take());
                found.push(id);
            } else if let Some(bytes) = self.bytes_of(character) {
                found.extend(bytes); // before an unknown token that waits, as the library has it
            } else if let Some(unk) = self.unk {
                let earlier = waiting.replace(unk);
                found.extend(earlier.filter(|_| !self.fuse_unk));
            }
        }
        found.extend(waiting);
        let n = found.len();
        let symbol = |(place, id): (usize, u32)| Symbol {
            id: Some(id),
            before: place.checked_sub(1),
            after: Some(place + 1).filter(|&after| after < n),
        };
        found.into_iter().enumerate().map(symbol).collect()
    }

    /// The tokens of the bytes of a character, where there is one for each.
    fn bytes_of(&self, character: char) -> Option<Vec<u32>> {
        character.encode_utf8(&mut [0; 4]).bytes().map(|byte| self.of_byte[usize::from(byte)]).collect()
    }

    fn merges<'a>(&'a self, spec: &'a TokenizerSpec) -> &'a [Merge] {
        match (&self.own_merges, &spec.model) {
            (Some(merges), _) | (None, TokenizerModel::ByteLevelBpe { merges, .. }) => merges,
            (None, TokenizerModel::SentencePiece { .. }) => {
                unreachable!("the merges of a SentencePiece model are computed")
            }
        }
    }

    fn merge(&self, symbols: &mut [Symbol], merges: &[Merge]) {
        let pairs = (1..symbols.len()).filter_map(|right| self.candidate(symbols, merges, right - 1));
        let mut candidates = BinaryHeap::from_iter(pairs);
        while let Some(Reverse((_, place, union))) = candidates.pop() {
            // A candidate whose symbols have changed since makes the merge that is there now, where it has this union.
            let Some(Reverse((_, _, now))) = self.candidate(symbols, merges, place) else { continue };
            if now != union {
                continue;
            }
            let right = symbols[place].after.expect("a candidate has a right symbol");
            let after = symbols[right].after;
            symbols[place] = Symbol { id: Some(union), after, ..symbols[place] };
            symbols[right].id = None;
            if let Some(after) = after {
                symbols[after].before = Some(place);
            }
            candidates.extend(symbols[place].before.and_then(|before| self.candidate(symbols, merges, before)));
            candidates.extend(self.candidate(symbols, merges, place));
        }
    }

    /// The merge of the symbol at `place` with the one after it.
    fn candidate(&self, symbols: &[Symbol], merges: &[Merge], place: usize) -> Option<Candidate> {
        let left = symbols[place];
        let wanted = key(left.id?, symbols[left.after?].id?);
        let is_wanted = |&rank: &u32| pair(&merges[rank as usize]) == wanted;
        let rank = *self.ranks.find(self.hasher.hash_one(wanted), is_wanted)?;
        Some(Reverse((rank, place, merges[rank as usize].union)))
    }
}

/// Two tokens as one number, which is quicker to hash.
fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

fn pair(merge: &Merge) -> u64 {
    key(merge.left, merge.right)
}
