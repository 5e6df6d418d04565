//! Every refusal says what happened, what to do next, and whether it may have happened.

use singletrack_core::{
    refusal::{Cap, Held, LeaseEnd, Refusal, StaleFence},
    reply::HolderInfo,
    types::{Holder, Mode, ResourceName, Token},
};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};
use singletrack_server::track::CallError;
use tonic::Request;

use crate::harness::{Rig, Told, Turn, acquire};

fn held(holders: u64) -> Box<Held> {
    Box::new(Held {
        resource: ResourceName::parse("a/b").unwrap(),
        holders: (0..holders.min(8))
            .map(|i| HolderInfo {
                holder: Holder::parse(&format!("agent-{i}")).unwrap(),
                token: Token(100 + i),
                remaining_ms: 700 + i,
                mode: Mode::Shared,
            })
            .collect(),
        holder_count: u32::try_from(holders).unwrap(),
        queue_position: 3,
        waited_ms: 40,
    })
}

fn stale() -> Box<StaleFence> {
    Box::new(StaleFence {
        index: 1,
        resource: ResourceName::parse("a/b").unwrap(),
        presented: Token(5),
        current: Some((Token(9), Holder::parse("other").unwrap())),
    })
}

async fn told(error: CallError) -> Told {
    let rig = Rig::start(move |_| Turn::Say(Err(error.clone()))).await;
    let status = rig.leases().await.acquire_lease(acquire()).await.unwrap_err();
    let told = Told::by(&status);
    let line = format!("singletrack_refusals_total{{reason=\"{}\"}} 1", told.reason.name());
    assert!(rig.metrics.render().contains(&line), "{line} is missing");
    told
}

#[tokio::test]
async fn every_refusal_of_the_machine_arrives_with_its_reason() {
    let refused = CallError::Refused;
    for (error, reason) in [
        (refused(Refusal::RequestIdReused), Reason::RequestIdReused),
        (refused(Refusal::RequestIdForgotten), Reason::RequestIdForgotten),
        (refused(Refusal::CancelledWait), Reason::CancelledWait),
        (refused(Refusal::StaleFence(stale())), Reason::StaleFence),
        (refused(Refusal::NotFound), Reason::NotFound),
        (refused(Refusal::LeaseLost { end: LeaseEnd::Forced, token: Token(5) }), Reason::LeaseLost),
        (refused(Refusal::NotHolder), Reason::NotHolder),
        (refused(Refusal::Held(held(2))), Reason::Held),
        (refused(Refusal::StillWaiting(held(2))), Reason::StillWaiting),
        (refused(Refusal::Quota { cap: Cap::Leases, maximum: 9 }), Reason::Quota),
        (
            refused(Refusal::Operation { index: 2, refusal: Box::new(Refusal::NotHolder) }),
            Reason::NotHolder,
        ),
        (refused(Refusal::AlreadyDone), Reason::Internal),
        (CallError::ShuttingDown, Reason::ShuttingDown),
        (CallError::OutcomeUnknown, Reason::OutcomeUnknown),
        (CallError::Internal, Reason::Internal),
        (
            CallError::Overloaded { limit: "queued calls", maximum: 7, retry_after_ms: 30 },
            Reason::Overloaded,
        ),
    ] {
        assert_eq!(told(error).await.reason, reason);
    }
}

#[tokio::test]
async fn held_says_who_holds_it_and_when_to_ask_again() {
    let told = told(CallError::Refused(Refusal::Held(held(12)))).await;
    let Some(Detail::Held(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.holders.len(), detail.holder_count, detail.queue_position), (8, 12, 3));
    assert!(told.refusal.message.contains("agent-0"), "{}", told.refusal.message);
    assert_eq!(
        (told.info.metadata["holder"].as_str(), told.refusal.retry_after_ms),
        ("agent-0", 700)
    );
    let delay = told.retry.unwrap().retry_delay.unwrap();
    assert_eq!((delay.seconds, delay.nanos), (0, 700_000_000));
}

