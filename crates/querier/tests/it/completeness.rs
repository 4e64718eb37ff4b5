//! Stores that fail: named, or the end of the query; replicas; and whom a query asks at all.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use model::Budget;
use storeapi::memory::MemoryStore;
use storeapi::request::{LabelsRequest, LabelsResponse, SeriesRequest, StoreInfo};
use storeapi::store::{SeriesFrame, SeriesFrames};
use storeapi::{Error, Store};

use crate::world::{World, labels, series};

fn good(name: &str, replica: &str, samples: &[(i64, f64)]) -> Arc<dyn Store> {
    let pairs = [("__name__", "up"), ("job", "a"), ("replica", replica)];
    let all = vec![series(&pairs, samples)];
    Arc::new(MemoryStore::new(name, labels(&[("replica", replica)]), all))
}

/// However the samples are spread over stores, and however often they are there, the answer is the
/// same to the bit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_do_not_depend_on_who_holds_what() {
    let all: Vec<Vec<(i64, f64)>> = (0..6_i32)
        .map(|index| {
            let value = |at: i64| 0.1 * f64::from(index + 1) * (at as f64 / 7.0).sin().abs();
            (0..400).map(|it| (it * 1000, value(it * 1000))).collect()
        })
        .collect();
    let pairs = |instance: &'static str, replica: &'static str| {
        [("__name__", "m"), ("instance", instance), ("replica", replica)]
    };
    let names = ["0", "1", "2", "3", "4", "5"];
    let store = |replica: &'static str, wanted: &mut dyn FnMut(usize, i64) -> bool| {
        let of = |index: usize, wanted: &mut dyn FnMut(usize, i64) -> bool| {
            let samples = all[index].iter().filter(|it| wanted(index, it.0)).copied();
            series(&pairs(names[index], replica), &samples.collect::<Vec<_>>())
        };
        let mut content: Vec<_> = (0..6).map(|index| of(index, wanted)).collect();
        content.retain(|it| !it.chunks.is_empty());
        let external = labels(&[("replica", replica)]);
        Arc::new(MemoryStore::new(replica, external, content)) as Arc<dyn Store>
    };
    let queries = [
        "query?query=sum(rate(m[1m]))&time=390",
        "query_range?query=sum by (instance) (avg_over_time(m[30s]))&start=0&end=400&step=7",
        "query_range?query=m&start=0&end=400&step=1",
    ];
    let ask = async |stores: Vec<Arc<dyn Store>>| {
        let world = World::new(&["--query.replica-label=replica"], stores).await;
        let mut answers = Vec::new();
        for query in queries {
            let answer = world.get(&format!("/api/v1/{}", query.replace(' ', "%20"))).await;
            assert_eq!(answer.header("x-aion-complete"), "true");
            answers.push(answer.text);
        }
        answers
    };
    let whole = ask(vec![store("a", &mut |_, _| true)]).await;
    assert!(whole[2].len() > 10_000, "{}", whole[2]);
    for seed in 1..6_u64 {
        let mut state = seed;
        let mut draw = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 60
        };
        // Every sample is in the first store or in the second one, many are in both, and a third
        // one has stretches of them once more.
        let mut kept = Vec::new();
        let first = store("a", &mut |index, at| {
            let is_kept = draw() > 4;
            if !is_kept {
                kept.push((index, at));
            }
            is_kept
        });
        let second = store("b", &mut |index, at| kept.contains(&(index, at)) || at % 3000 == 0);
        let third = store("c", &mut |index, at| usize::try_from(at / 50_000).unwrap() % 6 == index);
        assert_eq!(ask(vec![first, second, third]).await, whole, "seed {seed}");
    }
}

/// Breaks off in the middle of every stream.
#[derive(Debug)]
struct Breaking(Arc<dyn Store>);

impl Store for Breaking {
    fn name(&self) -> String {
        "breaking:10901".to_owned()
    }

    fn info(&self) -> StoreInfo {
        // An old store: it cannot take replica labels away.
        StoreInfo { supports_without_replica_labels: false, ..self.0.info() }
    }

    fn series(
        &self,
        request: SeriesRequest,
        budget: Budget,
    ) -> BoxFuture<'_, Result<SeriesFrames, Error>> {
        assert!(request.without_replica_labels.is_empty(), "it was asked for what it cannot do");
        async move {
            let frames = self.0.series(request, budget).await?;
            let error = Error::Aborted("the disk is gone".to_owned());
            Ok(frames.chain(stream::iter([Err::<SeriesFrame, _>(error)])).boxed())
        }
        .boxed()
    }

    fn label_names(
        &self,
        _request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async { Err(Error::Aborted("the disk is gone".to_owned())) }.boxed()
    }

    fn label_values(
        &self,
        _name: String,
        _request: LabelsRequest,
        _budget: Budget,
    ) -> BoxFuture<'_, Result<LabelsResponse, Error>> {
        async { Err(Error::Aborted("the disk is gone".to_owned())) }.boxed()
    }
}

