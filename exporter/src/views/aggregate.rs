//! All views, and the chain's id, in one call: by Multicall3, a contract that has the same address on nearly every chain.
//!
//! Makes the call and reads its answer. Whether the contract is there, and says what direct calls say, is for the caller
//! to find out.

use serde_json::json;
use web3::ethabi::{self, ParamType, Token};
use web3::types::{Bytes, H160, H256};

use super::{Returned, VIEWS, decoded, selector};
use crate::chain;
use crate::rpc::{Call, Method, Raw};

/// Multicall3's address, `0xcA11bde05977b3631167028862bE2a173976CA11`.
const MULTICALL: H160 = H160([
    0xca, 0x11, 0xbd, 0xe0, 0x59, 0x77, 0xb3, 0x63, 0x11, 0x67, 0x02, 0x88, 0x62, 0xbe, 0x2a, 0x17, 0x39,
    0x76, 0xca, 0x11,
]);

/// `aggregate3((address,bool,bytes)[])`
const AGGREGATE: [u8; 4] = [0x82, 0xad, 0x56, 0xcb];

/// `getChainId()` of Multicall3 itself.
const CHAIN_ID: [u8; 4] = [0x34, 0x08, 0xe4, 0x70];

/// The answer has a few words for each view. Decoding a longer one could cost far more than its length.
const LONGEST_ANSWER: usize = 4096;

/// What Multicall3 returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregated {
    /// The chain's id.
    pub chain_id: u64,
    /// One for each view, in their order.
    pub views: Vec<Returned>,
}

/// The call for chain id and all views at the block of this hash: by its number another branch might answer.
pub fn call(contract: H160, block: H256) -> Call {
    let views = VIEWS.iter().map(|view| (contract, selector(view)));
    let calls = std::iter::once((MULTICALL, CHAIN_ID.to_vec())).chain(views).map(|(to, input)| {
        let may_fail = Token::Bool(true);
        Token::Tuple(vec![Token::Address(to), may_fail, Token::Bytes(input)])
    });
    let calls = ethabi::encode(&[Token::Array(calls.collect())]);
    let request = json!({"to": MULTICALL, "data": Bytes([&AGGREGATE[..], &calls].concat())});
    Call { method: Method::Call, params: json!([request, {"blockHash": block}]) }
}

/// What Multicall3 returned; `None` where it is not there, or answers otherwise than it does.
pub fn read(answer: &Raw) -> Option<Aggregated> {
    if answer.get().len() > LONGEST_ANSWER {
        return None;
    }
    let Bytes(bytes) = chain::parse(answer, "Multicall3").ok()?;
    let results = ParamType::Array(Box::new(ParamType::Tuple(vec![ParamType::Bool, ParamType::Bytes])));
    let results = ethabi::decode(&[results], &bytes).ok()?.pop()?.into_array()?;
    let mut results = results.into_iter().filter_map(|result| match &result.into_tuple()?[..] {
        [Token::Bool(succeeded), Token::Bytes(bytes)] => Some((*succeeded, bytes.clone())),
        _ => None,
    });
    let (true, chain_id) = results.next()? else { return None };
    let chain_id =
        u64::try_from(ethabi::decode(&[ParamType::Uint(256)], &chain_id).ok()?.pop()?.into_uint()?).ok()?;
    let results: Vec<_> = results.collect();
    let views: Vec<_> = VIEWS
        .iter()
        .zip(&results)
        .map(|(view, (succeeded, bytes))| if *succeeded { decoded(view, bytes) } else { Returned::NoView })
        .collect();
    (results.len() == VIEWS.len()).then_some(Aggregated { chain_id, views })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use web3::types::U256;

    use super::*;

    fn raw(bytes: &[u8]) -> Raw {
        serde_json::value::to_raw_value(&Bytes(bytes.to_vec())).unwrap()
    }

    fn word(number: u64) -> Vec<u8> {
        ethabi::encode(&[Token::Uint(number.into())])
    }

    fn answer(results: &[(bool, Vec<u8>)]) -> Raw {
        let tuple = |(succeeded, bytes): &(bool, Vec<u8>)| {
            Token::Tuple(vec![Token::Bool(*succeeded), Token::Bytes(bytes.clone())])
        };
        raw(&ethabi::encode(&[Token::Array(results.iter().map(tuple).collect())]))
    }

    #[test]
    fn the_call_is_the_one_that_multicall_takes() {
        let block = H256::from_low_u64_be(16);
        let call = call(H160::repeat_byte(0xaa), block);
        assert_eq!(call.params[0]["to"], "0xca11bde05977b3631167028862be2a173976ca11");
        let data = call.params[0]["data"].as_str().unwrap();
        // Selector, offset, and the number of calls.
        assert!(data.starts_with("0x82ad56cb"), "{data}");
        assert_eq!(&data[10 + 64..10 + 128], format!("{:064x}", 1 + VIEWS.len()));
        assert_eq!(call.params[1]["blockHash"], json!(block));
    }

    #[test]
    fn each_view_has_its_own_outcome() {
        let read = read(&answer(&[
            (true, word(5)),
            (true, word(7)),
            (false, vec![]),
            (true, vec![]),
            (true, word(2)),
            (true, vec![1]),
        ]));
        let value = |number: u64| Returned::Value(Token::Uint(U256::from(number)));
        let owner = Returned::Value(Token::Address(H160::from_low_u64_be(7)));
        let views = vec![owner, Returned::NoView, Returned::Nothing, value(2), Returned::NoView];
        assert_eq!(read, Some(Aggregated { chain_id: 5, views }));
    }

    #[test]
    fn what_multicall_does_not_answer_is_nothing() {
        let whole: Vec<_> = (0..=VIEWS.len() as u64).map(|number| (true, word(number))).collect();
        assert!(read(&answer(&whole)).is_some());
        let failed = [&[(false, vec![])], &whole[1..]].concat();
        for wrong in [raw(b""), raw(&[1; 64]), answer(&[]), answer(&whole[1..]), answer(&failed)] {
            assert_eq!(read(&wrong), None);
        }
        let more = [&whole[..], &whole[..1]].concat();
        assert_eq!(read(&answer(&more)), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let _ = read(&raw(&bytes));
        }
    }
}
