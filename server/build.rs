//! Compiles the storage format with protox, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).open_files(["singletrack/storage/v1/storage.proto"])?;
    let mut config = prost_build::Config::new();
    // A value is neither copied when it is logged nor held twice.
    config.bytes([".singletrack.storage.v1.Body.bytes"]);
    config.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
