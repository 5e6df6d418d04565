//! `singletrack get`, `put`, `incr`, `del`, `ls`, `protect` and its kin: what a command adds to its
//! call.
//!
//! - `show`: get, ls, protections
//! - `value`: values on the command line, in files, in tables and in JSON
//! - `write`: everything that changes something

mod show;
mod value;
mod write;

use singletrack::Client;

pub(crate) use self::value::{decode_data, value_json, value_words};
use crate::{args::RecordCommand, exit::Failure, txn};

pub(crate) async fn run(client: &Client, command: &RecordCommand) -> Result<(), Failure> {
    match command {
        RecordCommand::Get(args) => show::get(client, args).await,
        RecordCommand::Put(args) => write::put(client, args).await,
        RecordCommand::Incr(args) => write::incr(client, args).await,
        RecordCommand::Del(args) => write::del(client, args).await,
        RecordCommand::Ls(args) => show::ls(client, args).await,
        RecordCommand::Protect(args) => write::protect(client, args).await,
        RecordCommand::Unprotect(args) => write::unprotect(client, args).await,
        RecordCommand::Protections(args) => show::protections(client, args).await,
        RecordCommand::Txn(args) => txn::run(client, args).await,
    }
}
