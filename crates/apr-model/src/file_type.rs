//! File types: the mixtures of dtypes that llama.cpp calls `Q4_K_M` and the like, one row each.
//!
//! A file type has a dtype for most matrices and rules for those that suffer more from few bits. Source: `llama_ftype` and
//! `llama_tensor_get_type` of llama.cpp; `tests/file_types.rs` compares the choice for every tensor with what its
//! `llama-quantize` does. Vectors, norms, learned positions and the matrices that choose experts stay as they are.

use crate::{LayerRole, ModelSpec, Part, Tensor, TensorRole};
use apr_tensor::DType;
use std::fmt;

/// One row of the table.
#[derive(Debug, PartialEq)]
pub struct FileType {
    /// Name on the command line, in any case.
    pub name: &'static str,
    /// `general.file_type` of GGUF.
    pub gguf_id: u32,
    /// The dtype of tensors that no rule is about.
    pub base: DType,
    /// The first rule that holds for a tensor decides.
    rules: &'static [Rule],
}

/// Which tensors of a layer a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Values, also where they are rows of the same matrix as queries and keys.
    Values,
    AttnOut,
    Down,
}

/// For which layers a rule holds, of `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layers {
    All,
    First(u32),
    /// The first `n / part`.
    FirstPart(u32),
    /// The first and the last eighth, and every third between.
    MoreBits,
}

/// What must be true of the model or the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// At least four query heads share their keys and values: the values' matrix is small.
    FourHeadsShare,
    EightExperts,
    NotEightExperts,
    Importance,
    NoImportance,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    kind: Kind,
    layers: Layers,
    when: When,
    dtype: DType,
}

const fn rule(kind: Kind, layers: Layers, when: When, dtype: DType) -> Rule {
    Rule { kind, layers, when, dtype }
}

use Kind::{AttnOut, Down, Values};
use Layers::{All, First, FirstPart, MoreBits};
use When::{Always, EightExperts, FourHeadsShare, Importance, NoImportance, NotEightExperts};

const OUT_OF_EIGHT: Rule = rule(AttnOut, All, EightExperts, DType::Q5K);
const IQ4_RULES: &[Rule] =
    &[rule(Values, All, FourHeadsShare, DType::Q5K), rule(Down, FirstPart(8), NoImportance, DType::Q5K), OUT_OF_EIGHT];
const MORE_Q6_K: [Rule; 2] = [rule(Values, MoreBits, Always, DType::Q6K), rule(Down, MoreBits, Always, DType::Q6K)];

const fn row(name: &'static str, gguf_id: u32, base: DType, rules: &'static [Rule]) -> FileType {
    FileType { name, gguf_id, base, rules }
}

