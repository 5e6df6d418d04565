//! The stream of a session, with a double of the track behind it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it is about")]

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use singletrack_core::{
    command::{Command, Lifetime},
    refusal::{LeaseEnd, Refusal, SessionEnd},
    reply::{Attached, Grant, LeaseStats, Notice, Reply, SessionPage, YieldInfo},
    types::{Holder, LeaseId, SessionId, Token, Words},
};
use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply as Wire};
use singletrack_server::track::{CallError, Question};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::harness::{Rig, Spoken, Turn, acquire, reason};

const SESSION: SessionId = SessionId([0xab; 16]);

fn attached() -> Reply {
    Reply::SessionAttached(Box::new(Attached {
        session_id: SESSION,
        generation: 3,
        ttl_ms: 15_000,
        remaining_ms: 14_000,
        held: SessionPage { leases: vec![(LeaseId([1; 16]), Token(7))], next: None },
        held_count: 1,
    }))
}

fn granted() -> Reply {
    Reply::Acquired(Grant {
        lease_id: LeaseId([2; 16]),
        token: Token(9),
        remaining_ms: 15_000,
        waited_ms: 0,
        replayed: false,
    })
}

/// Answers hello, grants what doesn't wait, parks what does, releases.
fn usual(question: &Question) -> Turn {
    match &question.command {
        Command::OpenSession(open) => Turn::Say(Ok(Reply::SessionOpened {
            session_id: open.session_id,
            remaining_ms: open.ttl.ms(),
        })),
        Command::AttachSession(_) => Turn::Say(Ok(attached())),
        Command::AcquireLease(acquire) if acquire.wait_ms > 0 => Turn::Park,
        Command::AcquireLease(_) => Turn::Say(Ok(granted())),
        Command::KeepSessionAlive(_) => Turn::Say(Ok(Reply::SessionKept(15_000))),
        Command::ReleaseLease(_) => Turn::Say(Ok(Reply::Released { replayed: false })),
        Command::TransferLease(transfer) => Turn::Say(Ok(Reply::Transferred(Grant {
            lease_id: transfer.new_id,
            token: Token(10),
            remaining_ms: 5_000,
            waited_ms: 0,
            replayed: false,
        }))),
        Command::RequestLeaseYield(_) => Turn::Say(Ok(Reply::YieldRequested(Vec::new()))),
        Command::AnswerLeaseYield(_) => Turn::Say(Ok(Reply::YieldAnswered(1))),
        Command::ListLeaseWaiters { .. } => {
            Turn::Say(Ok(Reply::Waiters { waiters: Vec::new(), next: Some(7) }))
        }
        Command::GetLeaseStats => Turn::Say(Ok(Reply::Stats(LeaseStats::default()))),
        other => panic!("not asked here: {other:?}"),
    }
}

/// One stream as a client has it.
struct Talk {
    up: mpsc::Sender<v1::ExchangeRequest>,
    down: Streaming<v1::ExchangeResponse>,
}

impl Talk {
    async fn open(rig: &Rig, first: v1::ExchangeRequest) -> Result<Self, Status> {
        let (up, frames) = mpsc::channel(64);
        up.send(first).await.unwrap();
        let mut client = rig.sessions().await;
        let down = client.exchange(ReceiverStream::new(frames)).await?.into_inner();
        Ok(Self { up, down })
    }

    async fn say(&self, operations: Vec<v1::Operation>) {
        self.up.send(v1::ExchangeRequest { operations, ..Default::default() }).await.unwrap();
    }

