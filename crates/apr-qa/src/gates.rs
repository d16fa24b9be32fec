//! The registry: every gate once, with the condition it judges and the mutants it must reject.

use apr_model::Format;
use apr_report::Unit;
use serde::Serialize;
use std::fmt;

/// How bad a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Blocks certification.
    P0,
    /// A defect.
    P1,
    /// Worth knowing.
    P2,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::P0 => "P0",
            Severity::P1 => "P1",
            Severity::P2 => "P2",
        })
    }
}

/// What kind of promise a gate tests: the categories of the category score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Category {
    /// The output is right.
    Qual,
    /// It keeps running.
    Stab,
    /// Forms of the same model agree.
    Comp,
    /// A chain of conversions comes back.
    Regr,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Category::Qual => "QUAL",
            Category::Stab => "STAB",
            Category::Comp => "COMP",
            Category::Regr => "REGR",
        })
    }
}

/// One gate.
#[derive(Clone, Debug, Serialize)]
pub struct Gate {
    /// Its id, the same when it passes and when it fails.
    pub id: &'static str,
    /// What it establishes, in a few words.
    pub title: &'static str,
    /// How bad a failure is.
    pub severity: Severity,
    /// What kind of promise it tests.
    pub category: Category,
    /// Which gateway it belongs to (0 to 4): without a pass of each gateway nothing is certified.
    pub gateway: Option<u8>,
    /// When it passes.
    pub condition: &'static str,
    /// Units of its measurements; one scenario has one unit.
    pub units: &'static [Unit],
    /// Mutants that it must reject, by id; see [`MUTANTS`](crate::mutants::MUTANTS).
    pub mutants: &'static [&'static str],
}

const PREFLIGHT: Gate = Gate {
    id: "",
    title: "",
    severity: Severity::P0,
    category: Category::Stab,
    gateway: Some(0),
    condition: "",
    units: &[Unit::Facts],
    mutants: &[],
};

const PAIR: Gate = Gate {
    category: Category::Comp,
    gateway: None,
    condition: "all values that `rosetta verify` decodes are equal in every bit, and all of them were compared; \
                and, for the same prompt, all token ids and all logits are equal in every bit",
    units: &[Unit::TensorValues, Unit::Logits],
    mutants: &[
        "zero-tensor",
        "nan-value",
        "transposed-weight",
        "dtype-byte",
        "dropped-bias",
        "offset-32",
        "truncated",
        "permuted-q",
        "bit-flip",
        "nothing-compared",
    ],
    ..PREFLIGHT
};

const CHAIN: Gate = Gate {
    category: Category::Regr,
    gateway: None,
    condition: "every file has the SHA-256 of the file that the chain began with: the source, or a form of it that carries \
                no recipe of the source",
    units: &[Unit::Bytes],
    mutants: &["bit-flip", "rope-theta", "split-special", "truncated"],
    ..PREFLIGHT
};

