//! Development only: golden data, faults, workloads and real peers for the tests of the house.

pub mod blocks;
pub mod fault_fs;
pub mod golden;
pub mod http;
pub mod peer;
pub mod prometheus;
pub mod query_api;
pub mod remote_write;
pub mod weed;
pub mod workload;
