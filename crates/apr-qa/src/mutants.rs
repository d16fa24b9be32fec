//! Mutants: damage that a gate must reject. Planted between the subject and the judges.

mod bytes;
mod checkpoint;
mod process;

use crate::harness::{Sabotage, Stage};
use crate::runner::Parts;
use crate::subject::Subject;
use apr_model::Checkpoint;
use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Where a mutant is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In the copy of the source.
    Source,
    /// In the converted forms that pre-flight and inference gates look at.
    Workspace,
    /// In the target of a conversion, or on the way of a chain.
    Conversion,
    /// In the second of two equal conversions.
    SecondConversion,
    /// On the longer of two ways.
    OtherWay,
    /// In a process or in what it prints.
    Process,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Place::Source => "in the source",
            Place::Workspace => "in a converted form",
            Place::Conversion => "in a conversion",
            Place::SecondConversion => "in the second of two conversions",
            Place::OtherWay => "on the longer way",
            Place::Process => "in a process",
        })
    }
}

/// What is done.
#[derive(Clone, Copy)]
pub(crate) enum Damage {
    /// The model is opened, changed, and written again in its format.
    Checkpoint(fn(Checkpoint) -> Result<Checkpoint, String>),
    /// Bytes of the model's file are changed.
    File(fn(&Path) -> Result<(), String>),
    /// Another command is run.
    Command(fn(&Subject, &[&str]) -> Option<Vec<String>>),
    /// What a process printed is changed.
    Output(fn(&[&str], &mut Vec<u8>)),
    /// Both of the last two.
    Process(fn(&Subject, &[&str]) -> Option<Vec<String>>, fn(&[&str], &mut Vec<u8>)),
}

/// What a gate that names the mutant must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Reject it: falsified, crashed or timed out.
    Reject,
    /// Not pass it: there is nothing to measure, and that must not look like a pass.
    NotPass,
}

/// One mutant.
pub struct Mutant {
    /// Its id.
    pub id: &'static str,
    /// What is damaged, in a few words.
    pub what: &'static str,
    /// Where it is planted.
    pub place: Place,
    /// What gates that name it must do.
    pub expect: Expect,
    /// The parts of a run that it can be seen in.
    pub parts: Parts,
    pub(crate) damage: Damage,
}

const NONE: Parts = Parts { preflight: false, inference: false, pairs: false, chains: false };
const PREFLIGHT: Parts = Parts { preflight: true, ..NONE };
const FORMS: Parts = Parts { preflight: true, inference: true, ..NONE };
const PAIRS: Parts = Parts { pairs: true, ..NONE };
const CONVERSIONS: Parts = Parts { pairs: true, chains: true, ..NONE };
const CHAINS: Parts = Parts { chains: true, ..NONE };

const fn conversion(id: &'static str, what: &'static str, damage: Damage) -> Mutant {
    Mutant { id, what, place: Place::Conversion, expect: Expect::Reject, parts: CONVERSIONS, damage }
}

const fn form(id: &'static str, what: &'static str, damage: Damage) -> Mutant {
    Mutant { id, what, place: Place::Workspace, expect: Expect::Reject, parts: FORMS, damage }
}

const fn process(id: &'static str, what: &'static str, damage: Damage) -> Mutant {
    Mutant { id, what, place: Place::Process, expect: Expect::Reject, parts: FORMS, damage }
}

