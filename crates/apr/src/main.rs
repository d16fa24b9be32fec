//! The `apr` command.

fn main() -> std::process::ExitCode {
    give_large_memory_back();
    apr::cli_main(std::env::args_os().collect())
}

/// Lets every allocation from 128 KiB on be a mapping of its own, which goes back to the system when it is freed.
///
/// glibc begins so, but raises the limit to the size of what is freed. Afterwards the tables that only loading a model
/// needs would leave holes in the heap: 5 MiB of 50 with a 0.5B model.
fn give_large_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LEAST_MAPPED_BYTES: libc::c_int = 128 << 10;
        // SAFETY: no other thread runs yet. Where the setting is refused, memory is used as glibc sees fit.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LEAST_MAPPED_BYTES) };
    }
}
