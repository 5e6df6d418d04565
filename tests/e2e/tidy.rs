//! The house rules that no compiler checks, and the pages that must agree with the code.

use std::{
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use singletrack_proto::{DESCRIPTOR_SET, Reason};
use tonic::Code;

const LINES_MAX: usize = 800;
/// Written in two parts, so that this file doesn't find itself.
const BANNED: [(&str, &str); 4] =
    [("todo", "!("), ("dbg", "!("), ("#[ig", "nore"), ("#[al", "low(")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Files with this ending, without hidden folders and what is built.
fn files(ending: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = entry.path();
            if name.starts_with('.') || ["target", "node_modules"].contains(&&*name) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty());
    files
}

#[test]
fn every_source_file_is_introduced_short_and_finished() {
    let mut faults = Vec::new();
    for path in files("rs") {
        let (text, shown) = (fs::read_to_string(&path).unwrap(), path.display());
        if !text.starts_with("//!") {
            faults.push(format!("{shown} doesn't begin with `//!`"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{shown} has {lines} lines, more than {LINES_MAX}"));
        }
        for (one, two) in BANNED {
            let banned = format!("{one}{two}");
            if text.contains(&banned) {
                faults.push(format!("{shown} has `{banned}`"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_page_of_refusals_shows_the_table_of_the_code() {
    let page = read("docs/semantics/refusals.md");
    let rows: Vec<Vec<String>> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').skip(1).map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let shown: Vec<_> = rows.iter().map(|row| row[..4].to_vec()).collect();
    let expected: Vec<_> = Reason::ALL
        .into_iter()
        .map(|reason| {
            let happened = if reason.may_have_happened() { "maybe" } else { "no" };
            let cells = [reason.name(), code_name(reason.code()), reason.retry().name(), happened];
            cells.map(String::from).to_vec()
        })
        .collect();
    assert_eq!(shown, expected);
    for row in &rows {
        assert!(row[4..6].iter().all(|cell| !cell.is_empty()), "when and what next: {row:?}");
    }
}

/// As the gRPC specification writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[test]
fn every_reason_is_provoked_end_to_end() {
    let tests = read("tests/e2e/refusals.rs");
    for reason in Reason::ALL {
        let arm = format!("Reason::{reason:?} => ");
        assert!(tests.contains(&arm), "no case for {reason:?}");
    }
}

#[test]
fn everything_in_the_proto_files_has_a_comment() {
    let set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
    let ours: Vec<_> =
        set.file.iter().filter(|file| file.package().starts_with("singletrack")).collect();
    assert!(!ours.is_empty());
    let bare: Vec<String> = ours.into_iter().flat_map(uncommented).collect();
    assert!(bare.is_empty(), "without a comment:\n{}", bare.join("\n"));
}

/// Messages, fields, enums, values, services, calls and groups without a comment before them.
fn uncommented(file: &FileDescriptorProto) -> Vec<String> {
    let locations = &file.source_code_info.as_ref().expect("comments are kept").location;
    locations
        .iter()
        .filter(|place| place.leading_comments().trim().is_empty())
        .filter_map(|place| {
            described(file, &place.path).map(|name| format!("{}: {name}", file.name()))
        })
        .collect()
}

/// What a path of source info leads to, if it should have a comment. The even places are field
/// numbers of `descriptor.proto`.
fn described(file: &FileDescriptorProto, path: &[i32]) -> Option<String> {
    let at = |i: usize| usize::try_from(path[i]).unwrap();
    Some(match *path {
        [4, _] => file.message_type[at(1)].name().to_owned(),
        [4, _, 2, _] => {
            let message = &file.message_type[at(1)];
            format!("{}.{}", message.name(), message.field[at(3)].name())
        }
        [4, _, 8, _] => {
            let message = &file.message_type[at(1)];
            format!("{}.{}", message.name(), message.oneof_decl[at(3)].name())
        }
        [4, _, 3 | 4, ..] => panic!("nested types are not looked into yet"),
        [5, _] => file.enum_type[at(1)].name().to_owned(),
        [5, _, 2, _] => file.enum_type[at(1)].value[at(3)].name().to_owned(),
        [6, _] => file.service[at(1)].name().to_owned(),
        [6, _, 2, _] => file.service[at(1)].method[at(3)].name().to_owned(),
        _ => return None,
    })
}
