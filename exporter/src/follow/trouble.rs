//! Why a cycle did not come to its end, and what that says about asking again.

use crate::chain::Incomplete;
use crate::rpc::{self, Outcome};

/// Why a cycle did not come to its end.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The endpoint failed or refused.
    Rpc(rpc::Error),
    /// The logs of a range were refused, or failed in a way that may be due to its size.
    Range { blocks: u64, first: u64, error: rpc::Error },
    /// Answers that do not fit together; another replica or a moment later they may.
    Incomplete(String),
    /// Logs that must be there did not come yet.
    Late(String),
}

impl Trouble {
    /// Asking once more at once is in vain: late logs need time or another endpoint, a single block is not
    /// too many.
    pub(super) fn needs_time(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Range { blocks, error, .. } => *blocks == 1 && !is_lag(error),
            Self::Rpc(_) | Self::Incomplete(_) => false,
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Range { blocks: 1, first, error } => write!(f, "logs of the single block {first}: {error}"),
            Self::Range { blocks, first, error } => {
                write!(f, "logs of {blocks} blocks from {first}: {error}")
            }
            Self::Incomplete(why) | Self::Late(why) => f.write_str(why),
        }
    }
}

impl From<rpc::Error> for Trouble {
    fn from(error: rpc::Error) -> Self {
        Self::Rpc(error)
    }
}

impl From<Incomplete> for Trouble {
    fn from(incomplete: Incomplete) -> Self {
        Self::Incomplete(incomplete.0)
    }
}

/// A replica that lags refuses blocks that it does not have, whatever their number.
pub(super) fn is_lag(error: &rpc::Error) -> bool {
    error.is_behind() && error.outcome == Outcome::RpcError
}