/// Every gate, in the order in which a run reaches them.
pub const GATES: &[Gate] = &[
    Gate {
        id: "G0-PULL-001",
        title: "the model was obtained",
        condition: "every file of the source has the length and the digest that it was obtained with, and `apr inspect` opens \
                    exactly these bytes",
        units: &[Unit::Bytes],
        mutants: &["changed-source"],
        ..PREFLIGHT
    },
    Gate {
        id: "G0-FORMAT-001",
        title: "the model exists in each format",
        condition: "a file of the format was written, its first bytes are the format's, and `apr inspect` names the format",
        mutants: &["missing-file", "preflight-truncated"],
        ..PREFLIGHT
    },
    Gate {
        id: "G0-VALIDATE-001",
        title: "all values are numbers",
        condition: "`apr validate` decodes every value of every tensor, finds no NaN and no infinity, and no check fails",
        units: &[Unit::TensorValues],
        mutants: &["preflight-nan"],
        ..PREFLIGHT
    },
    Gate {
        id: "G0-INTEGRITY-001",
        title: "hyper-parameters and tensors agree",
        condition: "layers, widths, heads and vocabulary as stated are those that the tensor shapes imply, and those that the \
                    playbook expects",
        mutants: &["preflight-dropped-layer"],
        ..PREFLIGHT
    },
    Gate {
        id: "G0-TENSOR-001",
        title: "every tensor of the architecture is there",
        condition: "every name that the architecture requires is a tensor of the model",
        mutants: &["preflight-dropped-bias", "preflight-dropped-layer"],
        ..PREFLIGHT
    },
    Gate {
        id: "G0-LAYOUT-001",
        title: "every tensor is row-major as the architecture demands",
        condition: "every tensor of the architecture has the shape [out, in] that the hyper-parameters imply",
        mutants: &["preflight-transposed"],
        ..PREFLIGHT
    },
    Gate {
        id: "G1-LOAD",
        title: "the model loads",
        gateway: Some(1),
        condition: "`apr run` opens the model in this format: format, architecture, number of tensors and of values are those \
                    that `apr inspect` found",
        mutants: &["preflight-dropped-layer", "preflight-dropped-bias"],
        ..PREFLIGHT
    },
    Gate {
        id: "G2-BASIC",
        title: "the model answers",
        category: Category::Qual,
        gateway: Some(2),
        condition: "every prompt gets at least one token and a text that is not blank",
        units: &[Unit::Text],
        mutants: &["empty-answer"],
        ..PREFLIGHT
    },
    Gate {
        id: "G3-STABLE",
        title: "nothing crashes or hangs",
        gateway: Some(3),
        condition: "every process that was started ended by itself, within its limit, without a signal",
        mutants: &["crash", "hang"],
        ..PREFLIGHT
    },
    Gate {
        id: "G4-VALID",
        title: "no answer is garbage",
        category: Category::Qual,
        gateway: Some(4),
        condition: "the garbage oracle rejects none of the generated texts",
        units: &[Unit::Text],
        mutants: &["garbage-answer"],
        ..PREFLIGHT
    },
    Gate {
        id: "F-A1-001",
        title: "`apr run` answers rightly on the CPU",
        severity: Severity::P1,
        category: Category::Qual,
        gateway: None,
        condition: "the oracles accept the generated text: the number that the question asks for, no garbage",
        units: &[Unit::Text],
        mutants: &["wrong-answer", "garbage-answer", "preflight-zero"],
    },
    Gate {
        id: "F-A2-001",
        title: "`apr run` answers rightly on the GPU",
        severity: Severity::P1,
        category: Category::Qual,
        gateway: None,
        condition: "as F-A1-001, and the report says that the GPU was used",
        units: &[Unit::Text],
        mutants: &["silent-cpu"],
    },
    Gate {
        id: "F-GOLDEN-RULE-001",
        title: "the converted model says the same",
        category: Category::Comp,
        gateway: None,
        condition: "`apr run` on source and converted model gives the same token ids, and logits with the same digest",
        units: &[Unit::Text, Unit::Logits],
        mutants: &["preflight-bit-flip", "wrong-answer"],
        ..PREFLIGHT
    },
    Gate { id: "F-CONV-G-A", title: "GGUF to APR keeps the model", ..PAIR },
    Gate { id: "F-CONV-A-G", title: "APR to GGUF keeps the model", ..PAIR },
    Gate { id: "F-CONV-G-S", title: "GGUF to SafeTensors keeps the model", ..PAIR },
    Gate { id: "F-CONV-S-G", title: "SafeTensors to GGUF keeps the model", ..PAIR },
    Gate { id: "F-CONV-A-S", title: "APR to SafeTensors keeps the model", ..PAIR },
    Gate { id: "F-CONV-S-A", title: "SafeTensors to APR keeps the model", ..PAIR },
    Gate {
        id: "F-CONV-CARD-001",
        title: "no tensor is lost or added",
        category: Category::Comp,
        gateway: None,
        condition: "both models have the same number of tensors and of values, at least one of each",
        mutants: &["dropped-bias"],
        ..PREFLIGHT
    },
    Gate {
        id: "F-CONV-NAME-001",
        title: "every name is kept",
        category: Category::Comp,
        gateway: None,
        condition: "the canonical tensor names of both models are the same set",
        mutants: &["dropped-bias"],
        ..PREFLIGHT
    },
    Gate {
        id: "F-CONV-TOK-001",
        title: "the tokenizer is kept",
        category: Category::Comp,
        gateway: None,
        condition: "`rosetta verify` finds no difference between the tokenizers, and both models read the prompt as the same ids",
        mutants: &["dropped-tokenizer", "split-special"],
        ..PREFLIGHT
    },
    Gate {
        id: "F-CONV-META-001",
        title: "hyper-parameters and chat template are kept",
        category: Category::Comp,
        gateway: None,
        condition: "every hyper-parameter has the same value in both models, and the chat templates are the same text",
        mutants: &["rope-theta"],
        ..PREFLIGHT
    },
    Gate { id: "F-CONV-RT-001", title: "A → B → A is A", ..CHAIN },
    Gate { id: "F-CONV-RT-002", title: "SafeTensors → APR → GGUF → SafeTensors is the source", ..CHAIN },
    Gate { id: "F-CONV-RT-003", title: "SafeTensors → APR → GGUF → APR → SafeTensors is the source", ..CHAIN },
    Gate {
        id: "F-CONV-IDEM-001",
        title: "converting twice gives the same file",
        condition: "two conversions of GGUF to APR have the same SHA-256",
        mutants: &["unstable-writer"],
        ..CHAIN
    },
    Gate {
        id: "F-CONV-COM-001",
        title: "the way does not matter",
        category: Category::Regr,
        gateway: None,
        condition: "GGUF → APR and GGUF → SafeTensors → APR hold the same values, compared bit by bit",
        units: &[Unit::TensorValues],
        mutants: &["wrong-way"],
        ..PREFLIGHT
    },
];

