//! What can be said on the command line. Owns names, defaults and help; does nothing.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

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
  78  the server's configuration is not legal
 130  interrupted";

/// A coordination server: leases with fencing tokens.
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
    /// Run a command while holding a lease
    #[command(after_help = EXIT_CODES)]
    Lock {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        args: LockArgs,
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

#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCommand {
    /// Take a lease, at once or after a wait
    Acquire(AcquireArgs),
    /// Give up an acquire of unknown outcome: nothing waits and nothing is held afterwards
    Abandon {
        /// As the acquire printed it, or was given it
        request_id: String,
    },
    /// Extend a lease to a full ttl from now
    Renew(LeaseKey),
    /// Give a lease back
    Release(ReleaseArgs),
    /// Show who holds a resource, or a lease by its id
    Get(GetArgs),
    /// List the live leases of the namespace
    List(ListArgs),
    /// Is a token current? Exits with 0 if it is, with 1 if it is stale
    Check {
        /// What the token was granted for
        resource: String,
        /// The token to judge
        token: u64,
    },
    /// End somebody else's lease
    ForceRelease(ForceReleaseArgs),
}

#[derive(Args, Debug)]
pub(crate) struct AcquireArgs {
    /// A /-path, such as repository/main
    pub(crate) resource: String,

    /// Who asks, shown to others [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    /// How long the lease lasts without renewal: 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) ttl: Duration,

    /// How long to wait for the lease
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) wait: Duration,

    /// Share the resource with other shared leases
    #[arg(long)]
    pub(crate) shared: bool,

    /// Higher goes first, -100 to 100
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,

    /// Repeat the acquire that had this id, or name this one
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse,
        requires = "request_id")]
    pub(crate) age: Duration,

    /// How long the place in the queue is kept after this command has ended [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) keep: Option<Duration>,

    /// Only if this token is still current on that resource; may be repeated
    #[arg(long = "fence", value_name = "RESOURCE=TOKEN", value_parser = parse_fence)]
    pub(crate) fences: Vec<Fence>,
}

#[derive(Args, Debug)]
pub(crate) struct LockArgs {
    /// What to hold: a /-path, such as repository/main. One, as yet
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    /// How long the lease lasts without renewal: 1s to 24h. It is renewed all the time
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) ttl: Duration,

    /// How long to wait for the lease
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) wait: Duration,

    /// Share the resource with other shared leases
    #[arg(long)]
    pub(crate) shared: bool,

    /// Who asks, shown to others [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct RaceArgs {
    /// Which race
    #[arg(value_enum, default_value_t = Scenario::Counter)]
    pub(crate) scenario: Scenario,

    /// With which cure [default: all of them, one after the other]
    #[arg(long, value_enum)]
    pub(crate) cure: Option<Cure>,

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
}

#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// What to do all the time
    #[arg(value_enum)]
    pub(crate) workload: Workload,

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
}

/// How the calls of a benchmark travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTransport {
    /// Unary calls
    Unary,
    /// The stream of a session
    Session,
}

#[derive(Args, Debug)]
pub(crate) struct LeaseKey {
    /// As acquire printed it; `-`: the one in SINGLETRACK_LEASE_ID, which others can't see
    #[arg(value_parser = parse_lease_id)]
    pub(crate) lease_id: String,
    /// As acquire printed it; `-`: the one in SINGLETRACK_TOKEN
    #[arg(value_parser = parse_token)]
    pub(crate) token: u64,
}

#[derive(Args, Debug)]
pub(crate) struct ReleaseArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseKey,

    /// Repeat the release that had this id, or name this one
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse,
        requires = "request_id")]
    pub(crate) age: Duration,

    /// Only if this token is still current on that resource; may be repeated
    #[arg(long = "fence", value_name = "RESOURCE=TOKEN", value_parser = parse_fence)]
    pub(crate) fences: Vec<Fence>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct GetArgs {
    /// Show who holds this
    pub(crate) resource: Option<String>,
    /// Show the lease with this id; `-`: the one in SINGLETRACK_LEASE_ID
    #[arg(long, value_name = "LEASE_ID", value_parser = parse_lease_id)]
    pub(crate) id: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// All of them, page after page
    #[arg(long, conflicts_with_all = ["page_size", "page_token"])]
    pub(crate) all: bool,
    /// Leases a page, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) page_size: u32,
    /// The page after one that ended with this
    #[arg(long, value_name = "TOKEN")]
    pub(crate) page_token: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ForceReleaseArgs {
    /// Whose lease to end
    pub(crate) resource: String,
    /// Only the lease with this token [default: the only one there is]
    #[arg(long, value_name = "TOKEN", conflicts_with = "all")]
    pub(crate) token: Option<u64>,
    /// Every lease on the resource
    #[arg(long)]
    pub(crate) all: bool,
    /// Repeat the forced release that had this id, or name this one
    #[arg(long, value_name = "ID", requires = "token", conflicts_with = "all")]
    pub(crate) request_id: Option<String>,
}

/// A token that must be current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) resource: String,
    pub(crate) token: u64,
}

fn parse_fence(text: &str) -> Result<Fence, String> {
    // The last sign: names may hold others.
    text.rsplit_once('=')
        .filter(|(resource, _)| !resource.is_empty())
        .and_then(|(resource, token)| {
            Some(Fence { resource: resource.to_owned(), token: token.parse().ok()? })
        })
        .ok_or_else(|| {
            format!("expected RESOURCE=TOKEN such as repository/main=17, found {text:?}")
        })
}

// A command line is visible to everybody on the machine, an environment is not, and who has
// the id of a lease can end it.

fn parse_lease_id(text: &str) -> Result<String, String> {
    match text {
        "-" => from_environment("SINGLETRACK_LEASE_ID"),
        given => Ok(given.to_owned()),
    }
}

fn parse_token(text: &str) -> Result<u64, String> {
    let token = match text {
        "-" => from_environment("SINGLETRACK_TOKEN")?,
        given => given.to_owned(),
    };
    token.parse().map_err(|_| format!("expected a token such as 17, found {token:?}"))
}

fn from_environment(name: &str) -> Result<String, String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("expected {name} in the environment, found none"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

    use super::{Cli, Fence, parse_fence};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_fence_is_cut_at_its_last_sign() {
        let fence = Fence { resource: "a=b".into(), token: 17 };
        assert_eq!(parse_fence("a=b=17"), Ok(fence));
        for text in ["", "17", "=17", "a=", "a=-1", "a=b"] {
            parse_fence(text).unwrap_err();
        }
    }

    #[test]
    fn client_options_may_stand_before_or_after_the_command() {
        for line in [
            "singletrack lease --server http://h:1 get r",
            "singletrack lease get r --server http://h:1",
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
