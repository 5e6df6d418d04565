//! The configuration of a server: one validated struct out of four sources.
//!
//! Defaults < TOML file < environment < flags. Every option has one row in [`OPTIONS`], which
//! all four sources and `--print-config` share. Owns what an option may be; acts on none.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use singletrack_core::limits::Quotas;

use crate::telemetry;

/// What the names of environment variables begin with.
const ENVIRONMENT_PREFIX: &str = "SINGLETRACK_";
/// The environment variable that names the file.
const CONFIG_VARIABLE: &str = "SINGLETRACK_CONFIG";
/// Which logs are written: the state store's crates tell much at `info` that helps nobody.
const LOG_DEFAULT: &str = "info,fjall=warn,lsm_tree=warn";
/// The longest grace of a shutdown.
const GRACE_MAX: Duration = Duration::from_secs(600);

/// A validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where the admin pages are served; `None`: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// The data folder of the disk store.
    pub data_dir: PathBuf,
    /// Which store.
    pub store: StoreKind,
    /// Addresses beyond loopback are allowed.
    pub insecure_bind: bool,
    /// Which logs are written.
    pub log: String,
    /// How logs look.
    pub log_format: LogFormat,
    /// How long a shutdown may take.
    pub shutdown_grace: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Caps of the machine.
    pub quotas: Quotas,
    /// Calls of one namespace that may wait for the track.
    pub max_queued_per_namespace: usize,
    /// Calls that may wait for the track.
    pub max_queued: usize,
    /// Bytes of log after which a snapshot is due.
    pub snapshot_after_bytes: u64,
    /// Reflection is served.
    pub reflection: bool,
}

/// Where the state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In the data folder.
    Disk,
    /// Nowhere: gone with the process. For tests.
    Memory,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The flags of `serve`. All optional and all text: merging and parsing are done here, so
/// that an error names the source that is wrong.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// TOML file with the same options, in snake_case [env: SINGLETRACK_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address to serve gRPC on [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address of /livez, /readyz and /metrics, or `off` [default: 127.0.0.1:7421]
    #[arg(long, value_name = "ADDR|off")]
    pub admin_listen: Option<String>,
    /// Folder of the data [default: ./singletrack-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where state is kept: disk, or memory for tests [default: disk]
    #[arg(long, value_name = "disk|memory")]
    pub store: Option<String>,
    /// Allow addresses beyond loopback, where everybody may do everything, unencrypted
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_bind: Option<String>,
    /// Which logs to write, as in `info` or `singletrack_server=debug,info` [default: info, of the store's crates warn]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// How logs look [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<String>,
    /// How long a shutdown waits for calls under way [default: 10s]
    #[arg(long, value_name = "DURATION")]
    pub shutdown_grace: Option<String>,
    /// Connections at a time; more are closed at once [default: 4096]
    #[arg(long, value_name = "COUNT")]
    pub max_connections: Option<String>,
    /// Leases of one namespace, waiters included
    #[arg(long, value_name = "COUNT")]
    pub max_leases_per_namespace: Option<String>,
    /// Waiters of one namespace
    #[arg(long, value_name = "COUNT")]
    pub max_waiters_per_namespace: Option<String>,
    /// Sessions of one namespace, those that ended in the last minute included
    #[arg(long, value_name = "COUNT")]
    pub max_sessions_per_namespace: Option<String>,
    /// Records of one namespace
    #[arg(long, value_name = "COUNT")]
    pub max_records_per_namespace: Option<String>,
    /// Protected prefixes of one namespace
    #[arg(long, value_name = "COUNT")]
    pub max_protections_per_namespace: Option<String>,
    /// Bytes of names and other durable content of one namespace
    #[arg(long, value_name = "BYTES")]
    pub max_bytes_per_namespace: Option<String>,
    /// Namespaces with anything in them
    #[arg(long, value_name = "COUNT")]
    pub max_namespaces: Option<String>,
    /// Bytes of replay memory, all namespaces together
    #[arg(long, value_name = "BYTES")]
    pub max_replay_memory_bytes: Option<String>,
    /// Calls of one namespace that may wait for the track
    #[arg(long, value_name = "COUNT")]
    pub max_queued_per_namespace: Option<String>,
    /// Calls that may wait for the track
    #[arg(long, value_name = "COUNT")]
    pub max_queued: Option<String>,
    /// Bytes of log after which a snapshot is due [default: 64MiB]
    #[arg(long, value_name = "BYTES")]
    pub snapshot_after_bytes: Option<String>,
    /// Don't serve gRPC reflection
    #[arg(long, value_name = "true|false", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_reflection: Option<String>,
    /// Check the configuration, say what is wrong with it, and exit
    #[arg(long)]
    pub check_config: bool,
    /// Print the configuration that would be used, each value with its source, and exit
    #[arg(long)]
    pub print_config: bool,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The file with this name.
    File(PathBuf),
    /// The environment variable with this name.
    Environment(String),
    /// The flag with this name.
    Flag(String),
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The values.
    pub config: Config,
    sources: Vec<Source>,
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// One sentence each: the source, what was expected and found, what to do.
    pub problems: Vec<String>,
}

