//! Other people's tools that some tests need. Owns the rule of skipping: a missing tool skips
//! a test by hand, and fails it where `CI=true` says that nothing may be skipped.

use std::path::PathBuf;

/// Where a tool is, or `None` after saying why the test is skipped.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let go = std::env::home_dir().map(|home| home.join("go/bin"));
    let found = std::env::split_paths(&path)
        .chain(go)
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        skip(&format!("expected the tool {tool}, found none in PATH or ~/go/bin"));
    }
    found
}

/// Says why a test is skipped, or fails it where nothing may be skipped.
pub(crate) fn skip(reason: &str) {
    let nothing_may_be_skipped = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!nothing_may_be_skipped, "{reason}; CI=true, so it is not skipped");
    eprintln!("skipped: {reason}");
}

/// Says why a test is skipped that nobody may run here, such as one that has to change its user.
/// That is no gap of the machine, so it is skipped everywhere.
pub(crate) fn skip_unpermitted(reason: &str) {
    eprintln!("skipped: {reason}");
}
