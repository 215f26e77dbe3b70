//! Fifty lives from fixed seeds; more are `cargo run -p tesseract-tests --bin simulate -- --seeds 1000`.

use tesseract_tests::simulation;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_lives_end_with_the_truth_or_say_that_they_do_not() {
    let mut wrong = Vec::new();
    let summary = simulation::run(1..=50, 12, |ending| {
        if ending.verdict.is_wrong() {
            wrong.push(ending.to_string());
        }
    })
    .await;
    println!("{summary}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(summary.exact > 25, "hardly a life is exact: {summary}");
}