/// Every file type that can be written.
pub const FILE_TYPES: &[FileType] = &[
    row("F16", 1, DType::F16, &[]),
    row("BF16", 32, DType::BF16, &[]),
    row("Q4_0", 2, DType::Q4_0, &[rule(Down, FirstPart(8), Importance, DType::Q4_1)]),
    row("Q4_1", 3, DType::Q4_1, &[]),
    row("Q5_0", 8, DType::Q5_0, &[rule(Down, FirstPart(8), Importance, DType::Q5_1)]),
    row("Q5_1", 9, DType::Q5_1, &[]),
    row("Q8_0", 7, DType::Q8_0, &[]),
    row(
        "Q2_K",
        10,
        DType::Q2K,
        &[
            rule(Values, All, FourHeadsShare, DType::Q4K),
            rule(Values, All, Always, DType::Q3K),
            rule(Down, All, Always, DType::Q3K),
            OUT_OF_EIGHT,
            rule(AttnOut, All, Always, DType::Q3K),
        ],
    ),
    row("Q3_K_S", 11, DType::Q3K, &[OUT_OF_EIGHT]),
    row(
        "Q3_K_M",
        12,
        DType::Q3K,
        &[
            rule(Values, First(2), Always, DType::Q5K),
            rule(Values, All, Always, DType::Q4K),
            rule(Down, FirstPart(16), Always, DType::Q5K),
            rule(Down, All, Always, DType::Q4K),
            OUT_OF_EIGHT,
            rule(AttnOut, All, Always, DType::Q4K),
        ],
    ),
    row(
        "Q3_K_L",
        13,
        DType::Q3K,
        &[
            rule(Values, All, Always, DType::Q5K),
            rule(Down, All, Always, DType::Q5K),
            rule(AttnOut, All, NotEightExperts, DType::Q5K),
        ],
    ),
    row(
        "Q4_K_S",
        14,
        DType::Q4K,
        &[rule(Values, First(4), Always, DType::Q5K), rule(Down, FirstPart(8), Always, DType::Q5K), OUT_OF_EIGHT],
    ),
    row("Q4_K_M", 15, DType::Q4K, &[MORE_Q6_K[0], MORE_Q6_K[1], OUT_OF_EIGHT]),
    row("Q5_K_S", 16, DType::Q5K, &[]),
    row("Q5_K_M", 17, DType::Q5K, &MORE_Q6_K),
    row("Q6_K", 18, DType::Q6K, &[]),
    row("IQ4_NL", 25, DType::IQ4NL, IQ4_RULES),
    row("IQ4_XS", 30, DType::IQ4XS, IQ4_RULES),
];

/// Names that stand for another.
const ALIASES: [(&str, &str); 3] = [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M")];

/// A name that no file type has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no file type is called {found:?}; there are {}", names())]
pub struct UnknownFileType {
    /// What was found.
    pub found: String,
}

fn names() -> String {
    FILE_TYPES.iter().map(|row| row.name).collect::<Vec<_>>().join(" ")
}

/// What is known of a model when the dtypes of its tensors are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Mixing<'a> {
    /// Its hyper-parameters.
    pub spec: &'a ModelSpec,
    /// Whether the embedding is the head, too.
    pub is_tied: bool,
    /// Whether the importance of columns is known.
    pub has_importance: bool,
}

/// The dtype of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What the file type asks for.
    pub wanted: DType,
    /// What the tensor's rows can be stored as: `wanted`, unless they don't fill its blocks.
    pub stored: DType,
}

impl Choice {
    /// `wanted`, or what takes its place in rows of `columns` elements.
    pub fn new(wanted: DType, columns: usize) -> Self {
        Self { wanted, stored: fitting(wanted, columns) }
    }
}

impl FileType {
    /// The file type of this name, in any case.
    pub fn from_name(name: &str) -> Result<&'static Self, UnknownFileType> {
        let name = name.to_ascii_uppercase();
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name.as_str(), |(_, full)| *full);
        let row = FILE_TYPES.iter().find(|row| row.name == name);
        row.ok_or_else(|| UnknownFileType { found: name.to_owned() })
    }

    /// What `tensor` becomes; `None` for a tensor that stays as it is.
    pub fn choose(&self, tensor: &Tensor, mixing: &Mixing<'_>) -> Option<Choice> {
        if !is_mixed(tensor) {
            return None;
        }
        let columns = tensor.shape.row_elements();
        Some(Choice::new(self.wanted(tensor.role, columns, mixing), columns))
    }

    fn wanted(&self, role: Option<TensorRole>, columns: usize, mixing: &Mixing<'_>) -> DType {
        if !self.base.is_quantized() {
            return self.base;
        }
        let fits = columns.is_multiple_of(self.base.info().block_elements);
        match role {
            Some(TensorRole::OutputHead) => self.head(fits),
            Some(TensorRole::TokenEmbed) if mixing.is_tied => self.head(fits),
            Some(TensorRole::Layer(layer, role, Part::Weight)) => self.of_layer(layer, role, mixing),
            _ => self.base,
        }
    }

    /// The head decides about every token.
    fn head(&self, fits: bool) -> DType {
        if !fits || self.base == DType::Q8_0 { DType::Q8_0 } else { DType::Q6K }
    }

    fn of_layer(&self, layer: u32, role: LayerRole, mixing: &Mixing<'_>) -> DType {
        use LayerRole::{AttnK, AttnQkv, AttnV, ExpertDown, MlpDown, SharedDown};
        let eight_experts = mixing.spec.variation.experts.as_ref().is_some_and(|experts| experts.n_experts == 8);
        let kind = match role {
            // Small beside the experts.
            AttnV | AttnQkv | AttnK if eight_experts => return DType::Q8_0,
            AttnV | AttnQkv => Values,
            LayerRole::AttnOut => AttnOut,
            MlpDown | SharedDown | ExpertDown(_) => Down,
            _ => return self.base,
        };
        let rule = self.rules.iter().find(|rule| {
            rule.kind == kind && rule.layers.contain(layer, mixing.spec.n_layers) && rule.when.holds(mixing)
        });
        let dtype = rule.map_or(self.base, |rule| rule.dtype);
        let few_bits = matches!(dtype, DType::Q3K | DType::Q4K);
        if kind == Values && few_bits && is_llama_70b(mixing.spec) { DType::Q5K } else { dtype }
    }
}

