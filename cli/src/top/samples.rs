//! Snapshots for tests. They come through the client from a fake server, as its types can't be made
//! by hand, and so the asking is tested too.

#[path = "../../../tests/support/fake.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake;

use singletrack::{Client, Transport};
use singletrack_proto::v1::{self, operation_reply::Reply};

use self::fake::Fake;
use super::{fetch, model::Snapshot};

pub(super) fn lease(resource: &str, holder: &str, token: u64) -> v1::LeaseInfo {
    v1::LeaseInfo {
        targets: vec![v1::LeaseTarget { resource: resource.into(), ..Default::default() }],
        holder: holder.into(),
        token,
        ttl_ms: 30_000,
        remaining_ms: 20_000 + token,
        held_ms: 100_000 / token.max(1),
        ..Default::default()
    }
}

/// `holder` waits for `resource`, which `by` holds with this token.
pub(super) fn waiter(resource: &str, holder: &str, by: (&str, u64)) -> v1::WaiterInfo {
    let holding = v1::HeldBy {
        holder: by.0.into(),
        token: by.1,
        held_ms: 302_000,
        remaining_ms: 12_300,
        ..Default::default()
    };
    v1::WaiterInfo {
        holder: holder.into(),
        targets: vec![v1::LeaseTarget { resource: resource.into(), ..Default::default() }],
        waited_ms: 4_200,
        attached: true,
        blocked_by: Some(v1::HeldDetail {
            resource: resource.into(),
            holders: vec![holding],
            holder_count: 1,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) async fn snapshot(
    stats: v1::GetLeaseStatsResponse,
    leases: Vec<v1::LeaseInfo>,
    waiters: Vec<v1::WaiterInfo>,
) -> Snapshot {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).transport(Transport::Unary).retries(false);
    let client = client.build().expect("the fake's address is one");
    fake.say(Reply::GetLeaseStats(stats))
        .say(Reply::ListLeases(v1::ListLeasesResponse { leases, ..Default::default() }))
        .say(Reply::ListLeaseWaiters(v1::ListLeaseWaitersResponse {
            waiters,
            ..Default::default()
        }));
    fetch::look(&client, "").await.expect("the fake answers")
}

/// What `ada` and `bob` hold, and who waits for it.
pub(super) async fn small() -> Snapshot {
    let stats = v1::GetLeaseStatsResponse {
        leases: 3,
        waiters: 3,
        sessions: 1,
        granted_total: 10,
        revision: 100,
        ..Default::default()
    };
    let mut third = waiter("b", "eve", ("bob", 2));
    third.waited_ms = 60_000;
    if let Some(held) = &mut third.blocked_by {
        held.waiters.push(v1::HeldWaiter { holder: "dan".into(), ..Default::default() });
    }
    let leases = vec![lease("b", "bob", 2), lease("a", "ada", 1), lease("c/d", "cid", 3)];
    let waiters = vec![waiter("a", "dan", ("ada", 1)), waiter("a", "bob", ("ada", 1)), third];
    snapshot(stats, leases, waiters).await
}
