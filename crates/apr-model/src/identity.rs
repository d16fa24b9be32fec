//! What makes two checkpoints the same model, apart from tensor values.

use crate::{Checkpoint, Merge, TokenizerModel, TokenizerSpec};

impl Checkpoint {
    /// BLAKE3 over hyper-parameters, tokenizer, chat templates, and names and shapes of the tensors: all that makes a
    /// model apart from its values, independent of the file format.
    ///
    /// Each field is written with its name and length, so that no two different models share the input.
    pub fn identity(&self) -> [u8; 32] {
        let mut hasher = Fields::default();
        for (key, value) in self.spec.facts() {
            hasher.field(&key, value.as_bytes());
        }
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        for tensor in tensors {
            hasher.field(&tensor.name, tensor.shape.to_string().as_bytes());
        }
        if let Some(tokenizer) = &self.tokenizer {
            tokenizer.hash_into(&mut hasher);
        }
        if let Some(template) = &self.chat_templates.default {
            hasher.field("chat_template", template.as_bytes());
        }
        for (name, template) in &self.chat_templates.named {
            hasher.field(&format!("chat_template.{name}"), template.as_bytes());
        }
        hasher.digest()
    }
}

/// What is hashed. One long input is hashed much faster than the many short fields of a vocabulary.
#[derive(Default)]
pub(crate) struct Fields(Vec<u8>);

impl Fields {
    pub(crate) fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }

    pub(crate) fn field(&mut self, key: &str, value: &[u8]) {
        for part in [key.as_bytes(), value] {
            self.0.extend((part.len() as u64).to_le_bytes());
            self.0.extend(part);
        }
    }
}

impl TokenizerSpec {
    fn hash_into(&self, hasher: &mut Fields) {
        match &self.model {
            TokenizerModel::ByteLevelBpe { pre, merges } => {
                hasher.field("pre", pre.gguf.as_bytes());
                for (left, right) in merges.iter().map(|merge| self.pieces(merge)) {
                    hasher.field(left, right.as_bytes());
                }
            }
            TokenizerModel::SentencePiece { scores, space_prefix } => {
                hasher.field("space_prefix", format!("{space_prefix:?}").as_bytes());
                let bytes: Vec<u8> = scores.iter().flat_map(|s| s.to_le_bytes()).collect();
                hasher.field("scores", &bytes);
            }
        }
        for (text, kind) in self.vocab.texts.iter().zip(&self.vocab.kinds) {
            hasher.field(text, &(*kind as i32).to_le_bytes());
        }
        hasher.field("special", format!("{:?}", self.special).as_bytes());
    }

    /// Left and right piece of a merge.
    fn pieces(&self, merge: &Merge) -> (&str, &str) {
        let text = |id: u32| &self.vocab.texts[id as usize];
        (text(merge.left), text(merge.right))
    }

    /// Where this tokenizer and `other` differ, as text a person can act on; empty where they are the same.
    pub fn differences(&self, other: &TokenizerSpec) -> Vec<String> {
        let mut found = Vec::new();
        let (a, b) = (&self.vocab, &other.vocab);
        if a.texts.len() != b.texts.len() {
            found.push(format!("{} tokens against {}", a.texts.len(), b.texts.len()));
        }
        if let Some(id) = a.texts.iter().zip(&b.texts).position(|(x, y)| x != y) {
            found.push(format!("token {id} is {:?} against {:?}", &a.texts[id], &b.texts[id]));
        }
        if let Some(id) = a.kinds.iter().zip(&b.kinds).position(|(x, y)| x != y) {
            found.push(format!("token {id} {:?} is {:?} against {:?}", &a.texts[id], a.kinds[id], b.kinds[id]));
        }
        if self.special != other.special {
            found.push(format!("special ids {:?} against {:?}", self.special, other.special));
        }
        found.extend(self.model_difference(other));
        found
    }
    fn model_difference(&self, other: &TokenizerSpec) -> Option<String> {
        match (&self.model, &other.model) {
            (
                TokenizerModel::ByteLevelBpe { pre: p, merges: m },
                TokenizerModel::ByteLevelBpe { pre: q, merges: n },
            ) => {
                // By text: the same merge has other ids in another vocabulary.
                let mut pieces =
                    m.iter().map(|merge| self.pieces(merge)).zip(n.iter().map(|merge| other.pieces(merge)));
                if p != q {
                    Some(format!("pre-tokenizer {} against {}", p.gguf, q.gguf))
                } else if let Some((rank, (x, y))) = pieces.by_ref().enumerate().find(|(_, (x, y))| x != y) {
                    Some(format!("merge {rank} is {x:?} against {y:?}"))
                } else {
                    (m.len() != n.len()).then(|| format!("{} merges against {}", m.len(), n.len()))
                }
            }
            (
                TokenizerModel::SentencePiece { scores: s, space_prefix: p },
                TokenizerModel::SentencePiece { scores: t, space_prefix: q },
            ) => {
                if p != q {
                    Some(format!("space prefix {p:?} against {q:?}"))
                } else if let Some(id) = s.iter().zip(t).position(|(x, y)| x != y) {
                    Some(format!("score of token {id} is {} against {}", s[id], t[id]))
                } else {
                    (s.len() != t.len()).then(|| format!("{} scores against {}", s.len(), t.len()))
                }
            }
            _ => Some("another tokenizer algorithm".to_owned()),
        }
    }
}
