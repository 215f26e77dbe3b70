//! The contract's views, all at one block and in one exchange.
//!
//! Tells a view that the contract does not have from one that could not be read. Makes calls and reads
//! their answers; sends nothing itself.

pub mod aggregate;

use serde_json::json;
use web3::ethabi::Token;
use web3::types::{Bytes, H160, U256};

use crate::chain::{self, Incomplete};
use crate::decode::ABI;
use crate::rpc::{self, Answer, Call, ErrorKind, Method, Refusal};

/// `transaction_count()`
pub const COUNT: &str = "transaction_count";

/// `coordination_window()`
pub const WINDOW: &str = "coordination_window";

/// Every view of [`Views`], in the order of its fields.
const VIEWS: [&str; 5] = ["owner", "paused", "circuit_breaker_active", COUNT, WINDOW];

/// The contract's views, all read at one block. A view that failed or does not exist is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// There is code at the address.
    pub exists: Option<bool>,
    /// `owner()`
    pub owner: Option<H160>,
    /// `paused()`
    pub paused: Option<bool>,
    /// `circuit_breaker_active()`
    pub circuit_breaker: Option<bool>,
    /// `transaction_count()`
    pub transaction_count: Option<U256>,
    /// `coordination_window()`, seconds
    pub coordination_window: Option<U256>,
    /// Which variant the views show: `buffer` where `paused()` exists, else `simple`.
    pub variant: Option<&'static str>,
}

/// Why a view has no value.
#[derive(Clone, Debug)]
pub enum Unread {
    /// The call failed.
    Rpc(rpc::Error),
    /// The answer is not what it should be.
    Malformed(Incomplete),
}

impl Views {
    /// Whether there is code at the address.
    pub fn found(&mut self, exists: bool) {
        self.exists = Some(exists);
        self.variant = exists.then_some(if self.paused.is_some() { "buffer" } else { "simple" });
    }

    /// Which of the views that are read at old blocks as well the contract provably does not have.
    pub fn absent(&self) -> Vec<&'static str> {
        let known = self.exists == Some(true);
        let absent =
            [(COUNT, self.transaction_count.is_none()), (WINDOW, self.coordination_window.is_none())];
        absent.into_iter().filter_map(|(view, absent)| (known && absent).then_some(view)).collect()
    }
}

/// What a view returned.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    /// A value.
    Value(Token),
    /// The contract has no such view.
    NoView,
    /// Nothing at all: there is no code, or the node has no state of that block and does not say so.
    Nothing,
}

impl Returned {
    /// The value, if there is one.
    pub fn value(self) -> Option<Token> {
        match self {
            Self::Value(value) => Some(value),
            Self::NoView | Self::Nothing => None,
        }
    }
}

/// The calls for all views at this block.
pub fn calls(contract: H160, block: u64) -> Vec<Call> {
    VIEWS.iter().map(|view| call(contract, view, block)).collect()
}

/// What each view returned, from the answers to [`calls`].
///
/// # Errors
/// The first view that could not be read, other than for the contract not having it.
pub fn read(answers: impl Iterator<Item = Answer>) -> Result<Vec<Returned>, Unread> {
    let missing = || Err(rpc::Error::new(ErrorKind::Unreadable, "no answer"));
    let answers = answers.chain(std::iter::repeat_with(missing));
    VIEWS.iter().zip(answers).map(|(view, answer)| returned(view, answer)).collect()
}

impl From<Vec<Returned>> for Views {
    /// From what each view returned. Where none has a value, only the code tells whether there is a contract: `exists`
    /// is `None`.
    fn from(returned: Vec<Returned>) -> Self {
        let mut values = returned.into_iter().map(Returned::value);
        let mut next = || values.next().flatten();
        let mut views = Self {
            exists: None,
            owner: next().and_then(Token::into_address),
            paused: next().and_then(Token::into_bool),
            circuit_breaker: next().and_then(Token::into_bool),
            transaction_count: next().and_then(Token::into_uint),
            coordination_window: next().and_then(Token::into_uint),
            variant: None,
        };
        if views != Self::default() {
            views.found(true);
        }
        views
    }
}

/// The call of a view without parameters.
pub fn call(contract: H160, view: &str, block: u64) -> Call {
    let request = json!({"to": contract, "data": Bytes(selector(view))});
    Call { method: Method::Call, params: json!([request, chain::hex(block)]) }
}

