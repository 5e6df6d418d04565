//! Asking a holder to yield, and answering: the requests, what came of them, and their calls.
//! Forces nothing.

use std::time::Duration;

use singletrack_proto::v1::{self, operation::Operation, operation_reply::Reply};

use crate::{
    Client, Error,
    facts::{duration_ms, present_text},
    lease::mismatch,
    request::milliseconds,
};

/// "Please give it up": see [`Client::request_yield`].
#[derive(Clone, Debug)]
#[must_use = "nobody is asked until this is sent"]
pub struct RequestYield {
    resource: String,
    token: u64,
    holder: String,
    reason: String,
}

/// How a request to yield stands with one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct YieldStatus {
    /// Who holds.
    pub holder: String,
    /// Its token.
    pub token: u64,
    /// How long its lease lasts without renewal.
    pub remaining: Duration,
    /// True: it has a stream, and was told. False: it will find the request when it renews or
    /// looks.
    pub told: bool,
    /// What it answered; `None`: nothing yet.
    pub answer: Option<YieldAnswer>,
}

/// Somebody asks the holder of a lease to give it up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct YieldRequest {
    /// Number of the request, for the answer.
    pub number: u64,
    /// Who asks.
    pub holder: String,
    /// Why.
    pub reason: Option<String>,
    /// How long ago it was asked when the server said so.
    pub asked: Duration,
    /// What was answered; `None`: nothing yet.
    pub answer: Option<YieldAnswer>,
}

/// What a holder says to a request to yield.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct YieldAnswer {
    /// True: it will give the lease up. False: it declines.
    pub will_yield: bool,
    /// In how long from the answer, at most 24 h; zero when it declines.
    pub within: Duration,
    /// In words, at most 256 characters.
    pub message: Option<String>,
}

/// A holder's answer, to be sent: see [`Client::answer_yield`].
#[derive(Clone, Debug)]
#[must_use = "nothing is answered until this is sent"]
pub struct AnswerYield {
    lease_id: String,
    token: u64,
    number: u64,
    answer: YieldAnswer,
}

// === impl Client ===

impl Client {
    /// Asks those who hold a resource to give it up. The same again tells what they answered.
    /// Nothing is forced, and a restart of the server forgets it.
    ///
    /// # Errors
    /// `NOT_FOUND` when nobody holds the resource, `QUOTA` when 8 others have asked already, and
    /// what every call may meet.
    pub async fn request_yield(&self, request: RequestYield) -> Result<Vec<YieldStatus>, Error> {
        let answered = self.call(Operation::RequestLeaseYield(request.into_wire())).await?;
        let Reply::RequestLeaseYield(reply) = answered.reply else { return Err(mismatch()) };
        Ok(reply.holders.into_iter().map(YieldStatus::from_wire).collect())
    }

    /// Answers requests to yield; how many it answered.
    ///
    /// # Errors
    /// `LEASE_LOST`, `NOT_HOLDER`, `NOT_FOUND`, and what every call may meet.
    pub async fn answer_yield(&self, answer: AnswerYield) -> Result<u32, Error> {
        let answered = self.call(Operation::AnswerLeaseYield(answer.into_wire())).await?;
        let Reply::AnswerLeaseYield(reply) = answered.reply else { return Err(mismatch()) };
        Ok(reply.answered)
    }
}

// === impl RequestYield ===

impl RequestYield {
    /// `holder` asks all who hold `resource`, at most 64 of them.
    pub fn new(resource: impl Into<String>, holder: impl Into<String>) -> Self {
        Self { resource: resource.into(), token: 0, holder: holder.into(), reason: String::new() }
    }

    /// Only the holder with this token.
    pub const fn token(mut self, token: u64) -> Self {
        self.token = token;
        self
    }

    /// Why, at most 256 characters.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    fn into_wire(self) -> v1::RequestLeaseYieldRequest {
        v1::RequestLeaseYieldRequest {
            resource: self.resource,
            token: self.token,
            holder: self.holder,
            reason: self.reason,
        }
    }
}

// === impl AnswerYield ===

impl AnswerYield {
    /// Answers all who ask for the lease with this id and token.
    pub fn new(lease_id: impl Into<String>, token: u64, answer: YieldAnswer) -> Self {
        Self { lease_id: lease_id.into(), token, number: 0, answer }
    }

    /// Only the request with this number.
    pub const fn number(mut self, number: u64) -> Self {
        self.number = number;
        self
    }

    fn into_wire(self) -> v1::AnswerLeaseYieldRequest {
        v1::AnswerLeaseYieldRequest {
            lease_id: self.lease_id,
            token: self.token,
            number: self.number,
            will_yield: self.answer.will_yield,
            within_ms: milliseconds(self.answer.within),
            message: self.answer.message.unwrap_or_default(),
        }
    }
}

// === impl YieldAnswer ===

impl YieldAnswer {
    /// "I will give it up within this time", at most 24 h. A promise that nothing enforces.
    #[must_use]
    pub const fn within(within: Duration) -> Self {
        Self { will_yield: true, within, message: None }
    }

    /// "I will not."
    #[must_use]
    pub const fn decline() -> Self {
        Self { will_yield: false, within: Duration::ZERO, message: None }
    }

    /// Adds words, at most 256 characters.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = present_text(message.into());
        self
    }

    fn from_wire(answer: v1::YieldAnswer) -> Self {
        Self {
            will_yield: answer.will_yield,
            within: duration_ms(answer.within_ms),
            message: present_text(answer.message),
        }
    }
}

// === impl YieldRequest ===

impl YieldRequest {
    pub(crate) fn from_wire(request: v1::YieldInfo) -> Self {
        Self {
            number: request.number,
            holder: request.holder,
            reason: present_text(request.reason),
            asked: duration_ms(request.asked_ms),
            answer: request.answer.map(YieldAnswer::from_wire),
        }
    }
}

// === impl YieldStatus ===

impl YieldStatus {
    fn from_wire(status: v1::YieldStatus) -> Self {
        Self {
            holder: status.holder,
            token: status.token,
            remaining: duration_ms(status.remaining_ms),
            told: status.told,
            answer: status.answer.map(YieldAnswer::from_wire),
        }
    }
}
