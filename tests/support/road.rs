//! A road on loopback between client and server: it forwards bytes until it is told to cut, to
//! swallow, or to lead somewhere else. Knows nothing of what it carries.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A road between client and server.
pub(crate) struct Road {
    pub(crate) address: SocketAddr,
    /// Where it leads; the server may move.
    pub(crate) to: watch::Sender<SocketAddr>,
    /// Rises when all that is on the road is to be cut.
    cuts: watch::Sender<u64>,
    /// What is on the road goes nowhere, and nothing says so.
    pub(crate) swallows: watch::Sender<bool>,
    /// Bytes from the server after which a connection is cut; 0: never.
    pub(crate) cut_after: Arc<AtomicU64>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Road {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, leads) = watch::channel(server);
        let (cuts, cut) = watch::channel(0);
        let (swallows, swallowing) = watch::channel(false);
        let cut_after = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let (limit, count) = (Arc::clone(&cut_after), Arc::clone(&connections));
        tokio::spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let to = *leads.borrow();
                let (cut, swallowing) = (cut.clone(), swallowing.clone());
                carried.spawn(carry(client, to, cut, swallowing, limit.load(Ordering::SeqCst)));
            }
        });
        Self { address, to, cuts, swallows, cut_after, connections }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn carry(
    client: TcpStream,
    to: SocketAddr,
    mut cut: watch::Receiver<u64>,
    swallowing: watch::Receiver<bool>,
    limit: u64,
) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    cut.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, swallowing.clone(), 0) => {}
        () = pump(from_server, to_client, swallowing, limit) => {}
        _ = cut.changed() => {}
    }
}

/// Carries bytes one way; `limit`: it is cut after so many.
async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    swallowing: watch::Receiver<bool>,
    limit: u64,
) {
    let (mut buffer, mut carried) = (vec![0; 64 << 10], 0);
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        if count == 0 {
            return;
        }
        if *swallowing.borrow() {
            continue;
        }
        let mut count = count as u64;
        if limit > 0 {
            count = count.min(limit - carried);
        }
        carried += count;
        let bytes = &buffer[..usize::try_from(count).unwrap()];
        if to.write_all(bytes).await.is_err() || (limit > 0 && carried >= limit) {
            return;
        }
    }
}
