//! Floor 1: models of the Hugging Face hub.
//!
//! *In:* a reference such as `org/name@revision:Q4_K_M`. *Out:* files of the hub's cache on disk, fetched where asked.
//! *Afterwards:* a file under its blob's name is complete and has the digest that it is named by; what a server says is
//! held against what it announced; a cache that is filled here is one to `huggingface_hub`, and the other way round.
//! *Absent on purpose:* file formats, uploads, data sets, and downloads that nobody asked for: only [`Hub`] opens a
//! connection, and it is not there without the feature `net`.
//!
//! In reading order: `reference`, `name`, `glob`, `digest`, `environment`, `cache`, `disk`, `snapshot`, `resolve`, `select`,
//! `remove`, `copy`, and in `net` `settings`, `http`, `retry`, `api`, `blob`, `pull`.
#![forbid(unsafe_code)]

mod cache;
mod copy;
mod digest;
mod disk;
mod environment;
mod error;
mod glob;

mod name;
#[cfg(feature = "net")]
mod net;
mod reference;
mod remove;
mod resolve;
mod select;
mod snapshot;

pub use cache::{Cache, RepoCache};
pub use copy::{CopyFile, check_target, copy_files};
pub use digest::Digest;
pub use environment::{Environment, Process};
pub use error::HubError;
#[cfg(feature = "net")]
pub use net::{
    FileState, Hub, Mode, PlannedFile, PullPlan, RemoteFile, RepoInfo, Settings, Transport, fetch, plan_pull,
};
pub use reference::{Part, Reference, RepoId};
pub use remove::{Removal, plan_removal};
pub use resolve::{cached_snapshot, resolve};
pub use select::{Available, Selection, Skipped, Wanted, select};
pub use snapshot::{Snapshot, SnapshotFile};

use std::ops::ControlFlow;

/// What long work says on its way.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// So many bytes of so many are there.
    Bytes {
        /// Bytes there.
        done: u64,
        /// Bytes wanted.
        total: u64,
    },
    /// Something that a person who waits wants to know: why it waits.
    Note(&'a str),
    /// Nothing new yet.
    Waiting,
}

/// Who hears of long work, and may end it.
pub type Observer<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;
