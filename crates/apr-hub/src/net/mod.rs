//! The network: the hub's API, and blobs over HTTP.

mod api;
mod blob;
mod http;
mod pull;
mod retry;
mod settings;

pub use api::{Hub, RemoteFile, RepoInfo};
pub use http::Transport;
pub use pull::{FileState, Mode, PlannedFile, PullPlan, fetch, plan_pull};
pub use settings::Settings;
