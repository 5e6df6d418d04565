//! Every bound of the machine, with the relations between them checked at compile time.

/// First number that is not a revision: JSON and SQL hold smaller ones exactly.
pub const REVISION_END: u64 = 1 << 53;

/// Characters of a namespace.
pub const NAMESPACE_CHARS_MAX: usize = 128;
/// Bytes of a resource name.
pub const RESOURCE_BYTES_MAX: usize = 512;
/// Segments of a resource name.
pub const RESOURCE_DEPTH_MAX: usize = 32;
/// Characters of a holder.
pub const HOLDER_CHARS_MAX: usize = 256;
/// Characters of a request id.
pub const REQUEST_ID_CHARS_MAX: usize = 128;

/// Fences of one operation.
pub const FENCES_MAX: usize = 16;
/// Targets of one lease.
pub const TARGETS_MAX: usize = 128;
/// Bytes of the names of all targets of one lease.
pub const TARGETS_BYTES_MAX: usize = 16 * 1024;
/// Segments of the names of all targets of one lease: what one of them costs in the tree.
pub const TARGETS_SEGMENTS_MAX: usize = 512;
/// Permits of one resource.
pub const PERMITS_MAX: u32 = 1_000_000;
/// Bytes of an actor.
pub const ACTOR_BYTES_MAX: usize = 256;
/// Labels of one lease.
pub const LABELS_MAX: usize = 16;
/// Characters of a label's key.
pub const LABEL_KEY_CHARS_MAX: usize = 64;
/// Characters of a label's value.
pub const LABEL_CHARS_MAX: usize = 256;
/// Bytes of all labels of one lease.
pub const LABELS_BYTES_MAX: usize = 2_048;
/// Characters of a reason to yield, or of an answer.
pub const WORDS_CHARS_MAX: usize = 256;
/// Earlier waiters for permits that are counted; one with more before it waits on.
pub const PERMIT_WAITERS_MAX: usize = 1_000;
/// Requests to yield that are kept in all.
pub const YIELDS_ALL_MAX: usize = 10_000;
/// Requests to yield that one lease keeps.
pub const YIELDS_MAX: usize = 8;
/// Leases of one renewal.
pub const RENEWALS_MAX: usize = 1_000;
/// Leases of one page.
pub const PAGE_MAX: usize = 1_000;
/// Leases of one page when the caller doesn't say.
pub const PAGE_DEFAULT: usize = 100;
/// Leases looked at for one page of a list.
pub const LIST_SCAN_MAX: usize = 10_000;
/// Waiters of one page.
pub const WAITERS_PAGE_MAX: usize = 100;
/// Waiters of one page when the caller doesn't say.
pub const WAITERS_PAGE_DEFAULT: usize = 50;
/// Operations of one transaction.
pub const OPERATIONS_MAX: usize = 256;
/// Conditions of one transaction.
pub const CONDITIONS_MAX: usize = 256;
/// Fences of one transaction, those of its conditions and of its operations.
pub const TRANSACT_FENCES_MAX: usize = 256;
/// Targets of all leases that one transaction asks for.
pub const TRANSACT_TARGETS_MAX: usize = 512;
/// Operations of one transaction that name an actor: each is a search for a deadlock.
pub const TRANSACT_ACTORS_MAX: usize = 8;
/// Bytes of the changes of one transaction.
pub const TRANSACTION_BYTES_MAX: usize = 1_310_720;
/// Holders told in a refusal.
pub const HOLDERS_TOLD_MAX: usize = 8;
/// Earlier waiters told in a refusal.
pub const WAITERS_TOLD_MAX: usize = 4;
/// Holders shown for one resource; leases of dead sessions that one grant ends.
pub const HOLDERS_SHOWN_MAX: usize = 64;
/// Waiters shown for one resource.
pub const WAITERS_SHOWN_MAX: usize = 16;
/// Steps of a cycle told in a refusal.
pub const CYCLE_TOLD_MAX: usize = 8;
/// Steps of the search for a deadlock, after which a wait is refused.
pub const DEADLOCK_STEPS_MAX: usize = 100_000;
/// Calls attached to one waiter.
pub const ATTACHED_MAX: usize = 16;
/// Greatest number of a session's operation.
pub const SEQ_MAX: u64 = (1 << 63) - 1;
/// Acknowledgements and cancellations of one frame beside the floor.
pub const SEEN_MAX: usize = 4_096;
/// Runs of acknowledged operations that a session remembers above its floor; further
/// acknowledgements are not taken note of.
pub const SEEN_RUNS_MAX: usize = 32_768;
/// Place in a queue beyond which it is no longer counted.
pub const POSITION_MAX: usize = 1_000;

/// Shortest ttl of a lease.
pub const TTL_MS_MIN: u64 = 1_000;
/// Longest ttl of a lease.
pub const TTL_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Ttl of a lease when the caller doesn't say.
pub const TTL_MS_DEFAULT: u64 = 30_000;
/// Shortest longest hold of a lease.
pub const MAX_HOLD_MS_MIN: u64 = 1_000;
/// Longest longest hold of a lease.
pub const MAX_HOLD_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;
/// Longest lock delay.
pub const LOCK_DELAY_MS_MAX: u64 = 60 * 60 * 1_000;
/// Longest time to an announced yield.
pub const YIELD_WITHIN_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Durable time is logged at least this often while something is counted on it.
pub const CLOCK_LOG_MS: u64 = 5_000;
/// Longest wait of one call.
pub const WAIT_MS_MAX: u64 = 50_000;
/// Longest time a detached waiter keeps its place.
pub const KEEP_MS_MAX: u64 = 60_000;
/// The same when the caller doesn't say.
pub const KEEP_MS_DEFAULT: u64 = 10_000;
/// Highest priority, and the lowest with the sign turned.
pub const PRIORITY_ABS_MAX: u8 = 100;

