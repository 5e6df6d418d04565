//! What can be said of records and transactions on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use singletrack::BoundLease;

use super::{
    ClientArgs, EXIT_CODES, Fence,
    lease::{from_environment, parse_fence},
};
use crate::duration;

#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Print what records hold
    #[command(after_help = EXIT_CODES)]
    Get(GetRecordArgs),
    /// Write a record
    #[command(after_help = EXIT_CODES)]
    Put(Box<PutArgs>),
    /// Add to a counter, and print what it is then
    #[command(after_help = EXIT_CODES)]
    Incr(Box<IncrArgs>),
    /// Delete a record
    #[command(after_help = EXIT_CODES)]
    Del(DelArgs),
    /// List records
    #[command(after_help = EXIT_CODES)]
    Ls(LsArgs),
    /// Let nobody write below a prefix but who holds a resource
    #[command(after_help = EXIT_CODES)]
    Protect(ProtectArgs),
    /// Take a protection back
    #[command(after_help = EXIT_CODES)]
    Unprotect(ProtectArgs),
    /// List protections
    #[command(after_help = EXIT_CODES)]
    Protections(ProtectionsArgs),
    /// Do several things at one moment, or none of them
    #[command(after_help = EXIT_CODES)]
    Txn(TxnArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GetRecordArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// /-paths, such as orders/7/state. Of one the value alone is printed; several, at most 256,
    /// are read at one moment
    #[arg(required = true, value_name = "KEY")]
    pub(crate) keys: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// A /-path, such as orders/7/state
    pub(crate) key: String,

    /// A text; or `@FILE`: what is in that file; or `-`: what comes on standard input. What is no
    /// UTF-8 becomes data
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: String,

    #[command(flatten)]
    pub(crate) expect: PutExpect,

    #[command(flatten)]
    pub(crate) lifetime: LifetimeArgs,

    /// It lasts as long as what it replaces would have
    #[arg(long, conflicts_with_all = ["ttl", "bound_lease"])]
    pub(crate) keep_lifetime: bool,

    /// Its media type, such as application/json
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,

    /// The value is a number, and the record a counter
    #[arg(long, conflicts_with = "data")]
    pub(crate) counter: bool,

    /// The value is data, though it may be a text
    #[arg(long)]
    pub(crate) data: bool,

    /// Who writes, shown to others [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct PutExpect {
    /// Only if the record has this version
    #[arg(long, value_name = "N")]
    pub(crate) expect_version: Option<u64>,

    /// Only if there is no such record
    #[arg(long)]
    pub(crate) absent: bool,

    /// Only if there is such a record
    #[arg(long)]
    pub(crate) exists: bool,
}

/// How long a record lasts.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct LifetimeArgs {
    /// It lasts so long, 1s to 8760h [default: until it is deleted]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) ttl: Option<Duration>,

    /// It lasts as long as this lease; `-`: the one in SINGLETRACK_LEASE_ID and
    /// SINGLETRACK_TOKEN, which others can't see
    #[arg(long, value_name = "ID:TOKEN", value_parser = parse_bound_lease)]
    pub(crate) bound_lease: Option<BoundLease>,
}

/// What every write may say of itself as a call.
#[derive(Args, Debug)]
pub(crate) struct CallArgs {
    /// Only if this token is still current on that resource; may be repeated
    #[arg(long = "fence", value_name = "RESOURCE=TOKEN", value_parser = parse_fence)]
    pub(crate) fences: Vec<Fence>,

    /// Repeat the call that had this id, or name this one
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse,
        requires = "request_id")]
    pub(crate) age: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct IncrArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// A /-path, such as stock/screws. One that is absent counts as 0
    pub(crate) key: String,

    /// What to add
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    pub(crate) delta: i64,

    /// Not below this
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) min: Option<i64>,

    /// Not above this
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max: Option<i64>,

    #[command(flatten)]
    pub(crate) lifetime: LifetimeArgs,

    /// Who writes, shown to others [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// A /-path, such as orders/7/state. That there is none is no error, unless it is expected
    pub(crate) key: String,

    /// Only if the record has this version
    #[arg(long, value_name = "N", conflicts_with = "exists")]
    pub(crate) expect_version: Option<u64>,

    /// Only if there is such a record
    #[arg(long)]
    pub(crate) exists: bool,

    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Only the record of this key and all below it [default: all]
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,

    /// Keys alone, one a line; with -o json, records without values
    #[arg(long)]
    pub(crate) keys: bool,

    /// At most so many [default: all, page after page]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct ProtectArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// The key of a record: it, and all below it
    pub(crate) prefix: String,

    /// Who writes there must carry the token of an exclusive lease of this, and so must this
    /// command, with --fence
    pub(crate) resource: String,

    /// As an administrator, who need not hold the resource
    #[arg(long)]
    pub(crate) as_admin: bool,

    #[command(flatten)]
    pub(crate) call: CallArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ProtectionsArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// Only those that a write to this record meets
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct TxnArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,

    /// What to do: a TransactRequest in JSON (docs/cli.md); `-`: on standard input
    pub(crate) file: PathBuf,

    /// Who writes and takes leases, where the file doesn't say [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    /// Repeat the transaction that had this id, or name this one
    #[arg(long, value_name = "ID")]
    pub(crate) request_id: Option<String>,

    /// For a repeated call: how long ago the oldest attempt was sent that no answer followed
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse,
        requires = "request_id")]
    pub(crate) age: Duration,
}

// === impl RecordCommand ===

impl RecordCommand {
    pub(crate) fn client(&self) -> &ClientArgs {
        match self {
            Self::Get(args) => &args.client,
            Self::Put(args) => &args.client,
            Self::Incr(args) => &args.client,
            Self::Del(args) => &args.client,
            Self::Ls(args) => &args.client,
            Self::Protect(args) | Self::Unprotect(args) => &args.client,
            Self::Protections(args) => &args.client,
            Self::Txn(args) => &args.client,
        }
    }
}

/// Who has the id of a lease can end it, so it may come from the environment.
fn parse_bound_lease(text: &str) -> Result<BoundLease, String> {
    let (lease_id, token) = match text {
        "-" => (from_environment("SINGLETRACK_LEASE_ID")?, from_environment("SINGLETRACK_TOKEN")?),
        given => {
            let parts = given.split_once(':').filter(|(lease_id, _)| !lease_id.is_empty());
            let (lease_id, token) =
                parts.ok_or_else(|| format!("expected ID:TOKEN or -, found {text:?}"))?;
            (lease_id.to_owned(), token.to_owned())
        }
    };
    let token =
        token.parse().map_err(|_| format!("expected a token such as 17, found {token:?}"))?;
    Ok(BoundLease::new(lease_id, token))
}

#[cfg(test)]
mod tests {
    use super::{BoundLease, parse_bound_lease};

    #[test]
    fn a_bound_lease_is_an_id_and_a_token() {
        assert_eq!(parse_bound_lease("5e:17"), Ok(BoundLease::new("5e", 17)));
        for text in ["", "5e", ":17", "5e:", "5e:x", "5e:-1"] {
            parse_bound_lease(text).unwrap_err();
        }
    }
}
