//! The codec of the stream: a frame that can't be read is an item, not the end.
//!
//! tonic ends a stream at the first error of its decoder. So what is wrong with a frame is handed
//! on as the frame, which is then refused by its number.

use bytes::Buf;
use prost::Message;
use singletrack_proto::{UNDECODABLE, WireCodec, WireEncoder, v1};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};

/// One frame of a client.
#[derive(Debug)]
pub(crate) enum Frame {
    /// As it was meant.
    Whole(Box<v1::ExchangeRequest>),
    /// In words as `UNDECODABLE` begins them.
    Unreadable(String),
}

/// Decodes frames, encodes answers.
#[derive(Debug, Default)]
pub(super) struct FrameCodec;

/// Never fails.
#[derive(Debug)]
pub(super) struct FrameDecoder;

// === impl FrameCodec ===

impl Codec for FrameCodec {
    type Encode = v1::ExchangeResponse;
    type Decode = Frame;
    type Encoder = WireEncoder<v1::ExchangeResponse>;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        WireCodec::<v1::ExchangeResponse, v1::ExchangeRequest>::default().encoder()
    }

    fn decoder(&mut self) -> FrameDecoder {
        FrameDecoder
    }
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Frame>, Status> {
        Ok(Some(match v1::ExchangeRequest::decode(&mut *buffer) {
            Ok(frame) => Frame::Whole(Box::new(frame)),
            Err(error) => {
                // The next frame begins behind what is left of this one.
                buffer.advance(buffer.remaining());
                Frame::Unreadable(format!("{UNDECODABLE}{}", said(&error.to_string())))
            }
        }))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

/// Bytes of the buffer for frames, which hold many operations.
const BUFFER_BYTES: usize = 32 << 10;

/// What prost says is wrong, without its own preface.
fn said(text: &str) -> &str {
    text.split_once(": ").map_or(text, |(_, what)| what)
}
