//! The steps of a random history, and how they are drawn.

use proptest::prelude::*;

use super::records::{Brought, Look, WantedCondition, Write};

/// One step of a history. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Acquire(Box<Acquire>),
    /// An earlier acquire once more.
    Again {
        which: u8,
        wait_ms: u64,
        keep_ms: u64,
    },
    /// An earlier request of another kind once more, exactly.
    Repeat {
        which: u8,
    },
    Renew {
        leases: Vec<u8>,
    },
    Release {
        at: Place,
        lease: u8,
        wrong_token: bool,
    },
    Force {
        at: Place,
        lease: u8,
        elsewhere: Option<u8>,
    },
    Transfer {
        at: Place,
        lease: u8,
        to: u8,
        actor: Option<u8>,
        ttl_s: Option<u64>,
    },
    Write {
        at: Place,
        brought: Brought,
        write: Write,
    },
    Transact {
        at: Place,
        conditions: Vec<WantedCondition>,
        operations: Vec<Step>,
    },
    Look(Look),
    Abandon {
        which: u8,
    },
    AskToYield {
        name: u8,
        from: u8,
        only: Option<u8>,
    },
    AnswerYield {
        lease: u8,
        within_ms: Option<u64>,
    },
    Get {
        name: u8,
    },
    List {
        after: Option<u8>,
        count: usize,
        holder: Option<u8>,
        within: Option<u8>,
        labels: u8,
    },
    Check {
        lease: u8,
        name: Option<u8>,
    },
    Waiters,
    Stats,
    Open {
        namespace: u8,
        ttl_s: u64,
    },
    KeepAlive {
        session: u8,
    },
    Close {
        session: u8,
    },
    Drop {
        call: u8,
    },
    Advance {
        ms: u64,
    },
    Stall,
    Restart,
}

impl Step {
    /// What this one shares with most calls.
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::Acquire(acquire) => &acquire.at,
            Self::Release { at, .. }
            | Self::Force { at, .. }
            | Self::Transfer { at, .. }
            | Self::Write { at, .. }
            | Self::Transact { at, .. } => at,
            other => unreachable!("nothing of it: {other:?}"),
        }
    }
}

/// What most calls share.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) namespace: u8,
    pub(super) has_id: bool,
    /// It takes the id of an earlier request.
    pub(super) stolen: Option<u8>,
    pub(super) age_ms: u64,
    pub(super) fence: Option<(u8, Option<u8>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Acquire {
    pub(super) at: Place,
    pub(super) targets: Vec<Wanted>,
    pub(super) actor: Option<u8>,
    pub(super) ttl_s: u64,
    /// It lives with a session.
    pub(super) session: Option<u8>,
    pub(super) wait_ms: u64,
    pub(super) keep_ms: u64,
    pub(super) priority: i32,
    pub(super) max_hold_s: Option<u64>,
    pub(super) delay_ms: u64,
    pub(super) labels: u8,
}

/// A target, if it doesn't touch the ones before it.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: u8,
    pub(super) mode: WantedMode,
    pub(super) subtree: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum WantedMode {
    Exclusive,
    Shared,
    Permits { count: u32, other_limit: bool },
}

pub(super) const NAMES: [&str; 7] = ["a", "a/b", "a/b/c", "a/d", "e", "e/f", "ab"];
pub(super) const ACTORS: [&str; 16] =
    ["p", "p/1", "p/1/x", "p/2", "q", "q/1", "r", "s", "t", "u", "v", "w", "x", "x/1", "y", "z"];
/// So many of them act where there is no crowd.
const FEW_ACTORS: u8 = 9;

pub(super) fn place() -> impl Strategy<Value = Place> {
    (
        prop_oneof![12 => Just(0_u8), 1 => Just(1)],
        prop::bool::weighted(0.8),
        prop_oneof![15 => Just(None), 1 => any::<u8>().prop_map(Some)],
        prop_oneof![20 => Just(0), 1 => Just(30_001)],
        prop_oneof![12 => Just(None), 1 => (any::<u8>(), prop::option::of(name())).prop_map(Some)],
    )
        .prop_map(|(namespace, has_id, stolen, age_ms, fence)| Place {
            namespace,
            has_id,
            stolen,
            age_ms,
            fence,
        })
}

fn name() -> impl Strategy<Value = u8> {
    0..u8::try_from(NAMES.len()).unwrap()
}

fn actor() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![1 => Just(None), 3 => (0..FEW_ACTORS).prop_map(Some)]
}

