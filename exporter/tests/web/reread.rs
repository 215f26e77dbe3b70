//! The file of `--web.config.file` and those it names, read again while the server runs.

use std::time::Duration;

use crate::access::{CLIENTS, TLS, directory, read, start, users};
use crate::tls::{Authority, Client};

/// A certificate is demanded, and anybody can make one.
const ANY_CLIENT: &str = "  client_auth_type: RequireAnyClientCert\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_over_all_or_nothing() {
    let (authority, next) = (Authority::new(), Authority::new());
    let directory = directory(&authority);
    let file = directory.path().join("web.yml");
    let text = format!("{TLS}{}", users());
    let server = start(directory.path(), &text).await;
    assert_eq!(Client::new(&authority).scrape(&server).await, Ok(401));

    next.sign(&["localhost"]).write(directory.path());
    server.access.check().unwrap();
    assert_eq!(Client::new(&authority).scrape(&server).await, Ok(401), "a check takes nothing over");
    server.access.reload().unwrap();
    assert_eq!(Client::new(&next).scrape(&server).await, Ok(401));
    assert!(Client::new(&authority).scrape(&server).await.is_err());

    for (change, refused) in [
        ("", "tls_server_config came or went"),
        (TLS, "basic_auth_users are gone"),
        ("nonsense: 1\n", "1: nonsense: unknown key"),
    ] {
        std::fs::write(&file, change).unwrap();
        let mistake = server.access.reload().unwrap_err();
        assert_eq!(server.access.check(), Err(mistake.clone()));
        assert!(mistake.contains(refused), "{mistake}");
        assert_eq!(Client::new(&next).scrape(&server).await, Ok(401), "{change}");
    }
}

#[test]
fn what_is_closed_stays_closed_until_a_restart() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let users = users();
    let other = users.replace("alice", "bob");
    let excluded = "auth_excluded_paths: [/-/healthy]\n";
    let verified = format!("{TLS}{CLIENTS}");
    let (gone, unverified) = ("basic_auth_users are gone", "client_auth_type is no longer Require");
    let new_path = "auth_excluded_paths has a new path";
    for (before, after, refused) in [
        (users.clone(), String::new(), Some(gone)),
        (users.clone(), format!("{users}{excluded}"), Some(new_path)),
        (format!("{users}{excluded}"), format!("{users}auth_excluded_paths: [/metrics]\n"), Some(new_path)),
        (format!("{TLS}{users}"), TLS.into(), Some(gone)),
        (format!("{verified}{users}"), format!("{TLS}{users}"), Some(unverified)),
        (format!("{verified}{users}"), verified.clone(), Some(gone)),
        (verified.clone(), TLS.into(), Some(unverified)),
        (verified.clone(), format!("{TLS}{ANY_CLIENT}"), Some(unverified)),
        (
            verified.clone(),
            verified.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
            Some(unverified),
        ),
        // Who comes in is the file's to say, and so is to close more.
        (users.clone(), other, None),
        (format!("{users}{excluded}"), users.clone(), None),
        (TLS.into(), verified.clone(), None),
        (TLS.into(), format!("{TLS}{users}{excluded}"), None),
        (verified.clone(), format!("{verified}  client_allowed_sans: [a]\n{users}"), None),
        // Anybody came in before.
        (format!("{TLS}{ANY_CLIENT}"), TLS.into(), None),
    ] {
        let access = read(directory.path(), &before).unwrap();
        std::fs::write(directory.path().join("web.yml"), &after).unwrap();
        let (checked, reloaded) = (access.check(), access.reload());
        assert_eq!(checked, reloaded);
        let Some(refused) = refused else {
            assert_eq!(reloaded, Ok(()), "{before}\n{after}");
            continue;
        };
        let mistake = reloaded.err().unwrap_or_else(|| panic!("taken over: {before}\n{after}"));
        assert!(mistake.contains(&format!("web.yml: {refused}")), "{mistake}");
        assert!(mistake.ends_with("which would open what is closed; restart to change that"), "{mistake}");
        assert_eq!(mistake.lines().count(), 1, "{mistake}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_certificate_is_taken_over_by_itself() {
    let (authority, next) = (Authority::new(), Authority::new());
    let directory = directory(&authority);
    let server = start(directory.path(), TLS).await;
    assert_eq!(Client::new(&authority).scrape(&server).await, Ok(200));
    next.sign(&["localhost", "another.length"]).write(directory.path());
    let started = tokio::time::Instant::now();
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    while Client::new(&next).scrape(&server).await != Ok(200) {
        assert!(started.elapsed() < Duration::from_secs(60), "still the old one");
        looks.tick().await;
    }
}
