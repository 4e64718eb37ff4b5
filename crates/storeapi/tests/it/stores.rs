//! The store in memory passes the suite, and the data of the other tests.

use bytes::Bytes;
use model::Labels;
use storeapi::conformance::{self, Held};
use storeapi::memory::MemoryStore;
use storeapi::store::{AggrChunk, Chunk, ChunkEncoding, StoreSeries};

/// Labels from pairs.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

/// A chunk whose bytes only tell its time; nobody here decodes.
pub(crate) fn chunk(min_time_ms: i64, max_time_ms: i64, content: &str) -> AggrChunk {
    let data = Bytes::copy_from_slice(content.as_bytes());
    let raw = Some(Chunk { encoding: ChunkEncoding::Xor, data });
    AggrChunk { min_time_ms, max_time_ms, raw, ..AggrChunk::default() }
}

/// 60 series of which some vanish into each other without `replica`.
pub(crate) fn store() -> (MemoryStore, Vec<Held>, Labels) {
    let external = labels(&[("cluster", "c1"), ("replica", "a")]);
    let mut held = Vec::new();
    let mut series = Vec::new();
    for metric in ["http_requests_total", "up", "zero"] {
        for index in 0..20 {
            let job = ["api", "node", "é"][index % 3];
            let instance = format!("i{}", index / 4);
            let mut pairs = vec![
                ("__name__", metric),
                ("cluster", "c1"),
                ("instance", &*instance),
                ("job", job),
                ("replica", "a"),
            ];
            if index % 2 == 0 {
                pairs.push(("a", "1"));
            }
            if index % 5 == 0 {
                pairs.push(("zone", "z"));
            }
            let number = index.to_string();
            pairs.push(("number", &number));
            let start_ms = 1000 * i64::try_from(index).unwrap();
            let chunks = [0, 1, 2].map(|it| {
                let begin_ms = start_ms + it * 500;
                chunk(begin_ms, begin_ms + 400, &format!("{metric} {number} {it}"))
            });
            let timestamps_ms =
                chunks.iter().flat_map(|it| [it.min_time_ms, it.max_time_ms]).collect();
            let labels = labels(&pairs);
            held.push(Held { labels: labels.clone(), timestamps_ms });
            series.push(StoreSeries { labels, chunks: chunks.to_vec() });
        }
    }
    (MemoryStore::new("memory", external.clone(), series), held, external)
}

#[tokio::test]
async fn the_store_in_memory_passes_the_suite() {
    let (store, held, external) = store();
    conformance::check(&store, &held, &external).await;
}