/// How long effects, ended leases and abandoned ids are remembered.
pub const MEMORY_MS: u64 = 60_000;
/// Age beyond which an unknown request id is not executed.
pub const FORGOTTEN_AGE_MS: u64 = 30_000;

/// Grants, expiries or ends carried out in one slice.
pub const SLICE_MAX: usize = 1_000;
/// Bytes of the changes that one slice of granting to waiters makes, at most.
pub const SETTLE_BYTES_MAX: usize = 128 << 10;
/// Bytes of the changes after which a slice of expiries or ends goes no further; one more may come
/// on top.
pub const SLICE_BYTES_MAX: usize = 300_000;
/// Waits that end in one slice, as each is told what it waited for.
pub const WAITS_SLICE_MAX: usize = 200;
/// Sessions that run out in one slice, as each is larger than a lease's end.
pub const SESSIONS_SLICE_MAX: usize = 100;
/// Bytes said again in one slice before the log is freed; one more reply may come on top.
pub const CARRY_BYTES_MAX: usize = 128 << 10;
/// The most a step charges to volatile machine time; more is a stall.
pub const CHARGE_MS_MAX: u64 = 600;
/// The longest pause between ticks while a volatile deadline exists.
pub const TICK_MS_MAX: u64 = 100;

/// Bytes of a value kept inline.
pub const BODY_INLINE_MAX: usize = 4 * 1024;
/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of a value that is told in a refusal.
pub const VALUE_TOLD_BYTES_MAX: usize = 1_024;
/// Characters of a content type.
pub const CONTENT_TYPE_CHARS_MAX: usize = 128;
/// Shortest ttl of a record.
pub const RECORD_TTL_MS_MIN: u64 = 1_000;
/// Longest ttl of a record.
pub const RECORD_TTL_MS_MAX: u64 = 365 * 24 * 60 * 60 * 1_000;
/// Records read at one moment.
pub const BATCH_GET_MAX: usize = 256;
/// Bytes of values in one reply.
pub const VALUES_BYTES_MAX: usize = 1 << 20;
/// Bytes of names in a page of records after which it ends.
pub const NAMES_BYTES_MAX: usize = 512 << 10;
/// Protections of one prefix.
pub const PROTECTIONS_MAX: usize = 8;

/// Caps of one namespace, and of the whole machine, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Namespaces with anything in them.
    pub namespaces: u64,
    /// Leases of one namespace, waiters included, as each may become a lease.
    pub leases: u64,
    /// Waiters of one namespace.
    pub waiters: u64,
    /// Sessions of one namespace.
    pub sessions: u64,
    /// Records of one namespace.
    pub records: u64,
    /// Protections of one namespace.
    pub protections: u64,
    /// Bytes of names and other durable content of one namespace.
    pub bytes: u64,
    /// Bytes of replay memory, all namespaces together.
    pub memory_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            namespaces: 4_096,
            leases: 4_000_000,
            waiters: 1_000_000,
            sessions: 100_000,
            records: 4_000_000,
            protections: 10_000,
            bytes: 4 << 30,
            memory_bytes: 256 << 20,
        }
    }
}

const _: () = assert!(TTL_MS_DEFAULT >= TTL_MS_MIN && TTL_MS_DEFAULT <= TTL_MS_MAX);
const _: () = assert!(TTL_MS_MAX <= u32::MAX as u64, "a ttl is kept in 32 bits");
const _: () = assert!(TTL_MS_MIN > CHARGE_MS_MAX, "one step can never use up a whole ttl");
const _: () = assert!(TICK_MS_MAX < CHARGE_MS_MAX, "a punctual tick is never a stall");
const _: () = assert!(KEEP_MS_DEFAULT <= KEEP_MS_MAX);
const _: () = assert!(
    FORGOTTEN_AGE_MS * 2 <= MEMORY_MS,
    "an id young enough to be executed when unknown can't have been forgotten"
);
const _: () = assert!(PAGE_DEFAULT <= PAGE_MAX);
const _: () =
    assert!(TARGETS_SEGMENTS_MAX >= TARGETS_MAX && TARGETS_SEGMENTS_MAX >= RESOURCE_DEPTH_MAX);
const _: () = assert!(HOLDERS_TOLD_MAX <= HOLDERS_SHOWN_MAX);
const _: () = assert!(RECORD_TTL_MS_MIN > CHARGE_MS_MAX, "one step can never use up a whole ttl");
const _: () = assert!(VALUE_TOLD_BYTES_MAX <= BODY_INLINE_MAX, "what is told is at hand");
const _: () = assert!(BODY_INLINE_MAX < VALUE_BYTES_MAX && VALUE_BYTES_MAX <= VALUES_BYTES_MAX);
const _: () = assert!(
    VALUE_BYTES_MAX + 4_096 <= TRANSACTION_BYTES_MAX,
    "the largest record, its names and what is remembered of its write fit into one transaction"
);
