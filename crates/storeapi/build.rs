//! Compiles the protocol's `.proto` files with a pure-Rust compiler; no `protoc` is needed.
#![expect(clippy::disallowed_methods, reason = "a build script writes to its own directory")]

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = ["thanos/types.proto", "thanos/store.proto", "thanos/info.proto"];
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    // Every message by prost, for the tests to hold our own codec against.
    let plain = out.join("plain");
    std::fs::create_dir_all(&plain)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .bytes(".")
        .out_dir(&plain)
        .compile_fds(compiler.file_descriptor_set())?;
    // The message that carries the samples has a codec of our own, and so has all that is in it.
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".thanos.SeriesResponse", "crate::frame::SeriesResponse")
        .extern_path(".thanos.SeriesBatch", "crate::frame::SeriesResponse")
        .extern_path(".thanos.Series", "crate::store::StoreSeries")
        .extern_path(".thanos.AggrChunk", "crate::store::AggrChunk")
        .extern_path(".thanos.Chunk", "crate::store::Chunk")
        .codec_path("crate::codec::WireCodec")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
