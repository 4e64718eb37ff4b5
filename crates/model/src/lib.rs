//! The vocabulary of aion: labels, matchers, samples, columns, time, block ids, memory accounts.
//!
//! No I/O, no clock, no threads. Everything here is a value that the other crates pass around;
//! whatever knows a file, a socket or a bucket lives above.

pub mod block_id;
pub mod budget;
pub mod columns;
pub mod duration;
pub mod float;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod nearest;
pub mod quote;
pub mod regex;
pub mod sample;
pub mod tenant;
pub mod text_time;
pub mod time;
pub mod time_bound;

pub use crate::block_id::BlockId;
pub use crate::budget::{Budget, BudgetExceeded, Reservation};
pub use crate::columns::Columns;
pub use crate::histogram::{FloatHistogram, Histogram};
pub use crate::labels::{Labels, LabelsBuilder};
pub use crate::matcher::{MatchOp, Matcher};
pub use crate::nearest::nearest;
pub use crate::sample::{STALE_NAN_BITS, Sample, is_stale};
pub use crate::tenant::Tenant;
pub use crate::time::TimeRange;
pub use crate::time_bound::TimeBound;
