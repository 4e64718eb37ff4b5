//! PromQL: text in, rows out. Sync; sees `model` only, knows no storage, network or JSON.

pub mod annotations;
pub mod ast;
pub mod cancel;
pub mod duration;
pub mod engine;
pub mod error;
pub mod functions;
pub mod parser;
pub mod plan;
pub mod pretty;
pub mod print;
pub mod row;
pub mod storage;
pub mod workers;

mod buckets;
mod check;
mod eval;
mod general;
mod kahan;
mod kernel;
mod lexer;
mod number;
mod quantile;
mod quote;
mod token;

pub use crate::annotations::Annotations;
pub use crate::cancel::Cancel;
pub use crate::engine::{Answer, Engine, Options, QueryResult, Session};
pub use crate::error::Error;
pub use crate::plan::Selection;
pub use crate::workers::{SingleThread, Workers};