    async fn frame(&mut self) -> Result<Option<v1::ExchangeResponse>, Status> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.down.message());
        frame.await.expect("something is said")
    }

    /// Frames until this many replies are there, folded into one.
    async fn replies(&mut self, count: usize) -> v1::ExchangeResponse {
        let mut all = v1::ExchangeResponse::default();
        while all.replies.len() + all.frame_refused.len() < count {
            let frame = self.frame().await.unwrap().expect("the stream goes on");
            all.welcome = all.welcome.or(frame.welcome);
            all.replies.extend(frame.replies);
            all.pushes.extend(frame.pushes);
            all.frame_refused.extend(frame.frame_refused);
        }
        all.replies.sort_by_key(|reply| reply.seq);
        all
    }

    /// How the stream ends, and the last thing that was said before.
    async fn end(mut self) -> (Option<v1::ExchangeResponse>, Result<(), Status>) {
        let mut last = None;
        loop {
            match self.frame().await {
                Ok(Some(frame)) => last = Some(frame),
                Ok(None) => return (last, Ok(())),
                Err(status) => return (last, Err(status)),
            }
        }
    }
}

fn hello() -> v1::ExchangeRequest {
    let hello = v1::Hello { holder: "agent".into(), ..Default::default() };
    v1::ExchangeRequest { hello: Some(hello), ..Default::default() }
}

fn resume() -> v1::ExchangeRequest {
    let hello = v1::Hello { session_id: SESSION.to_string(), ..Default::default() };
    v1::ExchangeRequest { hello: Some(hello), ..Default::default() }
}

fn operation(seq: u64, operation: Operation) -> v1::Operation {
    v1::Operation { seq, operation: Some(operation) }
}

fn ping(seq: u64) -> v1::Operation {
    operation(seq, Operation::Ping(v1::PingRequest { payload: Bytes::from_static(b"hey") }))
}

fn taking(seq: u64, wait_ms: u64) -> v1::Operation {
    operation(seq, Operation::AcquireLease(v1::AcquireLeaseRequest { wait_ms, ..acquire() }))
}

