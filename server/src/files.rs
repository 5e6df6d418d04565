//! The limit of open files: connections share it with the store, and a log that can't open its
//! next segment is a failed store. So connections never take the last of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept for the store, the listeners and the logs.
const RESERVED: u64 = 128;

/// Raises the limit of this process to what the system allows, and says how many connections
/// may be open beside the store: at most `wanted`.
pub(crate) fn connections_within_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files can't be raised");
            limit.current
        }
    };
    let most = within(wanted, current);
    if most < wanted {
        tracing::warn!(
            wanted,
            most,
            files = current,
            "fewer connections than configured: raise the limit of open files (ulimit -n, \
             LimitNOFILE) to have them all"
        );
    }
    most
}

/// `files`: the limit; `None`: there is none.
fn within(wanted: usize, files: Option<u64>) -> usize {
    let Some(files) = files else { return wanted };
    // However low it is, somebody has to be able to connect.
    let left = files.saturating_sub(RESERVED).max(files / 4).max(1);
    usize::try_from(left).map_or(wanted, |left| left.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_store() {
        assert_eq!(within(4_096, None), 4_096);
        assert_eq!(within(4_096, Some(1 << 20)), 4_096);
        assert_eq!(within(4_096, Some(1_024)), 896);
        assert_eq!(within(4_096, Some(100)), 25);
        assert_eq!(within(10, Some(1_024)), 10);
        assert_eq!(within(10, Some(0)), 1);
    }
}
