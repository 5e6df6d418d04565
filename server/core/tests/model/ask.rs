//! What is asked about records, in the model's words.

use singletrack_core::{
    command::{Command, Expectation, IncrementRecord, PutRecord, RecordLifetime},
    types::Holder,
};

use super::record::{Expect, Lasting, What, Write};

/// The write that a command asks for; `None`: it is no write of a record.
pub(super) fn write(command: &Command) -> Option<Write> {
    match command {
        Command::PutRecord(put) => Some(self::put(put)),
        Command::IncrementRecord(increment) => Some(self::increment(increment)),
        Command::DeleteRecord { key, expect } => Some(Write {
            key: key.as_str().into(),
            expect: expect.map_or(Expect::Any, self::expect),
            what: What::Delete,
            by: String::new(),
        }),
        _ => None,
    }
}

pub(super) fn expect(expect: Expectation) -> Expect {
    match expect {
        Expectation::Absent => Expect::Absent,
        Expectation::Exists => Expect::Exists,
        Expectation::Version(version) => Expect::Version(version.0),
    }
}

fn put(put: &PutRecord) -> Write {
    Write {
        key: put.key.as_str().into(),
        expect: put.expect.map_or(Expect::Any, self::expect),
        what: What::Put {
            value: put.value.to_kept(),
            content_type: put.content_type.as_str().into(),
            lasting: lasting(put.lifetime),
            keep: put.lifetime == RecordLifetime::Kept,
        },
        by: by(put.written_by.as_ref()),
    }
}

fn increment(increment: &IncrementRecord) -> Write {
    let IncrementRecord { key, delta, min, max, lifetime, written_by } = increment;
    Write {
        key: key.as_str().into(),
        expect: Expect::Any,
        what: What::Increment { delta: *delta, min: *min, max: *max, lasting: lasting(*lifetime) },
        by: by(written_by.as_ref()),
    }
}

fn lasting(lifetime: RecordLifetime) -> Lasting {
    match lifetime {
        RecordLifetime::Forever | RecordLifetime::Kept => Lasting::Endless,
        RecordLifetime::Ttl(ttl) => Lasting::Ttl(ttl.ms()),
        RecordLifetime::Bound(lease) => Lasting::Bound(lease),
    }
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |it| it.as_str().into())
}
