//! Floor 3: the `apr-qa` command.
//!
//! *In:* a playbook, a model, and the `apr` to qualify. *Out:* an evidence file, and reports that are pure functions of
//! it. *Afterwards:* every pass holds the measurement that it rests on; every gate has been seen to reject a mutant.
//! *Absent on purpose:* inference and conversion of its own (the subject is a child process), scores that are typed by
//! hand, and a simulated mode.
#![deny(unsafe_code)]

pub mod cli;
pub mod gates;
pub mod harness;
pub mod judge;
pub mod mutants;
pub mod oracles;
pub mod playbook;
pub mod report;
pub mod runner;
pub mod score;
pub mod selftest;
pub mod source;
pub mod subject;

#[cfg(test)]
pub(crate) mod testing;