fn refusal(reply: &v1::OperationReply) -> &v1::Refusal {
    match reply.reply.as_ref().unwrap() {
        Wire::Refusal(refusal) => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_opens_a_session_and_operations_may_follow_at_once() {
    let mut rig = Rig::start(usual).await;
    let mut first = hello();
    first.operations = vec![ping(1), taking(2, 0)];
    let mut talk = Talk::open(&rig, first).await.unwrap();
    let said = talk.replies(2).await;
    let welcome = said.welcome.unwrap();
    assert_eq!((welcome.generation, welcome.resumed, welcome.held_count), (3, false, 1));
    assert_eq!(welcome.held[0].token, 7);
    assert!(matches!(&said.replies[0].reply, Some(Wire::Ping(it)) if it.payload == "hey"));
    assert!(matches!(&said.replies[1].reply, Some(Wire::AcquireLease(it)) if it.token == 9));
    let Command::OpenSession(open) = rig.asked.recv().await.unwrap().command else { panic!() };
    let attach = rig.asked.recv().await.unwrap().command;
    assert_eq!(attach, Command::AttachSession(open.session_id));
    let taken = rig.asked.recv().await.unwrap();
    let of = taken.of.unwrap();
    assert_eq!((of.session, of.seq), (open.session_id, Some(2)));
    assert_eq!(taken.mark.unwrap().id, open.requests.at(2), "its number is its identity");
    let Command::AcquireLease(asked) = taken.command else { panic!() };
    assert_eq!(asked.lifetime, Lifetime::Session(open.session_id), "no ttl: it lives with it");
}

#[tokio::test]
async fn an_operation_is_the_same_call_on_the_stream_and_over_unary_calls() {
    let mut rig = Rig::start(usual).await;
    let mut first = resume();
    let own = v1::AcquireLeaseRequest { ttl_ms: Some(5_000), ..acquire() };
    first.operations = vec![operation(41, Operation::AcquireLease(own.clone()))];
    let mut talk = Talk::open(&rig, first).await.unwrap();
    assert!(talk.replies(1).await.welcome.unwrap().resumed);
    assert!(matches!(rig.asked.recv().await.unwrap().command, Command::AttachSession(_)));
    let on_stream = rig.asked.recv().await.unwrap();
    let repeated = v1::AcquireLeaseRequest { request_id: format!("{SESSION}/41"), ..own };
    rig.leases().await.acquire_lease(repeated).await.unwrap();
    let unary = rig.asked.recv().await.unwrap();
    assert_eq!(unary.mark, on_stream.mark);
    assert_eq!(unary.of, on_stream.of);
}

#[tokio::test]
async fn operations_of_the_whole_menu_are_asked_and_answered_on_the_stream() {
    let mut rig = Rig::start(usual).await;
    let lease_id = "0f".repeat(16);
    let transfer = v1::TransferLeaseRequest {
        lease_id: lease_id.clone(),
        token: 9,
        to_holder: "heir".into(),
        ..Default::default()
    };
    let ask = v1::RequestLeaseYieldRequest {
        resource: "a".into(),
        holder: "agent".into(),
        ..Default::default()
    };
    let answer = v1::AnswerLeaseYieldRequest { lease_id, token: 9, ..Default::default() };
    let mut first = resume();
    first.operations = vec![
        operation(1, Operation::TransferLease(transfer)),
        operation(2, Operation::RequestLeaseYield(ask)),
        operation(3, Operation::AnswerLeaseYield(answer)),
        operation(4, Operation::ListLeaseWaiters(v1::ListLeaseWaitersRequest::default())),
        operation(5, Operation::GetLeaseStats(v1::GetLeaseStatsRequest {})),
        operation(6, Operation::TransferLease(v1::TransferLeaseRequest::default())),
    ];
    let mut talk = Talk::open(&rig, first).await.unwrap();
    let said = talk.replies(6).await;
    let reply = |at: usize| said.replies[at].reply.as_ref().unwrap();
    assert!(matches!(reply(0), Wire::TransferLease(it) if it.token == 10));
    assert!(matches!(reply(1), Wire::RequestLeaseYield(_)));
    assert!(matches!(reply(2), Wire::AnswerLeaseYield(it) if it.answered == 1));
    assert!(matches!(reply(3), Wire::ListLeaseWaiters(it) if it.next_page_token.ends_with('7')));
    assert!(matches!(reply(4), Wire::GetLeaseStats(_)));
    let message = &refusal(&said.replies[5]).message;
    assert!(message.starts_with("transfer_lease.lease_id: "), "{message}");
    rig.asked.recv().await.unwrap();
    let asked = rig.asked.recv().await.unwrap();
    assert_eq!(asked.of.unwrap().seq, Some(1));
    assert!(asked.mark.is_some(), "its number is its identity");
    let asked = rig.asked.recv().await.unwrap();
    assert_eq!((asked.of.unwrap().seq, asked.mark), (None, None), "repeating it is harmless");
}

#[tokio::test]
async fn a_stream_without_a_legal_hello_is_nobodys() {
    let rig = Rig::start(usual).await;
    let no_hello = v1::ExchangeRequest { operations: vec![ping(1)], ..Default::default() };
    let mut both = resume();
    both.hello.as_mut().unwrap().holder = "agent".into();
    let mut short = resume();
    short.hello.as_mut().unwrap().session_id = "12".into();
    let mut nobody = hello();
    nobody.hello.as_mut().unwrap().holder.clear();
    for (first, field) in [
        (no_hello, "hello"),
        (both, "hello.holder"),
        (short, "hello.session_id"),
        (nobody, "hello.holder"),
    ] {
        let (said, end) = Talk::open(&rig, first).await.unwrap().end().await;
        let status = end.unwrap_err();
        assert_eq!((said, status.code()), (None, Code::InvalidArgument), "{field}");
        assert!(status.message().contains(field), "{status:?}");
    }
}

#[tokio::test]
async fn a_session_that_is_lost_ends_the_stream_that_would_resume_it() {
    let rig = Rig::start(|question: &Question| match question.command {
        Command::AttachSession(_) => {
            let end = Some(SessionEnd::Expired);
            Turn::Say(Err(CallError::Refused(Refusal::SessionLost { end })))
        }
        _ => usual(question),
    })
    .await;
    let (said, end) = Talk::open(&rig, resume()).await.unwrap().end().await;
    assert_eq!(said, None);
    assert_eq!(reason(&end.unwrap_err()), "SESSION_LOST");
}

#[tokio::test]
async fn a_frame_that_is_not_legal_is_refused_by_its_number_and_the_stream_goes_on() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.say(vec![ping(0)]).await;
    talk.say(vec![ping(1), ping(1)]).await;
    talk.up.send(hello()).await.unwrap();
    let seen = v1::ExchangeRequest { seen: vec![1; 4_097], ..Default::default() };
    talk.up.send(seen).await.unwrap();
    talk.say(vec![ping(1)]).await;
    let said = talk.replies(5).await;
    let refused: Vec<_> = said
        .frame_refused
        .iter()
        .map(|it| {
            let refusal = it.refusal.as_ref().unwrap();
            (it.frame, refusal.reason().as_str_name().trim_start_matches("REFUSAL_REASON_"))
        })
        .collect();
    let expected = [(1, "MALFORMED"), (2, "MALFORMED"), (3, "MALFORMED"), (4, "TOO_LARGE")];
    assert_eq!(refused, expected);
    assert_eq!(said.replies.len(), 1);
}

#[tokio::test]
async fn a_number_that_is_under_way_may_not_be_used_again() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.say(vec![taking(1, 5_000)]).await;
    talk.say(vec![ping(1)]).await;
    let said = talk.replies(1).await;
    let refusal = said.frame_refused[0].refusal.as_ref().unwrap();
    assert!(refusal.message.contains("under way"), "{refusal:?}");
}

