//! Renewing leases: no log, no disk; a lease that is gone stays gone.

use alloc::vec::Vec;

use crate::{
    command::LeaseRef,
    decision::{After, Draft},
    motion::Motion,
    overlay::View,
    refusal::Refusal,
    reply::{Renewed, Reply},
    types::Revision,
};

/// Decides a bulk renewal. The answer depends on the last changes of its leases alone, unless
/// one is not known.
pub(crate) fn decide(view: View<'_>, renewals: &[LeaseRef], draft: &mut Draft) -> (Reply, After) {
    let mut after = Revision(0);
    let results: Vec<_> =
        renewals.iter().map(|renewal| renew(view, *renewal, draft, &mut after)).collect();
    // What is not known may have been forgotten before its end was durable.
    let unknown = results.contains(&Err(Refusal::NotFound));
    let after = if unknown { After::Everything } else { After::Revision(after) };
    (Reply::Renewed(results.into()), after)
}

fn renew(
    view: View<'_>,
    renewal: LeaseRef,
    draft: &mut Draft,
    after: &mut Revision,
) -> Result<Renewed, Refusal> {
    if let Some(known) = view.lease_by_id(renewal.lease_id) {
        *after = (*after).max(known.granted.token.revision());
        if known.granted.token != renewal.token {
            return Err(Refusal::NotHolder);
        }
        let lease = known.slot.expect("renewals are not part of transactions");
        let yields = view.state.yields.get(&known.granted.token);
        let asked = yields.map_or(0, |yields| yields.open_count());
        let yield_requests = u32::try_from(asked).expect("requests are few");
        // What lives with a session is extended with it alone.
        let own = if known.granted.is_bound {
            known.remaining_ms
        } else {
            draft.motion(Motion::LeaseRenewed { lease });
            known.granted.ttl.ms()
        };
        let hold = view.state.hold_remaining_ms(known.granted, view.now);
        return Ok(Renewed { remaining_ms: own.min(hold.unwrap_or(u64::MAX)), yield_requests });
    }
    match view.ended(renewal.lease_id) {
        None => Err(Refusal::NotFound),
        Some(ended) => {
            *after = (*after).max(ended.revision);
            if ended.token == renewal.token {
                Err(Refusal::LeaseLost { end: ended.end, token: ended.token })
            } else {
                Err(Refusal::NotHolder)
            }
        }
    }
}
