//! Which source wins, what is refused, and that whoever was wrong is named.

use std::io::Write;

use super::*;

fn none(_: &str) -> Option<String> {
    None
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn args(change: impl FnOnce(&mut ServeArgs)) -> ServeArgs {
    let mut args = ServeArgs::default();
    change(&mut args);
    args
}

fn problems(args: &ServeArgs, environment: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    Config::load(args, environment).expect_err("something is wrong").problems
}

#[test]
fn without_any_source_the_defaults_hold() {
    let effective = Config::load(&ServeArgs::default(), &none).unwrap();
    assert_eq!(effective.config, Config::default());
    assert_eq!(effective.config.listen.to_string(), "127.0.0.1:7420");
    assert!(!effective.config.is_exposed());
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let file = file("max_connections = 1\nmax_queued = 70000\nlog = 'debug'\n");
    let environment = |name: &str| match name {
        "SINGLETRACK_MAX_CONNECTIONS" => Some("2".into()),
        "SINGLETRACK_LOG" => Some("warn".into()),
        _ => None,
    };
    let args = args(|a| {
        a.config = Some(file.path().into());
        a.max_connections = Some("3".into());
    });
    let config = Config::load(&args, &environment).unwrap().config;
    assert_eq!(config.max_connections, 3);
    assert_eq!(config.log, "warn");
    assert_eq!(config.max_queued, 70_000);
    assert_eq!(config.quotas, Quotas::default());
}

#[test]
fn the_environment_can_name_the_file() {
    let file = file("store = 'memory'");
    let path = file.path().to_str().unwrap().to_owned();
    let environment = |name: &str| (name == "SINGLETRACK_CONFIG").then(|| path.clone());
    let config = Config::load(&ServeArgs::default(), &environment).unwrap().config;
    assert_eq!(config.store, StoreKind::Memory);
}

#[test]
fn every_option_can_be_set_by_every_source() {
    let values = [
        ("listen", "'127.0.0.1:1'"),
        ("admin_listen", "'off'"),
        ("data_dir", "'/tmp/x'"),
        ("store", "'memory'"),
        ("insecure_bind", "true"),
        ("log", "'debug'"),
        ("log_format", "'json'"),
        ("shutdown_grace", "'500ms'"),
        ("max_connections", "1"),
        ("max_leases_per_namespace", "2"),
        ("max_waiters_per_namespace", "3"),
        ("max_sessions_per_namespace", "9"),
        ("max_records_per_namespace", "9"),
        ("max_protections_per_namespace", "9"),
        ("max_bytes_per_namespace", "'4KiB'"),
        ("max_namespaces", "5"),
        ("max_replay_memory_bytes", "'6MiB'"),
        ("max_queued_per_namespace", "7"),
        ("max_queued", "8"),
        ("snapshot_after_bytes", "'1GiB'"),
        ("no_reflection", "true"),
    ];
    assert_eq!(values.map(|(name, _)| name), OPTIONS.map(|option| option.name));
    let text = values.map(|(name, value)| format!("{name} = {value}")).join("\n");
    let file = file(&text);
    let by_file = args(|a| a.config = Some(file.path().into()));
    let by_file = Config::load(&by_file, &none).unwrap().config;
    let environment = |name: &str| {
        let (_, value) =
            values.iter().find(|(key, _)| format!("SINGLETRACK_{}", key.to_uppercase()) == name)?;
        Some(value.trim_matches('\'').to_owned())
    };
    let by_environment = Config::load(&ServeArgs::default(), &environment).unwrap().config;
    assert_eq!(by_file, by_environment);
    for option in &OPTIONS {
        let default = (option.show)(&Config::default());
        assert_ne!((option.show)(&by_file), default, "{} was set", option.name);
    }
    assert_eq!(by_file.admin_listen, None);
    assert_eq!(by_file.shutdown_grace, Duration::from_millis(500));
    assert_eq!(by_file.snapshot_after_bytes, 1 << 30);
    assert!(!by_file.reflection);
}

#[test]
fn what_is_printed_gives_the_same_configuration_again_and_names_the_sources() {
    let environment = |name: &str| (name == "SINGLETRACK_STORE").then(|| "memory".to_owned());
    let flags = args(|a| a.listen = Some("127.0.0.1:9".into()));
    let effective = Config::load(&flags, &environment).unwrap();
    let text = effective.to_toml();
    assert!(text.contains("listen = \"127.0.0.1:9\" # flag --listen"), "{text}");
    assert!(text.contains("store = \"memory\" # environment SINGLETRACK_STORE"), "{text}");
    assert!(text.contains("max_queued = 65536 # default"), "{text}");
    let file = file(&text);
    let again = args(|a| a.config = Some(file.path().into()));
    assert_eq!(Config::load(&again, &none).unwrap().config, effective.config);
}

#[test]
fn unknown_keys_of_the_file_are_named() {
    let file = file("lisen = '127.0.0.1:1'\n[quotas]\nleases = 3\n");
    let problems = problems(&args(|a| a.config = Some(file.path().into())), &none);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("`lisen` in "), "{problems:?}");
    assert!(problems[0].contains("known are listen, admin_listen"), "{problems:?}");
    assert!(problems[1].starts_with("`quotas` in "), "{problems:?}");
}

