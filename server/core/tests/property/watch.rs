//! What must hold whatever any model says, judged by the machine's own lists alone.

use std::collections::{BTreeMap, BTreeSet};

use singletrack_core::{
    change::{Change, RecordLife},
    command::{Command, LeaseFilter, ListRecords, Request},
    decision::Decision,
    limits,
    machine::Machine,
    refusal::LeaseEnd,
    reply::{LeaseInfo, ProtectionInfo, RecordInfo, Reply, WaiterInfo},
    types::{CallId, Namespace, Now, Target, Token},
};

use crate::model::claims::{any_clash, limit_of, permits_of};

fn read(machine: &Machine, now: Now, namespace: &Namespace, command: Command) -> Reply {
    let call = CallId(u64::MAX);
    let request = Request {
        call,
        namespace: namespace.clone(),
        mark: None,
        origin: None,
        age_ms: 0,
        fences: Box::default(),
        command,
    };
    let mut decision = machine.decide(now, &request);
    assert!(decision.changes.is_empty() && decision.motions.is_empty(), "a read changes nothing");
    decision.answers.remove(0).result.expect("a list is never refused")
}

pub(super) fn leases(machine: &Machine, now: Now, namespace: &Namespace) -> Vec<LeaseInfo> {
    let filter = Box::new(LeaseFilter::default());
    let command = Command::ListLeases { after: 0, count: limits::PAGE_MAX, filter };
    match read(machine, now, namespace, command) {
        Reply::Page { leases, next: None } => leases,
        other => panic!("not the only page: {other:?}"),
    }
}

pub(super) fn waiters(machine: &Machine, now: Now, namespace: &Namespace) -> Vec<WaiterInfo> {
    let command = Command::ListLeaseWaiters { after: 0, count: limits::WAITERS_PAGE_MAX };
    match read(machine, now, namespace, command) {
        Reply::Waiters { waiters, next: None } => waiters,
        other => panic!("not the only page: {other:?}"),
    }
}

/// All records, page by page.
pub(super) fn records(machine: &Machine, now: Now, namespace: &Namespace) -> Vec<RecordInfo> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let list = ListRecords {
            prefix: None,
            after,
            count: 3,
            with_values: true,
            max_bytes: limits::VALUES_BYTES_MAX,
        };
        match read(machine, now, namespace, Command::ListRecords(Box::new(list))) {
            Reply::RecordPage { records, next, revision } => {
                assert_eq!(revision, machine.state().revision(), "it is so now");
                all.extend(records);
                after = next;
            }
            other => panic!("no page: {other:?}"),
        }
        if after.is_none() {
            return all;
        }
    }
}

/// All protections, page by page.
pub(super) fn protections(
    machine: &Machine,
    now: Now,
    namespace: &Namespace,
) -> Vec<ProtectionInfo> {
    let mut all: Vec<ProtectionInfo> = Vec::new();
    loop {
        let last = all.last().map(|it| Box::new((it.prefix.clone(), it.resource.clone())));
        let command = Command::ListProtections { key: None, after: last, count: 2 };
        match read(machine, now, namespace, command) {
            Reply::Protections { protections, more } => {
                all.extend(protections);
                if !more {
                    return all;
                }
            }
            other => panic!("no page: {other:?}"),
        }
    }
}

/// A record that is bound to a lease is there only while the lease is.
pub(super) fn nothing_outlives_its_lease(machine: &Machine, now: Now, namespace: &Namespace) {
    let live: BTreeSet<Token> =
        leases(machine, now, namespace).into_iter().map(|it| it.token).collect();
    for record in records(machine, now, namespace) {
        if let Some(RecordLife::Bound(token)) = record.written.life {
            assert!(live.contains(&token), "{record:?} outlives its lease");
        }
    }
}

