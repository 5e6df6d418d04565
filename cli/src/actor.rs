//! Who acts, for the detection of deadlocks: a `/`-path with a segment for each `lock` around a
//! command.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use crate::lease::default_holder;

/// Where a `lock` tells its command who acts.
pub(crate) const VARIABLE: &str = "SINGLETRACK_ACTOR";

/// What the server takes for an actor.
const BYTES_MAX: usize = 256;
const SEGMENTS_MAX: usize = 32;

/// The actor of the `lock` around this command; `None`: there is none.
pub(crate) fn outer() -> Option<OsString> {
    env::var_os(VARIABLE).filter(|outer| !outer.is_empty())
}

/// The actor of a `lock`: a child of the one around it.
pub(crate) fn child(outer: Option<OsString>) -> OsString {
    let mut actor = outer.unwrap_or_default();
    if !actor.is_empty() {
        actor.push("/");
    }
    let segment: String =
        default_holder().chars().map(|c| if c == '/' { '-' } else { c }).collect();
    actor.push(format!("{segment}:{}", std::process::id()));
    actor
}

/// An actor of the surroundings as the server is told it. One that the locks around made too long is
/// none: deadlocks are not detected then.
pub(crate) fn told(actor: &OsStr) -> Option<String> {
    let text = actor.to_str()?;
    let fits = text.len() <= BYTES_MAX && text.split('/').count() <= SEGMENTS_MAX;
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{child, told};

    #[test]
    fn a_child_has_one_segment_more() {
        let first = child(None).into_string().unwrap();
        assert!(!first.contains('/'), "{first}");
        let second = child(Some("a/b".into())).into_string().unwrap();
        assert_eq!(second, format!("a/b/{first}"));
    }

    #[test]
    fn one_that_is_too_long_is_not_told() {
        for (actor, is_told) in [
            ("x".repeat(256), true),
            ("x".repeat(257), false),
            (vec!["x"; 32].join("/"), true),
            (vec!["x"; 33].join("/"), false),
        ] {
            assert_eq!(told(actor.as_ref()).is_some(), is_told, "{actor}");
        }
    }
}
