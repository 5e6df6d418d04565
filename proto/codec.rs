//! The codec of our services: protobuf, with buffers of the size of our messages.
//!
//! tonic's own codec takes 8 KiB for each message of a call, in and out, where most of ours
//! have less than 200 bytes; buffers above 1 KiB also leave the allocator's fast path. Says
//! what is wrong with a message that can't be decoded; whose fault that is, is the side's to
//! say that reads it: the server makes it MALFORMED, with details.

use std::marker::PhantomData;

use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Bytes of a buffer at first.
const BUFFER_BYTES: usize = 1_024;
/// Bytes that a stream gathers before it hands them on.
const YIELD_BYTES: usize = 32 << 10;
/// What prost says before it says what is wrong.
const PROST_PREFIX: &str = "failed to decode Protobuf message: ";

/// What the status of a message that can't be decoded begins with; the fields it was about
/// follow, innermost first, each as `Message.field: `.
pub const UNDECODABLE: &str = "the message can't be decoded: ";

/// Protobuf with small buffers: encodes `T`, decodes `U`.
#[derive(Debug)]
pub struct WireCodec<T, U>(PhantomData<(T, U)>);

/// Encodes `T`.
#[derive(Debug)]
pub struct WireEncoder<T>(PhantomData<T>);

/// Decodes `U`.
#[derive(Debug)]
pub struct WireDecoder<U>(PhantomData<U>);

// === impl WireCodec ===

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WireEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WireEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder(PhantomData)
    }
}

impl<T: Message> Encoder for WireEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

impl<U: Message + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer).map(Some).map_err(|error| {
            let said = error.to_string();
            let what = said.strip_prefix(PROST_PREFIX).unwrap_or(&said);
            Status::internal(format!("{UNDECODABLE}{what}"))
        })
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}
