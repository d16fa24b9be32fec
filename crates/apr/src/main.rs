//! The `apr` command.

fn main() -> std::process::ExitCode {
    apr::cli_main(std::env::args_os().collect())
}
