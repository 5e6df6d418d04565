//! DEADLOCK: the cycle that a wait, or a transfer, would have closed.

use singletrack_core::refusal::{Deadlock, DeadlockRelation, DeadlockStep};
use singletrack_proto::{
    Reason,
    v1::{self, refusal::Detail},
};

use super::{bounded, clip, new, shorten};

/// Steps told in the sentence.
const STEPS_SAID_MAX: usize = 3;
/// Bytes of a name in the sentence.
const NAME_SAID_BYTES_MAX: usize = 48;
/// Bytes of a holder's name in a step, when room is short; of a resource's.
const HOLDER_BYTES_MAX: usize = 48;
const RESOURCE_BYTES_MAX: usize = 96;

/// The refusal.
pub(super) fn refusal(deadlock: &Deadlock) -> v1::Refusal {
    let mut refusal = new(
        Reason::Deadlock,
        message(deadlock),
        "release what this actor holds and begin anew, or ask for all targets in one request; take resources in one order everywhere; waiting can't help",
    );
    refusal.detail = Some(Detail::Deadlock(v1::DeadlockDetail {
        cycle: deadlock.cycle.iter().map(step).collect(),
        step_count: deadlock.step_count,
    }));
    bounded(refusal)
}

/// Cuts a little; false: there is nothing left to cut.
pub(super) fn cut(detail: &mut v1::DeadlockDetail) -> bool {
    let steps = &mut detail.cycle;
    steps.iter_mut().rev().any(|step| shorten(&mut step.holder, HOLDER_BYTES_MAX))
        || steps.iter_mut().rev().any(|step| shorten(&mut step.resource, RESOURCE_BYTES_MAX))
        || steps.pop().is_some()
}

fn message(deadlock: &Deadlock) -> String {
    let Deadlock { cycle, step_count } = deadlock;
    let whole = usize::try_from(*step_count).is_ok_and(|count| count <= cycle.len());
    let first = cycle.first().map(|step| name(step.actor.as_str()));
    let mut said = Vec::new();
    for (i, step) in cycle.iter().take(STEPS_SAID_MAX).enumerate() {
        let next = match cycle.get(i + 1) {
            Some(next) => name(next.actor.as_str()),
            None if whole => first.clone().unwrap_or_default(),
            None => "another".into(),
        };
        said.push(sentence(step, &next));
    }
    let more = usize::try_from(*step_count).unwrap_or(usize::MAX).saturating_sub(said.len());
    let more =
        if more > 0 { format!("; and {more} more, back to the first") } else { String::new() };
    format!("to wait would close a cycle of actors: {}{more}", said.join("; "))
}

fn sentence(step: &DeadlockStep, next: &str) -> String {
    let actor = name(step.actor.as_str());
    match &step.relation {
        DeadlockRelation::Holds(resource) => {
            format!("{actor} waits for {}, held by {next}", name(resource.as_str()))
        }
        DeadlockRelation::WaitsBefore(resource) => {
            format!("{actor} waits for {} behind {next}", name(resource.as_str()))
        }
        DeadlockRelation::Child => format!("{actor} waits for its child {next}"),
    }
}

fn name(text: &str) -> String {
    format!("`{}`", clip(text, NAME_SAID_BYTES_MAX))
}

fn step(step: &DeadlockStep) -> v1::DeadlockStep {
    let (relation, resource) = match &step.relation {
        DeadlockRelation::Holds(resource) => (v1::DeadlockRelation::Holds, resource.to_string()),
        DeadlockRelation::WaitsBefore(resource) => {
            (v1::DeadlockRelation::WaitsBefore, resource.to_string())
        }
        DeadlockRelation::Child => (v1::DeadlockRelation::Child, String::new()),
    };
    v1::DeadlockStep {
        actor: step.actor.to_string(),
        holder: step.holder.as_ref().map(ToString::to_string).unwrap_or_default(),
        resource,
        relation: relation.into(),
    }
}
