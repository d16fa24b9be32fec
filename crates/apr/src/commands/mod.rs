//! One module per command; each takes its arguments, calls libraries, and prints one report.

mod bench;
mod bench_output;
mod capabilities;
mod chat;
mod compare_inference;
mod convert;
mod diff_tensors;
mod edit;
mod embed;
mod eval;
mod fingerprint;
mod flamegraph;
mod generation;
mod grammar;
mod hex;
mod inspect;
mod list;
mod profile;
mod profile_ci;
mod profile_output;
#[cfg(feature = "net")]
mod pull;
mod quantize;
mod rm;
mod roofline_output;
mod run;
mod tensors;
mod text;
mod tokenize;
mod tree;
mod validate;
mod validate_stats;
mod verbose;
mod verify;

use crate::args::{Cli, Command, Rosetta};
use crate::error::CommandError;
use crate::output;
use apr_report::ExitCode;

/// Runs a parsed command line.
pub(crate) fn run(cli: &Cli) -> Result<ExitCode, CommandError> {
    let json = cli.json;
    match &cli.command {
        Command::Run(args) => run::run(args, json),
        Command::Chat(args) => chat::run(args, json),
        Command::Tokenize(args) => tokenize::run(args, json),
        Command::Embed(args) => embed::run(args, json),
        Command::Inspect(args) | Command::Rosetta(Rosetta::Inspect(args)) => inspect::run(args, json),
        Command::Tensors(args) => tensors::run(args, json),
        Command::Tree(args) => tree::run(args, json),
        Command::Hex(args) => hex::run(args, json),
        Command::Validate(args) => validate::run(args, json),
        Command::Quantize(args) => quantize::run(args, json),
        Command::Import(args) => convert::import(args, json),
        Command::Export(args) => convert::export(args, json),
        Command::Convert(args) | Command::Rosetta(Rosetta::Convert(args)) => convert::run(args, json),
        Command::Rosetta(Rosetta::Chain(args)) => convert::chain(args, json),
        Command::Rosetta(Rosetta::Verify(args)) => verify::run(args, json),
        Command::Rosetta(Rosetta::CompareInference(args)) => compare_inference::run(args, json),
        Command::Rosetta(Rosetta::DiffTensors(args)) => diff_tensors::run(args, json),
        Command::Rosetta(Rosetta::Fingerprint(args)) => fingerprint::run(args, json),
        Command::Rosetta(Rosetta::ValidateStats(args)) => validate_stats::run(args, json),
        Command::Edit(args) => edit::run(args, json),
        Command::Bench(args) => bench::run(args, json),
        Command::Profile(args) => profile::run(args, json),
        Command::Eval(args) => eval::run(args, json),
        #[cfg(feature = "net")]
        Command::Pull(args) => pull::run(args, json),
        Command::List(args) => list::run(args, json),
        Command::Rm(args) => rm::run(args, json),
        Command::Capabilities => capabilities::run(json),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut crate::args::command(), "apr", &mut script);
            output::print_text(&String::from_utf8_lossy(&script));
            Ok(ExitCode::Ok)
        }
    }
}
