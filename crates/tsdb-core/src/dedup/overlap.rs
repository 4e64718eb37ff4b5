//! Splits the overlapping chunks of one series into made-up replicas, as Thanos does.

/// Gives each chunk, named by its place in `bounds_ms` (first and last time of each, sorted by
/// the first), to the first replica whose last chunk ends before it begins; chunks that touch in
/// one timestamp overlap. Without chunks there is one replica without any.
pub fn split_overlapping(bounds_ms: &[(i64, i64)]) -> Vec<Vec<usize>> {
    let mut replicas = vec![Vec::new()];
    let mut ends_ms = vec![None];
    for (place, (min_time_ms, max_time_ms)) in bounds_ms.iter().enumerate() {
        let free = |end: &Option<i64>| end.is_none_or(|it| it < *min_time_ms);
        let found = ends_ms.iter().position(free).unwrap_or_else(|| {
            replicas.push(Vec::new());
            ends_ms.push(None);
            ends_ms.len() - 1
        });
        replicas[found].push(place);
        ends_ms[found] = Some(*max_time_ms);
    }
    replicas
}
