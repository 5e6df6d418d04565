//! `singletrack serve`. Owns only the way into the server crate.

pub(crate) use singletrack_server::config::ServeArgs;
pub(crate) use singletrack_server::run::run;
