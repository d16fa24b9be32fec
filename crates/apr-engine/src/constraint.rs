//! What a constraint on the next token is to the engine: a set of ids.

/// Ids that may come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenSet {
    /// Bit `id % 32` of word `id / 32`.
    words: Vec<u32>,
}

impl TokenSet {
    /// The set whose member `id` is bit `id % 32` of word `id / 32`.
    pub fn from_words(words: Vec<u32>) -> Self {
        TokenSet { words }
    }

    /// Whether `id` is in the set.
    pub fn contains(&self, id: u32) -> bool {
        self.words.get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}

impl FromIterator<u32> for TokenSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut words = Vec::new();
        for id in ids {
            let index = id as usize / 32;
            if words.len() <= index {
                words.resize(index + 1, 0);
            }
            words[index] |= 1 << (id % 32);
        }
        TokenSet { words }
    }
}

/// Decides which ids may follow what was generated so far.
pub trait Constraint {
    /// The ids that may come next; `None` where the text is complete and nothing may follow.
    fn allowed(&mut self) -> Result<Option<TokenSet>, ConstraintError>;

    /// Takes the id that was chosen from that set. A stop id is not handed over: it ends generation.
    fn accept(&mut self, id: u32) -> Result<(), ConstraintError>;
}

/// Why a constraint can't be made or followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// The grammar or the schema is not one.
    #[error("the {what} is not accepted: {detail}")]
    Source {
        /// `grammar` or `JSON schema`.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The parser gave up.
    #[error("the grammar can't be followed any further: {0}")]
    Parser(String),
    /// No token of the vocabulary continues the text.
    #[error("after {n_tokens} tokens the grammar allows no token of the vocabulary")]
    NoToken {
        /// Tokens generated so far.
        n_tokens: usize,
    },
}
