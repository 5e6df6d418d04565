//! File reservation: `cargo run -p singletrack --example file_reservation [URL]`.
//!
//! Agents change one repository. One reserves a folder, another two files, both whole or not at all;
//! a third wants a file of that folder, is told who has it, asks for it, and gets it.

use std::{
    io::{self, Write},
    time::Duration,
};

use singletrack::{
    Client, DEFAULT_URL, Error, LeaseHandle, Reason, RequestYield, YieldAnswer, YieldStatus,
};

const REPOSITORY: &str = "examples/repository";

fn agent(url: &str, name: &str) -> Result<Client, Error> {
    Client::builder(url).holder(name).build()
}

/// A folder with everything below it.
async fn reserve_folder(client: &Client, folder: &str) -> Result<LeaseHandle, Error> {
    client.lease(format!("{REPOSITORY}/{folder}")).subtree().label("task", "tidy").acquire().await
}

/// Files by their names: all of them or none.
async fn reserve_files(client: &Client, files: [&str; 2]) -> Result<LeaseHandle, Error> {
    let [first, second] = files.map(|file| format!("{REPOSITORY}/{file}"));
    client.lease(first).and(second).acquire().await
}

/// Asks those who are in the way to give it up, and why.
async fn ask_for(client: &Client, who: &str, file: &str) -> Result<Vec<YieldStatus>, Error> {
    let file = format!("{REPOSITORY}/{file}");
    client.request_yield(RequestYield::new(file, who).reason("a fix for the release")).await
}

/// Works on a folder until somebody needs it, and then finishes what was begun.
async fn work_until_asked(lease: LeaseHandle) -> Result<String, Error> {
    let Some(request) = lease.yield_requested().await else {
        return Err(lease.lost().await);
    };
    lease.answer_yield(&request, YieldAnswer::within(Duration::from_secs(5))).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    lease.release().await?;
    Ok(request.holder)
}

/// Runs three agents; the one that asked for the folder and got its file.
///
/// # Errors
/// What any call may meet.
pub(crate) async fn run(
    url: &str,
    out: &mut impl Write,
) -> Result<String, Box<dyn std::error::Error>> {
    let (ada, bob, eve) = (agent(url, "ada")?, agent(url, "bob")?, agent(url, "eve")?);
    let folder = reserve_folder(&ada, "src/auth").await?;
    let files = reserve_files(&bob, ["src/main.rs", "docs/plan.md"]).await?;
    writeln!(out, "ada has src/auth and all below, bob has two files")?;

    // One of the two is taken, so neither is had.
    let refused = reserve_files(&eve, ["README.md", "src/auth/login.rs"]).await;
    let Err(error) = refused else { return Err("two agents on one file".into()) };
    let held = error.held().filter(|_| error.reason() == Some(Reason::Held));
    for by in held.map_or(&[][..], |held| &held.holders) {
        writeln!(out, "eve has to wait for {}, who has had it for {:?}", by.holder, by.held)?;
    }

    let ada = tokio::spawn(work_until_asked(folder));
    ask_for(&eve, "eve", "src/auth/login.rs").await?;
    let file = eve
        .lease(format!("{REPOSITORY}/src/auth/login.rs"))
        .wait(Duration::from_secs(30))
        .acquire()
        .await?;
    let asked = ada.await??;
    writeln!(out, "{asked} asked for it, and has it with token {}", file.token())?;

    file.release().await?;
    files.release().await?;
    Ok(asked)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| DEFAULT_URL.to_owned());
    run(&url, &mut io::stdout()).await.map(drop)
}
