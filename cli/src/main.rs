//! The `singletrack` command: runs the server and does to it what a person does.
//!
//! Owns parsing, dispatch and exit codes. Every command that talks to a server goes through
//! the client crate; none speaks gRPC itself.

mod actor;
mod args;
mod bench;
mod duration;
mod exit;
mod explain;
mod lease;
mod lock;
mod output;
mod own_server;
mod race;
mod record;
mod serve;
mod status;
mod top;
mod txn;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser as _};
use singletrack::{Client, Transport};

use crate::{
    args::{Cli, ClientArgs, Command},
    exit::{Exit, Failure},
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version arrive as errors too, meant for stdout.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return exit.into();
        }
    };
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Status { client: args } => {
            run_client(&args, async |client| status::run(client, &args).await)
        }
        Command::Lease { client: args, command } => {
            run_client(&args, async |client| lease::run(client, &command, args.output).await)
        }
        Command::Record(command) => {
            run_client(command.client(), async |client| record::run(client, &command).await)
        }
        Command::Lock { client, args } => lock::run(&client, &args),
        Command::Top { client, args } => top::run(&client, &args),
        Command::Race(args) => race::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => {
            // Into memory first: the generator would panic at a closed pipe.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "singletrack", &mut script);
            let result = io::stdout().lock().write_all(&script).map_err(Failure::from);
            end(result, args::Format::Table)
        }
    }
}

/// Runs one command against a server: each call is sent once, so that its outcome is told as it is.
fn run_client(
    args: &ClientArgs,
    command: impl AsyncFnOnce(&Client) -> Result<(), Failure>,
) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Err(error) => Err(Failure::no_runtime(&error)),
        Ok(runtime) => runtime.block_on(async {
            let client = Client::builder(&args.server)
                .namespace(&args.namespace)
                .timeout(args.timeout)
                .transport(Transport::Unary)
                .retries(false)
                .build()
                .map_err(Failure::read)?;
            command(&client).await
        }),
    };
    end(result, args.output)
}

pub(crate) fn end(result: Result<(), Failure>, format: args::Format) -> ExitCode {
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.report(format);
            failure.code()
        }
    }
}
