//! A client of Redis made for benchmarks alone. Owns as much of RESP as the two commands need.
//!
//! One task a connection carries all its slots: each has one command under way, and what is ready
//! is written together. It costs next to nothing, which is to Redis' favour; no library that
//! users get does the like.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use super::UNLOCK;
use crate::{
    Error,
    measure::{LOCK_SECONDS, Load, Meter, Span},
};

/// Starts the slots of all connections.
pub(super) async fn start(
    port: u16,
    load: &Load,
    span: Span,
) -> Result<JoinSet<Result<Meter, Error>>, Error> {
    let sha = load_script(port).await?;
    let mut tasks = JoinSet::new();
    for connection in 0..load.connections {
        let slots: Vec<_> = load.slots(connection).map(Slot::new).collect();
        let stream = connect(port).await?;
        tasks.spawn(Connection { stream, slots, sha: sha.clone(), meter: Meter::new(span) }.run());
    }
    Ok(tasks)
}

async fn connect(port: u16) -> Result<TcpStream, Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Loads the script, and tells the name it has there.
async fn load_script(port: u16) -> Result<String, Error> {
    let mut stream = connect(port).await?;
    let mut command = Vec::new();
    write_command(&mut command, &[b"SCRIPT", b"LOAD", UNLOCK.as_bytes()]);
    stream.write_all(&command).await?;
    let mut answer = Vec::new();
    while take_reply(&answer)?.is_none() {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err("the connection was closed".into());
        }
    }
    // A bulk string: its length, then itself, each with a line end.
    let text = String::from_utf8(answer)?;
    Ok(text.lines().nth(1).ok_or("expected the name of a script, found nothing")?.to_owned())
}

// === one connection and its slots ===

struct Connection {
    stream: TcpStream,
    slots: Vec<Slot>,
    sha: String,
    meter: Meter,
}

struct Slot {
    key: String,
    /// Another one for each cycle, as a client would make it.
    value: String,
    cycle: u64,
    number: usize,
    began: Instant,
    holds: bool,
}

impl Slot {
    fn new(number: usize) -> Self {
        let key = super::key(number);
        Self { key, value: String::new(), cycle: 0, number, began: Instant::now(), holds: false }
    }

    /// The next command of this slot.
    fn write(&mut self, out: &mut Vec<u8>, sha: &str) {
        if self.holds {
            let (key, value) = (self.key.as_bytes(), self.value.as_bytes());
            write_command(out, &[b"EVALSHA", sha.as_bytes(), b"1", key, value]);
            return;
        }
        self.cycle += 1;
        self.value = super::value(self.number, self.cycle);
        let milliseconds = (LOCK_SECONDS * 1_000).to_string();
        let (key, value) = (self.key.as_bytes(), self.value.as_bytes());
        write_command(out, &[b"SET", key, value, b"NX", b"PX", milliseconds.as_bytes()]);
    }
}

impl Connection {
    async fn run(mut self) -> Result<Meter, Error> {
        let (mut out, mut input) = (Vec::new(), Vec::with_capacity(64 * 1024));
        let now = Instant::now();
        for slot in &mut self.slots {
            slot.began = now;
            slot.write(&mut out, &self.sha);
        }
        // Replies come in the order of the commands: the next one is for the first in here.
        let mut under_way: std::collections::VecDeque<usize> = (0..self.slots.len()).collect();
        loop {
            self.stream.write_all(&out).await?;
            out.clear();
            if self.stream.read_buf(&mut input).await? == 0 {
                return Err("the connection was closed".into());
            }
            let now = Instant::now();
            let mut used = 0;
            while let Some(reply) = take_reply(input.get(used..).unwrap_or_default())? {
                used += reply.length;
                let index = under_way.pop_front().ok_or("a reply that nobody asked for")?;
                let slot = self.slots.get_mut(index).expect("the queue holds slots alone");
                if !reply.yes {
                    return Err("expected to get and to give back the lock, was refused".into());
                }
                if slot.holds {
                    if !self.meter.count(slot.began, now) {
                        return Ok(self.meter);
                    }
                    slot.began = now;
                }
                slot.holds = !slot.holds;
                slot.write(&mut out, &self.sha);
                under_way.push_back(index);
            }
            input.drain(..used);
        }
    }
}

// === RESP ===

struct Reply {
    length: usize,
    /// `+OK`, `:1` or a bulk string; not `:0` and not nil.
    yes: bool,
}

fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The reply that the bytes begin with, if it is there as a whole.
fn take_reply(bytes: &[u8]) -> Result<Option<Reply>, Error> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (line, length) = (bytes.get(..end).unwrap_or_default(), end + 2);
    let text = std::str::from_utf8(line)?;
    match text.split_at_checked(1) {
        Some(("+", _)) => Ok(Some(Reply { length, yes: true })),
        Some((":", number)) => Ok(Some(Reply { length, yes: number != "0" })),
        Some(("$", "-1")) => Ok(Some(Reply { length, yes: false })),
        Some(("$", bulk)) => {
            let length = length + bulk.parse::<usize>()? + 2;
            Ok((bytes.len() >= length).then_some(Reply { length, yes: true }))
        }
        _ => Err(format!("expected +, : or $, found {text:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{take_reply, write_command};

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        write_command(&mut out, &[b"GET", b"a"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    }

    #[test]
    fn a_reply_is_taken_when_it_is_whole() {
        for (bytes, expected) in [
            (&b"+OK\r\n:1"[..], Some((5, true))),
            (b":0\r\n", Some((4, false))),
            (b"$-1\r\n", Some((5, false))),
            (b"$2\r\nab\r\n", Some((8, true))),
            (b"$2\r\nab", None),
            (b"+OK", None),
            (b"", None),
        ] {
            let reply = take_reply(bytes).unwrap().map(|reply| (reply.length, reply.yes));
            assert_eq!(reply, expected, "{bytes:?}");
        }
        assert!(take_reply(b"-ERR\r\n").is_err());
    }
}
