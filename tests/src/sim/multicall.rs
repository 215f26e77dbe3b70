//! Multicall3 as it stands on nearly every chain: several calls in one.
//!
//! Pure. Knows `aggregate3` and `getChainId` alone.

use web3::ethabi::{self, ParamType, Token};
use web3::types::H160;

/// Its address.
pub const ADDRESS: H160 = H160([
    0xca, 0x11, 0xbd, 0xe0, 0x59, 0x77, 0xb3, 0x63, 0x11, 0x67, 0x02, 0x88, 0x62, 0xbe, 0x2a, 0x17, 0x39,
    0x76, 0xca, 0x11,
]);

const AGGREGATE: [u8; 4] = [0x82, 0xad, 0x56, 0xcb];
const CHAIN_ID: [u8; 4] = [0x34, 0x08, 0xe4, 0x70];

/// What a call to another contract returns; `None` where it reverts.
type Call<'a> = dyn Fn(H160, &[u8]) -> Option<Vec<u8>> + 'a;

/// What it returns for this input; `None` where it reverts.
pub(super) fn respond(input: &[u8], chain_id: u64, call: &Call<'_>) -> Option<Vec<u8>> {
    let (selector, parameters) = input.split_at_checked(4)?;
    if selector == CHAIN_ID {
        return Some(ethabi::encode(&[Token::Uint(chain_id.into())]));
    }
    if selector != AGGREGATE {
        return None;
    }
    let calls = ParamType::Tuple(vec![ParamType::Address, ParamType::Bool, ParamType::Bytes]);
    let calls = ethabi::decode(&[ParamType::Array(Box::new(calls))], parameters).ok()?.pop()?.into_array()?;
    let result = |token: Token| {
        let [to, may_fail, input] = <[Token; 3]>::try_from(token.into_tuple()?).ok()?;
        let (to, input) = (to.into_address()?, input.into_bytes()?);
        let returned = if to == ADDRESS { respond(&input, chain_id, call) } else { call(to, &input) };
        if returned.is_none() && !may_fail.into_bool()? {
            return None;
        }
        let succeeded = Token::Bool(returned.is_some());
        Some(Token::Tuple(vec![succeeded, Token::Bytes(returned.unwrap_or_default())]))
    };
    Some(ethabi::encode(&[Token::Array(calls.into_iter().map(result).collect::<Option<_>>()?)]))
}
