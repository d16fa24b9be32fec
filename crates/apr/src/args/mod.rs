//! The command line, as clap reads it: the commands here, their arguments in a file per family.

mod chat;
mod compare;
mod convert;
mod edit;
mod generation;
mod hub;
mod measure;
mod model;
mod quantize;
mod run;
mod text;

pub(crate) use chat::Chat;
pub(crate) use compare::{CompareInference, DiffTensors, Fingerprint, Pair, ValidateStats};
pub(crate) use convert::{Chain, Convert, ConvertOptions, Export, Import};
pub(crate) use edit::Edit;
pub(crate) use generation::{BackendArg, CacheArg, DeviceArgs, Generation, Mode, Sampling};
#[cfg(feature = "net")]
pub(crate) use hub::Pull;
pub(crate) use hub::{List, Rm};
pub(crate) use measure::{Bench, BenchOutput, Eval, Profile, ProfileFormat};
pub(crate) use model::{Hex, Inspect, Tensors, Tree, Validate};
pub(crate) use quantize::Quantize;
pub(crate) use run::Run;
pub(crate) use text::{Embed, PoolingArg, Tokenize};

use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;

/// Convert, verify and run language models in GGUF, SafeTensors and APR, without losing anything on the way.
#[derive(Parser)]
#[command(name = "apr", version, max_term_width = 100, after_help = exit_codes())]
pub(crate) struct Cli {
    /// Print the result as JSON on stdout, also when the command fails.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate text from a prompt.
    Run(Box<Run>),
    /// Talk with a model; /help lists what can be done.
    Chat(Box<Chat>),
    /// Show the tokens of a text, or the text of tokens.
    Tokenize(Tokenize),
    /// Turn texts into vectors: the model's states after the final norm.
    Embed(Embed),
    /// Show what a model file says about itself.
    Inspect(Inspect),
    /// List the tensors of a model, with what their values look like where asked.
    Tensors(Tensors),
    /// Show the tensors of a model by the parts of their names, with sizes.
    Tree(Tree),
    /// Show what each byte of a file is, and the blocks of a tensor decoded.
    Hex(Hex),
    /// Check that a model is sound: structure, checksums, and every value.
    Validate(Validate),
    /// Make an APR file of a model.
    Import(Import),
    /// Write a model in a format that is named.
    Export(Export),
    /// Convert a model: the same as `rosetta convert`.
    Convert(Convert),
    /// Change the metadata of a GGUF file, and nothing else.
    Edit(Edit),
    /// Convert between formats and compare models.
    #[command(subcommand)]
    Rosetta(Rosetta),
    /// Store a model in fewer bits, and show what that does to each tensor.
    Quantize(Quantize),
    /// Time loading, prompts and generation, beside what this machine can do at best.
    Bench(Bench),
    /// Show where the time of a pass goes, or check that it is short enough.
    Profile(Box<Profile>),
    /// Measure how well a model predicts a text, and how far it is from a reference.
    Eval(Box<Eval>),
    /// Fetch a model from the Hugging Face hub into its cache.
    #[cfg(feature = "net")]
    Pull(Pull),
    /// List the models in the cache of the Hugging Face hub.
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove a model from the cache of the Hugging Face hub.
    Rm(Rm),
    /// List commands, formats, dtypes, architectures and devices of this build.
    Capabilities,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Subcommand)]
pub(crate) enum Rosetta {
    /// Convert a model; the way back gives the same files.
    Convert(Convert),
    /// Convert through several formats in turn.
    Chain(Chain),
    /// Show what a model file says about itself.
    Inspect(Inspect),
    /// Compare every value, the tokenizer and the hyper-parameters of two models.
    Verify(Pair),
    /// Compare the logits and the generated tokens of two models.
    CompareInference(CompareInference),
    /// Compare names, shapes and dtypes of the tensors of two models, and values where asked.
    DiffTensors(DiffTensors),
    /// Show what a model is, whatever holds it: digests that are equal in every format.
    Fingerprint(Fingerprint),
    /// Check that the values of a model look like those of a reference: extremes, mean and deviation of each tensor.
    ValidateStats(ValidateStats),
}

/// The clap definition, for completions and `capabilities`.
pub fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments)
}

fn exit_codes() -> String {
    let rows = apr_report::EXIT_CODES.iter().map(|row| format!("  {:>2}  {}", row.code.code(), row.meaning));
    format!("Exit status:\n{}", rows.collect::<Vec<_>>().join("\n"))
}
