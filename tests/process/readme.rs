//! The commands of the README do what it says. Owns finding them and putting the address of a
//! started server in place of the default one.

use std::path::Path;

use tokio::process::Command;

use crate::{command, server::Server, tools};

const DEFAULT_PORT: &str = "7420";

#[tokio::test]
async fn the_first_lease_of_the_readme_works() {
    if tools::find("grpcurl").is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("expected {}, found {error}", path.display()));
    let commands = grpcurl_commands(&text);
    assert!(!commands.is_empty(), "expected ```sh blocks with grpcurl -plaintext, found none");

    let server = Server::start().await;
    let port = server.address().port().to_string();
    // One shell for all of them, so that a later block may use what an earlier one kept.
    let script = commands.concat().replace(DEFAULT_PORT, &port);
    let mut shell = Command::new("sh");
    command::run(shell.args(["-e", "-x", "-c", &script])).await.ended_with(0);
}

/// The blocks between ```sh and ``` that call grpcurl, each as one script.
fn grpcurl_commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        block = match (block.take(), line.trim_end()) {
            (None, "```sh") => Some(String::new()),
            (None, _) => None,
            (Some(script), "```") => {
                if script.contains("grpcurl -plaintext") {
                    commands.push(script);
                }
                None
            }
            (Some(script), line) => Some(script + line + "\n"),
        };
    }
    commands
}

#[test]
fn only_blocks_that_call_grpcurl_are_commands() {
    let text = "```sh\ncargo run\n```\ngrpcurl -plaintext\n```sh\ngrpcurl -plaintext a \\\n  b\n\
                ls\n```\n```json\ngrpcurl -plaintext\n```\n";
    assert_eq!(grpcurl_commands(text), ["grpcurl -plaintext a \\\n  b\nls\n"]);
}
