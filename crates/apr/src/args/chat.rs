//! Arguments of `chat`.

use super::Generation;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Chat {
    /// File, directory, model in the hub's cache (org/name), or `builtin:tiny`.
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) generation: Generation,
    /// Neither read nor write the history of typed lines, $XDG_STATE_HOME/apr/chat_history.
    #[arg(long)]
    pub(crate) no_history: bool,
}