/// One option, as all sources know it.
struct ConfigOption {
    /// In snake_case: the key of the file. Flag and variable follow from it.
    name: &'static str,
    flag: fn(&ServeArgs) -> Option<&String>,
    set: fn(&mut Config, &str) -> Result<(), String>,
    /// As TOML.
    show: fn(&Config) -> String,
}

/// A row of [`OPTIONS`] from a field name of [`ServeArgs`], a setter and what to show.
macro_rules! option {
    ($name:ident, |$config:ident, $text:ident| $set:expr, |$shown:ident| $show:expr) => {
        ConfigOption {
            name: stringify!($name),
            flag: |args| args.$name.as_ref(),
            set: |$config, $text| {
                $set;
                Ok(())
            },
            show: |$shown| $show.to_string(),
        }
    };
}

const OPTIONS: [ConfigOption; 21] = [
    option!(listen, |c, text| c.listen = address(text)?, |c| quoted(c.listen)),
    option!(
        admin_listen,
        |c, text| c.admin_listen = if text == "off" { None } else { Some(address(text)?) },
        |c| c.admin_listen.map_or_else(|| quoted("off"), quoted)
    ),
    option!(data_dir, |c, text| c.data_dir = folder(text)?, |c| quoted(c.data_dir.display())),
    option!(store, |c, text| c.store = StoreKind::parse(text)?, |c| quoted(c.store.name())),
    option!(insecure_bind, |c, text| c.insecure_bind = boolean(text)?, |c| c.insecure_bind),
    option!(log, |c, text| c.log = filter(text)?, |c| quoted(&c.log)),
    option!(log_format, |c, text| c.log_format = LogFormat::parse(text)?, |c| quoted(
        c.log_format.name()
    )),
    option!(shutdown_grace, |c, text| c.shutdown_grace = duration(text)?, |c| quoted(
        format_args!("{}ms", c.shutdown_grace.as_millis())
    )),
    option!(max_connections, |c, text| c.max_connections = size(text)?, |c| c.max_connections),
    option!(max_leases_per_namespace, |c, text| c.quotas.leases = count(text)?, |c| c
        .quotas
        .leases),
    option!(max_waiters_per_namespace, |c, text| c.quotas.waiters = count(text)?, |c| c
        .quotas
        .waiters),
    option!(max_sessions_per_namespace, |c, text| c.quotas.sessions = count(text)?, |c| c
        .quotas
        .sessions),
    option!(max_records_per_namespace, |c, text| c.quotas.records = count(text)?, |c| c
        .quotas
        .records),
    option!(max_protections_per_namespace, |c, text| c.quotas.protections = count(text)?, |c| c
        .quotas
        .protections),
    option!(max_bytes_per_namespace, |c, text| c.quotas.bytes = bytes(text)?, |c| c.quotas.bytes),
    option!(max_namespaces, |c, text| c.quotas.namespaces = count(text)?, |c| c.quotas.namespaces),
    option!(max_replay_memory_bytes, |c, text| c.quotas.memory_bytes = bytes(text)?, |c| c
        .quotas
        .memory_bytes),
    option!(max_queued_per_namespace, |c, text| c.max_queued_per_namespace = size(text)?, |c| c
        .max_queued_per_namespace),
    option!(max_queued, |c, text| c.max_queued = size(text)?, |c| c.max_queued),
    option!(snapshot_after_bytes, |c, text| c.snapshot_after_bytes = bytes(text)?, |c| c
        .snapshot_after_bytes),
    option!(no_reflection, |c, text| c.reflection = !boolean(text)?, |c| !c.reflection),
];

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7421))),
            data_dir: PathBuf::from("./singletrack-data"),
            store: StoreKind::Disk,
            insecure_bind: false,
            log: LOG_DEFAULT.into(),
            log_format: LogFormat::Text,
            shutdown_grace: Duration::from_secs(10),
            max_connections: 4_096,
            quotas: Quotas::default(),
            max_queued_per_namespace: 16_384,
            max_queued: 65_536,
            snapshot_after_bytes: 64 << 20,
            reflection: true,
        }
    }
}

impl Config {
    /// Merges the sources and validates the result.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(
        args: &ServeArgs,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Effective, ConfigError> {
        let mut problems = Vec::new();
        let file = args.config.clone().or_else(|| environment(CONFIG_VARIABLE).map(PathBuf::from));
        let table = file.as_ref().map(|path| read(path, &mut problems)).unwrap_or_default();
        let mut config = Self::default();
        let mut sources = Vec::with_capacity(OPTIONS.len());
        for option in &OPTIONS {
            let variable = option.variable();
            let (source, text) = if let Some(text) = (option.flag)(args) {
                (Source::Flag(option.flag_name()), Ok(text.clone()))
            } else if let Some(text) = environment(&variable) {
                (Source::Environment(variable), Ok(text))
            } else if let (Some(value), Some(path)) = (table.get(option.name), &file) {
                (Source::File(path.clone()), text_of(value))
            } else {
                sources.push(Source::Default);
                continue;
            };
            if let Err(problem) = text.and_then(|text| (option.set)(&mut config, &text)) {
                problems.push(source.accuse(option.name, &problem));
            }
            sources.push(source);
        }
        config.check_relations(&mut problems);
        if problems.is_empty() {
            Ok(Effective { config, sources })
        } else {
            Err(ConfigError { problems })
        }
    }

