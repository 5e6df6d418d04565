//! What can be said on the command line. Owns names, defaults and help; does nothing.

mod lease;
mod record;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use self::{lease::*, record::*};
use crate::{duration, serve::ServeArgs};

const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  refused: held by another, stale token, lease lost, not found, ...
  64  the command line or a value in it is not legal
  69  the server can't be reached
  70  a fault of the server or of this program
  74  output or the server's store failed
  75  try again later: overloaded, a quota is reached, not serving
  76  outcome unknown: the call may have happened; repeat it with its request id
  91  lock: the lease was not acquired, the command was not run
  92  lock: the lease was lost, the command was stopped
  93  deadlock: to wait would close a cycle of those who wait for each other
  94  version mismatch: the record is not as expected, and nothing was written
  78  the server's configuration is not legal
 130  interrupted";

const TOP_KEYS: &str = "\
Keys:
  q, Ctrl-C     quit
  Tab           next pane: leases, waiters, blockers
  Up, Down, PageUp, PageDown, Home, End
                scroll
  s             sort by the next column
  /             show only resources below a prefix; Enter takes it, Esc drops it";

/// A coordination server: leases with fencing tokens, records, and transactions.
#[derive(Debug, Parser)]
#[command(name = "singletrack", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Is the server there, and does it serve?
    Status {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Take, keep, inspect and give back leases
    #[command(after_help = EXIT_CODES)]
    Lease {
        #[command(flatten)]
        client: ClientArgs,
        #[command(subcommand)]
        command: LeaseCommand,
    },
    #[command(flatten)]
    Record(RecordCommand),
    /// Run a command while holding a lease
    #[command(after_help = EXIT_CODES)]
    Lock {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        args: LockArgs,
    },
    /// Watch leases, waiters and rates in the terminal
    #[command(after_help = TOP_KEYS)]
    Top {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        args: TopArgs,
    },
    /// Make a race visible, and what cures it
    Race(RaceArgs),
    /// Measure a server
    Bench(BenchArgs),
    /// Print a script that completes this command in a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// What every command that talks to a server takes.
#[derive(Args, Debug)]
pub(crate) struct ClientArgs {
    /// The server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SINGLETRACK_SERVER",
        default_value = singletrack::DEFAULT_URL
    )]
    pub(crate) server: String,

    /// The namespace: nothing is visible across namespaces
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = "SINGLETRACK_NAMESPACE",
        default_value = "default"
    )]
    pub(crate) namespace: String,

    /// How long a call may take, apart from the time it waits for a lease
    #[arg(long, global = true, value_name = "TIME", default_value = "10s",
        value_parser = duration::parse)]
    pub(crate) timeout: Duration,

    /// How to print results and errors
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For programs: one object, 64-bit numbers as strings
    Json,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// How often the server is asked, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub(crate) interval: Duration,

    /// Print one frame as plain text and end; with -o json, what is in it. So it is too when
    /// standard output is no terminal
    #[arg(long)]
    pub(crate) once: bool,

    /// Only resources of this name or below it
    #[arg(long, value_name = "RESOURCE", default_value = "")]
    pub(crate) prefix: String,
}

#[derive(Args, Debug)]
pub(crate) struct RaceArgs {
    /// Which race
    #[arg(value_enum, default_value_t = Scenario::Counter)]
    pub(crate) scenario: Scenario,

    /// With which cure; may be repeated [default: all of them, one after the other]
    #[arg(long = "cure", value_enum)]
    pub(crate) cures: Vec<Cure>,

    /// Agents that race each other
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub(crate) agents: u32,

    /// What each of them does so many times
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) times: u32,

    /// Against this server [default: one of its own, in memory]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// How to print results and errors
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// A race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Agents increment one counter by reading it and writing it back
    Counter,
}

