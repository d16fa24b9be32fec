//! Work on the repository itself: `cargo xtask COMMAND`.
//!
//! *In:* files of the repository and a seed. *Out:* fixtures that are too large to be kept in it.
//! *Afterwards:* the same seed has given the same bytes, on any machine.
//! *Absent on purpose:* anything that a user of `apr` needs, and anything that uses a network.

mod fixture;

use clap::{Parser, Subcommand};
use fixture::Fixture;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Make what the repository's checks need.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a model with random weights in the shape of a published one, as a Transformers directory.
    #[command(after_help = fixture::list())]
    Fixture {
        /// One of the names below.
        name: String,
        /// Directory to write; it must not exist yet.
        dir: PathBuf,
        /// Seed of the weights.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    let Command::Fixture { name, dir, seed } = Cli::parse().command;
    let started = Instant::now();
    match Fixture::named(&name).and_then(|fixture| fixture.write(&dir, seed)) {
        Ok(n_bytes) => {
            println!("{}: {n_bytes} bytes in {:.1} s", dir.display(), started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
