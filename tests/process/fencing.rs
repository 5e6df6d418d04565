//! The recipe of fencing outside the server does what it says: its SQL on a real PostgreSQL, its
//! shell on real files, with tokens of real leases.
//!
//! What runs is what the page shows: it is taken from there.

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use singletrack::{Acquire, Lease};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    command::{self, Finished},
    postgres::{Answer, Postgres, Session},
    server::Server,
    tools,
};

const PAGE: &str = include_str!("../../docs/recipes/fencing-outside.md");
/// The shortest there is.
const TTL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

/// The blocks of one language, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("{language}\n");
    let all = PAGE.split("```").skip(1).step_by(2);
    all.filter_map(|block| block.strip_prefix(&opening)).collect()
}

/// A lease that nobody renews.
async fn lease(server: &Server, holder: &str) -> Lease {
    let wish = Acquire::new("reports/7", holder).ttl(TTL).wait(PATIENCE);
    server.client().acquire(wish).await.unwrap()
}

/// The statements of the page.
struct Page {
    reports: &'static str,
    update: &'static str,
    insert: &'static str,
    read: &'static str,
    fences: &'static str,
    begin: &'static str,
    delete: &'static str,
}

fn page() -> Page {
    let [reports, update, insert, read, fences, begin, delete] = blocks("sql")[..] else {
        panic!("the page has other statements than this test knows")
    };
    Page { reports, update, insert, read, fences, begin, delete }
}

/// A session that writes the one row under a token.
async fn writer(postgres: &Postgres, name: &str, token: u64) -> Session {
    let mut session = postgres.session();
    session.set_text("id", "7").await;
    session.set_text("resource", "reports/7").await;
    session.set_text("body", name).await;
    session.set("token", &token.to_string()).await;
    session
}

#[track_caller]
fn affected(answer: &Answer, rows: u64) {
    assert_eq!((&*answer.state, answer.affected), ("00000", rows), "{answer:?}");
}

/// All rows: what they hold and their fence.
async fn rows(postgres: &Postgres) -> Vec<String> {
    postgres.session().run("SELECT body, fence FROM reports;").await.rows
}

#[tokio::test]
async fn a_holder_that_wakes_up_is_refused_and_the_row_of_its_successor_stays() {
    let Some(postgres) = Postgres::start().await else { return };
    let (server, page) = (Server::start_with(&["--store", "memory"]).await, page());
    affected(&postgres.session().run(page.reports).await, 0);

    let first = lease(&server, "first").await;
    let mut sleeper = writer(&postgres, "first", first.token).await;
    affected(&sleeper.run(page.update).await, 0);
    affected(&sleeper.run(page.insert).await, 1);
    affected(&sleeper.run(page.insert).await, 1);
    affected(&sleeper.run(page.update).await, 1);
    // It sleeps now, and its lease runs out.
    let second = lease(&server, "second").await;
    assert!(second.token > first.token && !is_current(&server, &first).await);
    // Until the successor has shown its token, the old one passes.
    affected(&sleeper.run(page.update).await, 1);
    let mut successor = writer(&postgres, "second", second.token).await;
    let read = successor.run(page.read).await;
    assert_eq!((read.affected, read.rows), (1, vec!["first".to_owned()]));
    affected(&sleeper.run(page.update).await, 0);
    affected(&successor.run(page.update).await, 1);
    for statement in [page.update, page.insert, page.read] {
        affected(&sleeper.run(statement).await, 0);
    }
    assert_eq!(rows(&postgres).await, [format!("second|{}", second.token)]);
    affected(&successor.run(page.insert).await, 1);
    postgres.stop().await;
}

/// Two writes at one time: the later one waits, and is judged on what the other left.
#[tokio::test]
async fn of_two_writes_at_once_the_one_with_the_lower_token_never_stands() {
    let Some(postgres) = Postgres::start().await else { return };
    let (server, page) = (Server::start_with(&["--store", "memory"]).await, page());
    let (low, high) = (lease(&server, "low").await.token, lease(&server, "high").await.token);
    postgres.session().run(page.reports).await;
    let rest = "TRUNCATE reports; INSERT INTO reports VALUES ('7', 'none', 0);";
    for statement in [page.update, page.insert] {
        for (one, other, affects) in [(high, low, 0), (low, high, 1)] {
            for strict in [false, true] {
                affected(&postgres.session().run(rest).await, 1);
                let mut before = writer(&postgres, "before", one).await;
                let mut after = writer(&postgres, "after", other).await;
                before.run("BEGIN;").await;
                affected(&before.run(statement).await, 1);
                if strict {
                    after.run("BEGIN ISOLATION LEVEL REPEATABLE READ;").await;
                }
                after.send(statement).await;
                postgres.until_waiting(1).await;
                affected(&before.run("COMMIT;").await, 0);
                let answer = after.answer().await;
                if strict {
                    assert_eq!(answer.state, "40001", "above READ COMMITTED it is to do it again");
                } else {
                    affected(&answer, affects);
                    let stands = if affects == 1 { "after" } else { "before" };
                    assert_eq!(rows(&postgres).await, [format!("{stands}|{high}")]);
                }
            }
        }
    }
    postgres.stop().await;
}

