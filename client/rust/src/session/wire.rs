//! The stream's frames in bytes: operations are written where they are kept, not copied into a
//! message first. Owns the codec that takes such frames.

use bytes::BufMut as _;
use prost::Message as _;
use singletrack_proto::{
    WireCodec, WireDecoder,
    v1::{self, operation::Operation},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

/// The method.
pub(super) const EXCHANGE: &str = "/singletrack.v1.SessionService/Exchange";
/// Bytes of the buffers of a stream, whose frames hold many operations.
const BUFFER_BYTES: usize = 32 << 10;

/// Keys of `ExchangeRequest.operations` and `Operation.seq`.
const OPERATIONS_KEY: u64 = 2 << 3 | 2;
const SEQ_KEY: u64 = 201 << 3;

/// An `ExchangeRequest` in bytes.
#[derive(Debug, Default)]
pub(super) struct FrameBytes(Vec<u8>);

// === impl FrameBytes ===

impl FrameBytes {
    /// A whole message.
    pub(super) fn of(message: &v1::ExchangeRequest) -> Self {
        Self(message.encode_to_vec())
    }

    /// Adds an operation.
    pub(super) fn operation(&mut self, seq: u64, op: &Operation) {
        let bytes = varint_bytes(SEQ_KEY) + varint_bytes(seq) + op.encoded_len();
        self.0.reserve(bytes + 8);
        self.varint(OPERATIONS_KEY);
        self.varint(bytes as u64);
        self.varint(SEQ_KEY);
        self.varint(seq);
        op.encode(&mut self.0);
    }

    /// Adds everything else; a message may come in parts.
    pub(super) fn rest(&mut self, rest: &v1::ExchangeRequest) {
        rest.encode(&mut self.0).expect("a Vec grows");
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    #[cfg(test)]
    pub(super) fn read(&self) -> v1::ExchangeRequest {
        v1::ExchangeRequest::decode(self.0.as_slice()).unwrap()
    }
}

/// Bytes of a number.
const fn varint_bytes(number: u64) -> usize {
    // Seven bits a byte; zero takes one.
    ((64 - (number | 1).leading_zeros()) as usize).div_ceil(7)
}

/// The path of the method.
pub(super) fn path() -> PathAndQuery {
    PathAndQuery::from_static(EXCHANGE)
}

/// Takes frames in bytes, gives messages.
#[derive(Debug, Default)]
pub(super) struct FrameCodec;

#[derive(Debug)]
pub(super) struct FrameEncoder;

#[derive(Debug)]
pub(super) struct FrameDecoder(WireDecoder<v1::ExchangeResponse>);

// === impl FrameCodec ===

impl Codec for FrameCodec {
    type Encode = FrameBytes;
    type Decode = v1::ExchangeResponse;
    type Encoder = FrameEncoder;
    type Decoder = FrameDecoder;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> FrameDecoder {
        let mut codec = WireCodec::<v1::ExchangeRequest, v1::ExchangeResponse>::default();
        FrameDecoder(codec.decoder())
    }
}

impl Encoder for FrameEncoder {
    type Item = FrameBytes;
    type Error = Status;

    fn encode(&mut self, frame: FrameBytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&frame.0);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

impl Decoder for FrameDecoder {
    type Item = v1::ExchangeResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_in_parts_is_the_message() {
        let mut frame = FrameBytes::default();
        let mut message =
            v1::ExchangeRequest { seen_below: 7, seen: vec![9, 300], ..Default::default() };
        frame.rest(&message);
        for seq in [1, 127, 128, 300, u64::MAX >> 1] {
            let payload = vec![7; usize::try_from(seq % 400).unwrap()].into();
            let operation = Operation::Ping(v1::PingRequest { payload });
            frame.operation(seq, &operation);
            message.operations.push(v1::Operation { seq, operation: Some(operation) });
        }
        assert_eq!(frame.read(), message);
    }
}
