//! What a stream has to say and has not said yet: frames that fill up while the peer takes none.
//!
//! Bounded: a peer that doesn't read what it is answered loses its stream.

use std::collections::VecDeque;

use prost::Message;
use singletrack_proto::v1;

/// Bytes after which a further frame is begun.
const FRAME_BYTES: usize = 256 << 10;
/// Bytes that may wait.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Bytes with which answers of the track are left where they are, as values may come with them.
const ENOUGH_BYTES: usize = 4 << 20;

/// Frames to be sent, the last one still filling up.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Filling>,
    /// Bytes of all.
    bytes: usize,
}

/// A frame and its bytes.
#[derive(Debug, Default)]
struct Filling {
    frame: v1::ExchangeResponse,
    bytes: usize,
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn reply(&mut self, reply: v1::OperationReply) {
        self.room(reply.encoded_len()).replies.push(reply);
    }

    pub(super) fn push(&mut self, push: v1::Push) {
        self.room(push.encoded_len()).pushes.push(push);
    }

    pub(super) fn refuse_frame(&mut self, refused: v1::FrameRefused) {
        self.room(refused.encoded_len()).frame_refused.push(refused);
    }

    /// Goes into the first frame, whatever is there already.
    pub(super) fn welcome(&mut self, welcome: v1::Welcome) {
        self.room(welcome.encoded_len());
        if let Some(first) = self.frames.front_mut() {
            first.frame.welcome = Some(welcome);
        }
    }

    /// Goes into the last frame.
    pub(super) fn go_away(&mut self, reason: v1::GoingAwayReason) {
        self.room(4).going_away = Some(v1::GoingAway { reason: reason.into() });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) const fn is_too_much(&self) -> bool {
        self.bytes > WAITING_BYTES_MAX
    }

    pub(super) const fn is_enough(&self) -> bool {
        self.bytes > ENOUGH_BYTES
    }

    /// The next frame to send.
    pub(super) fn take(&mut self) -> Option<v1::ExchangeResponse> {
        let Filling { frame, bytes } = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }

    fn room(&mut self, bytes: usize) -> &mut v1::ExchangeResponse {
        let has_room = |last: &Filling| last.bytes + bytes <= FRAME_BYTES;
        if !self.frames.back().is_some_and(has_room) {
            self.frames.push_back(Filling::default());
        }
        self.bytes += bytes;
        let last = self.frames.back_mut().expect("one was pushed if there was none");
        last.bytes += bytes;
        &mut last.frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(seq: u64, bytes: usize) -> v1::OperationReply {
        let ping = v1::PingResponse { payload: vec![7; bytes].into() };
        v1::OperationReply { seq, reply: Some(v1::operation_reply::Reply::Ping(ping)) }
    }

    #[test]
    fn what_is_there_goes_in_one_frame_and_no_frame_outgrows_its_bound() {
        let mut out = Outgoing::default();
        for seq in 1..=600 {
            out.reply(reply(seq, 1_000));
        }
        out.welcome(v1::Welcome::default());
        let mut seqs = Vec::new();
        let mut first = true;
        while let Some(frame) = out.take() {
            assert!(frame.encoded_len() <= FRAME_BYTES + 8 * 600);
            assert_eq!(frame.welcome.is_some(), first);
            first = false;
            seqs.extend(frame.replies.iter().map(|reply| reply.seq));
        }
        assert_eq!(seqs, (1..=600).collect::<Vec<_>>());
    }

    #[test]
    fn too_much_is_known_and_ends_when_it_is_taken() {
        let mut out = Outgoing::default();
        for seq in 1..=9_000 {
            out.reply(reply(seq, 1_000));
        }
        assert!(out.is_too_much());
        while out.take().is_some() {}
        assert!(!out.is_too_much());
    }
}
