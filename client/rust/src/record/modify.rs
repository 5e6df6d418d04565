//! Read, compute, write if nobody was faster, and again if somebody was.

use std::time::Duration;

use super::{Record, RecordHandle, Value, VersionMismatch, Written};
use crate::{Error, Reason, retry::Pauses};

/// How often a modification is tried unless [`RecordHandle::attempts`] says otherwise.
pub const MODIFY_ATTEMPTS: u32 = 32;

/// Pauses between attempts: the first is short, as who was faster is done already.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// In a longer pause what the refusal told grows too old.
const PAUSE_FRESH: Duration = Duration::from_millis(10);

/// What came of a modification.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Modified {
    /// What was written; `None`: it was left as it is.
    pub written: Option<Written>,
    /// How many attempts it took; more than one: others wrote meanwhile.
    pub attempts: u32,
}

// === impl RecordHandle ===

impl RecordHandle {
    /// Reads the record, has `change` compute what it is to hold, and writes that if the record is
    /// still what was read. Otherwise `change` is asked again with what is there now, after a short
    /// pause that grows. `None` in: there is no record. `None` out: it is to be left as it is.
    ///
    /// Lifetime and content type stay, unless [`RecordHandle::content_type`] says another. What
    /// `change` is given from the second time on may be what the refusal told: then it has key,
    /// value, content type, version and writer, and nothing else.
    ///
    /// ```no_run
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let log = client.record("orders/7/log");
    /// log.modify(|current| {
    ///     let before = current.and_then(|record| record.text()).unwrap_or_default();
    ///     Some(format!("{before}packed\n"))
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `VERSION_MISMATCH` when others were faster each time, as often as
    /// [`RecordHandle::attempts`] allows; else as [`RecordHandle::put`]. After an error that may
    /// have happened all the same, what was computed last may be there or come.
    pub async fn modify<V: Into<Value>>(
        &self,
        mut change: impl FnMut(Option<&Record>) -> Option<V>,
    ) -> Result<Modified, Error> {
        self.try_modify(|current| Ok(change(current))).await
    }

    /// As [`RecordHandle::modify`], with a `change` that can fail: nothing is written then.
    ///
    /// # Errors
    /// As [`RecordHandle::modify`], and what `change` fails with.
    pub async fn try_modify<V: Into<Value>, E: From<Error>>(
        &self,
        mut change: impl FnMut(Option<&Record>) -> Result<Option<V>, E>,
    ) -> Result<Modified, E> {
        let mut pauses = Pauses::between(PAUSE_MIN, PAUSE_MAX);
        let mut current = self.get().await?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Some(value) = change(current.as_ref())? else {
                return Ok(Modified { written: None, attempts });
            };
            let error = match self.put_over(current.as_ref(), value.into()).await {
                Ok(written) => return Ok(Modified { written: Some(written), attempts }),
                Err(error) => error,
            };
            if error.reason() != Some(Reason::VersionMismatch) {
                return Err(error.into());
            }
            if attempts >= self.attempts {
                return Err(error.outrun(attempts).into());
            }
            let pause = pauses.next();
            tokio::time::sleep(pause).await;
            let is_known = self.content_type.is_some();
            let mismatch = error.version_mismatch().filter(|_| pause <= PAUSE_FRESH);
            current = match mismatch.and_then(|it| VersionMismatch::told(it, is_known)) {
                Some(told) => told,
                None => self.get().await?,
            };
        }
    }

    /// Writes over what was read, and over nothing else.
    async fn put_over(&self, read: Option<&Record>, value: Value) -> Result<Written, Error> {
        let put = self.put(value);
        let Some(read) = read else { return put.expect_absent().await };
        let put = put.expect_version(read.version).keep_lifetime();
        match (&self.content_type, &read.content_type) {
            (None, Some(content_type)) => put.content_type(content_type).await,
            (Some(_), _) | (None, None) => put.await,
        }
    }
}
