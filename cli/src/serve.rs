//! `singletrack serve`. Owns only the way into the server crate, which owns its options, its
//! logs and its exit codes.

use std::process::ExitCode;

pub(crate) use singletrack_server::config::ServeArgs;

/// Runs a server until it is told to stop.
pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    singletrack_server::run::run(args)
}