/// Every mutant.
pub const MUTANTS: &[Mutant] = &[
    conversion("zero-tensor", "all values of a weight are zero", Damage::Checkpoint(checkpoint::zero_tensor)),
    conversion("nan-value", "one value of a weight is NaN", Damage::Checkpoint(checkpoint::nan_value)),
    conversion(
        "transposed-weight",
        "a weight that is not square states its dimensions in the other order",
        Damage::Checkpoint(checkpoint::transposed),
    ),
    conversion(
        "dtype-byte",
        "a weight's dtype is that of another encoding of the same size",
        Damage::Checkpoint(checkpoint::dtype_byte),
    ),
    conversion("dropped-bias", "the bias of a projection is missing", Damage::Checkpoint(checkpoint::dropped_bias)),
    conversion("dropped-tokenizer", "the tokenizer is missing", Damage::Checkpoint(checkpoint::dropped_tokenizer)),
    conversion(
        "split-special",
        "a special token is an ordinary one and gets split",
        Damage::Checkpoint(checkpoint::split_special),
    ),
    conversion(
        "rope-theta",
        "the base of the rotary frequencies is another",
        Damage::Checkpoint(checkpoint::rope_theta),
    ),
    conversion("offset-32", "a tensor's data begins 32 bytes too late", Damage::File(bytes::offset_32)),
    conversion("truncated", "the file ends early", Damage::File(bytes::truncated)),
    conversion(
        "permuted-q",
        "the rows of the query projection are in the other rotary order",
        Damage::Checkpoint(checkpoint::permuted_q),
    ),
    conversion("bit-flip", "the lowest bit of one weight is flipped", Damage::Checkpoint(checkpoint::bit_flip)),
    Mutant {
        place: Place::SecondConversion,
        parts: CHAINS,
        ..conversion(
            "unstable-writer",
            "the second of two conversions differs in one bit",
            Damage::Checkpoint(checkpoint::bit_flip),
        )
    },
    Mutant {
        place: Place::OtherWay,
        parts: CHAINS,
        ..conversion("wrong-way", "one bit is flipped on the longer way", Damage::Checkpoint(checkpoint::bit_flip))
    },
    Mutant {
        place: Place::Source,
        parts: PREFLIGHT,
        ..form(
            "changed-source",
            "one bit of the source is another than when it was obtained",
            Damage::File(bytes::last_bit),
        )
    },
    Mutant {
        parts: PREFLIGHT,
        ..form("missing-file", "the converted file is not there", Damage::File(bytes::missing))
    },
    form("preflight-nan", "one value of a weight is NaN", Damage::Checkpoint(checkpoint::nan_value)),
    form("preflight-zero", "all values of a weight are zero", Damage::Checkpoint(checkpoint::zero_tensor)),
    form(
        "preflight-transposed",
        "a weight that is not square states its dimensions in the other order",
        Damage::Checkpoint(checkpoint::transposed),
    ),
    form("preflight-dropped-bias", "the bias of a projection is missing", Damage::Checkpoint(checkpoint::dropped_bias)),
    form(
        "preflight-dropped-layer",
        "the tensors of the last layer are missing",
        Damage::Checkpoint(checkpoint::dropped_layer),
    ),
    form("preflight-truncated", "the file ends early", Damage::File(bytes::truncated)),
    form("preflight-bit-flip", "the lowest bit of one weight is flipped", Damage::Checkpoint(checkpoint::bit_flip)),
    process("crash", "`apr run` ends by a segmentation fault", Damage::Command(process::crash)),
    process("hang", "`apr validate` does not end", Damage::Command(process::hang)),
    process("empty-answer", "`apr run` generates nothing and succeeds", Damage::Output(process::empty_answer)),
    process(
        "garbage-answer",
        "the generated text consists of replacement characters",
        Damage::Output(process::garbage_answer),
    ),
    process(
        "wrong-answer",
        "converted forms answer every question with another number",
        Damage::Output(process::wrong_answer),
    ),
    process(
        "silent-cpu",
        "the GPU is asked for and the CPU is used without a word",
        Damage::Process(process::cpu_instead_of_gpu, process::pretend_gpu),
    ),
    Mutant {
        expect: Expect::NotPass,
        parts: PAIRS,
        ..process(
            "nothing-compared",
            "verify and compare-inference compare nothing and succeed",
            Damage::Output(process::nothing_compared),
        )
    },
];

/// The mutant with this id.
pub fn mutant(id: &str) -> Option<&'static Mutant> {
    MUTANTS.iter().find(|mutant| mutant.id == id)
}

/// Plants one mutant into a run.
pub struct Saboteur<'a> {
    /// The mutant.
    pub mutant: &'a Mutant,
    /// The subject that other commands are for.
    pub subject: &'a Subject,
}

/// Limit of every process while a mutant hangs.
const HANG_LIMIT: Duration = Duration::from_secs(10);

impl Sabotage for Saboteur<'_> {
    fn command(&self, args: &[&str]) -> Option<Vec<String>> {
        match self.mutant.damage {
            Damage::Command(other) | Damage::Process(other, _) => other(self.subject, args),
            _ => None,
        }
    }

    fn output(&self, args: &[&str], stdout: &mut Vec<u8>) {
        if let Damage::Output(change) | Damage::Process(_, change) = self.mutant.damage {
            change(args, stdout);
        }
    }

    fn written(&self, stage: Stage, path: &Path) -> Result<(), String> {
        let here = match self.mutant.place {
            Place::Source => stage == Stage::Source,
            Place::Workspace => stage == Stage::Workspace,
            Place::Conversion => stage == Stage::Conversion,
            Place::SecondConversion => stage == Stage::SecondConversion,
            Place::OtherWay => stage == Stage::OtherWay,
            Place::Process => false,
        };
        match self.mutant.damage {
            Damage::Checkpoint(change) if here => checkpoint::rewrite(path, change),
            Damage::File(change) if here => change(path),
            _ => Ok(()),
        }
    }

    fn timeout(&self) -> Option<Duration> {
        (self.mutant.id == "hang").then_some(HANG_LIMIT)
    }
}
