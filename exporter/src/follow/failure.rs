//! Why a cycle was not completed, and what follows.
//!
//! Pure: [`decide`] looks at the kind of an error and at what is known of the endpoint, never at words.

use crate::chain::Incomplete;
use crate::plan::Asked;
use crate::rpc::{self, ErrorKind, Refusal};
use crate::views::Unread;

/// An endpoint whose answers do not fit together is asked this often before another one is.
const TRIES: u32 = 3;

/// Why a cycle was not completed.
#[derive(Clone, Debug)]
pub(super) enum CycleError {
    /// A call failed, also when it was tried again.
    Rpc(rpc::Error),
    /// The logs of a range were refused, or failed in a way that may be due to its size.
    Range { blocks: u64, first: u64, error: rpc::Error },
    /// Answers that do not fit together; another replica or a moment later they may.
    Inconsistent(String),
    /// Logs that must be there did not come yet; `blocks` is the size of the range where a smaller one may bring them,
    /// else 1.
    Late { why: String, blocks: u64 },
    /// Head and views were read, but the node does not say what is confirmed.
    Unconfirmed(String),
    /// The endpoint is not to be used: it is on another chain, or trails the others.
    Unusable(String),
    /// Every answer is what it should be, and all together cannot be true of the chain that was followed.
    Contradiction(String),
}

/// What is known of the endpoint that an error came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Its failed tries in this cycle, this one included.
    pub tries: u32,
    /// The next range asks it for less.
    pub smaller: bool,
    /// It is not resting.
    pub healthy: bool,
    /// There is no other endpoint.
    pub alone: bool,
}

/// What follows an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same endpoint is asked once more at once.
    Again,
    /// The endpoint rests, and another one is asked.
    Failover,
    /// Nobody is to blame: the cycle ends with this problem.
    Report,
}

/// What follows an error.
pub(super) fn decide(error: &CycleError, known: Known) -> Next {
    let again = match error {
        CycleError::Contradiction(_) => return Next::Report,
        // It answers well; asking it for less would show less.
        CycleError::Unconfirmed(_) if known.alone => return Next::Report,
        // What fails in passing was tried again already.
        CycleError::Rpc(_) | CycleError::Unusable(_) | CycleError::Unconfirmed(_) => false,
        // Otherwise late logs need time or another endpoint.
        CycleError::Range { .. } | CycleError::Late { .. } => known.smaller,
        CycleError::Inconsistent(_) => known.tries < TRIES,
    };
    if again && known.healthy { Next::Again } else { Next::Failover }
}

/// What a failure to read a range of `size` blocks says about that size.
pub(super) fn asked(kind: ErrorKind, size: u64, at: u64) -> Asked {
    match kind {
        // A single block is not too many.
        _ if size < 2 => Asked::Failed,
        ErrorKind::Connect | ErrorKind::Rpc(Refusal::Reverted) => Asked::Failed,
        ErrorKind::RateLimited => Asked::RateLimited { size, at },
        ErrorKind::TooLarge => Asked::TooLarge { size },
        // Some providers have no words for a range that is too wide.
        ErrorKind::Timeout | ErrorKind::Broken | ErrorKind::Empty | ErrorKind::Unreadable => {
            Asked::Unanswered { size, at }
        }
        ErrorKind::Http(_) if kind.is_endpoint_failure() => Asked::Unanswered { size, at },
        ErrorKind::Rpc(Refusal::NoBlock) => Asked::Unanswered { size, at },
        ErrorKind::Http(_) | ErrorKind::Rpc(_) => Asked::Refused { size },
    }
}

impl std::fmt::Display for CycleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Range { blocks: 1, first, error } => write!(f, "logs of the single block {first}: {error}"),
            Self::Range { blocks, first, error } => {
                write!(f, "logs of {blocks} blocks from {first}: {error}")
            }
            Self::Late { why, .. } => f.write_str(why),
            Self::Inconsistent(why)
            | Self::Unusable(why)
            | Self::Contradiction(why)
            | Self::Unconfirmed(why) => f.write_str(why),
        }
    }
}

impl From<rpc::Error> for CycleError {
    fn from(error: rpc::Error) -> Self {
        Self::Rpc(error)
    }
}

impl From<Incomplete> for CycleError {
    fn from(incomplete: Incomplete) -> Self {
        Self::Inconsistent(incomplete.0)
    }
}

impl From<Unread> for CycleError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Rpc(error) => error.into(),
            Unread::Malformed(incomplete) => incomplete.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Next::{Again, Failover, Report};
    use super::*;

    #[test]
    fn what_follows_an_error() {
        let error = |kind| rpc::Error::new(kind, "");
        let range = |blocks, kind| CycleError::Range { blocks, first: 1, error: error(kind) };
        let refused = ErrorKind::Rpc(Refusal::Other);
        let text = String::new;
        for (error, tries, smaller, healthy, next) in [
            (CycleError::Rpc(error(ErrorKind::Timeout)), 1, false, false, Failover),
            (CycleError::Rpc(error(refused)), 1, false, true, Failover),
            (range(9, refused), 9, true, true, Again),
            (range(9, ErrorKind::Timeout), 1, true, false, Failover),
            (range(9, refused), 1, false, true, Failover),
            (range(1, refused), 1, false, true, Failover),
            (CycleError::Inconsistent(text()), 2, false, true, Again),
            (CycleError::Inconsistent(text()), 3, false, true, Failover),
            (CycleError::Late { why: text(), blocks: 9 }, 1, false, true, Failover),
            (CycleError::Late { why: text(), blocks: 9 }, 9, true, true, Again),
            (CycleError::Unusable(text()), 1, false, true, Failover),
            (CycleError::Contradiction(text()), 1, false, true, Report),
        ] {
            let known = Known { tries, smaller, healthy, alone: false };
            assert_eq!(decide(&error, known), next, "{error:?}, {tries}");
        }
        let known = Known { tries: 1, smaller: false, healthy: true, alone: true };
        assert_eq!(decide(&CycleError::Unconfirmed(text()), known), Report);
        assert_eq!(decide(&CycleError::Unconfirmed(text()), Known { alone: false, ..known }), Failover);
    }

    #[test]
    fn what_a_failure_says_about_the_size() {
        for (kind, expected) in [
            (ErrorKind::Timeout, Asked::Unanswered { size: 8, at: 5 }),
            (ErrorKind::Connect, Asked::Failed),
            (ErrorKind::Broken, Asked::Unanswered { size: 8, at: 5 }),
            (ErrorKind::Http(503), Asked::Unanswered { size: 8, at: 5 }),
            (ErrorKind::Http(400), Asked::Refused { size: 8 }),
            (ErrorKind::RateLimited, Asked::RateLimited { size: 8, at: 5 }),
            (ErrorKind::TooLarge, Asked::TooLarge { size: 8 }),
            (ErrorKind::Empty, Asked::Unanswered { size: 8, at: 5 }),
            (ErrorKind::Unreadable, Asked::Unanswered { size: 8, at: 5 }),
            (ErrorKind::Rpc(Refusal::Other), Asked::Refused { size: 8 }),
            (ErrorKind::Rpc(Refusal::Internal), Asked::Refused { size: 8 }),
            (ErrorKind::Rpc(Refusal::NoBlock), Asked::Unanswered { size: 8, at: 5 }),
        ] {
            assert_eq!(asked(kind, 8, 5), expected, "{kind:?}");
            assert_eq!(asked(kind, 1, 5), Asked::Failed, "{kind:?}");
        }
    }
}
