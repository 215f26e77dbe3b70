//! Faults that pass: shares of the requests, mixtures, and answers that are late.

use super::*;

/// What so many requests for the head got, one after the other.
async fn heads(rig: &Rig, requests: usize) -> Vec<Got> {
    let mut got = Vec::new();
    for _ in 0..requests {
        got.push(rig.head().await);
    }
    got
}

fn is_right(got: &Got) -> bool {
    matches!(got, Got::Json(200, answer) if answer["result"] == hex(HEAD))
}

#[tokio::test]
async fn a_share_of_the_requests_meets_a_fault_and_which_is_drawn_from_the_seed() {
    let rig = Rig::start().await;
    for (percent, expected) in [(1, 1..20), (20, 80..130), (25, 100..155), (50, 210..290)] {
        let mut runs = Vec::new();
        for seed in [1, 1, 2] {
            rig.proxy.seed(seed);
            rig.proxy.mix(&[Fault::BadGateway], percent);
            let before = rig.proxy.counts().faulty;
            let right: Vec<bool> = heads(&rig, 500).await.iter().map(is_right).collect();
            let faulty = right.iter().filter(|right| !**right).count();
            assert!(expected.contains(&faulty), "{percent} %, seed {seed}: {faulty} of 500");
            assert_eq!(rig.proxy.counts().faulty - before, faulty as u64, "they are counted");
            runs.push(right);
        }
        assert!(runs[0] == runs[1] && runs[1] != runs[2], "{percent} %: the seed decides, and nothing else");
    }
}

#[tokio::test]
async fn what_a_request_meets_may_follow_from_what_it_asks_for() {
    let rig = Rig::start().await;
    rig.proxy.mix(&[Fault::BadGateway], 50);
    let mut runs = Vec::new();
    for (seed, backwards) in [(1, false), (1, true), (2, false)] {
        rig.proxy.seed_by_content(seed);
        let mut met = BTreeMap::new();
        for turn in 0..100 {
            let id = if backwards { 99 - turn } else { turn };
            let (block, times) = (id % 50, met.len() / 50);
            let got = rig.post(&call(turn, "eth_getBlockByNumber", &json!([hex(block), false]))).await;
            met.insert((block, times), matches!(got, Got::Text(502, _)));
        }
        let faulty = met.values().filter(|faulty| **faulty).count();
        assert!((30..70).contains(&faulty), "seed {seed}: {faulty} of 100");
        runs.push(met);
    }
    assert!(
        runs[0] == runs[1] && runs[1] != runs[2],
        "what is asked decides, and the seed; the order does not"
    );
}

#[tokio::test]
async fn a_mixture_gives_each_of_its_faults_and_nothing_else() {
    let rig = Rig::start().await;
    rig.proxy.mix(&[Fault::BadGateway, Fault::ResetBefore, Fault::NullId], 100);
    let mut seen = [0; 3];
    for got in heads(&rig, 120).await {
        let place = match got {
            Got::Text(502, _) => 0,
            Got::Reset => 1,
            Got::Json(200, answer) if answer["id"].is_null() => 2,
            other => panic!("none of the three: {other:?}"),
        };
        seen[place] += 1;
    }
    assert!(seen.iter().all(|count| *count > 20), "a third of 120 each: {seen:?}");
}

#[tokio::test]
async fn a_flaky_node_fails_a_quarter_of_all_requests_in_seven_ways() {
    let rig = Rig::with(Fault::Flaky).await;
    let mut ways: BTreeMap<String, u32> = BTreeMap::new();
    let got = heads(&rig, 600).await;
    let right = got.iter().filter(|got| is_right(got)).count();
    for failed in got.iter().filter(|got| !is_right(got)) {
        let way = match failed {
            Got::Reset => "closed".to_owned(),
            Got::Text(200, text) if text.starts_with('{') => "truncated".to_owned(),
            Got::Text(status, _) => status.to_string(),
            Got::Json(200, answer) if answer["error"].is_object() => answer["error"]["code"].to_string(),
            Got::Json(200, answer) if answer["result"].is_null() => "null".to_owned(),
            other => panic!("not one of the seven: {other:?}"),
        };
        *ways.entry(way).or_default() += 1;
    }
    assert!((410..490).contains(&right), "{right} of 600 are right");
    let names: Vec<&str> = ways.keys().map(String::as_str).collect();
    assert_eq!(names, ["-32005", "-32603", "429", "502", "closed", "null", "truncated"], "{ways:?}");
}

#[tokio::test]
async fn calls_for_state_that_fail_in_passing() {
    let rig = Rig::start().await;
    let contract = rig.sim.chain().contract();
    for (fault, wordings) in [
        (Fault::StateErrors, &["execution aborted (timeout = 5s)"][..]),
        (Fault::BadUpstream, &["upstream connection in bad state, retry"]),
        (
            Fault::StatePassing,
            &[
                "Internal Error - canceling statement due to statement timeout",
                "missing trie node 7c2b0d (path ) state 0x7c2b0d is not available",
            ],
        ),
    ] {
        rig.proxy.set(fault);
        let mut seen = BTreeSet::new();
        for turn in 0..1000 {
            let (method, subject) = match turn % 2 {
                0 => ("eth_call", json!({"to": contract, "data": "0x8da5cb5b"})),
                _ => ("eth_getCode", json!(contract)),
            };
            let got = rig.call(method, json!([subject, hex(HEAD - 128)])).await;
            if let Some(message) = got.json()["error"]["message"].as_str() {
                assert_eq!(got.json()["error"]["code"], -32000, "{fault}");
                seen.insert((method, message.to_owned()));
            }
        }
        let expected = ["eth_call", "eth_getCode"]
            .iter()
            .flat_map(|method| wordings.iter().map(|words| (*method, (*words).to_owned())));
        assert_eq!(seen, expected.collect(), "{fault}");
        assert!(heads(&rig, 100).await.iter().all(is_right), "{fault}: other calls are answered");
    }
}

#[tokio::test]
async fn a_method_is_answered_late_and_the_others_are_not() {
    let rig = Rig::start().await;
    let by = Duration::from_millis(200);
    rig.proxy.delay("eth_getLogs", by);
    tokio::select! {
        got = rig.logs(0, HEAD) => panic!("before the head, which is not late: {got:?}"),
        got = rig.head() => assert!(is_right(&got)),
    }
    for body in [
        call(1, "eth_getLogs", &json!([{"fromBlock": "0x0"}])),
        json!([call(1, "eth_chainId", &json!([])), call(2, "eth_getLogs", &json!([{"fromBlock": "0x0"}]))]),
    ] {
        let start = Instant::now();
        assert!(matches!(rig.post(&body).await, Got::Json(200, _)));
        assert!(start.elapsed() >= by, "{:?}", start.elapsed());
    }
}