fn any_actor() -> impl Strategy<Value = Option<u8>> {
    let all = u8::try_from(ACTORS.len()).unwrap();
    prop_oneof![1 => Just(None), 7 => (0..all).prop_map(Some)]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let mode = prop_oneof![
        3 => Just(WantedMode::Exclusive),
        2 => Just(WantedMode::Shared),
        3 => (1..4_u32, prop::bool::weighted(0.06))
            .prop_map(|(count, other_limit)| WantedMode::Permits { count, other_limit }),
    ];
    (name(), mode, prop::bool::weighted(0.3)).prop_map(|(name, mode, subtree)| Wanted {
        name,
        mode,
        subtree,
    })
}

fn acquire() -> impl Strategy<Value = Step> {
    let what = (
        place(),
        prop_oneof![
            5 => prop::collection::vec(wanted(), 1),
            3 => prop::collection::vec(wanted(), 2),
            1 => prop::collection::vec(wanted(), 3..5),
        ],
        actor(),
        prop_oneof![8 => Just(0), 1 => -1..=1_i32, 1 => Just(1)],
    );
    let how = (
        2..9_u64,
        prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        prop_oneof![1 => Just(0), 4 => 1..9_000_u64],
        1..4_000_u64,
        prop_oneof![6 => Just(None), 1 => (1..8_u64).prop_map(Some)],
        prop_oneof![4 => Just(0), 1 => 1..8_000_u64],
        0..8_u8,
    );
    (what, how).prop_map(|((at, targets, actor, priority), how)| {
        let (ttl_s, session, wait_ms, keep_ms, max_hold_s, delay_ms, labels) = how;
        Step::Acquire(Box::new(Acquire {
            at,
            targets,
            actor,
            ttl_s,
            session,
            wait_ms,
            keep_ms,
            priority,
            max_hold_s,
            delay_ms,
            labels,
        }))
    })
}

/// One that seldom waits, mostly for one thing.
pub(super) fn plain_acquire() -> impl Strategy<Value = Step> {
    let targets = prop_oneof![
        4 => prop::collection::vec(wanted(), 1),
        1 => prop::collection::vec(wanted(), 2..4),
    ];
    let session = prop_oneof![2 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let wait_ms = prop_oneof![5 => Just(0), 1 => 1..9_000_u64];
    let max_hold_s = prop_oneof![6 => Just(None), 1 => (1..8_u64).prop_map(Some)];
    let delay_ms = prop_oneof![6 => Just(0), 1 => 1..8_000_u64];
    let what = (place(), targets, 2..9_u64, session, wait_ms, max_hold_s, delay_ms);
    what.prop_map(|(at, targets, ttl_s, session, wait_ms, max_hold_s, delay_ms)| {
        Step::Acquire(Box::new(Acquire {
            at,
            targets,
            actor: None,
            ttl_s,
            session,
            wait_ms,
            keep_ms: 2_000,
            priority: 0,
            max_hold_s,
            delay_ms,
            labels: 0,
        }))
    })
}

fn showing() -> impl Strategy<Value = Step> {
    let list = (
        prop::option::of(any::<u8>()),
        1..6_usize,
        prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)],
        prop::option::of(name()),
        prop_oneof![2 => Just(0), 1 => 0..8_u8],
    );
    prop_oneof![
        2 => name().prop_map(|name| Step::Get { name }),
        2 => list.prop_map(|(after, count, holder, within, labels)| {
            Step::List { after, count, holder, within, labels }
        }),
        2 => (any::<u8>(), prop::option::of(name()))
            .prop_map(|(lease, name)| Step::Check { lease, name }),
        2 => Just(Step::Waiters),
        1 => Just(Step::Stats),
    ]
}

