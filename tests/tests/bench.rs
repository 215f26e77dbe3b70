//! A short run of every benchmark, so that none rots: no figure is judged, but each is to come to the chain's own.

use std::process::Command;

#[test]
fn every_benchmark_runs_and_is_exact() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_bench")).arg("--short").output().expect("run the benchmarks");
    let (tables, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n{tables}");
    for title in [
        "dense",
        "50 ms of latency",
        "25 requests a second",
        "sparse",
        "following",
        "networks",
        "pending",
        "scrape",
    ] {
        assert!(tables.contains(&format!("### {title}")), "no table of {title}: {tables}");
    }
    // A benchmark that compared nothing would be exact as well.
    assert!(tables.matches("Exact: ").count() >= 9, "{tables}");
}
