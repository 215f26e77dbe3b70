//! A short soak; the long one is `cargo run -p tesseract-tests --bin soak -- --minutes 30`.

use std::time::Duration;

use tesseract_tests::soak;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_one_shows_no_difference() {
    let report = soak::run(Duration::from_secs(45), 3, |line| println!("{line}")).await;
    println!("{report}");
    assert!(report.differences.is_empty(), "{}", report.differences.join("\n"));
    assert!(report.faults > 0 && report.comparisons > 0, "nothing happened");
}
