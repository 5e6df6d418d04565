//! `singletrack lock`: the command runs while the lease is held, and no longer.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    command::{client, run, singletrack},
    server::Server,
};

#[tokio::test]
async fn the_command_finds_its_lease_in_the_environment_and_passes_its_code_on() {
    let server = Server::start().await;
    let url = server.url();
    let script = "echo $SINGLETRACK_TOKEN $SINGLETRACK_LEASE_ID $SINGLETRACK_DEADLINE_MS; exit 7";
    let args = ["lock", "a/b", "--ttl", "5s", "--holder", "ada", "--", "sh", "-c", script];
    let ended = client(&url, &args).await;
    assert_eq!(ended.code, 7, "{ended:?}");
    let words: Vec<&str> = ended.stdout.split_whitespace().collect();
    let [token, lease_id, deadline_ms] = words[..] else { panic!("{ended:?}") };
    assert!(token.parse::<u64>().unwrap() > 0);
    assert_eq!(lease_id.len(), 32);
    // 5 s less 1 % and 20 ms, and what it took to begin.
    assert!((3_000..=4_930).contains(&deadline_ms.parse::<u64>().unwrap()), "{deadline_ms}");
    let after = server.client().get("a/b").await.unwrap();
    assert!(after.leases.is_empty(), "it was given back");
}

#[tokio::test]
async fn a_nested_lock_appends_a_segment_to_the_actor() {
    let server = Server::start().await;
    let url = server.url();
    let binary = env!("CARGO_BIN_EXE_singletrack");
    let script =
        format!("echo $SINGLETRACK_ACTOR; {binary} lock b -- sh -c 'echo $SINGLETRACK_ACTOR'");
    let ended = client(&url, &["lock", "a", "--", "sh", "-c", &script]).await;
    let actors: Vec<&str> = ended.stdout.lines().collect();
    let [outer, inner] = actors[..] else { panic!("{ended:?}") };
    let rest = inner.strip_prefix(&format!("{outer}/")).unwrap();
    assert!(!outer.contains('/') && !rest.is_empty() && !rest.contains('/'), "{actors:?}");
}

#[tokio::test]
async fn what_is_held_is_not_acquired_and_the_command_is_not_run() {
    let server = Server::start().await;
    let url = server.url();
    let holder = server.client();
    let wish = singletrack::Acquire::new("a", "other");
    let lease = holder.acquire(wish).await.unwrap();
    for wait in ["0s", "300ms"] {
        let ended = client(&url, &["lock", "a", "--wait", wait, "--", "echo", "ran"]).await;
        assert_eq!((ended.code, &*ended.stdout), (91, ""), "{ended:?}");
        assert!(ended.stderr.contains("held by `other`"), "{ended:?}");
    }
    let found = holder.get("a").await.unwrap();
    assert_eq!(found.waiter_count, 0, "nobody stays behind in the queue");
    // Shared beside shared, and a wait that is served.
    let waiting = singletrack()
        .env("SINGLETRACK_SERVER", &url)
        .args(["lock", "a", "--wait", "30s", "--shared", "--", "echo", "ran"])
        .output();
    let waiting = tokio::spawn(waiting);
    while holder.get("a").await.unwrap().waiter_count == 0 {
        tokio::task::yield_now().await;
    }
    holder.release(singletrack::Release::of(&lease)).await.unwrap();
    let output = waiting.await.unwrap().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "ran\n");
}

#[tokio::test]
async fn a_command_that_a_signal_ended_is_told_as_a_shell_would() {
    let server = Server::start().await;
    let ended = client(&server.url(), &["lock", "a", "--", "sh", "-c", "kill -9 $$"]).await;
    assert_eq!(ended.code, 137, "{ended:?}");
    let nothing = client(&server.url(), &["lock", "a", "--", "/no/such/command"]).await;
    assert_eq!(nothing.code, 64, "{nothing:?}");
}

/// The command writes down every moment at which it still ran, in the clock of this machine, and
/// ignores SIGTERM; so do its children.
#[tokio::test]
async fn on_a_server_that_dies_the_command_is_gone_before_the_deadline() {
    let mut server = Server::start().await;
    let url = server.url();
    let folder = TempDir::new().unwrap();
    let trace = folder.path().join("trace");
    let beat =
        format!("trap '' TERM; while :; do date +%s%N >> {}; sleep 0.02; done", trace.display());
    let script = format!("sh -c \"{}\" & {beat}", beat.replace('$', "\\$"));
    let locked = tokio::spawn(run_owned(url, script));
    while std::fs::read_to_string(&trace).map_or(0, |text| text.lines().count()) < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // From here on no renewal is answered: the lease lasts at most a ttl from its last one.
    server.kill().await;
    let (killed, killed_at) = (Instant::now(), wall_ns());
    let ended = locked.await.unwrap();
    assert_eq!(ended.code, 92, "{ended:?}");
    assert!(ended.stderr.contains("was lost"), "{ended:?}");
    assert!(killed.elapsed() < Duration::from_secs(3), "before a ttl has passed");
    let seen = std::fs::read_to_string(&trace).unwrap();
    let last = seen.lines().filter_map(|line| line.parse::<u128>().ok()).max().unwrap();
    let ran_on = Duration::from_nanos(u64::try_from(last.saturating_sub(killed_at)).unwrap());
    assert!(ran_on < Duration::from_millis(2_950), "it ran {ran_on:?} beyond the last renewal");
    // And nothing of it runs any more.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(std::fs::read_to_string(&trace).unwrap(), seen);
}

async fn run_owned(url: String, script: String) -> crate::command::Finished {
    let args = ["lock", "a", "--ttl", "3s", "--", "sh", "-c", &script];
    run(singletrack().args(args).env("SINGLETRACK_SERVER", url)).await
}

#[expect(clippy::disallowed_methods, reason = "compared with what `date` prints")]
fn wall_ns() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_nanos()
}
