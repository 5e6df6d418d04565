//! Is a history of calls linearizable? Calls and answers of many clients go in; out comes the first
//! answer that no order of the calls explains.
//!
//! The search of Wing and Gong as Lowe does it "just in time": it walks the history once and keeps
//! every way in which things may stand, each once; a call takes effect only when some answer needs
//! it. A call whose outcome nobody knows may take effect at any time after it was sent, or never.
//!
//! Written here, though `todc-utils` has a checker that is generic too: there a call has one effect
//! that the state decides, must take effect, and the verdict is a bare yes or no. An unknown write
//! gets a version that nobody has seen, so one call leads to several states; and a failure has to
//! say where. It serves as a second opinion in the tests of this one, and its recorded histories of
//! etcd do.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::Hash,
};

pub(crate) mod drive;
pub(crate) mod file;
pub(crate) mod record;

/// More ways than this are not looked through.
const WAYS_MAX: usize = 500_000;

/// What calls do, one after the other.
pub(crate) trait Model {
    type State: Clone + Eq + Hash + Debug;
    type Operation: Clone + Eq + Debug;
    type Answer: Clone + Debug;

    /// Before all calls.
    fn start() -> Self::State;

    /// The states that an operation may lead to if it is answered so; none: it can't be answered
    /// so. Without an answer: all that it may lead to.
    fn step(
        state: &Self::State,
        operation: &Self::Operation,
        answer: Option<&Self::Answer>,
    ) -> Vec<Self::State>;
}

/// One call. Times are on one clock, in any unit; what has the same time is taken to overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call<O, A> {
    pub(crate) operation: O,
    pub(crate) sent: u64,
    /// When it was answered, and how; absent: nobody knows what became of it.
    pub(crate) answer: Option<(u64, A)>,
}

/// Why a history is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault<S> {
    /// The answer to this call, an index, is the first that nothing explains. Before it, the states
    /// were these, at most so many as are worth showing.
    Unexplained { call: usize, before: Vec<S> },
    /// There are too many ways to look through, at the answer to this call.
    Undecided { call: usize },
}

type CallOf<M> = Call<<M as Model>::Operation, <M as Model>::Answer>;
type FaultOf<M> = Fault<<M as Model>::State>;

/// One way in which it may be.
#[derive(Clone)]
struct Way<S> {
    state: S,
    /// Calls that have taken effect before their answer, in ascending order.
    early: Vec<usize>,
    /// How many of each kind of unknown call have taken effect. Which of equal ones did makes no
    /// difference.
    used: Vec<u32>,
}

/// Ways, without those that allow less than another does.
struct Ways<S> {
    used: HashMap<(S, Vec<usize>), Vec<Vec<u32>>>,
    count: usize,
}

/// The calls that are under way at some time.
struct Open<'a, M: Model> {
    calls: &'a [CallOf<M>],
    /// Will be answered.
    answered: Vec<usize>,
    /// Kinds of calls that nobody knows the outcome of, and how many have been sent.
    unknown: Vec<(M::Operation, u32)>,
}

/// Looks for an order of the calls in which each does what it was answered.
pub(crate) fn check<M: Model>(calls: &[CallOf<M>]) -> Result<(), FaultOf<M>> {
    let mut open = Open::<M> { calls, answered: Vec::new(), unknown: Vec::new() };
    let mut ways = Ways::new();
    ways.insert(Way { state: M::start(), early: Vec::new(), used: Vec::new() });
    for (_, is_answer, call) in moments(calls) {
        if !is_answer {
            open.sent(call);
            continue;
        }
        let after = open.answered(call, &ways)?;
        if after.count == 0 {
            const SHOWN: usize = 8;
            let before = ways.all().map(|way| way.state).take(SHOWN).collect();
            return Err(Fault::Unexplained { call, before });
        }
        ways = after;
    }
    Ok(())
}

/// When something was sent (false) or answered (true), in order.
pub(crate) fn moments<O, A>(calls: &[Call<O, A>]) -> Vec<(u64, bool, usize)> {
    let sent = calls.iter().enumerate().map(|(index, call)| (call.sent, false, index));
    let answered = calls.iter().enumerate().filter_map(|(index, call)| {
        call.answer.as_ref().map(|(at, _)| (*at.max(&call.sent), true, index))
    });
    let mut moments: Vec<_> = sent.chain(answered).collect();
    moments.sort_unstable();
    moments
}