#[tokio::test]
async fn still_waiting_says_to_repeat_the_call_at_once() {
    let told = told(CallError::Refused(Refusal::StillWaiting(held(1)))).await;
    assert_eq!(told.retry, None);
    assert!(told.refusal.next_step.contains("same request_id"), "{}", told.refusal.next_step);
}

#[tokio::test]
async fn stale_fence_says_which_token_is_current() {
    let told = told(CallError::Refused(Refusal::StaleFence(stale()))).await;
    let Some(Detail::StaleFence(detail)) = &told.refusal.detail else { panic!("{told:?}") };
    assert_eq!((detail.index, detail.presented_token, detail.current_token), (1, 5, 9));
    assert_eq!(told.info.metadata["current_token"], "9");
    assert_eq!(detail.holder, "other");
}

#[tokio::test]
async fn the_largest_refusals_stay_within_what_clients_read() {
    // Characters of four bytes, and of three percent-encoded ones each on the way.
    let holder = Holder::parse(&"\u{1F512}".repeat(256)).unwrap();
    let resource = ResourceName::parse(&"\u{1F512}".repeat(128)).unwrap();
    let holders = (0..8)
        .map(|_| HolderInfo {
            holder: holder.clone(),
            token: Token((1 << 53) - 1),
            remaining_ms: u64::from(u32::MAX),
            mode: Mode::Shared,
        })
        .collect();
    let held = Held {
        resource: resource.clone(),
        holders,
        holder_count: u32::MAX,
        queue_position: 1_000,
        waited_ms: 50_000,
    };
    let stale = StaleFence {
        index: 15,
        resource,
        presented: Token((1 << 53) - 1),
        current: Some((Token((1 << 53) - 1), holder)),
    };
    for refusal in [
        Refusal::Held(Box::new(held.clone())),
        Refusal::StillWaiting(Box::new(held.clone())),
        Refusal::StaleFence(Box::new(stale)),
        Refusal::Operation { index: 255, refusal: Box::new(Refusal::Held(Box::new(held))) },
    ] {
        let error = CallError::Refused(refusal);
        let rig = Rig::start(move |_| Turn::Say(Err(error.clone()))).await;
        let status = rig.leases().await.acquire_lease(acquire()).await.unwrap_err();
        Told::by(&status);
        assert_fits(&status);
    }
}

#[tokio::test]
async fn the_largest_list_of_flaws_stays_within_what_clients_read() {
    let rig = Rig::start(|_| panic!("nobody asks the track")).await;
    let mut request = Request::new(v1::AcquireLeaseRequest {
        request_id: "\u{1}".into(),
        holder: "\u{2}".into(),
        priority: 1_000,
        ttl_ms: Some(1),
        keep_ms: Some(0),
        fences: (0..16)
            .map(|_| v1::Fence {
                target: Some(v1::fence::Target::Resource("\u{1F512}/\u{3}".into())),
                token: u64::MAX,
            })
            .collect(),
        ..acquire()
    });
    let key = format!("singletrack-{}", "x".repeat(2_000));
    let status = rig.leases().await.acquire_lease(Request::new(request.get_ref().clone())).await;
    let status = status.unwrap_err();
    let told = Told::by(&status);
    assert_fits(&status);
    assert!(told.fields().len() >= 8, "{told:?}");
    let bad_request = told.bad_request.as_ref().unwrap();
    assert_eq!(bad_request.field_violations.len(), told.fields().len());
    assert!(told.refusal.message.contains("more)"), "{}", told.refusal.message);

    let key: tonic::metadata::AsciiMetadataKey = key.parse().unwrap();
    request.metadata_mut().insert(key, "1".parse().unwrap());
    let status = rig.leases().await.acquire_lease(request).await.unwrap_err();
    Told::by(&status);
    assert_fits(&status);
}

fn assert_fits(status: &tonic::Status) {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    // As HTTP/2 counts a list of headers: 32 bytes beside each name and value.
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(bytes < 8_192, "{bytes} bytes in {status:?}");
}
