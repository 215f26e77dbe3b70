//! Whether a call that failed is sent once more at once, before its failure is anybody's business.
//!
//! Pure but for the jitter. Only what passes is tried again, a few times, and by an endpoint that is healthy:
//! one that goes on failing is asked once after each rest (see `back_off`).

use std::time::Duration;

use super::{Error, ErrorKind, Method, Refusal};

/// A call that had no answer is sent again this often.
const RETRIES: u32 = 3;

/// A call whose answer is an error, or none of JSON-RPC, is sent again this often.
const RETRIES_ANSWERED: u32 = 2;

/// The first pause; it doubles with each retry.
const PAUSE: Duration = Duration::from_millis(50);

/// The pause after a rate limit that does not say how long.
const RATE_LIMIT_PAUSE: Duration = Duration::from_millis(500);

/// A `Retry-After` beyond this is a rest of the endpoint, not a pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is sent again after this pause.
    Again { after: Duration },
    /// It has failed.
    GiveUp,
}

/// What follows the failure of a call to `method` that was retried `retries` times already. `healthy`: the
/// endpoint's last exchange before it succeeded.
pub(super) fn next(error: &Error, method: Method, retries: u32, healthy: bool) -> Next {
    let (allowed, pause) = match error.kind {
        // Another endpoint answers sooner than this one does a second time.
        ErrorKind::Timeout | ErrorKind::Connect => (0, PAUSE),
        // The same request meets the same refusal.
        ErrorKind::TooLarge | ErrorKind::Http(400 | 413 | 422) => (0, PAUSE),
        ErrorKind::Rpc(Refusal::Reverted | Refusal::NoState) => (0, PAUSE),
        ErrorKind::RateLimited => match error.retry_after {
            Some(asked) if asked > LONGEST_PAUSE => (0, asked),
            asked => (RETRIES, asked.unwrap_or(RATE_LIMIT_PAUSE)),
        },
        ErrorKind::Http(400..=499) | ErrorKind::Unreadable => (RETRIES_ANSWERED, PAUSE * (1 << retries)),
        ErrorKind::Broken | ErrorKind::Http(_) => (RETRIES, PAUSE * (1 << retries)),
        // Not there, or not indexed yet: what goes on is a matter of waiting.
        ErrorKind::Empty if method == Method::GetLogs => (1, Duration::ZERO),
        // The next answer may come from a replica that has the block.
        ErrorKind::Empty | ErrorKind::Rpc(Refusal::NoBlock) => (RETRIES_ANSWERED, Duration::ZERO),
        // A range that is too wide is refused in the words and with the codes of these.
        ErrorKind::Rpc(Refusal::Internal | Refusal::Other) if method == Method::GetLogs => (0, PAUSE),
        ErrorKind::Rpc(Refusal::Internal | Refusal::Other) => (RETRIES_ANSWERED, PAUSE * (1 << retries)),
    };
    if retries >= allowed || (error.kind.is_endpoint_failure() && !healthy) {
        return Next::GiveUp;
    }
    // The jitter keeps calls that failed together from coming back together; never sooner than asked for.
    let jitter = if error.retry_after.is_some() { 0.125 } else { 0.5 };
    Next::Again { after: pause.mul_f64(1.0 + jitter * fastrand::f64()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(error: &Error, method: Method, healthy: bool) -> u32 {
        (0..10).take_while(|done| next(error, method, *done, healthy) != Next::GiveUp).count() as u32
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        for (kind, logs, other, on_trial) in [
            (ErrorKind::Timeout, 0, 0, 0),
            (ErrorKind::Connect, 0, 0, 0),
            (ErrorKind::Broken, 3, 3, 0),
            (ErrorKind::Http(502), 3, 3, 0),
            (ErrorKind::Http(413), 0, 0, 0),
            (ErrorKind::RateLimited, 3, 3, 0),
            (ErrorKind::TooLarge, 0, 0, 0),
            (ErrorKind::Http(405), 2, 2, 0),
            (ErrorKind::Empty, 1, 2, 2),
            (ErrorKind::Unreadable, 2, 2, 2),
            (ErrorKind::Rpc(Refusal::Reverted), 0, 0, 0),
            (ErrorKind::Rpc(Refusal::NoState), 0, 0, 0),
            (ErrorKind::Rpc(Refusal::NoBlock), 2, 2, 2),
            (ErrorKind::Rpc(Refusal::Internal), 0, 2, 2),
            (ErrorKind::Rpc(Refusal::Other), 0, 2, 2),
        ] {
            let error = Error::new(kind, "");
            assert_eq!(retries(&error, Method::GetLogs, true), logs, "{kind:?}");
            assert_eq!(retries(&error, Method::Call, true), other, "{kind:?}");
            assert_eq!(retries(&error, Method::Call, false), on_trial, "{kind:?}");
        }
    }

    #[test]
    fn a_server_is_not_asked_sooner_than_it_asks_for() {
        let asked = |seconds| Error {
            retry_after: Some(Duration::from_secs(seconds)),
            ..Error::new(ErrorKind::RateLimited, "")
        };
        let Next::Again { after } = next(&asked(1), Method::Call, 0, true) else { panic!("given up") };
        assert!(after >= Duration::from_secs(1) && after < Duration::from_secs(2), "{after:?}");
        assert_eq!(next(&asked(60), Method::Call, 0, true), Next::GiveUp);
    }
}
