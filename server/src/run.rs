//! `singletrack serve` as a program: configuration, logs, runtime, signals, exit code.
//!
//! Owns what a process owns once: standard output, the log subscriber, signals. A server
//! inside another program needs none of it: see [`crate::server`].

use std::{io::Write, process::ExitCode};

use crate::{
    config::{Config, ServeArgs},
    server::{ServeError, Server, StartError},
    telemetry,
};

/// Everything went well.
const OK: u8 = 0;
/// The command line is wrong, or the address can't be had.
const USAGE: u8 = 64;
/// The store can't be read or written.
const STORE: u8 = 74;
/// The configuration is wrong.
const CONFIG: u8 = 78;
/// A bug.
const BUG: u8 = 70;

/// Runs a server until SIGINT or SIGTERM.
///
/// Exit codes: 0 stopped as asked; 64 the address can't be had; 70 a bug; 74 the store can't
/// be opened or has failed; 78 the configuration is wrong.
#[must_use]
pub fn run(args: &ServeArgs) -> ExitCode {
    let effective = match Config::load(args, &|name| std::env::var(name).ok()) {
        Ok(effective) => effective,
        Err(error) => {
            for problem in &error.problems {
                say(&mut std::io::stderr(), format_args!("error: {problem}\n"));
            }
            return ExitCode::from(CONFIG);
        }
    };
    if args.print_config {
        say(&mut std::io::stdout(), format_args!("{}", effective.to_toml()));
        return ExitCode::from(OK);
    }
    if args.check_config {
        say(&mut std::io::stdout(), format_args!("the configuration is ok\n"));
        return ExitCode::from(OK);
    }
    let config = effective.config;
    if let Err(error) = telemetry::init_logs(&config.log, config.log_format) {
        say(&mut std::io::stderr(), format_args!("error: {error}\n"));
        return ExitCode::from(CONFIG);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "can't start threads");
            return ExitCode::from(BUG);
        }
    };
    let code = runtime.block_on(serve(config));
    // Whatever is still blocked is not waited for: the store is closed or has failed.
    runtime.shutdown_background();
    ExitCode::from(code)
}

async fn serve(config: Config) -> u8 {
    // Before the store is opened, as that may take a while.
    let mut stopped = match signals() {
        Ok(stopped) => Box::pin(stopped),
        Err(error) => {
            tracing::error!(%error, "can't listen for signals");
            return BUG;
        }
    };
    let bound = tokio::select! {
        bound = Server::bind(config) => bound,
        // Whatever recovery has written, the next start begins with.
        () = &mut stopped => return OK,
    };
    let server = match bound {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "can't start");
            return match error {
                StartError::Listen { .. } => USAGE,
                StartError::Store(_) => STORE,
                StartError::Bug => BUG,
            };
        }
    };
    match server.serve(stopped).await {
        Ok(()) => OK,
        Err(error) => {
            tracing::error!(%error, "ended");
            match error {
                ServeError::Store(_) | ServeError::Stuck(_) => STORE,
                ServeError::Track => BUG,
            }
        }
    }
}

/// Resolves at SIGINT or SIGTERM.
#[cfg(unix)]
fn signals() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
    })
}

/// Resolves at Ctrl-C.
#[cfg(not(unix))]
fn signals() -> std::io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            tracing::info!("interrupted: stopping");
        }
    })
}

/// Writes for whoever started the program; nobody is left to tell if that fails.
fn say(to: &mut impl Write, text: std::fmt::Arguments<'_>) {
    let _ = to.write_fmt(text);
}
