//! stub
use crate::args::{ClientArgs, TopArgs};
use std::process::ExitCode;
pub(crate) fn run(_client: &ClientArgs, _args: &TopArgs) -> ExitCode {
    ExitCode::SUCCESS
}