/// No two holders clash, permits are within their limit, and, once all is settled, somebody is in
/// the way of whoever waits.
pub(super) fn is_sound(machine: &Machine, now: Now, namespace: &Namespace, is_settled: bool) {
    let leases = leases(machine, now, namespace);
    for (at, one) in leases.iter().enumerate() {
        for other in &leases[at + 1..] {
            let (a, b) = (one.targets.as_slice(), other.targets.as_slice());
            assert!(!any_clash(a, b), "two that clash are held at once: {one:?} and {other:?}");
        }
        for target in one.targets.as_slice() {
            let name = target.resource.as_str();
            let Some(limit) = limit_of(std::slice::from_ref(target), name) else { continue };
            let all = leases.iter().map(|it| it.targets.as_slice());
            let same = all.clone().filter_map(|it| limit_of(it, name)).all(|it| it == limit);
            assert!(same, "permits of {name} have one limit: {leases:?}");
            let used: u64 = all.map(|it| permits_of(it, name)).sum();
            assert!(used <= u64::from(limit), "{used} permits of {limit} are in use of {name}");
        }
    }
    if !is_settled {
        return;
    }
    for waiter in waiters(machine, now, namespace) {
        let is_blocked = waiter.blocked_by.as_ref().is_some_and(|it| it.blocked_targets > 0);
        assert!(is_blocked || !waiter.is_attached, "nothing is in the way of {waiter:?}");
    }
}

/// Somebody as a grant finds him.
struct Place {
    name: String,
    /// Priority descending, then the place in the queue.
    key: (i32, usize),
    targets: Vec<Target>,
}

/// Nobody is granted past an attached waiter before it with whom it clashes, or whose permits it
/// takes. `newcomers`: the priorities of those who may be granted at once. `dropped`: names of
/// waiters that the decision refuses.
pub(super) fn nobody_overtakes(
    machine: &Machine,
    now: Now,
    namespace: &Namespace,
    decision: &Decision,
    newcomers: &BTreeMap<String, i32>,
    dropped: &BTreeSet<String>,
) {
    let listed = waiters(machine, now, namespace);
    let mut queue: Vec<Place> = Vec::new();
    let mut keys: BTreeMap<String, (i32, usize)> = BTreeMap::new();
    for (at, waiter) in listed.iter().enumerate() {
        let key = (-i32::from(waiter.priority), at);
        let name = waiter.holder.to_string();
        keys.insert(name.clone(), key);
        if waiter.is_attached && !dropped.contains(&name) {
            queue.push(Place { name, key, targets: waiter.targets.as_slice().to_vec() });
        }
    }
    let mut live: BTreeMap<Token, Vec<Target>> = leases(machine, now, namespace)
        .into_iter()
        .map(|it| (it.token, it.targets.as_slice().to_vec()))
        .collect();
    let mut given = false;
    for change in &decision.changes {
        match change {
            Change::LeaseEnded(ended) => {
                live.remove(&ended.token);
                given = ended.end == LeaseEnd::Transferred;
            }
            Change::LeaseClosed(closed) => {
                live.remove(&closed.ended.token);
            }
            Change::LeaseGranted(granted) if granted.namespace == *namespace => {
                let name = granted.holder.to_string();
                let targets = granted.targets().as_slice().to_vec();
                let newcomer = newcomers.get(&name).map(|priority| (-priority, listed.len()));
                let key = keys.get(&name).copied().or(newcomer);
                queue.retain(|it| it.name != name);
                // A transfer is no grant: nobody was before it.
                if !std::mem::take(&mut given) {
                    let key = key.expect("only those are granted who ask");
                    let before: Vec<&Place> = queue.iter().filter(|it| it.key < key).collect();
                    is_in_order(&name, &targets, &before, &live);
                }
                live.insert(granted.token, targets);
            }
            _ => {}
        }
    }
}

fn is_in_order(
    name: &str,
    targets: &[Target],
    before: &[&Place],
    live: &BTreeMap<Token, Vec<Target>>,
) {
    for other in before {
        let clash = any_clash(targets, &other.targets);
        assert!(
            !clash,
            "{name} with {targets:?} overtakes {} with {:?}",
            other.name, other.targets
        );
    }
    for target in targets {
        let resource = target.resource.as_str();
        let Some(limit) = limit_of(std::slice::from_ref(target), resource) else { continue };
        let used: u64 = live.values().map(|it| permits_of(it, resource)).sum();
        let wanted: u64 = before.iter().map(|it| permits_of(&it.targets, resource)).sum();
        let asked = permits_of(targets, resource);
        assert!(
            used + wanted + asked <= u64::from(limit),
            "{name} takes {asked} permits of {resource} that are kept for others: \
             {used} used, {wanted} wanted before it, of {limit}"
        );
    }
}
