//! Prefixes that only the holder of a lease may write to: protecting, unprotecting, looking.

use std::time::Duration;

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use super::{
    Sending,
    many::{PAGE_SIZE_MAX, Pages},
    write::a_call,
};
use crate::{Client, Error, Fence, facts::present_text, lease::mismatch, request::milliseconds};

/// A prefix to be protected: see [`crate::Records::protect`].
#[derive(Clone, Debug)]
#[must_use = "nothing is protected until this is awaited"]
pub struct Protect {
    client: Client,
    pub(crate) wire: v1::ProtectPrefixRequest,
}

/// A protection to be taken back: see [`crate::Records::unprotect`].
#[derive(Clone, Debug)]
#[must_use = "nothing is taken back until this is awaited"]
pub struct Unprotect {
    client: Client,
    pub(crate) wire: v1::UnprotectPrefixRequest,
}

/// Protections: see [`crate::Records::protections`].
#[derive(Clone, Debug)]
#[must_use = "nothing is asked for until this is asked"]
pub struct ListProtections {
    client: Client,
    wire: v1::ListProtectionsRequest,
    pages: Pages<Protection>,
}

/// A prefix and the resource that protects it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protection {
    /// The key of a record: it, and all below it, is protected.
    pub prefix: String,
    /// Who writes there must hold this resource, exclusively.
    pub resource: String,
    /// The revision at which it was protected.
    pub revision: u64,
}

/// A page of protections.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtectionPage {
    /// In the order of prefix and resource.
    pub protections: Vec<Protection>,
    /// For [`ListProtections::after`]; `None`: this was the last page.
    pub next_page_token: Option<String>,
}

/// A prefix is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protected {
    /// The revision at which it was protected.
    pub revision: u64,
    /// True when it was protected by this resource already: nothing happened.
    pub existed: bool,
    /// True when an earlier attempt with the same request id had done it.
    pub replayed: bool,
    /// The id under which it was done.
    pub request_id: String,
}

/// A prefix is not protected by that resource any more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unprotected {
    /// False when it was not: nothing happened.
    pub existed: bool,
    /// True when an earlier attempt with the same request id had done it.
    pub replayed: bool,
    /// The id under which it was done.
    pub request_id: String,
}

a_call!(Protect -> Protected);
a_call!(Unprotect -> Unprotected);

// === impl Protect ===

impl Protect {
    pub(super) fn new(client: Client, prefix: String, resource: String) -> Self {
        let wire = v1::ProtectPrefixRequest { prefix, resource, ..Default::default() };
        Self { client, wire }
    }

    /// For administrators, who need not hold the resource.
    #[expect(clippy::wrong_self_convention, reason = "the word of the wire")]
    pub const fn as_admin(mut self) -> Self {
        self.wire.as_admin = true;
        self
    }

    async fn send(self) -> Result<Protected, Error> {
        let answered = self.client.call(Operation::ProtectPrefix(self.wire)).await?;
        let Reply::ProtectPrefix(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Protected::from_wire(&reply, answered.request_id))
    }
}

// === impl Unprotect ===

impl Unprotect {
    pub(super) fn new(client: Client, prefix: String, resource: String) -> Self {
        let wire = v1::UnprotectPrefixRequest { prefix, resource, ..Default::default() };
        Self { client, wire }
    }

    /// For administrators, who need not hold the resource.
    #[expect(clippy::wrong_self_convention, reason = "the word of the wire")]
    pub const fn as_admin(mut self) -> Self {
        self.wire.as_admin = true;
        self
    }

    async fn send(self) -> Result<Unprotected, Error> {
        let answered = self.client.call(Operation::UnprotectPrefix(self.wire)).await?;
        let Reply::UnprotectPrefix(reply) = answered.reply else { return Err(mismatch()) };
        Ok(Unprotected::from_wire(&reply, answered.request_id))
    }
}

// === impl ListProtections ===

impl ListProtections {
    pub(super) fn new(client: Client) -> Self {
        Self { client, wire: v1::ListProtectionsRequest::default(), pages: Pages::default() }
    }

    /// Only those that a write to the record of this key meets.
    pub fn of_key(mut self, key: impl Into<String>) -> Self {
        self.wire.key = key.into();
        self
    }

    /// 1 to 1,000 protections a page; 100 if absent, and 1,000 where all are asked for.
    pub const fn page_size(mut self, protections: u32) -> Self {
        self.wire.page_size = Some(protections);
        self
    }

    /// From the page on after one that ended with [`ProtectionPage::next_page_token`].
    pub fn after(mut self, page_token: impl Into<String>) -> Self {
        self.wire.page_token = page_token.into();
        self
    }

    /// One page.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn page(&self) -> Result<ProtectionPage, Error> {
        let answered = self.client.call(Operation::ListProtections(self.wire.clone())).await?;
        let Reply::ListProtections(reply) = answered.reply else { return Err(mismatch()) };
        Ok(ProtectionPage {
            protections: reply.protections.into_iter().map(Protection::from_wire).collect(),
            next_page_token: present_text(reply.next_page_token),
        })
    }

    /// The next protection, page after page; `None`: that was all.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn next(&mut self) -> Result<Option<Protection>, Error> {
        self.wire.page_size.get_or_insert(PAGE_SIZE_MAX);
        while self.pages.needs_more() {
            let page = self.page().await?;
            self.pages.add(page.protections, page.next_page_token, &mut self.wire.page_token)?;
        }
        Ok(self.pages.next())
    }

    /// All of them, in memory.
    ///
    /// # Errors
    /// What every call may meet.
    pub async fn all(mut self) -> Result<Vec<Protection>, Error> {
        let mut protections = Vec::new();
        while let Some(protection) = self.next().await? {
            protections.push(protection);
        }
        Ok(protections)
    }
}

// === from the wire ===

impl Protection {
    fn from_wire(protection: v1::Protection) -> Self {
        Self {
            prefix: protection.prefix,
            resource: protection.resource,
            revision: protection.revision,
        }
    }
}

impl Protected {
    pub(crate) const fn from_wire(reply: &v1::ProtectPrefixResponse, request_id: String) -> Self {
        Self {
            revision: reply.revision,
            existed: reply.existed,
            replayed: reply.replayed,
            request_id,
        }
    }
}

impl Unprotected {
    pub(crate) const fn from_wire(reply: &v1::UnprotectPrefixResponse, request_id: String) -> Self {
        Self { existed: reply.existed, replayed: reply.replayed, request_id }
    }
}
