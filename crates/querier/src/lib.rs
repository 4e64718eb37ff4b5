//! querier.
