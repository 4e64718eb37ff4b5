//! The messages and services that the compiler made of `proto/`; only `convert.rs`, the server and
//! the client look at them.
#![expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    clippy::too_many_lines,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]

/// `thanos`: the StoreAPI.
pub mod thanos {
    tonic::include_proto!("thanos");

    /// `thanos.info`: what a component serves.
    pub mod info {
        tonic::include_proto!("thanos.info");
    }
}

/// All files of `proto/`, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