/// What is done about a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cure {
    /// Nothing
    None,
    /// Each holds a lease while it reads and writes
    Lease,
    /// As `lease`, and one agent is paused until its lease is another's: no cure, and shows why
    PausedLease,
    /// As `paused-lease`, and each write carries the token of its lease
    Fence,
    /// Each write says which version it has read, and whoever is too late begins anew
    Version,
    /// The server adds
    Increment,
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to do all the time
    #[arg(value_enum)]
    pub(crate) workload: Workload,

    /// With `record`: what is done to records
    #[arg(long, value_enum, required_if_eq("workload", "record"))]
    pub(crate) op: Option<RecordOp>,

    /// With `record`: bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub(crate) value_size: u32,

    /// How calls travel
    #[arg(long, value_enum, default_value_t = BenchTransport::Session)]
    pub(crate) transport: BenchTransport,

    /// Cycles under way at once, over all connections
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) inflight: u32,

    /// Connections
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) connections: u32,

    /// How long to measure, after a warm-up of a second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,

    /// Against this server [default: one of its own, with an empty data folder]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// Where the data folder of its own server is made [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Write what was called and answered, as JSON lines (docs/history-format.md)
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,

    /// How to print results and errors
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What a benchmark does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Asks for an answer: the ceiling of everything else
    Ping,
    /// Takes a free lease and gives it back
    Lock,
    /// Reads or writes records
    Record,
}

/// What a benchmark does to records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecordOp {
    /// Writes a value over another
    Put,
    /// Reads a value
    Get,
    /// Adds 1 to a counter
    Increment,
    /// Two puts and two increments as one transaction
    Transact,
}

/// How the calls of a benchmark travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTransport {
    /// Unary calls
    Unary,
    /// The stream of a session
    Session,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn client_options_may_stand_before_or_after_the_command() {
        for line in [
            "singletrack lease --server http://h:1 get r",
            "singletrack lease get r --server http://h:1",
            "singletrack put k -5 --counter --server http://h:1 --fence r=1 --fence s=2",
            "singletrack incr k -5 --min -9 --server http://h:1",
            "singletrack ls",
            "singletrack txn - --server http://h:1",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap();
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "singletrack lease get",
            "singletrack lease get r --id 00",
            "singletrack lease list --all --page-size 5",
            "singletrack lease force-release r --token 5 --all",
            "singletrack lease force-release r --all --request-id mine",
            "singletrack lease force-release r --request-id mine",
            "singletrack lease acquire r --age 5s",
            "singletrack lease acquire r --shared --permits 2/5",
            "singletrack lock r --subtree --permits 2/5 -- true",
            "singletrack lease transfer ab 7",
            "singletrack lease yield r",
            "singletrack lease answer ab 7",
            "singletrack lease answer ab 7 --decline --yield-within 5s",
            "singletrack lease waiters --all --page-size 5",
            "singletrack get",
            "singletrack put k",
            "singletrack put k v --absent --expect-version 5",
            "singletrack put k v --ttl 5s --bound-lease ab:7",
            "singletrack put k v --ttl 5s --keep-lifetime",
            "singletrack put k v --counter --data",
            "singletrack incr k 1 --age 5s",
            "singletrack del k --exists --expect-version 5",
            "singletrack protect p",
            "singletrack bench record",
        ] {
            let kind = Cli::try_parse_from(line.split(' ')).unwrap_err().kind();
            let expected = [ErrorKind::ArgumentConflict, ErrorKind::MissingRequiredArgument];
            assert!(expected.contains(&kind), "{line}: {kind:?}");
        }
    }

    #[test]
    fn the_help_and_the_documentation_name_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        let page = include_str!("../../docs/cli.md");
        for code in crate::exit::Exit::ALL {
            let (in_help, in_page) =
                (format!("{:>4}  ", code as u8), format!("| {} |", code as u8));
            assert!(help.contains(&in_help), "{in_help}: {help}");
            assert!(page.contains(&in_page), "{in_page}: {page}");
        }
    }
}