/// Eight query heads share the values of these models: little is saved on their matrix.
fn is_llama_70b(spec: &ModelSpec) -> bool {
    spec.n_layers == 80 && (spec.arch.id == "llama" && spec.n_heads != spec.n_kv_heads || spec.arch.id == "qwen2")
}

impl Layers {
    fn contain(self, layer: u32, n_layers: u32) -> bool {
        let eighth = n_layers / 8;
        match self {
            All => true,
            First(n) => layer < n,
            FirstPart(part) => layer < n_layers / part,
            MoreBits => layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2,
        }
    }
}

impl When {
    fn holds(self, mixing: &Mixing<'_>) -> bool {
        let spec = mixing.spec;
        let eight_experts = spec.variation.experts.as_ref().is_some_and(|experts| experts.n_experts == 8);
        match self {
            Always => true,
            FourHeadsShare => spec.n_heads / spec.n_kv_heads >= 4,
            EightExperts => eight_experts,
            NotEightExperts => !eight_experts,
            Importance => mixing.has_importance,
            NoImportance => !mixing.has_importance,
        }
    }
}

/// Whether a file type is about this tensor.
fn is_mixed(tensor: &Tensor) -> bool {
    use LayerRole::{Router, SharedRouter};
    let is_matrix = tensor.shape.dims().len() >= 2;
    is_matrix
        && tensor.dtype.holds_weights()
        && match tensor.role {
            Some(TensorRole::Layer(_, Router | SharedRouter, _)) => false,
            Some(role) => !role.gguf_wants_f32(),
            None => tensor.name.ends_with("weight") && !tensor.name.contains("norm"),
        }
}

/// The dtype for rows that don't fill the blocks of `wanted`: one of more bits with small blocks, or F16.
fn fitting(wanted: DType, columns: usize) -> DType {
    let fits = |dtype: DType| columns.is_multiple_of(dtype.info().block_elements);
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        DType::Q2K | DType::Q3K => DType::Q4_0,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        DType::IQ4XS => DType::IQ4NL,
        _ => DType::F16,
    };
    if fits(smaller) { smaller } else { DType::F16 }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_unique_and_every_dtype_can_be_encoded() {
        for row in FILE_TYPES {
            assert_eq!(FILE_TYPES.iter().filter(|r| r.name == row.name || r.gguf_id == row.gguf_id).count(), 1);
            assert_eq!(FileType::from_name(&row.name.to_ascii_lowercase()), Ok(row));
            assert!(row.rules.iter().map(|rule| rule.dtype).chain([row.base]).all(|dtype| dtype.info().encodes));
        }
        assert_eq!(FileType::from_name("q4_k").map(|row| row.name), Ok("Q4_K_M"));
        assert!(FileType::from_name("Q9").unwrap_err().to_string().contains("Q4_K_M"));
    }
}
