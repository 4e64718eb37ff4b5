//! PromQL: text in, rows out. Sync; sees `model` only, knows no storage, network or JSON.

pub mod ast;
pub mod functions;
pub mod storage;
