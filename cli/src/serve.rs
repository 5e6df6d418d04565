//! `singletrack serve`. Owns only the way into the server crate.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::exit::Exit;

/// Stands in for the server's own arguments until they exist.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[arg(long, default_value = "127.0.0.1:7420")]
    listen: String,
    #[arg(long, default_value = "singletrack-data")]
    data_dir: PathBuf,
    #[arg(long, default_value = "disk")]
    store: String,
}

pub(crate) fn run(args: &ServeArgs) -> ExitCode {
    let _ = (&args.listen, &args.data_dir, &args.store);
    Exit::Internal.into()
}
