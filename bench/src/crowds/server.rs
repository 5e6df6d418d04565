//! A fresh server with the disk store, in a process of its own.

use std::path::Path;

use singletrack::{Client, Transport};

use super::in_time;
use crate::{
    Error,
    ours::Singletrack,
    peer::{self, Peer},
};

/// It runs.
pub(super) struct Server {
    peer: Peer,
    url: String,
}

// === impl Server ===

impl Server {
    pub(super) async fn start(ours: &Singletrack, folder: &Path) -> Result<Self, Error> {
        let port = peer::free_port()?;
        let address = format!("127.0.0.1:{port}");
        let peer = Peer::start(&ours.path().display().to_string(), folder, |folder| {
            ["serve", "--listen", &address, "--admin-listen", "off", "--data-dir"]
                .into_iter()
                .map(str::to_owned)
                .chain([folder.display().to_string()])
                .collect()
        })?;
        let server = Self { peer, url: format!("http://{address}") };
        let client = server.client()?;
        in_time("a server that answers", async {
            while client.ping().await.is_err() {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
        .await?;
        Ok(server)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A client of unary calls, to look at things.
    pub(super) fn client(&self) -> Result<Client, Error> {
        Ok(Client::builder(&self.url).transport(Transport::Unary).build()?)
    }

    pub(super) async fn end(self) -> Result<(), Error> {
        self.peer.end().await
    }
}
