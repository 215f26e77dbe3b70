//! Which values are taken, and what is said of the others.

use proptest::prelude::*;

use super::*;

fn written(text: &str) -> Written {
    Written { text: text.to_owned(), ..Written::default() }
}

#[test]
fn variables() {
    let env = |name: &str| match name {
        "A" => Some("1".to_owned()),
        "EMPTY" => Some(String::new()),
        "NESTED" => Some("${A}".to_owned()),
        _ => None,
    };
    for (text, expected) in [
        ("x", Ok("x")),
        ("$A $ {A} $", Ok("$A $ {A} $")),
        ("$A", Err("is a variable without braces, expected ${NAME} or ${NAME:-default}")),
        ("$1", Ok("$1")),
        ("${B:-$A}", Ok("$A")),
        ("<${A}${A}>", Ok("<11>")),
        ("${NESTED}", Ok("${A}")),
        ("${EMPTY}", Ok("")),
        ("${EMPTY:-d}", Ok("d")),
        ("${B:-}", Ok("")),
        ("${B:-a:-b}", Ok("a:-b")),
        ("${B}", Err("variable B is not set, expected it in the environment, or ${B:-default}")),
        ("${A", Err("a variable is not closed, expected ${NAME} or ${NAME:-default}")),
        ("${A-b}", Err("a variable has no valid name, expected ${NAME} or ${NAME:-default}")),
    ] {
        let result = expand(text, env).map(|written| written.text);
        assert_eq!(result, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
    }
}

#[test]
fn checksums() {
    // The examples of EIP-55 itself.
    for text in [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ] {
        let address = address(&written(text));
        assert_eq!(address.as_ref().map(checksummed), Ok(text.to_owned()));
        assert_eq!(super::address(&written(&text.to_lowercase())), address);
        assert!(super::address(&written(&text.replace('D', "d"))).is_err() || !text.contains('D'));
    }
    assert!(address(&written("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe")).is_err());
    assert!(address(&written("5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed00")).is_err());
}

#[test]
fn durations() {
    for (text, millis) in [("2s", 2000), ("500ms", 500), ("1m", 60_000), ("1h", 3_600_000)] {
        assert_eq!(poll_interval(&written(text)), Ok(Duration::from_millis(millis)));
    }
    for text in ["", "2", "s", "1.5s", "-1s", "0s", "2h", "2 s", "9ms", "18446744073709551615h", "1µs"] {
        assert!(poll_interval(&written(text)).is_err(), "{text}");
    }
}

#[test]
fn a_request_takes_a_minute_at_most() {
    assert_eq!(request_timeout(&written("1m")), Ok(Duration::from_secs(60)));
    assert!(request_timeout(&written("60001ms")).is_err());
}

#[test]
fn explorers() {
    for text in ["https://sepolia.etherscan.io", "https://a.example/x", "http://127.0.0.1:80/"] {
        assert_eq!(explorer(&written(text)).as_deref(), Ok(text.trim_end_matches('/')));
    }
    for text in ["", "etherscan.io", "https://user@a.example", "https://a.example/?x=1", "javascript:x"] {
        assert!(explorer(&written(text)).is_err(), "{text}");
    }
}

#[test]
fn grafanas_are_as_explorers_but_for_the_example() {
    assert_eq!(grafana(&written("https://a.example/grafana/")).as_deref(), Ok("https://a.example/grafana"));
    assert!(grafana(&written("grafana:3000")).is_err_and(|what| what.contains("https://grafana.example")));
}

#[test]
fn variables_without_braces() {
    for text in ["https://h/$KEY", "https://$HOST/", "https://h/$_x"] {
        assert!(unbraced(text).is_err(), "{text}");
    }
    for text in ["https://h/${KEY}", "https://h/a$b", "https://h/$1", "https://h/$"] {
        assert!(unbraced(text).is_ok(), "{text}");
    }
}

#[test]
fn user_parts_become_headers() {
    let parts = |text| {
        let endpoint = endpoint(&written(text))?;
        let header = endpoint.headers.into_iter().next();
        Ok::<_, String>((endpoint.url.expose().to_string(), header.map(|(_, value)| value.0)))
    };
    let basic = |it: &str| Some(format!("Basic {it}"));
    for (text, uri, header) in [
        ("https://host/key?k=1", "https://host/key?k=1", None),
        ("HTTP://Host:1", "http://Host:1/", None),
        ("http://[::1]:8545/", "http://[::1]:8545/", None),
        ("https://Aladdin:open%20sesame@h/", "https://h/", basic("QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
        ("https://token@h/", "https://h/", basic("dG9rZW4=")),
        ("https://a:b@h/", "https://h/", basic("YTpi")),
    ] {
        assert_eq!(parts(text), Ok((uri.to_owned(), header)), "{text}");
    }
    for text in ["", "host", "/path", "ws://h/", "https://", "http://h:99999/", "http://h:/", "http://h/#a"] {
        assert!(parts(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn every_parser_survives_anything(text in any::<String>(), env in any::<Option<String>>()) {
        let it = written(&text);
        let _ = (name(&it), whole(&it), positive(&it), confirmations(&it), poll_interval(&it), address(&it));
        let _ = (unbraced(&text), explorer(&it), grafana(&it), endpoint(&it), header(&it), path(&it), key(&text), expand(&text, |_| env.clone()));
    }

    #[test]
    fn a_url_never_prints_more_than_its_place(secret in "[a-z0-9]{12}") {
        for text in [
            format!("https://u:{secret}@host:1/"),
            format!("https://{secret}@host:1/"),
            format!("https://host:1/v2/{secret}"),
            format!("https://host:1/?key={secret}"),
        ] {
            let endpoint = endpoint(&written(&text)).expect("valid");
            prop_assert_eq!(endpoint.url.to_string(), "https://host:1");
            let printed = format!("{endpoint:?}");
            prop_assert!(!printed.contains(&secret), "{}", printed);
        }
    }
}