#[tokio::test]
async fn a_table_of_fences_guards_deletes_and_whole_transactions() {
    let Some(postgres) = Postgres::start().await else { return };
    let (server, page) = (Server::start_with(&["--store", "memory"]).await, page());
    let mut session = postgres.session();
    for table in [page.reports, page.fences] {
        affected(&session.run(table).await, 0);
    }
    let first = lease(&server, "first").await;
    let mut sleeper = writer(&postgres, "first", first.token).await;
    affected(&sleeper.run(page.begin).await, 1);
    affected(&sleeper.run(page.insert).await, 1);
    affected(&sleeper.run("COMMIT;").await, 0);
    let second = lease(&server, "second").await;
    let mut successor = writer(&postgres, "second", second.token).await;
    // Both at once: whoever comes second waits at the fence.
    affected(&successor.run(page.begin).await, 1);
    sleeper.send(page.begin).await;
    postgres.until_waiting(1).await;
    affected(&successor.run(page.delete).await, 0);
    affected(&sleeper.answer().await, 0);
    affected(&sleeper.run("ROLLBACK;").await, 0);
    assert!(rows(&postgres).await.is_empty(), "what was deleted stays deleted");
    let fence = session.run("SELECT token FROM fences;").await.rows;
    assert_eq!(fence, [second.token.to_string()]);
    affected(&successor.run(page.begin).await, 1);
    postgres.stop().await;
}

async fn is_current(server: &Server, lease: &Lease) -> bool {
    server.client().check("reports/7", lease.token).await.unwrap().current
}

// === files ===

/// Runs shell text in a folder, with something to read.
async fn shell(folder: &Path, script: &str, args: &[&str], input: &str) -> Finished {
    std::fs::write(folder.join("input"), input).unwrap();
    let mut sh = Command::new("sh");
    sh.args(["-c", &format!("exec <input; {script}"), "sh"]).args(args);
    command::run(sh.current_dir(folder)).await
}

/// Shell blocks of the page, without what calls an API.
fn shell_blocks() -> [&'static str; 2] {
    let [names, locked, api] = blocks("sh")[..] else {
        panic!("the page has other scripts than this test knows")
    };
    assert!(api.contains("lease check"));
    [names, locked]
}

#[tokio::test]
async fn the_highest_name_is_read_whoever_wrote_last() {
    let server = Server::start_with(&["--store", "memory"]).await;
    let (folder, [names, _]) = (TempDir::new().unwrap(), shell_blocks());
    let (low, high) = (lease(&server, "low").await.token, lease(&server, "high").await.token);
    let most = (1_u64 << 53) - 1;
    for (token, read) in [(low, low), (high, high), (low, high), (1, high), (most, most)] {
        let (token, read) = (token.to_string(), read.to_string());
        let write = format!("{names}write_report {token}");
        shell(folder.path(), &write, &[], &token).await.ended_with(0);
        let found = shell(folder.path(), &format!("{names}read_report"), &[], "").await;
        assert_eq!(found.ended_with(0).stdout, read);
    }
}

#[tokio::test]
async fn a_token_file_under_a_lock_keeps_stale_writers_out() {
    if tools::find("flock").is_none() {
        return;
    }
    let server = Server::start_with(&["--store", "memory"]).await;
    let (folder, [_, locked]) = (TempDir::new().unwrap(), shell_blocks());
    std::fs::write(folder.path().join("fenced-write"), locked).unwrap();
    let write = "exec sh fenced-write report \"$1\"";
    let (low, high) = (lease(&server, "low").await.token, lease(&server, "high").await.token);
    for (token, code) in [(low, 0), (low, 0), (high, 0), (low, 1), (high, 0)] {
        let token = token.to_string();
        let ended = shell(folder.path(), write, &[&token], &token).await.ended_with(code);
        assert_eq!(ended.stderr.contains("stale"), code == 1, "{ended:?}");
    }
    let found = std::fs::read_to_string(folder.path().join("report")).unwrap();
    assert_eq!(found, high.to_string());
    // A fence that can't be read lets nobody in.
    std::fs::write(folder.path().join("report.fence"), "").unwrap();
    let ended = shell(folder.path(), write, &[&high.to_string()], "no").await;
    assert_ne!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("report")).unwrap(), found);
}

/// Many at once, each with its own token: the highest stands, and whoever was let in came with a
/// higher one than those before.
#[tokio::test]
async fn of_many_writers_of_a_file_the_one_with_the_highest_token_stands() {
    if tools::find("flock").is_none() {
        return;
    }
    let (folder, [_, locked]) = (TempDir::new().unwrap(), shell_blocks());
    std::fs::write(folder.path().join("fenced-write"), locked).unwrap();
    let mut writers = Vec::new();
    for token in [3, 9, 1, 8, 2, 7, 4, 6, 5] {
        let mut sh = Command::new("sh");
        let script = format!("echo {token} | sh fenced-write report {token}");
        sh.args(["-c", &script]).current_dir(folder.path()).stderr(Stdio::null());
        writers.push((token, sh.kill_on_drop(true).spawn().unwrap()));
    }
    let mut let_in = BTreeSet::new();
    for (token, mut writer) in writers {
        let ended = tokio::time::timeout(PATIENCE, writer.wait()).await;
        if ended.expect("a writer ends soon").unwrap().success() {
            let_in.insert(token);
        }
    }
    assert!(let_in.contains(&9), "{let_in:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("report")).unwrap(), "9\n");
    let left = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name());
    let left: BTreeSet<String> = left.map(|name| name.into_string().unwrap()).collect();
    let expected = ["fenced-write", "report", "report.fence", "report.lock"];
    assert_eq!(left, expected.map(String::from).into(), "no writer leaves anything behind");
}
