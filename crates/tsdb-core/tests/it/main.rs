//! Tests of the engine against golden data, damage and chance.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests look at files as others would")]

mod block_writing;
mod checks;
mod chunk_chance;
mod chunk_vectors;
mod chunks;
mod compaction;
mod compaction_aggregates;
mod compaction_model;
mod damage;
mod damaged_times;
mod dedup_laws;
mod dedup_merge;
mod dedup_scenarios;
mod downsample;
mod downsample_blocks;
mod downsample_golden;
mod downsample_histograms;
mod downsample_reference;
mod downsample_views;
mod engine;
mod engine_budget;
mod engine_crash;
mod engine_cuts;
mod engine_damage;
mod engine_durable;
mod engine_rules;
mod engine_threads;
mod golden_blocks;
mod golden_dedup;
mod matchers;
mod metas;
mod promtool;
mod replicas;
mod samples;
mod streams;