const QUERY: &str = "/api/v1/query?query=up&time=100";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_become_one_series() {
    let stores = || {
        vec![
            good("one", "a", &[(10_000, 1.0), (70_000, 3.0)]),
            good("two", "b", &[(40_000, 2.0), (70_000, 9.0)]),
        ]
    };
    let world = World::new(&["--query.replica-label=replica"], stores()).await;
    let joined = world.get("/api/v1/query?query=up[5m]&time=100").await;
    let expected =
        r#"[{"metric":{"__name__":"up","job":"a"},"values":[[10,"1"],[40,"2"],[70,"3"]]}]"#;
    assert!(joined.text.contains(expected), "{}", joined.text);
    assert_eq!(joined.header("x-aion-complete"), "true");

    let apart = world.get("/api/v1/query?query=count(up)&time=100&dedup=false").await.json();
    assert_eq!(apart["data"]["result"][0]["value"][1], "2");
    let named = "/api/v1/query?query=count(up)&time=100&replicaLabels[]=other";
    assert_eq!(world.get(named).await.json()["data"]["result"][0]["value"][1], "2");
    let series = world.get("/api/v1/series?match[]=up").await.json();
    assert_eq!(series["data"], serde_json::json!([{"__name__": "up", "job": "a"}]));
    // Names are shown as they are.
    let names = world.get("/api/v1/labels").await.json();
    assert_eq!(names["data"], serde_json::json!(["__name__", "job", "replica"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_breaks_off_is_named_or_ends_the_query() {
    let stores = vec![
        good("good:10901", "a", &[(10_000, 1.0)]),
        Arc::new(Breaking(good("inner", "b", &[(40_000, 2.0)]))) as Arc<dyn Store>,
    ];
    let world = World::new(&["--query.replica-label=replica"], stores).await;
    let answer = world.get(QUERY).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-aion-complete"), "false");
    assert_eq!(answer.header("cache-control"), "no-store");
    let json = answer.json();
    let warning = "breaking:10901: the disk is gone; its series after {__name__=\"up\", job=\"a\"} \
                   are missing";
    assert_eq!(json["warnings"], serde_json::json!([warning]));
    assert_eq!(json["data"]["result"][0]["value"][1], "2");

    let answer = world.get(&format!("{QUERY}&partial_response=false")).await;
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert_eq!(answer.json()["errorType"], "internal");
    assert!(answer.text.contains("breaking:10901: the disk is gone"), "{}", answer.text);
    let range = "/api/v1/query_range?query=up&start=0&end=100&step=10&partial_response=0";
    assert_eq!(world.get(range).await.status, 422);

    for target in ["/api/v1/labels", "/api/v1/label/job/values", "/api/v1/series?match[]=up"] {
        let separator = if target.contains('?') { '&' } else { '?' };
        let answer = world.get(target).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-aion-complete")), (200, "false"));
        let answer = world.get(&format!("{target}{separator}partial_response=false")).await;
        assert_eq!(answer.status, 422, "{target}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cannot_be_reached_is_missing_from_every_answer() {
    let flags = ["--endpoint=127.0.0.1:1", "--query.replica-label=replica"];
    let world = World::new(&flags, vec![good("good", "a", &[(10_000, 1.0)])]).await;
    let answer = world.get(QUERY).await;
    assert_eq!(answer.header("x-aion-complete"), "false");
    let warning = answer.json()["warnings"][0].as_str().unwrap().to_owned();
    assert!(warning.starts_with("127.0.0.1:1: tcp connect error: "), "{warning}");
    assert!(warning.ends_with("; its series are missing"), "{warning}");
    // What needs no store is whole.
    let answer = world.get("/api/v1/query?query=1%2B1&time=4").await;
    assert_eq!(answer.header("x-aion-complete"), "true");
    // And a caller may choose whom to ask.
    let chosen = format!("{QUERY}&storeMatch[]={{__address__=\"good\"}}");
    let answer =
        world.get(&chosen.replace('{', "%7B").replace('}', "%7D").replace('"', "%22")).await;
    assert_eq!(answer.header("x-aion-complete"), "true", "{}", answer.text);

    let stores = world.get("/api/v1/stores").await.json();
    assert_eq!(stores["data"]["store"][0]["name"], "good");
    assert_eq!(stores["data"]["store"][0]["labelSets"], serde_json::json!([{"replica": "a"}]));
    assert!(stores["data"]["unknown"][0]["lastError"].is_string());
    assert!(world.get("/").await.text.contains("127.0.0.1:1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_cannot_have_the_answer_are_not_asked() {
    // It would break off, but it holds other labels, or another time.
    let breaking = Arc::new(Breaking(good("inner", "b", &[(40_000, 2.0)]))) as Arc<dyn Store>;
    let world = World::new(&[], vec![good("good", "a", &[(10_000, 1.0)]), breaking]).await;
    let complete = async |target: &str| {
        let answer = world.get(target).await;
        answer.header("x-aion-complete").to_owned()
    };
    let other = "/api/v1/query?query=up%7Breplica%3D%22a%22%7D&time=100";
    assert_eq!(complete(other).await, "true");
    assert_eq!(complete("/api/v1/query?query=up&time=1000").await, "true");
    assert_eq!(complete(QUERY).await, "false");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_needs_too_much_memory_is_refused() {
    let samples: Vec<(i64, f64)> = (0..10_000).map(|it| (it * 1000, 1.5)).collect();
    let flags: Vec<String> = Vec::new();
    let mut config: querier::Config = daemon::config_of::<querier::Querier>(&flags).unwrap();
    config.local_stores = vec![good("good", "a", &samples)];
    let mut context = daemon::Context::of_this_machine("query").unwrap();
    context.budget = Budget::unlimited().child("process", 200_000);
    let router = querier::router(&config, &context).await.unwrap();
    let request = http::Request::get("/api/v1/query?query=up[1d]&time=10000");
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert_eq!(response.status(), 422);
}
