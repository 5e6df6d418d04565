//! What `top` asks the server for: a bounded look, however much there is.

use singletrack::{Client, Error, List, ListWaiters};

use super::model::Snapshot;

/// Most leases shown.
const LEASES: u32 = 1_000;
/// Most waiters shown, and how many come with one call.
const WAITERS: usize = 500;
const WAITERS_A_PAGE: u32 = 100;
/// A page of a list may be empty while there are more leases: how many are asked for at most.
const PAGES: usize = 10;

/// Asks for everything that is shown.
pub(super) async fn look(client: &Client, prefix: &str) -> Result<Snapshot, Error> {
    let stats = client.stats().await?;
    let mut snapshot = Snapshot { stats, ..Snapshot::default() };
    leases(client, prefix, &mut snapshot).await?;
    waiters(client, &mut snapshot).await?;
    Ok(snapshot)
}

async fn leases(client: &Client, prefix: &str, snapshot: &mut Snapshot) -> Result<(), Error> {
    let mut list = List::new().page_size(LEASES);
    if !prefix.is_empty() {
        list = list.prefix(prefix);
    }
    let mut after: Option<String> = None;
    for _ in 0..PAGES {
        let page = match &after {
            Some(page_token) => client.list(list.clone().after(page_token)).await?,
            None => client.list(list.clone()).await?,
        };
        snapshot.leases.extend(page.leases);
        after = page.next_page_token;
        if after.is_none() || snapshot.leases.len() >= LEASES as usize {
            break;
        }
    }
    snapshot.has_more_leases = after.is_some();
    Ok(())
}

async fn waiters(client: &Client, snapshot: &mut Snapshot) -> Result<(), Error> {
    let mut list = ListWaiters::new().page_size(WAITERS_A_PAGE);
    loop {
        let page = client.list_waiters(list.clone()).await?;
        snapshot.waiters.extend(page.waiters);
        match page.next_page_token {
            None => return Ok(()),
            Some(_) if snapshot.waiters.len() >= WAITERS => break,
            Some(page_token) => list = list.after(page_token),
        }
    }
    snapshot.has_more_waiters = true;
    Ok(())
}