pub(super) fn session() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (prop_oneof![9 => Just(0_u8), 1 => Just(1)], 1..9_u64)
            .prop_map(|(namespace, ttl_s)| Step::Open { namespace, ttl_s }),
        3 => any::<u8>().prop_map(|session| Step::KeepAlive { session }),
        1 => any::<u8>().prop_map(|session| Step::Close { session }),
    ]
}

fn yields() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (name(), 0..3_u8, prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)])
            .prop_map(|(name, from, only)| Step::AskToYield { name, from, only }),
        1 => (any::<u8>(), prop::option::of(0..9_000_u64))
            .prop_map(|(lease, within_ms)| Step::AnswerYield { lease, within_ms }),
    ]
}

pub(super) fn release() -> impl Strategy<Value = Step> {
    (place(), any::<u8>(), prop::bool::weighted(0.05))
        .prop_map(|(at, lease, wrong_token)| Step::Release { at, lease, wrong_token })
}

pub(super) fn force() -> impl Strategy<Value = Step> {
    (place(), any::<u8>(), prop_oneof![6 => Just(None), 1 => name().prop_map(Some)])
        .prop_map(|(at, lease, elsewhere)| Step::Force { at, lease, elsewhere })
}

pub(super) fn transfer() -> impl Strategy<Value = Step> {
    (place(), any::<u8>(), 0..3_u8, actor(), prop::option::of(1..9_u64))
        .prop_map(|(at, lease, to, actor, ttl_s)| Step::Transfer { at, lease, to, actor, ttl_s })
}

fn transact() -> impl Strategy<Value = Step> {
    let operation = prop_oneof![3 => acquire(), 3 => release(), 1 => force(), 1 => transfer()];
    (place(), prop::collection::vec(operation, 1..4)).prop_map(|(at, operations)| Step::Transact {
        at,
        conditions: Vec::new(),
        operations,
    })
}

/// Of a history in which time stands still and nearly all wait, each for one or two things.
pub(super) fn crowded_step() -> impl Strategy<Value = Step> {
    let targets = prop_oneof![
        3 => prop::collection::vec(wanted(), 1),
        1 => prop::collection::vec(wanted(), 2),
    ];
    let priority = prop_oneof![5 => Just(0), 1 => -1..=1_i32];
    let acquire = (targets, any_actor(), priority).prop_map(|(targets, actor, priority)| {
        let at = Place { namespace: 0, has_id: true, stolen: None, age_ms: 0, fence: None };
        Step::Acquire(Box::new(Acquire {
            at,
            targets,
            actor,
            ttl_s: 8,
            session: None,
            wait_ms: 9_000,
            keep_ms: 4_000,
            priority,
            max_hold_s: None,
            delay_ms: 0,
            labels: 0,
        }))
    });
    prop_oneof![
        24 => acquire,
        3 => release(),
        1 => transfer(),
        1 => transact(),
        3 => (any::<u8>(), Just(9_000), Just(4_000))
            .prop_map(|(which, wait_ms, keep_ms)| Step::Again { which, wait_ms, keep_ms }),
        3 => any::<u8>().prop_map(|call| Step::Drop { call }),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        28 => acquire(),
        8 => (any::<u8>(), prop_oneof![1 => Just(0), 3 => 1..9_000_u64], 1..4_000_u64)
            .prop_map(|(which, wait_ms, keep_ms)| Step::Again { which, wait_ms, keep_ms }),
        1 => any::<u8>().prop_map(|which| Step::Repeat { which }),
        3 => prop::collection::vec(any::<u8>(), 1..4).prop_map(|leases| Step::Renew { leases }),
        8 => release(),
        2 => force(),
        3 => transfer(),
        3 => transact(),
        1 => any::<u8>().prop_map(|which| Step::Abandon { which }),
        3 => yields(),
        4 => showing(),
        5 => session(),
        5 => any::<u8>().prop_map(|call| Step::Drop { call }),
        9 => prop_oneof![12 => 1..1_500_u64, 4 => 1..9_000_u64, 1 => 1..70_000_u64]
            .prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Stall),
        1 => Just(Step::Restart),
    ]
}
