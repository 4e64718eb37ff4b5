//! PromQL: text in, rows out. Sync; sees `model` only, knows no storage, network or JSON.
//!
//! [`parser::parse`] makes a syntax tree of a text. [`Engine`] evaluates it over a
//! [`storage::Storage`]: at one time ([`Engine::instant`]) or at many ([`Engine::range`]), with a
//! [`Session`] that says where the samples are, where the work runs, how much memory it may take
//! and what stops it.
//!
//! Evaluation is series-major: each operator is a stream of rows, a row being one series with a
//! value or none at every step. A selector pulls one series at a time from the storage, decoded
//! into columns; a kernel slides a window over them; an aggregation folds the row into its group
//! and forgets it. What must be held (groups, the one side of a join) is charged to the budget of
//! the query first. Rows come in the order in which series were pulled, whatever the number of
//! threads, so an answer always has the same bits.

pub mod annotations;
pub mod ast;
pub mod cancel;
pub mod duration;
pub mod engine;
pub mod error;
pub mod functions;
pub mod parser;
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
mod native;
mod number;
mod quantile;
mod quote;
mod token;

pub use crate::annotations::Annotations;
pub use crate::cancel::Cancel;
pub use crate::engine::{Answer, Engine, Options, QueryResult, Session};
pub use crate::error::Error;
pub use crate::workers::{SingleThread, Workers};
