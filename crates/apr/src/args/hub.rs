//! Arguments of the commands over the cache of the Hugging Face hub.

use clap::Args;
#[cfg(feature = "net")]
use std::path::PathBuf;

#[cfg(feature = "net")]
const REFERENCES: &str = "\
References:
  org/name               the model in a repository: SafeTensors, else its only GGUF or APR file
  org/name:Q4_K_M        the GGUF file with this tag as a word of its name, with all its parts
  org/name/FILE          one file, with the other parts of a split model and what describes it
  org/name@REVISION      a branch, tag or commit; a slash in it is written %2F
  hf://…                 the same, where nothing else can be meant

Every command that takes a model takes these for what is in the cache; only pull uses the network.

The cache is that of huggingface_hub: HF_HUB_CACHE, else HF_HOME/hub, else
XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub. HF_ENDPOINT names another hub;
HF_TOKEN, or the file HF_HOME/token, is sent to it and to no other host; HF_HUB_OFFLINE=1 is
--offline; HF_HUB_DOWNLOAD_TIMEOUT is the longest silence, in seconds.";

#[cfg(feature = "net")]
#[derive(Args)]
#[command(after_help = REFERENCES)]
pub(crate) struct Pull {
    /// What to fetch: [hf://]ORG/NAME[@REVISION][:TAG or /FILE].
    pub(crate) reference: String,
    /// Branch, tag or commit.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// Only files whose names match, in place of those that make a model; may be given several times.
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Copy the files into a plain directory, too.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Fetch what is there again, and replace files in the directory named by --output.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Hold the contents of files that are there against their digests, and fetch damaged ones again.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Use the cache alone: fail if something is missing.
    #[arg(long, conflicts_with = "force")]
    pub(crate) offline: bool,
    /// Show what would be fetched, with sizes, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args)]
pub(crate) struct List {
    /// Only models whose names contain this.
    pub(crate) filter: Option<String>,
    /// Hold the contents of all files against their digests.
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Args)]
pub(crate) struct Rm {
    /// The repository: ORG/NAME, and @REVISION for one revision of it.
    pub(crate) reference: String,
    /// Branch, tag or commit; files that other revisions have too stay.
    #[arg(long, value_name = "REVISION")]
    pub(crate) revision: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would be removed, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
