//! `apr-qa`, and, as `apr-qa apr …`, the `apr` that is qualified when no other is named.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "apr") {
        return apr::cli_main(args[1..].to_vec());
    }
    apr_qa::cli::main_from(args).into()
}