// === impl Open ===

impl<M: Model> Open<'_, M> {
    fn sent(&mut self, call: usize) {
        let Call { operation, answer, .. } = &self.calls[call];
        if answer.is_some() {
            self.answered.push(call);
            return;
        }
        match self.unknown.iter_mut().find(|(known, _)| known == operation) {
            Some((_, count)) => *count += 1,
            None => self.unknown.push((operation.clone(), 1)),
        }
    }

    /// All ways after an answer: its call has taken effect at last, others may have before it.
    fn answered(
        &mut self,
        call: usize,
        before: &Ways<M::State>,
    ) -> Result<Ways<M::State>, FaultOf<M>> {
        let (mut after, mut seen, mut next) = (Ways::new(), Ways::new(), VecDeque::new());
        for mut way in before.all() {
            if let Ok(place) = way.early.binary_search(&call) {
                way.early.remove(place);
                after.insert(way);
            } else if seen.insert(way.clone()) {
                next.push_back(way);
            }
        }
        while let Some(way) = next.pop_front() {
            let Call { operation, answer, .. } = &self.calls[call];
            let told = answer.as_ref().map(|(_, answer)| answer);
            for state in M::step(&way.state, operation, told) {
                after.insert(Way { state, ..way.clone() });
            }
            for further in self.further(call, &way) {
                if seen.insert(further.clone()) {
                    next.push_back(further);
                }
            }
            if seen.count + after.count > WAYS_MAX {
                return Err(Fault::Undecided { call });
            }
        }
        self.answered.retain(|open| *open != call);
        Ok(after)
    }

    /// Ways in which one more call has taken effect, and not this one.
    fn further(&self, call: usize, way: &Way<M::State>) -> Vec<Way<M::State>> {
        let mut further = Vec::new();
        for &other in self.answered.iter().filter(|other| **other != call) {
            let Err(place) = way.early.binary_search(&other) else { continue };
            let Call { operation, answer, .. } = &self.calls[other];
            let told = answer.as_ref().map(|(_, answer)| answer);
            for state in M::step(&way.state, operation, told) {
                let mut one = Way { state, ..way.clone() };
                one.early.insert(place, other);
                further.push(one);
            }
        }
        for (kind, (operation, count)) in self.unknown.iter().enumerate() {
            if way.used.get(kind).is_some_and(|used| used == count) {
                continue;
            }
            let states = M::step(&way.state, operation, None).into_iter();
            // Without an effect it is as if it had not been.
            for state in states.filter(|state| *state != way.state) {
                let mut one = Way { state, ..way.clone() };
                one.used.resize(one.used.len().max(kind + 1), 0);
                one.used[kind] += 1;
                further.push(one);
            }
        }
        further
    }
}

// === impl Ways ===

impl<S: Clone + Eq + Hash> Ways<S> {
    fn new() -> Self {
        Self { used: HashMap::new(), count: 0 }
    }

    /// Adds a way; false: another allows as much.
    fn insert(&mut self, way: Way<S>) -> bool {
        let others = self.used.entry((way.state, way.early)).or_default();
        if others.iter().any(|other| is_within(other, &way.used)) {
            return false;
        }
        let before = others.len();
        others.retain(|other| !is_within(&way.used, other));
        others.push(way.used);
        self.count = self.count + others.len() - before;
        true
    }

    fn all(&self) -> impl Iterator<Item = Way<S>> {
        self.used.iter().flat_map(|((state, early), used)| {
            let way = |used: &Vec<u32>| (state.clone(), early.clone(), used.clone());
            used.iter().map(way).map(|(state, early, used)| Way { state, early, used })
        })
    }
}

/// Nothing has been used more often in the one than in the other.
fn is_within(one: &[u32], other: &[u32]) -> bool {
    let least = other.iter().copied().chain(std::iter::repeat(0));
    one.iter().zip(least).all(|(one, other)| *one <= other)
}
