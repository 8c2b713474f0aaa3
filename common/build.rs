//! Compiles the protocol without a system `protoc`.

use std::path::PathBuf;
use std::{env, error, fs};

const FILES: [&str; 6] = [
    "houston/v1/release.proto",
    "houston/v1/report.proto",
    "houston/v1/rollout.proto",
    "houston/v1/enrollment.proto",
    "houston/v1/agent.proto",
    "houston/v1/operator.proto",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // With the comments: for the generated code, and for the test that nothing lacks one.
    fs::write(out.join("houston.commented.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    compiler.include_source_info(false);
    fs::write(out.join("houston.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .bytes(".")
        // A token's secret must not reach a log by way of a message's Debug.
        .skip_debug(["houston.v1.JoinToken", "houston.v1.CreateTokenResponse"])
        .compile_fds(descriptors)?;
    Ok(())
}