    /// Somebody beyond this machine can reach the server.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        is_beyond_loopback(self.listen) || self.admin_listen.is_some_and(is_beyond_loopback)
    }

    fn check_relations(&self, problems: &mut Vec<String>) {
        let bound = [("--listen", Some(self.listen)), ("--admin-listen", self.admin_listen)];
        for (flag, address) in bound {
            if let Some(address) = address.filter(|address| is_beyond_loopback(*address))
                && !self.insecure_bind
            {
                problems.push(format!(
                    "{flag} {address} would be reachable beyond this machine, and this version has neither encryption nor authentication: everybody who reaches it may do everything; use an address of 127.0.0.1, or accept the risk with --insecure-bind"
                ));
            }
        }
        if self.admin_listen == Some(self.listen) && self.listen.port() != 0 {
            problems
                .push(format!("--listen and --admin-listen are both {}: choose two", self.listen));
        }
        if self.max_queued_per_namespace > self.max_queued {
            problems.push(format!(
                "max_queued_per_namespace ({}) is above max_queued ({}): lower the one or raise the other",
                self.max_queued_per_namespace, self.max_queued
            ));
        }
    }
}

fn is_beyond_loopback(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

// === impl Effective ===

impl Effective {
    /// The configuration as a TOML file that would give the same, with the source of each
    /// value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (option, source) in OPTIONS.iter().zip(&self.sources) {
            let value = (option.show)(&self.config);
            writeln!(text, "{} = {value} # {source}", option.name).expect("a String takes all");
        }
        text
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl Source {
    fn accuse(&self, name: &str, problem: &str) -> String {
        match self {
            Self::Default => format!("{name}: {problem}"),
            Self::File(path) => format!("`{name}` in {}: {problem}", path.display()),
            Self::Environment(variable) => format!("{variable} in the environment: {problem}"),
            Self::Flag(flag) => format!("{flag}: {problem}"),
        }
    }
}

impl ConfigOption {
    fn flag_name(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name.to_uppercase())
    }
}

// === the file ===

fn read(path: &PathBuf, problems: &mut Vec<String>) -> toml::Table {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("the configuration file {shown} can't be read: {error}"));
            return toml::Table::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => {
            for key in table.keys().filter(|key| OPTIONS.iter().all(|option| option.name != *key)) {
                let known = OPTIONS.map(|option| option.name).join(", ");
                problems.push(format!("`{key}` in {shown}: unknown key; known are {known}"));
            }
            table
        }
        Err(error) => {
            problems.push(format!("the configuration file {shown} is not TOML: {error}"));
            toml::Table::new()
        }
    }
}

fn text_of(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => Err(format!(
            "a text, a whole number, true or false is expected, found {}",
            value.type_str()
        )),
    }
}

// === values ===

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "an address and a port are expected, as in 127.0.0.1:7420 or [::1]:7420, found `{text}`"
        )
    })
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("a folder is expected, found nothing".into())
    } else {
        Ok(text.into())
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("true or false is expected, found `{text}`")),
    }
}

fn filter(text: &str) -> Result<String, String> {
    telemetry::check_filter(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn count(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(format!("a whole number above 0 is expected, found `{text}`")),
    }
}

fn size(text: &str) -> Result<usize, String> {
    /// More is a typing error, and above what a semaphore can count on a small machine.
    const SIZE_MAX: u64 = 1 << 28;
    let count = count(text)?;
    if count > SIZE_MAX {
        return Err(format!("a number up to {SIZE_MAX} is expected, found `{text}`"));
    }
    Ok(usize::try_from(count).expect("28 bits fit in any usize we support"))
}

fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number.trim_end(), *unit)))
        .unwrap_or((text, 1));
    count(number).ok().and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        format!("bytes above 0 are expected, as in 1048576 or 64MiB, found `{text}`")
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 3] = [("ms", 1), ("s", 1_000), ("m", 60_000)];
    UNITS
        .iter()
        .find_map(|(name, unit)| text.strip_suffix(name).map(|number| (number, *unit)))
        .and_then(|(number, unit)| number.parse::<u64>().ok()?.checked_mul(unit))
        .map(Duration::from_millis)
        .filter(|duration| *duration <= GRACE_MAX)
        .ok_or_else(|| {
            let most = GRACE_MAX.as_secs();
            format!(
                "a duration of at most {most}s is expected, as in 500ms, 10s or 1m, found `{text}`"
            )
        })
}

fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

impl StoreKind {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "memory" => Ok(Self::Memory),
            _ => Err(format!("`disk` or `memory` is expected, found `{text}`")),
        }
    }

    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }
}

impl LogFormat {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`text` or `json` is expected, found `{text}`")),
        }
    }

    /// As in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

#[cfg(test)]
mod tests;
