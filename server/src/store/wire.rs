//! The generated messages of `singletrack.storage.v1`. Only [`super::codec`] knows them.

#![expect(
    unreachable_pub,
    reason = "generated: visible to codec.rs alone, whatever the generator says"
)]

include!(concat!(env!("OUT_DIR"), "/singletrack.storage.v1.rs"));