#[test]
fn every_problem_is_told_with_its_source() {
    let file = file("max_connections = 0\nlog_format = 1.5\n");
    let environment = |name: &str| (name == "SINGLETRACK_STORE").then(|| "tape".to_owned());
    let flags = args(|a| {
        a.config = Some(file.path().into());
        a.listen = Some("localhost".into());
        a.shutdown_grace = Some("10".into());
        a.log = Some("a=b=c".into());
        a.max_bytes_per_namespace = Some("99999999999GiB".into());
    });
    let problems = problems(&flags, &environment);
    let begins = [
        "--listen: an address and a port are expected",
        "SINGLETRACK_STORE in the environment: `disk` or `memory` is expected, found `tape`",
        "--log: log filter `a=b=c`",
        "`log_format` in ",
        "--shutdown-grace: a duration of at most 600s is expected, as in 500ms, 10s or 1m, found `10`",
        "`max_connections` in ",
        "--max-bytes-per-namespace: bytes above 0 are expected",
    ];
    assert_eq!(problems.len(), begins.len(), "{problems:#?}");
    for (problem, begin) in problems.iter().zip(begins) {
        assert!(problem.starts_with(begin), "{problem}");
    }
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_problem() {
    let missing = args(|a| a.config = Some("/nowhere/at/all.toml".into()));
    assert!(problems(&missing, &none)[0].contains("can't be read"));
    let file = file("= =");
    let broken = args(|a| a.config = Some(file.path().into()));
    assert!(problems(&broken, &none)[0].contains("is not TOML"));
}

#[test]
fn an_address_beyond_loopback_needs_insecure_bind() {
    for exposed in ["0.0.0.0:7420", "[::]:7420", "192.168.0.1:7420", "[::ffff:10.0.0.1]:7420"] {
        let by_grpc = args(|a| a.listen = Some(exposed.into()));
        let problems_found = problems(&by_grpc, &none);
        let [problem] = &problems_found[..] else { panic!("{problems_found:?}") };
        assert!(problem.contains("--insecure-bind") && problem.contains(exposed), "{problem}");
        let by_admin = args(|a| {
            a.admin_listen = Some(exposed.into());
            a.listen = Some("127.0.0.1:1".into());
        });
        let by_admin = problems(&by_admin, &none);
        assert!(by_admin.len() == 1 && by_admin[0].starts_with("--admin-listen"), "{by_admin:?}");
        let accepted = args(|a| {
            a.listen = Some(exposed.into());
            a.insecure_bind = Some("true".into());
        });
        assert!(Config::load(&accepted, &none).unwrap().config.is_exposed());
    }
    for local in ["127.0.0.1:7420", "127.9.9.9:7420", "[::1]:7420", "[::ffff:127.0.0.1]:7420"] {
        assert!(Config::load(&args(|a| a.listen = Some(local.into())), &none).is_ok(), "{local}");
    }
}

#[test]
fn contradictions_are_told() {
    let same = args(|a| a.admin_listen = Some("127.0.0.1:7420".into()));
    assert!(problems(&same, &none)[0].contains("choose two"));
    let share = args(|a| a.max_queued = Some("5".into()));
    assert!(problems(&share, &none)[0].contains("max_queued_per_namespace"));
}

#[test]
fn flags_parse_as_a_command_line_would_have_them() {
    use clap::{CommandFactory, FromArgMatches};
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }
    Line::command().debug_assert();
    let matches = Line::command().get_matches_from([
        "x",
        "--insecure-bind",
        "--listen",
        "0.0.0.0:1",
        "--no-reflection=false",
    ]);
    let line = Line::from_arg_matches(&matches).unwrap();
    let config = Config::load(&line.serve, &none).unwrap().config;
    assert!(config.insecure_bind && config.reflection);
}

#[test]
fn the_manual_lists_every_flag_with_its_default() {
    let manual = include_str!("../../../docs/operations.md");
    for option in &OPTIONS {
        let row = format!("| `{}", option.flag_name());
        assert!(manual.lines().any(|line| line.starts_with(&row)), "{row} is missing");
    }
    for default in ["`127.0.0.1:7420`", "`127.0.0.1:7421`", "`./singletrack-data`", "| 4096 |"] {
        assert!(manual.contains(default), "{default}");
    }
    let config = Config::default();
    for number in [config.quotas.leases, config.quotas.waiters, config.max_queued as u64] {
        assert!(manual.contains(&format!("| {number} |")), "{number}");
    }
}