/// Views take no parameters, so the selector is the whole input.
fn selector(view: &str) -> Vec<u8> {
    ABI.function(view).map(web3::ethabi::Function::short_signature).unwrap_or_default().to_vec()
}

/// What a view returned.
///
/// # Errors
/// It could not be read.
pub fn returned(view: &str, answer: Answer) -> Result<Returned, Unread> {
    let raw = match answer {
        Ok(raw) => raw,
        Err(rpc::Error { kind: ErrorKind::Rpc(Refusal::Reverted), .. }) => return Ok(Returned::NoView),
        Err(error) => return Err(Unread::Rpc(error)),
    };
    let Bytes(bytes) = chain::parse(&raw, view).map_err(Unread::Malformed)?;
    Ok(decoded(view, &bytes))
}

fn decoded(view: &str, bytes: &[u8]) -> Returned {
    if bytes.is_empty() {
        return Returned::Nothing;
    }
    let decoded = ABI.function(view).ok().and_then(|function| function.decode_output(bytes).ok()?.pop());
    decoded.map_or(Returned::NoView, Returned::Value)
}

/// The call that asks for the code at the address.
pub fn code_call(contract: H160, block: u64) -> Call {
    Call { method: Method::GetCode, params: json!([contract, chain::hex(block)]) }
}

/// Whether there is code, from the answer to [`code_call`].
///
/// # Errors
/// It could not be read.
pub fn has_code(answer: Answer) -> Result<bool, Unread> {
    let code: Bytes = chain::parse(&answer.map_err(Unread::Rpc)?, "code").map_err(Unread::Malformed)?;
    Ok(!code.0.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Answer {
        Ok(serde_json::value::RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn a_missing_view_differs_from_a_failed_read() {
        let number = returned("transaction_count", raw(&format!("\"0x{}\"", "0".repeat(64))));
        assert_eq!(number.unwrap(), Returned::Value(Token::Uint(U256::zero())));
        assert_eq!(returned("paused", raw("\"0x\"")).unwrap(), Returned::Nothing);
        assert_eq!(returned("paused", raw("\"0x01\"")).unwrap(), Returned::NoView);
        let error = |code: i64, message: &str| Err(rpc::Error::rpc(code, message));
        assert_eq!(returned("paused", error(3, "execution reverted")).unwrap(), Returned::NoView);
        assert_eq!(returned("paused", error(-32000, "execution reverted")).unwrap(), Returned::NoView);
        assert!(matches!(returned("paused", error(-32000, "missing trie node")), Err(Unread::Rpc(_))));
        assert!(matches!(returned("paused", raw("[{}]")), Err(Unread::Malformed(_))));
    }

    #[test]
    fn every_view_is_in_the_abi() {
        for view in VIEWS {
            let call = call(H160::zero(), view, 1);
            assert_eq!(call.params[0]["data"].as_str().map(str::len), Some(10), "{view}");
        }
    }

    #[test]
    fn the_variant_is_that_of_its_views() {
        let word = |last: &str| raw(&format!("\"0x{last:0>64}\""));
        let reverted = || Err(rpc::Error::rpc(3, "execution reverted"));
        let simple = vec![word("7"), reverted(), reverted(), word("2"), word("1e")];
        let read = |answers: Vec<Answer>| read(answers.into_iter()).map(Views::from);
        let views = read(simple).unwrap();
        assert_eq!(
            (views.variant, views.paused, views.coordination_window),
            (Some("simple"), None, Some(30.into()))
        );
        let buffer = vec![word("7"), word("1"), word("0"), word("2"), word("1e")];
        let views = read(buffer).unwrap();
        assert_eq!(
            (views.variant, views.paused, views.circuit_breaker),
            (Some("buffer"), Some(true), Some(false))
        );
        let mut none = read(vec![reverted(), reverted(), reverted(), reverted(), raw("\"0x\"")]).unwrap();
        assert_eq!((none.exists, none.variant), (None, None));
        none.found(true);
        assert_eq!((none.exists, none.variant), (Some(true), Some("simple")));
        none.found(false);
        assert_eq!((none.exists, none.variant), (Some(false), None));
        assert!(read(vec![word("7")]).is_err());
    }
}
