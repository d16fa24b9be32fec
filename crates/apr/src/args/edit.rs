//! Arguments of `apr edit`.

use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_help = "Keys are renamed first, then removed, then set. Tensors are never changed.")]
pub(crate) struct Edit {
    /// GGUF file; of a split model the first one, which has the metadata.
    pub(crate) file: PathBuf,
    /// Set a key. One that is there keeps its type; KEY:TYPE=VALUE gives one (u8 … i64, f32, f64, bool, str, [u32] for an
    /// array as JSON), else that of a new key follows from the value.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, required_unless_present_any = ["rename", "remove"])]
    pub(crate) set: Vec<(String, String)>,
    /// Give a key another name, in its place.
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    pub(crate) rename: Vec<(String, String)>,
    /// Remove a key.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove: Vec<String>,
    /// Write another file, and leave this one as it is.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file named by --output.
    #[arg(short, long, requires = "output")]
    pub(crate) force: bool,
    /// Show what would happen, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected a =")?;
    Ok((key.to_owned(), value.to_owned()))
}
