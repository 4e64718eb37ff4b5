//! Memory accounts under many threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use model::Budget;

#[test]
fn no_sum_ever_passes_a_bound_and_all_is_given_back() {
    const LIMIT: usize = 8_000;
    let process = Budget::process(10_000, None);
    let tenants = [process.child("a", 5_000), process.child("b", 5_000)];
    let (granted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..8_usize {
            let (process, tenant) = (process.clone(), tenants[worker % 2].clone());
            let (granted, refused) = (&granted, &refused);
            scope.spawn(move || {
                let query = tenant.child("query", 3_000);
                let mut held = Vec::new();
                for round in 0..5_000_usize {
                    match query.reserve((round * 37 + worker) % 700) {
                        Ok(reservation) => {
                            granted.fetch_add(1, Ordering::Relaxed);
                            held.push(reservation);
                        }
                        Err(_) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            held.truncate(held.len() / 2);
                        }
                    }
                    if let Some(last) = held.last_mut() {
                        let _ = last.resize(round % 500);
                    }
                    assert!(process.used_bytes() <= LIMIT);
                    assert!(tenant.used_bytes() <= 5_000 && query.used_bytes() <= 3_000);
                }
                let sum: usize = held.iter().map(model::Reservation::bytes).sum();
                assert_eq!(query.used_bytes(), sum);
            });
        }
    });
    assert_eq!(process.used_bytes(), 0);
    assert!(tenants.iter().all(|it| it.used_bytes() == 0));
    assert!(process.peak_bytes() <= LIMIT && process.peak_bytes() > 0);
    let refused = refused.into_inner();
    assert!(granted.into_inner() > 1000 && refused > 100, "{refused} refused");
}

#[test]
fn a_size_beyond_all_numbers_is_refused() {
    let budget = Budget::unlimited();
    let held = budget.reserve(usize::MAX).unwrap();
    assert!(budget.reserve(1).is_err());
    drop(held);
    assert_eq!(budget.used_bytes(), 0);
}
