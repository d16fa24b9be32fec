//! Floor 0: what both commands say.
//!
//! *In:* facts that a library call returned. *Out:* the JSON of `apr … --json` and of `apr-qa`, and the types to read it
//! back. *Afterwards:* a report names its schema and version; an exit status has one meaning; a pass holds the
//! measurement that it was built from, also after a trip through a file.
//! *Absent on purpose:* file formats, inference, rendering as text, and any way to write "passed" without evidence.
#![forbid(unsafe_code)]

mod exit;
mod fingerprint;
mod report;

mod capabilities;
mod chat;
mod compare;
mod convert;
mod edit;
mod embed;
mod hex;
mod hub;
mod inspect;
mod quantize;
mod run;
mod tensors;
mod tokenize;
mod validate;
mod validate_stats;
mod verify;

mod bench;
mod eval;
mod measured;
mod profile;

mod evidence;
mod measurement;
mod outcome;

pub use bench::{BenchPhase, BenchReport, BenchTest, LoadParts};
pub use capabilities::{ArchitectureRow, Capabilities, DTypeRow, Device};
pub use chat::{ChatMessage, ChatTurnReport, Conversation};
pub use compare::{CompareInferenceReport, DiffTensorsReport, GeneratedToken, LayoutDifference, LogitComparison};
pub use convert::{
    ChainReport, ConvertReport, ConvertSource, ConvertStep, ConvertTarget, LossyTensor, Restored, WrittenFile,
};
pub use edit::{EditChange, EditReport, TypedValue};
pub use embed::{EmbedReport, Embedding};
pub use eval::{Delta, Divergence, EvalPosition, EvalReport, ReferenceComparison};
pub use evidence::{
    Artefact, CommandRecord, Evidence, EvidenceFile, EvidenceFileError, Host, ModelUnderTest, PlaybookId,
    SubjectBinary, Tier,
};
pub use exit::{EXIT_CODES, ErrorDetail, ErrorReport, ExitCode, ExitRow, QA_EXIT_CODES, QaExitCode, QaExitRow};
pub use fingerprint::{FingerprintComparison, FingerprintReport, FingerprintedTensor};
pub use hex::{HexBlock, HexField, HexGroup, HexRegion, HexReport, HexTensor};
pub use hub::{CachedModel, ListReport, PullReport, PulledFile, RmReport, SkippedFile, UnfinishedDownload};
pub use inspect::{CapsuleEntry, DTypeShare, FileEntry, InspectReport, TensorEntry, TokenizerSummary};
pub use measured::{Figure, Provenance, RooflineBound, RooflineShare, Rooflines, Spread};
pub use measurement::{Measurement, MeasurementError, Side, Unit};
pub use outcome::{Agreement, Disagreement, Outcome, OutcomeKind};
pub use profile::{
    Latency, OperationTime, PhaseProfile, ProfileAssertion, ProfileCiReport, ProfileCompareReport, ProfileComparison,
    ProfileReport,
};
pub use quantize::{QuantizeError, QuantizeReport, QuantizedTensor};
pub use report::{Report, ReportError, from_json};
pub use run::{BackendUsed, ModelSummary, PositionLogprobs, RunReport, RunTimes, TokenLogprob};
pub use tensors::{ListedTensor, TensorsReport, TreeNode, TreeReport};
pub use tokenize::{TextToken, TokenizeReport};
pub use validate::{Check, CheckStatus, TensorStatistics, ValidateReport};
pub use validate_stats::{StatsDeviation, ValidateStatsReport};
pub use verify::{DTypeDifference, TensorDifference, TensorDifferenceKind, VerifyReport, VerifyVerdict};