/// The gate with this id.
pub fn gate(id: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.id == id)
}

/// The gate of a conversion.
pub fn conversion_gate(from: Format, to: Format) -> Option<&'static Gate> {
    gate(&format!("F-CONV-{}-{}", from.letter(), to.letter()))
}

/// The registry as a page of documentation.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Gates\n\n<!-- Written by `apr-qa gates --markdown > docs/gates.md`; a test compares. -->\n\n\
         A gate has one id, whether it passes or fails. A pass rests on a measurement in one of the units named here. \
         A P0 gate that fails, or a gateway (G0 to G4) that was not passed, blocks certification. `apr-qa selftest` plants \
         each mutant and shows which gates reject it.\n\n\
         | Gate | Establishes | Severity | Category | Unit | Passes when | Must reject |\n|---|---|---|---|---|---|---|\n",
    );
    for gate in GATES {
        let units: Vec<String> = gate.units.iter().map(ToString::to_string).collect();
        let mutants: Vec<String> = gate.mutants.iter().map(|id| format!("`{id}`")).collect();
        page.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            gate.id,
            gate.title,
            gate.severity,
            gate.category,
            units.join(", "),
            gate.condition,
            mutants.join(" ")
        ));
    }
    page.push_str("\n## Mutants\n\n| Mutant | Planted | What is damaged |\n|---|---|---|\n");
    for mutant in crate::mutants::MUTANTS {
        page.push_str(&format!("| `{}` | {} | {} |\n", mutant.id, mutant.place, mutant.what));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::MUTANTS;

    #[test]
    fn rows_are_complete_and_ids_are_unique() {
        for gate in GATES {
            assert_eq!(GATES.iter().filter(|other| other.id == gate.id).count(), 1, "{}", gate.id);
            assert!(!gate.title.is_empty() && !gate.condition.is_empty() && !gate.units.is_empty(), "{}", gate.id);
            assert!(!gate.mutants.is_empty(), "{} has no mutant: nothing shows that it can fail", gate.id);
        }
    }

    #[test]
    fn gates_and_mutants_name_each_other() {
        for gate in GATES {
            for id in gate.mutants {
                assert!(MUTANTS.iter().any(|mutant| mutant.id == *id), "{} names {id}, which is no mutant", gate.id);
            }
        }
        for mutant in MUTANTS {
            assert!(GATES.iter().any(|gate| gate.mutants.contains(&mutant.id)), "no gate names {}", mutant.id);
        }
    }

    #[test]
    fn every_pair_of_formats_and_every_gateway_has_a_gate() {
        for from in Format::ALL {
            for to in Format::ALL {
                assert_eq!(conversion_gate(from, to).is_some(), from != to);
            }
        }
        for gateway in 0..=4 {
            assert!(GATES.iter().any(|gate| gate.gateway == Some(gateway) && gate.severity == Severity::P0));
        }
    }

    #[test]
    fn the_page_in_docs_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gates.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == markdown(), "docs/gates.md is old: run `apr-qa gates --markdown > docs/gates.md`");
    }
}
