//! Compiles `proto/` into Rust with protox, so that nobody needs protoc, and keeps the
//! descriptor set for reflection.

use std::{error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/singletrack");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files([
        "singletrack/v1/common.proto",
        "singletrack/v1/exchange.proto",
        "singletrack/v1/lease.proto",
        "singletrack/v1/operation.proto",
        "singletrack/v1/record.proto",
        "singletrack/v1/refusal.proto",
        "singletrack/v1/session.proto",
        "singletrack/v1/transact.proto",
    ])?;
    std::fs::write(out.join("singletrack.bin"), compiler.encode_file_descriptor_set())?;
    let mut config = prost_build::Config::new();
    // Without a domain an Any would be named "/singletrack.v1.Refusal".
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        // By far the largest of all replies, and the rarest: the others are moved about without it.
        .boxed(".singletrack.v1.OperationReply.reply.refusal")
        .codec_path("crate::WireCodec")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