#[tokio::test]
async fn one_operation_that_is_not_legal_leaves_the_others_alone() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    let other = v1::KeepSessionAliveRequest { session_id: SESSION.to_string() };
    let bad_ttl = v1::AcquireLeaseRequest { ttl_ms: Some(1), ..acquire() };
    let named = v1::AcquireLeaseRequest { session_id: SESSION.to_string(), ..acquire() };
    talk.say(vec![
        ping(1),
        v1::Operation { seq: 2, operation: None },
        operation(3, Operation::KeepSessionAlive(other)),
        operation(4, Operation::AcquireLease(bad_ttl)),
        operation(5, Operation::AcquireLease(named)),
        operation(6, Operation::KeepSessionAlive(v1::KeepSessionAliveRequest::default())),
    ])
    .await;
    let said = talk.replies(6).await;
    let field = |at: usize| match &refusal(&said.replies[at]).detail {
        Some(v1::refusal::Detail::Malformed(it)) => it.violations[0].field.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(field(1), "operation");
    assert_eq!(field(2), "keep_session_alive.session_id");
    assert_eq!(field(3), "acquire_lease.ttl_ms");
    assert_eq!(field(4), "acquire_lease.session_id");
    assert!(matches!(&said.replies[5].reply, Some(Wire::KeepSessionAlive(_))));
}

#[tokio::test]
async fn acknowledgements_and_cancellations_go_to_the_track() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.say(vec![taking(4, 5_000), taking(5, 0)]).await;
    talk.replies(1).await;
    let frame = v1::ExchangeRequest {
        seen_below: 4,
        seen: vec![5],
        cancel: vec![4, 5, 77],
        ..Default::default()
    };
    talk.up.send(frame).await.unwrap();
    let said = talk.replies(1).await;
    assert_eq!(said.replies[0].seq, 4);
    assert_eq!(refusal(&said.replies[0]).reason(), v1::RefusalReason::CancelledWait);
    let spoken = rig.spoken.lock().unwrap().clone();
    let [Spoken::Told(Command::AcknowledgeReplies { below: 4, seen, .. }), Spoken::Cancelled(tags)] =
        &spoken[..]
    else {
        panic!("{spoken:?}")
    };
    assert_eq!((&seen[..], &tags[..]), (&[5][..], &[4][..]), "only what waits is cancelled");
}

