//! The page of results, and words for whoever watches. Owns medians and ratios.

use std::{fmt::Write as _, io::Write as _};

use crate::{
    Contender,
    machine::Facts,
    measure::{Load, Measured},
};

type Results = [(Contender, Vec<Measured>)];

/// A line for whoever watches. A closed standard error is nobody.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A page for standard output.
pub(crate) fn print(page: &str) {
    let _ = std::io::stdout().lock().write_all(page.as_bytes());
}

pub(crate) fn page(machine: &Facts, load: &Load, results: &Results) -> String {
    let rounds = results.first().map_or(0, |(_, measured)| measured.len());
    let mut page = format!(
        "# Locks and records, side by side\n\n\
         Written by `bench/compare`. A cycle is: take a lock, give it back; or one call on records. {} cycles under way \
         over {} connections, each with a name of its own; {rounds} rounds of {} s after 1 s of \
         warm-up, the contenders in turn; medians of the rounds. Every server is fresh, on \
         loopback, with its data on the same disk; an answered effect is on the disk: \
         Redis with `appendfsync always`, no rewrites of its log, `SET NX PX` and a \
         compare-and-delete script, once by the `redis` crate with one task a cycle, as ours is, \
         and once by a client made for this benchmark with one task a connection, which batches \
         what is ready and costs next to nothing; etcd as it is by default, Lock and Unlock of its lock \
         service, one lease for each name, kept, and Put, and Txn of four Puts; Singletrack as it is by default, \
         request ids on. Values have 100 bytes, each cycle has four keys of its own; our transaction is two \
         puts and two increments. \
         A ping is one empty call. The clients run on the same cores as the servers.\n\n",
        load.inflight,
        load.connections,
        load.duration.as_secs(),
    );
    for (name, value) in machine {
        let _ = writeln!(page, "- {name}: {value}");
    }
    page.push_str("\n## Medians\n\n");
    page.push_str(
        "| | cycles/s | lowest to highest | p50 µs | p99 µs | p99.9 µs | server CPU µs a cycle |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for (contender, measured) in results {
        page.push_str(&row(*contender, measured));
    }
    page.push_str("\n## Ratios\n\n| | ratio of medians | bar |\n|---|---|---|\n");
    for (words, bar, ratio) in ratios(results) {
        let ratio = ratio.map_or_else(|| "not measured".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(page, "| {words} | {ratio} | {bar} |");
    }
    page.push_str("\n## Each round, cycles/s\n\n");
    for (contender, measured) in results {
        let figures: Vec<_> =
            measured.iter().map(|one| format!("{:.0}", one.cycles_per_s)).collect();
        let _ = writeln!(page, "- {}: {}", contender.name(), figures.join(", "));
    }
    page
}

fn row(contender: Contender, measured: &[Measured]) -> String {
    let of = |get: fn(&Measured) -> f64| measured.iter().map(get).collect::<Vec<_>>();
    let cycles = of(|one| one.cycles_per_s);
    let lowest = cycles.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = cycles.iter().copied().fold(0.0, f64::max);
    let cpu: Vec<_> = measured.iter().filter_map(|one| one.server_cpu_us_per_cycle).collect();
    let cpu = if cpu.is_empty() { "unknown".to_owned() } else { format!("{:.1}", median(cpu)) };
    format!(
        "| {} | {:.0} | {lowest:.0} to {highest:.0} | {:.0} | {:.0} | {:.0} | {cpu} |\n",
        contender.name(),
        median(cycles.clone()),
        median(of(|one| one.p50_us)),
        median(of(|one| one.p99_us)),
        median(of(|one| one.p999_us)),
    )
}

/// What was promised, and what came of it.
fn ratios(results: &Results) -> Vec<(&'static str, &'static str, Option<f64>)> {
    let of = |wanted: Contender| {
        let (_, measured) = results.iter().find(|(contender, _)| *contender == wanted)?;
        Some(median(measured.iter().map(|one| one.cycles_per_s).collect()))
    };
    let ratio = |one, other| Some(of(one)? / of(other)?);
    use Contender::{
        Etcd, EtcdPut, EtcdTxn, Redis, RedisBatching, SessionGet, SessionLock, SessionPing,
        SessionPut, SessionTransact, UnaryGet, UnaryLock, UnaryPing, UnaryPut, UnaryTransact,
    };
    vec![
        ("session lock / Redis lock, batching client", "≥ 1", ratio(SessionLock, RedisBatching)),
        ("session lock / Redis lock, `redis` crate", "≥ 1", ratio(SessionLock, Redis)),
        ("session lock / etcd lock", "≥ 50", ratio(SessionLock, Etcd)),
        ("unary lock / etcd lock", "≥ 10", ratio(UnaryLock, Etcd)),
        (
            "calls of unary lock (two a cycle) / unary ping",
            "≥ 0.5",
            ratio(UnaryLock, UnaryPing).map(|ratio| ratio * 2.0),
        ),
        ("session put / etcd put", "none", ratio(SessionPut, EtcdPut)),
        ("unary put / etcd put", "none", ratio(UnaryPut, EtcdPut)),
        ("session transact of 4 / etcd txn of 4", "none", ratio(SessionTransact, EtcdTxn)),
        ("unary transact of 4 / etcd txn of 4", "none", ratio(UnaryTransact, EtcdTxn)),
        ("session get / session ping", "≥ 0.8", ratio(SessionGet, SessionPing)),
        ("unary get / unary ping", "≥ 0.6", ratio(UnaryGet, UnaryPing)),
        (
            "operations of session lock (two a cycle) / session ping",
            "none",
            ratio(SessionLock, SessionPing).map(|ratio| ratio * 2.0),
        ),
    ]
}

/// The middle one; of an even number the mean of the two in the middle; 0 of none.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or_default();
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
    }
}
