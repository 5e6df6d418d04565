//! What can be said of leases on the command line.

use std::{ffi::OsString, time::Duration};

use clap::{Args, Subcommand};
use singletrack::{Mode, Target};

use crate::duration;

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
    /// Give a lease to another holder, with nobody in between
    Transfer(TransferArgs),
    /// Ask those who hold a resource to give it up. Forces nothing
    Yield(YieldArgs),
    /// Answer those who ask for a lease
    Answer(AnswerArgs),
    /// Show who holds a resource and who waits for it, or a lease by its id
    Get(GetArgs),
    /// List the live leases of the namespace
    List(ListArgs),
    /// List who waits for leases, and what stands in the way of each
    Waiters(WaitersArgs),
    /// Count leases, waiters and sessions of the namespace
    Stats,
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

/// What a lease is asked for, and how.
#[derive(Args, Debug)]
pub(crate) struct WishArgs {
    /// Who asks, shown to others [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    /// How long the lease lasts without renewal: 1s to 24h
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) ttl: Duration,

    /// How long to wait for the lease
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) wait: Duration,

    /// Share each resource with other shared leases
    #[arg(long, conflicts_with = "permits")]
    pub(crate) shared: bool,

    /// Take N of LIMIT permits of each resource: a semaphore
    #[arg(long, value_name = "N/LIMIT", value_parser = parse_permits)]
    pub(crate) permits: Option<Permits>,

    /// Take each resource with everything below it
    #[arg(long, conflicts_with = "permits")]
    pub(crate) subtree: bool,

    /// Higher goes first, -100 to 100
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i32,

    /// The lease ends so long after its grant, renewed or not: 1s to 8760h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) max_hold: Option<Duration>,

    /// After an involuntary end the resources stay closed for so long, up to 1h
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration::parse)]
    pub(crate) lock_delay: Duration,

    /// For people and for lists; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
}

#[derive(Args, Debug)]
pub(crate) struct AcquireArgs {
    /// /-paths, such as repository/main. Several are granted all together or not at all
    #[arg(required = true, value_name = "RESOURCE")]
    pub(crate) resources: Vec<String>,

    #[command(flatten)]
    pub(crate) wish: WishArgs,

    /// The thread of control that asks, a /-path, for the detection of deadlocks [default: that
    /// of the `lock` around this]
    #[arg(long, value_name = "PATH")]
    pub(crate) actor: Option<String>,

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
    /// What to hold: /-paths, such as repository/main. Several are granted all together or not at
    /// all. The lease is renewed all the time
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,

    #[command(flatten)]
    pub(crate) wish: WishArgs,

    /// The thread of control that asks, a /-path, for the detection of deadlocks [default: that
    /// of the `lock` around this one, and a segment of its own]
    #[arg(long, value_name = "PATH")]
    pub(crate) actor: Option<String>,

    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
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
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseKey,

    /// Who gets it
    #[arg(long, value_name = "HOLDER")]
    pub(crate) to: String,

    /// The actor of the one who gets it [default: none]
    #[arg(long, value_name = "PATH")]
    pub(crate) to_actor: Option<String>,

    /// The ttl of the new lease, 1s to 24h [default: that of the old one]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) ttl: Option<Duration>,

    /// Repeat the transfer that had this id, or name this one
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
pub(crate) struct YieldArgs {
    /// What is wanted
    #[arg(value_name = "NAME")]
    pub(crate) resource: String,

    /// Why: at most 256 characters, shown to the holders
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// Only the holder with this token [default: all in the way]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<u64>,

    /// Who asks, shown to the holders [default: USER@HOST]
    #[arg(long, value_name = "NAME", env = "SINGLETRACK_HOLDER")]
    pub(crate) holder: Option<String>,

    /// Ask again until all have answered or given it up, for so long; exits with 1 when one
    /// declines or doesn't answer
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseKey,

    #[command(flatten)]
    pub(crate) answer: AnswerChoice,

    /// In words: at most 256 characters
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,

    /// Only the request with this number, as `lease get --id` shows it [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) number: Option<u64>,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct AnswerChoice {
    /// Promise to give it up within this time, at most 24h
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) yield_within: Option<Duration>,

    /// Say no
    #[arg(long)]
    pub(crate) decline: bool,
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
    /// Only those of this holder
    #[arg(long, value_name = "NAME")]
    pub(crate) holder: Option<String>,
    /// Only those with a resource of this name or below it
    #[arg(long, value_name = "RESOURCE")]
    pub(crate) prefix: Option<String>,
    /// Only those with this label; of several they must have all
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<Label>,
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
pub(crate) struct WaitersArgs {
    /// All of them, page after page
    #[arg(long, conflicts_with_all = ["page_size", "page_token"])]
    pub(crate) all: bool,
    /// Waiters a page, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 50)]
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

/// Some of a number of permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permits {
    pub(crate) count: u32,
    pub(crate) limit: u32,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

// === impl WishArgs ===

impl WishArgs {
    /// What is asked for, each name in the same way.
    pub(crate) fn targets(&self, names: &[String]) -> Vec<Target> {
        let target = |name: &String| {
            let mut target = Target::new(name);
            if self.shared {
                target = target.shared();
            }
            if let Some(Permits { count, limit }) = self.permits {
                target.mode = Mode::Permits { count, limit };
            }
            if self.subtree { target.subtree() } else { target }
        };
        names.iter().map(target).collect()
    }
}

pub(super) fn parse_fence(text: &str) -> Result<Fence, String> {
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

fn parse_label(text: &str) -> Result<Label, String> {
    // The first sign: values may hold others.
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| Label { key: key.to_owned(), value: value.to_owned() })
        .ok_or_else(|| format!("expected KEY=VALUE such as team=red, found {text:?}"))
}

fn parse_permits(text: &str) -> Result<Permits, String> {
    text.split_once('/')
        .and_then(|(count, limit)| {
            Some(Permits { count: count.parse().ok()?, limit: limit.parse().ok()? })
        })
        .filter(|permits| (1..=permits.limit).contains(&permits.count))
        .ok_or_else(|| format!("expected N/LIMIT such as 2/5, N from 1 to LIMIT, found {text:?}"))
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

pub(super) fn from_environment(name: &str) -> Result<String, String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| format!("expected {name} in the environment, found none"))
}

#[cfg(test)]
mod tests {
    use super::{Fence, Label, Permits, parse_fence, parse_label, parse_permits};

    #[test]
    fn a_fence_is_cut_at_its_last_sign() {
        let fence = Fence { resource: "a=b".into(), token: 17 };
        assert_eq!(parse_fence("a=b=17"), Ok(fence));
        for text in ["", "17", "=17", "a=", "a=-1", "a=b"] {
            parse_fence(text).unwrap_err();
        }
    }

    #[test]
    fn a_label_is_cut_at_its_first_sign() {
        assert_eq!(parse_label("a=b=c"), Ok(Label { key: "a".into(), value: "b=c".into() }));
        assert_eq!(parse_label("a="), Ok(Label { key: "a".into(), value: String::new() }));
        for text in ["", "a", "=b"] {
            parse_label(text).unwrap_err();
        }
    }

    #[test]
    fn permits_are_some_of_a_number() {
        assert_eq!(parse_permits("2/5"), Ok(Permits { count: 2, limit: 5 }));
        for text in ["", "2", "/5", "2/", "0/5", "6/5", "-1/5", "2/5/7", "a/b"] {
            parse_permits(text).unwrap_err();
        }
    }
}