#[tokio::test]
async fn above_its_bounds_a_stream_is_told_that_it_is_too_much() {
    let rig = Rig::start(|question: &Question| match question.command {
        Command::ReleaseLease(_) => Turn::Park,
        _ => usual(question),
    })
    .await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    let release =
        v1::ReleaseLeaseRequest { lease_id: "00".repeat(16), token: 1, ..Default::default() };
    let many = |from: u64, count: u64, op: Operation| {
        (from..from + count).map(|seq| operation(seq, op.clone())).collect::<Vec<_>>()
    };
    talk.say(many(1, 1_025, Operation::ReleaseLease(release))).await;
    let said = talk.replies(1).await;
    assert_eq!(said.replies[0].seq, 1_025);
    let too_much = refusal(&said.replies[0]);
    assert_eq!(too_much.reason(), v1::RefusalReason::Overloaded);
    assert!(too_much.retry_after_ms > 0 && too_much.message.contains("1024"), "{too_much:?}");
    // Waits have a bound of their own.
    let wait = v1::AcquireLeaseRequest { wait_ms: 5_000, ..acquire() };
    talk.say(many(2_000, 8_192, Operation::AcquireLease(wait.clone()))).await;
    talk.say(many(20_000, 8_193, Operation::AcquireLease(wait))).await;
    let said = talk.replies(1).await;
    assert_eq!(said.replies[0].seq, 28_192);
    assert!(refusal(&said.replies[0]).message.contains("16384"));
}

#[tokio::test]
async fn what_happens_to_a_session_is_pushed_and_its_end_ends_the_stream() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    assert!(talk.frame().await.unwrap().unwrap().welcome.is_some());
    let notify = rig.notify.lock().unwrap().clone().unwrap();
    let lost =
        Notice::LeaseLost { lease_id: LeaseId([1; 16]), token: Token(7), end: LeaseEnd::Forced };
    notify.send(lost).await.unwrap();
    let pushed = talk.frame().await.unwrap().unwrap().pushes.remove(0);
    assert_eq!(pushed.seq, 0);
    let Some(v1::push::Push::LeaseLost(it)) = pushed.push else { panic!("{pushed:?}") };
    assert_eq!(it.lost.unwrap().end(), v1::LeaseEnd::Forced);
    let request = YieldInfo {
        number: 4,
        from: Holder::parse("waiter").unwrap(),
        reason: Words::parse("urgent").unwrap(),
        asked_ms: 0,
        answer: None,
    };
    let (lease_id, token) = (LeaseId([1; 16]), Token(7));
    let request = Box::new(request);
    notify.send(Notice::YieldRequested { lease_id, token, request }).await.unwrap();
    let pushed = talk.frame().await.unwrap().unwrap().pushes.remove(0);
    let Some(v1::push::Push::LeaseYield(it)) = pushed.push else { panic!("{pushed:?}") };
    assert_eq!((it.lease_id, it.token), ("01".repeat(16), 7));
    let request = it.request.unwrap();
    assert_eq!((request.number, &*request.holder, &*request.reason), (4, "waiter", "urgent"));
    assert_eq!(request.answer, None);
    notify.send(Notice::SessionLost(SessionEnd::Expired)).await.unwrap();
    let (last, end) = talk.end().await;
    let last = last.unwrap();
    assert!(matches!(last.pushes[0].push, Some(v1::push::Push::SessionLost(_))));
    assert_eq!(last.going_away.unwrap().reason(), v1::GoingAwayReason::SessionEnded);
    end.unwrap();
}

