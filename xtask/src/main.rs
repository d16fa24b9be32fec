//! Work on the repository itself: `cargo xtask COMMAND`.
//!
//! *In:* files of the repository and a seed. *Out:* fixtures that are too large to be kept in it.
//! *Afterwards:* the same seed has given the same bytes, on any machine.
//! *Absent on purpose:* anything that a user of `apr` needs, and anything that uses a network.

mod conversions;
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
    /// Try every conversion of every dtype and family, and print docs/conversions.md.
    Conversions {
        /// Transformers directories, one per family.
        #[arg(default_value = "fixtures/families")]
        families: PathBuf,
    },
}

fn main() -> ExitCode {
    let started = Instant::now();
    let done = match Cli::parse().command {
        Command::Fixture { name, dir, seed } => {
            let written = Fixture::named(&name).and_then(|fixture| fixture.write(&dir, seed));
            let seconds = || started.elapsed().as_secs_f64();
            written.map(|n_bytes| println!("{}: {n_bytes} bytes in {:.1} s", dir.display(), seconds()))
        }
        Command::Conversions { families } => conversions::document(&families, &conversions::dtypes())
            .map(|document| print!("{document}"))
            .map_err(|error| error as Box<dyn std::error::Error>),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
