//! Several records: at one moment, or page after page. Changes nothing.

use std::collections::VecDeque;

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use super::{ListProtections, Protect, Record, Unprotect};
use crate::{Client, Error, facts::present_text, lease::mismatch};

/// Most records or protections a page.
pub(super) const PAGE_SIZE_MAX: u32 = 1_000;

/// The records of the namespace: see [`Client::records`].
#[derive(Clone, Debug)]
pub struct Records {
    client: Client,
}

/// Several records as they were at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// One for each key, in their order; `None`: there is no such record.
    pub records: Vec<Option<Record>>,
    /// The revision at which all of this was so.
    pub revision: u64,
}

/// A page of records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordPage {
    /// In the order of the bytes of their keys. May be few or none while there are more.
    pub records: Vec<Record>,
    /// For [`ListRecords::after`]; `None`: this was the last page.
    pub next_page_token: Option<String>,
    /// The revision at which this page was so. Each page is read at its own moment.
    pub revision: u64,
}

/// Records by key: see [`Records::list`].
///
/// ```no_run
/// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
/// let mut orders = client.records().list("orders");
/// while let Some(order) = orders.next().await? {
///     println!("{}: {:?}", order.key, order.value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for until this is asked"]
pub struct ListRecords {
    client: Client,
    wire: v1::ListRecordsRequest,
    pages: Pages<Record>,
}

/// What has come of a list so far.
#[derive(Clone, Debug)]
pub(super) struct Pages<T> {
    got: VecDeque<T>,
    is_last: bool,
}

// === impl Records ===

impl Records {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads several records, 1 to 256 keys, as they are at one moment. Values beyond 1 MiB in all
    /// are left out: see [`Record::value_omitted`].
    ///
    /// # Errors
    /// What every call may meet. That there is no such record is no error.
    pub async fn batch_get(
        &self,
        keys: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Snapshot, Error> {
        let keys: Vec<String> = keys.into_iter().map(Into::into).collect();
        let expected = keys.len();
        let message = v1::BatchGetRecordsRequest { keys, max_bytes: None };
        let answered = self.client.call(Operation::BatchGetRecords(message)).await?;
        let Reply::BatchGetRecords(reply) = answered.reply else { return Err(mismatch()) };
        if reply.results.len() != expected {
            return Err(Error::unreadable(format!(
                "expected {expected} results, found {}",
                reply.results.len()
            )));
        }
        let results = reply.results.into_iter();
        let records = results.map(|result| result.record.map(Record::from_wire)).collect();
        Ok(Snapshot { records, revision: reply.revision })
    }

    /// The record of this key and all below it, in the order of their keys: `a` covers `a/b`, not
    /// `ab`. Empty: all there are.
    pub fn list(&self, prefix: impl Into<String>) -> ListRecords {
        let wire = v1::ListRecordsRequest { prefix: prefix.into(), ..Default::default() };
        ListRecords { client: self.client.clone(), wire, pages: Pages::default() }
    }

    /// From now on every write to the record of this key, and to all below it, must carry the
    /// token of an exclusive lease of `resource`.
    ///
    /// ```no_run
    /// # async fn example(client: singletrack::Client) -> Result<(), singletrack::Error> {
    /// let lease = client.lease("deploy/prod").acquire().await?;
    /// client.records().protect("deploy/prod/state", "deploy/prod").fence(&lease).await?;
    /// client.record("deploy/prod/state/step").put("2 of 5").fence(&lease).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it is awaited: `FENCE_REQUIRED`, `STALE_FENCE`, `QUOTA`, `REQUEST_ID_REUSED`,
    /// `REQUEST_ID_FORGOTTEN`, and what every call may meet.
    pub fn protect(&self, prefix: impl Into<String>, resource: impl Into<String>) -> Protect {
        Protect::new(self.client.clone(), prefix.into(), resource.into())
    }

    /// Takes a protection back.
    ///
    /// # Errors
    /// When it is awaited: as [`Records::protect`].
    pub fn unprotect(&self, prefix: impl Into<String>, resource: impl Into<String>) -> Unprotect {
        Unprotect::new(self.client.clone(), prefix.into(), resource.into())
    }

    /// The protections of the namespace, in the order of prefix and resource.
    pub fn protections(&self) -> ListProtections {
        ListProtections::new(self.client.clone())
    }
}

// === impl ListRecords ===

impl ListRecords {
    /// Without values.
    pub const fn keys_only(mut self) -> Self {
        self.wire.keys_only = true;
        self
    }

    /// 1 to 1,000 records a page; 100 if absent, and 1,000 where all are asked for.
    pub const fn page_size(mut self, records: u32) -> Self {
        self.wire.page_size = Some(records);
        self
    }

    /// How many bytes of values a page may have, 1 to 1,048,576, and so many if absent. It always
    /// has one record.
    pub const fn page_bytes(mut self, bytes: u32) -> Self {
        self.wire.max_bytes = Some(bytes);
        self
    }

    /// From the page on after one that ended with [`RecordPage::next_page_token`].
    pub fn after(mut self, page_token: impl Into<String>) -> Self {
        self.wire.page_token = page_token.into();
        self
    }

    /// One page.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn page(&self) -> Result<RecordPage, Error> {
        let answered = self.client.call(Operation::ListRecords(self.wire.clone())).await?;
        let Reply::ListRecords(reply) = answered.reply else { return Err(mismatch()) };
        Ok(RecordPage {
            records: reply.records.into_iter().map(Record::from_wire).collect(),
            next_page_token: present_text(reply.next_page_token),
            revision: reply.revision,
        })
    }

    /// The next record, page after page; `None`: that was all. The pages are not one snapshot:
    /// what is written meanwhile may be among them or not. After an error it goes on where it was.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn next(&mut self) -> Result<Option<Record>, Error> {
        self.wire.page_size.get_or_insert(PAGE_SIZE_MAX);
        while self.pages.needs_more() {
            let page = self.page().await?;
            self.pages.add(page.records, page.next_page_token, &mut self.wire.page_token)?;
        }
        Ok(self.pages.next())
    }

    /// All of them, in memory: as [`ListRecords::next`], again and again.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn all(mut self) -> Result<Vec<Record>, Error> {
        let mut records = Vec::new();
        while let Some(record) = self.next().await? {
            records.push(record);
        }
        Ok(records)
    }
}

// === impl Pages ===

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { got: VecDeque::new(), is_last: false }
    }
}

impl<T> Pages<T> {
    pub(super) fn needs_more(&self) -> bool {
        self.got.is_empty() && !self.is_last
    }

    pub(super) fn next(&mut self) -> Option<T> {
        self.got.pop_front()
    }

    /// Takes a page, and moves on to the next.
    pub(super) fn add(
        &mut self,
        page: Vec<T>,
        next: Option<String>,
        page_token: &mut String,
    ) -> Result<(), Error> {
        if next.as_deref() == Some(page_token.as_str()) {
            return Err(Error::unreadable("expected a further page, found the same again"));
        }
        self.got.extend(page);
        match next {
            Some(next) => *page_token = next,
            None => self.is_last = true,
        }
        Ok(())
    }
}