#[tokio::test]
async fn a_superseded_stream_goes_away() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.frame().await.unwrap();
    let notify = rig.notify.lock().unwrap().clone().unwrap();
    notify.send(Notice::Superseded).await.unwrap();
    let (last, end) = talk.end().await;
    assert_eq!(last.unwrap().going_away.unwrap().reason(), v1::GoingAwayReason::Superseded);
    end.unwrap();
}

#[tokio::test]
async fn a_stopping_server_says_so_and_answers_what_is_under_way() {
    let mut rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.say(vec![taking(1, 5_000)]).await;
    talk.say(vec![ping(2)]).await;
    talk.replies(1).await;
    rig.stop();
    let mut going_away = None;
    let mut waited = None;
    while let Some(frame) = talk.frame().await.unwrap() {
        going_away = going_away.or(frame.going_away);
        waited = waited.or(frame.replies.first().cloned());
    }
    assert_eq!(going_away.unwrap().reason(), v1::GoingAwayReason::ShuttingDown);
    assert_eq!(refusal(&waited.unwrap()).reason(), v1::RefusalReason::ShuttingDown);
    rig.end(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_dropped_stream_drops_its_line() {
    let rig = Rig::start(usual).await;
    let mut talk = Talk::open(&rig, hello()).await.unwrap();
    talk.frame().await.unwrap();
    drop(talk);
    let gone = async {
        while !rig.spoken.lock().unwrap().contains(&Spoken::Dropped) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the line is dropped");
}

/// A message of the stream as raw bytes with its prefix.
fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

#[tokio::test]
async fn bytes_that_are_no_frame_are_refused_and_the_stream_goes_on() {
    let rig = Rig::start(usual).await;
    let mut good = v1::ExchangeRequest { operations: vec![ping(1)], ..Default::default() };
    let good_bytes = good.encode_to_vec();
    let holder = [0x0a, 0x04, 0x12, 0x02, 0xff, 0xfe];
    let bodies = [
        hello().encode_to_vec(),
        holder.to_vec(),
        good_bytes[..good_bytes.len() - 1].to_vec(),
        vec![0x12, 0xff],
        {
            good.operations[0].seq = 9;
            good.encode_to_vec()
        },
    ];
    let body: Vec<u8> = bodies.iter().flat_map(|it| framed(it)).collect();
    let said = crate::harness::exchange_raw(&rig, Bytes::from(body)).await;
    let frames: Vec<u64> =
        said.iter().flat_map(|it| &it.frame_refused).map(|it| it.frame).collect();
    assert_eq!(frames, [1, 2, 3]);
    assert!(said.iter().flat_map(|it| &it.replies).any(|it| it.seq == 9), "{said:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_stream_and_no_other() {
    let rig = Rig::start(usual).await;
    let idle = Talk::open(&rig, hello()).await.unwrap();
    // Nothing is read of what comes back, and it goes on asking.
    let payload = Bytes::from(vec![7; 4_096]);
    let mut seq = 0;
    let flood = async {
        loop {
            let operations = (0..64)
                .map(|_| {
                    seq += 1;
                    let ping = v1::PingRequest { payload: payload.clone() };
                    operation(seq, Operation::Ping(ping))
                })
                .collect();
            let frame = v1::ExchangeRequest { operations, ..Default::default() };
            if idle.up.send(frame).await.is_err() {
                return;
            }
        }
    };
    let ended = async {
        while !rig.spoken.lock().unwrap().contains(&Spoken::Dropped) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let both = async {
        tokio::select! {
            () = flood => {}
            () = ended => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("it is ended");
    assert!(seq > 2_000, "it was read all the time: {seq}");
    let (_, end) = idle.end().await;
    assert_eq!(reason(&end.unwrap_err()), "OVERLOADED", "and is told why when it reads");
    let mut other = Talk::open(&rig, hello()).await.unwrap();
    other.say(vec![ping(1)]).await;
    other.replies(1).await;
}
