//! PromQL: text in, rows out. Sync; sees `model` only, knows no storage, network or JSON.

pub mod ast;
pub mod duration;
pub mod functions;
pub mod parser;
pub mod pretty;
pub mod print;
pub mod storage;

mod check;
mod lexer;
mod number;
mod quote;
mod token;
