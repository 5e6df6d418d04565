//! The `redis` crate: multiplexed connections, one task a slot, the script by its hash.

use redis::{
    Client, IntoConnectionInfo as _, Script, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::{task::JoinSet, time::Instant};

use super::UNLOCK;
use crate::{
    Error,
    measure::{LOCK_SECONDS, Load, Meter, Span},
};

/// One of those that go round and round.
struct Slot {
    number: usize,
    connection: MultiplexedConnection,
    unlock: Script,
    meter: Meter,
}

/// Starts the slots of all connections.
pub(super) async fn start(
    port: u16,
    load: &Load,
    span: Span,
) -> Result<JoinSet<Result<Meter, Error>>, Error> {
    let mut tasks = JoinSet::new();
    for number in 0..load.connections {
        let mut connection = connect(port).await?;
        let unlock = Script::new(UNLOCK);
        unlock.prepare_invoke().load_async(&mut connection).await?;
        for number in load.slots(number) {
            let (connection, unlock) = (connection.clone(), unlock.clone());
            tasks.spawn(Slot { number, connection, unlock, meter: Meter::new(span) }.run());
        }
    }
    Ok(tasks)
}

/// The server answers.
pub(super) async fn ping(port: u16) -> Result<(), Error> {
    let mut connection = connect(port).await?;
    Ok(redis::cmd("PING").exec_async(&mut connection).await?)
}

async fn connect(port: u16) -> Result<MultiplexedConnection, Error> {
    let settings = TcpSettings::default().set_nodelay(true);
    let at = ("127.0.0.1", port).into_connection_info()?.set_tcp_settings(settings);
    let client = Client::open(at)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

// === impl Slot ===

impl Slot {
    async fn run(mut self) -> Result<Meter, Error> {
        let key = super::key(self.number);
        for cycle in 1.. {
            let began = Instant::now();
            let value = super::value(self.number, cycle);
            let taken: Option<String> = redis::cmd("SET")
                .arg(&key)
                .arg(&value)
                .arg("NX")
                .arg("PX")
                .arg(LOCK_SECONDS * 1_000)
                .query_async(&mut self.connection)
                .await?;
            let mut unlock = self.unlock.key(&key);
            let deleted: u64 = unlock.arg(&value).invoke_async(&mut self.connection).await?;
            if taken.is_none() || deleted != 1 {
                return Err("expected to get and to give back the lock, was refused".into());
            }
            if !self.meter.count(began, Instant::now()) {
                break;
            }
        }
        Ok(self.meter)
    }
}
