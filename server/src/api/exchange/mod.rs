//! The session's stream: frames in, one batch of answers a frame out.
//!
//! - `codec`: a frame that can't be read is refused, the stream goes on
//! - `conversation`: what a frame means, and what is answered
//! - `outgoing`: what is to be sent and not yet taken
//!
//! One task a stream, none an operation. The task never stops reading: a peer whose frames are not
//! read would lose its connection to h2's own limits.

mod codec;
mod conversation;
mod outgoing;

use std::{sync::Arc, time::Duration};

use http_body::Body as HttpBody;
use singletrack_core::types::Namespace;
use singletrack_proto::v1;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, StdError},
    server::{Grpc, StreamingService},
};

use self::{
    codec::{Frame, FrameCodec},
    conversation::{Conversation, End},
};
use crate::{
    api::{
        Ask, Converse,
        decode::Context,
        intake::{Held, Reading},
        layer::{Calls, Counted, MESSAGE_BYTES_MAX},
        refuse, status,
    },
    telemetry::Metrics,
};

/// The method's path.
pub(crate) const PATH: &str = "/singletrack.v1.SessionService/Exchange";
/// How long a stream may take to say hello.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Frames on their way into the connection; what more there is gathers into the next.
const FRAMES_AHEAD: usize = 2;
/// How long a stream that is ended for not reading is offered its status.
const LAST_WORD_TIME: Duration = Duration::from_secs(5);

type Sender = mpsc::Sender<Result<v1::ExchangeResponse, Status>>;

/// Begins to answer a stream.
pub(crate) fn answer<A, B>(
    track: &A,
    metrics: &Arc<Metrics>,
    calls: &Arc<Calls>,
    reading: &Arc<Reading>,
    request: http::Request<B>,
) -> BoxFuture<http::Response<Body>, std::convert::Infallible>
where
    A: Ask,
    B: HttpBody<Data = bytes::Bytes> + Unpin + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    let held = Held::new(reading);
    let service = Exchange {
        line: Some(track.line()),
        metrics: metrics.clone(),
        calls: calls.clone(),
        held: held.clone(),
    };
    let request = request.map(|body| held.meter(body));
    Box::pin(async move {
        let mut grpc = Grpc::new(FrameCodec)
            .apply_max_message_size_config(Some(MESSAGE_BYTES_MAX), Some(MESSAGE_BYTES_MAX));
        Ok(grpc.streaming(service, request).await)
    })
}

struct Exchange<L> {
    line: Option<L>,
    metrics: Arc<Metrics>,
    calls: Arc<Calls>,
    held: Held,
}

impl<L: Converse> StreamingService<Frame> for Exchange<L> {
    type Response = v1::ExchangeResponse;
    type ResponseStream = ReceiverStream<Result<v1::ExchangeResponse, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let context = Context::read(request.metadata().as_ref(), &Namespace::default())
            .map_err(|flaws| status::of_flaws(&flaws, &self.metrics));
        let line = self.line.take().expect("a service is called once");
        let stream = Stream {
            metrics: self.metrics.clone(),
            counted: Counted::new(&self.calls, &self.metrics),
            calls: self.calls.clone(),
            held: self.held.clone(),
        };
        Box::pin(async move {
            let context = context?;
            let (out, frames) = mpsc::channel(FRAMES_AHEAD);
            tokio::spawn(stream.run(context, line, request.into_inner(), out));
            Ok(Response::new(ReceiverStream::new(frames)))
        })
    }
}

/// One stream, from hello to its end.
struct Stream {
    metrics: Arc<Metrics>,
    counted: Counted,
    calls: Arc<Calls>,
    held: Held,
}

// === impl Stream ===

impl Stream {
    async fn run<L: Converse>(
        self,
        context: Context,
        line: L,
        frames: Streaming<Frame>,
        out: Sender,
    ) {
        let Self { metrics, counted, calls, held } = self;
        metrics.streams.increment(1.0);
        let conversation = Conversation::new(context.namespace, line, metrics.clone());
        let ends = context.budget_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let end = converse(conversation, frames, &out, &calls, &held, ends).await;
        if let End::Refused(refusal) = end {
            let last = out.send(Err(status::of(*refusal, &metrics)));
            // A peer that doesn't read doesn't hear it either.
            let _unheard = timeout(LAST_WORD_TIME, last).await;
        }
        metrics.streams.decrement(1.0);
        drop(counted);
    }
}

/// Reads, hears and sends until the stream ends. The line is dropped with the conversation, before
/// the peer is told why.
async fn converse<L: Converse>(
    mut conversation: Conversation<L>,
    mut frames: Streaming<Frame>,
    out: &Sender,
    calls: &Calls,
    held: &Held,
    ends: Option<Instant>,
) -> End {
    let mut hello = std::pin::pin!(sleep_until(Instant::now() + HELLO_TIME));
    let mut deadline = std::pin::pin!(sleep_until(ends.unwrap_or_else(Instant::now)));
    let mut listening = true;
    let mut closing = false;
    loop {
        if let Some(end) = conversation.end() {
            return end;
        }
        tokio::select! {
            frame = frames.message(), if listening => {
                held.release();
                match frame {
                    Ok(Some(frame)) => conversation.frame(frame),
                    Ok(None) => {
                        listening = false;
                        conversation.hung_up();
                    }
                    Err(broken) => conversation.broken(&broken),
                }
            }
            heard = conversation.line.hear(), if conversation.may_hear() => {
                conversation.hear(heard);
            }
            permit = out.reserve(), if conversation.has_frames() => match permit {
                Ok(permit) => {
                    if let Some(frame) = conversation.next_frame() {
                        permit.send(Ok(frame));
                    }
                }
                // The connection is gone; nobody is left to tell.
                Err(_) => return End::Done,
            },
            () = out.closed() => return End::Done,
            () = calls.closing(), if !closing => {
                closing = true;
                conversation.shut_down();
            }
            () = &mut hello, if conversation.is_silent() => conversation.never_said_hello(),
            () = &mut deadline, if ends.is_some() => {
                return End::Refused(Box::new(refuse::deadline_exceeded()));
            }
        }
    }
}
