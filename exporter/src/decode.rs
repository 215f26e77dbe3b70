//! Raw log to [`Event`], by topic0; the events of all variants stand in `abi.json`.
//!
//! Pure: no I/O. What does not decode is said to be so, never skipped and never guessed.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use web3::ethabi::ethereum_types::BigEndianHash;
use web3::ethabi::{self, ParamType};
use web3::types::{H160, H256, U256};

use crate::chain::{BloomKey, Log};
use crate::text;

/// Every known event besides buffered, ready and failed.
pub const OTHER_EVENTS: [&str; 8] = [
    "EmergencyPause",
    "EmergencyUnpause",
    "RoleGranted",
    "RoleRevoked",
    "TransactionRevealed",
    "TransactionRefunded",
    "SwapGroupCreated",
    "SwapGroupCompleted",
];

/// Characters of a logged reason that are kept.
const LONGEST_REASON: usize = 128;

/// Events and views of every known variant.
pub static ABI: LazyLock<ethabi::Contract> = LazyLock::new(|| {
    // The file is part of the program; a test reads every event of it.
    ethabi::Contract::load(include_bytes!("abi.json").as_slice()).unwrap_or_default()
});

/// A known event, as what its topic leads to.
struct Known {
    name: &'static str,
    /// Names of the parameters in topics, in their order.
    in_topics: Vec<&'static str>,
    /// Names and types of the others: a word of data each, or the place of a string.
    in_data: Vec<(&'static str, ParamType)>,
    bloom: BloomKey,
}

static BY_TOPIC: LazyLock<HashMap<H256, Known>> = LazyLock::new(|| {
    let known = |event: &'static ethabi::Event| {
        let topic = event.signature();
        let (indexed, others): (Vec<_>, Vec<_>) = event.inputs.iter().partition(|input| input.indexed);
        let known = Known {
            name: &event.name,
            in_topics: indexed.iter().map(|input| input.name.as_str()).collect(),
            in_data: others.iter().map(|input| (input.name.as_str(), input.kind.clone())).collect(),
            bloom: BloomKey::of(topic.as_bytes()),
        };
        (topic, known)
    };
    ABI.events().map(known).collect()
});

/// Whether a log has the topic of a known event.
pub fn is_known(log: &Log) -> bool {
    log.topics.first().is_some_and(|topic| BY_TOPIC.contains_key(topic))
}

/// An event and the Ethereum transaction that logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Hash of the Ethereum transaction.
    pub tx_hash: H256,
    /// What the log says.
    pub event: Event,
}

/// What a log of the contract says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction was buffered.
    Buffered {
        /// The transaction.
        tx_id: H256,
        /// Where it comes from.
        origin: H160,
        /// Where it goes.
        target: H160,
        /// The scheduled execution time, seconds since the Unix epoch; any 256-bit number.
        scheduled: U256,
        /// The form with a dependency: its deadline is fixed by the window at buffering.
        frozen: bool,
    },
    /// A transaction became ready.
    Ready {
        /// The transaction.
        tx_id: H256,
    },
    /// A resolution failed, or a swap group timed out.
    Failed {
        /// The transaction.
        tx_id: H256,
        /// As logged, sanitised: no control or invisible characters, valid UTF-8, cut to 128 characters.
        reason: String,
        /// The class of the reason.
        class: Reason,
    },
    /// Any other known event.
    Other {
        /// Its index in [`OTHER_EVENTS`].
        index: usize,
        /// The transaction it is about, where it is about one.
        tx_id: Option<H256>,
    },
    /// The topic of a known event on a log that does not decode.
    Undecodable {
        /// The event that the topic belongs to.
        name: &'static str,
    },
}

/// Why a TransactionFailed was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// "Transaction expired"
    Expired,
    /// "Dependencies not satisfied" and its longer form
    Dependency,
    /// "Swap group timeout"
    SwapGroupTimeout,
    /// Anything else
    Other,
}

impl Reason {
    /// Every reason, in the order of [`crate::ledger::Counts::failed`].
    pub const ALL: [Self; 4] = [Self::Expired, Self::Dependency, Self::SwapGroupTimeout, Self::Other];

    /// The value of the `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Dependency => "dependency",
            Self::SwapGroupTimeout => "swap_group_timeout",
            Self::Other => "other",
        }
    }
}

/// What the log says; `None` for events that are not known.
pub fn decode(log: &Log) -> Option<Event> {
    let (topic, indexed) = log.topics.split_first()?;
    let known = BY_TOPIC.get(topic)?;
    Some(known.event(indexed, &log.data.0).unwrap_or(Event::Undecodable { name: known.name }))
}

/// The topics of every known event.
pub fn topics() -> impl Iterator<Item = &'static H256> {
    BY_TOPIC.keys()
}

/// The topics of every known event, each with what it adds to a bloom.
pub fn topics_in_blooms() -> impl Iterator<Item = (&'static H256, &'static BloomKey)> {
    BY_TOPIC.iter().map(|(topic, known)| (topic, &known.bloom))
}

impl Known {
    /// The event of a log with these topics after the first one; `None` where it lacks any parameter.
    fn event(&self, topics: &[H256], data: &[u8]) -> Option<Event> {
        let words = data.as_chunks::<32>().0;
        if topics.len() != self.in_topics.len() || words.len() < self.in_data.len() {
            return None;
        }
        let word = |name: &str| {
            let in_topics = self.in_topics.iter().position(|other| *other == name).map(|at| topics[at]);
            in_topics.or_else(|| self.place_in_data(name).map(|at| H256(words[at])))
        };
        let tx_id = word("tx_id");
        Some(match self.name {
            "TransactionBuffered" => Event::Buffered {
                tx_id: tx_id?,
                origin: word("origin_rollup")?.into(),
                target: word("target_rollup")?.into(),
                scheduled: word("timestamp")?.into_uint(),
                frozen: word("dependency_tx_id").is_some(),
            },
            "TransactionReady" => Event::Ready { tx_id: tx_id? },
            "TransactionFailed" => {
                let logged = self.string("reason", data)?;
                Event::Failed { tx_id: tx_id?, class: classify(&logged), reason: sanitise(&logged) }
            }
            name => Event::Other { index: OTHER_EVENTS.iter().position(|other| *other == name)?, tx_id },
        })
    }

    fn place_in_data(&self, name: &str) -> Option<usize> {
        self.in_data.iter().position(|(other, _)| *other == name)
    }

    fn string(&self, name: &str, data: &[u8]) -> Option<String> {
        let types: Vec<_> = self.in_data.iter().map(|(_, kind)| kind.clone()).collect();
        ethabi::decode(&types, data).ok()?.into_iter().nth(self.place_in_data(name)?)?.into_string()
    }
}

fn classify(reason: &str) -> Reason {
    match reason {
        "Transaction expired" => Reason::Expired,
        "Dependencies not satisfied" | "Dependencies not satisfied or timing invalid" => Reason::Dependency,
        "Swap group timeout" => Reason::SwapGroupTimeout,
        _ => Reason::Other,
    }
}

/// Anyone may write a reason, so nothing of it may break a line or hide another.
fn sanitise(reason: &str) -> String {
    text::one_line(reason).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use web3::ethabi::{RawLog, Token};
    use web3::types::Bytes;

    use super::*;

    fn log(topics: Vec<H256>, data: Vec<u8>) -> Log {
        let mut log = Log::default();
        (log.topics, log.data) = (topics, Bytes(data));
        log
    }

    fn topic(hex: &str) -> H256 {
        hex.parse().unwrap()
    }

    #[test]
    fn topics_are_those_of_the_deployed_contracts() {
        let known: Vec<_> = topics().collect();
        assert_eq!(known.len(), 6 + OTHER_EVENTS.len());
        for hex in [
            "82f04bca3c86d80210a78dfa27d4cb42b598d7affde61ee6023e07d07b94e2d9",
            "3db219f671440fd1cd8dc231c95535f84e7861603be08ed614224c240b33b32e",
            "4fe734ce83839d4373098e81ed34170e439d9610e6014da41e0a552835ae0cd5",
            "f021a9b06fba27725197cb7b74999e773e9703c15ba4a03179a5cedb0364d329",
            "a3897ec9f635f9e079f0cc337815d014bf44b6ea44b6a6fe16660183bf4cf4d8",
            "42b7f8b3da320241d0fa06d1b0739d36ede82cd40b4bfaa12ee25531b907617a",
        ] {
            assert!(known.contains(&&topic(hex)), "{hex}");
        }
        for name in OTHER_EVENTS {
            assert!(ABI.event(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_buffered_of_each_form_decodes() {
        let id = H256::repeat_byte(7);
        let party = |byte| H256::from(H160::repeat_byte(byte));
        for event in ABI.events_by_name("TransactionBuffered").unwrap() {
            let words = event.inputs.iter().filter(|input| !input.indexed).count();
            let mut data = vec![0; 32 * (words - 1)];
            data.extend([0xff; 32]);
            let decoded = decode(&log(vec![event.signature(), id, party(1), party(2)], data));
            let expected = Event::Buffered {
                tx_id: id,
                origin: H160::repeat_byte(1),
                target: H160::repeat_byte(2),
                scheduled: U256::MAX,
                frozen: words == 2,
            };
            assert_eq!(decoded, Some(expected));
        }
    }

    #[test]
    fn a_reason_is_made_harmless() {
        let event = &ABI.events_by_name("TransactionFailed").unwrap()[0];
        let mut reason = b"a\"b\n\0\xff".to_vec();
        reason.extend([b'x'; 90]);
        let mut data = vec![0; 64];
        (data[31], data[63]) = (32, u8::try_from(reason.len()).unwrap());
        reason.resize(96, 0);
        data.extend(&reason);
        let Some(Event::Failed { reason, class, .. }) =
            decode(&log(vec![event.signature(), H256::zero()], data))
        else {
            panic!("does not decode");
        };
        assert_eq!(
            (reason.as_str(), class),
            (format!("a\"b  \u{fffd}{}", "x".repeat(90)).as_str(), Reason::Other)
        );
    }

    #[test]
    fn a_known_topic_with_too_little_behind_it_is_undecodable() {
        for event in ABI.events() {
            let name = event.name.as_str();
            if event.inputs.len() > 1 {
                assert_eq!(decode(&log(vec![event.signature()], vec![])), Some(Event::Undecodable { name }));
            }
        }
        assert_eq!(decode(&log(vec![H256::zero()], vec![])), None);
        assert_eq!(decode(&log(vec![], vec![])), None);
    }

    proptest! {
        #[test]
        fn any_log_is_taken_as_the_abi_reads_it(
            place in 0..14_usize, topics in vec(any::<[u8; 32]>(), 0..5), data in vec(0..4_u8, 0..200),
        ) {
            let topic = *super::topics().nth(place).unwrap();
            let topics: Vec<_> = std::iter::once(topic).chain(topics.into_iter().map(H256)).collect();
            let raw = RawLog { topics: topics.clone(), data: data.clone() };
            let event = ABI.events().find(|event| event.signature() == topic).unwrap();
            let decoded = decode(&log(topics, data)).unwrap();
            let Ok(parsed) = event.parse_log(raw) else {
                prop_assert_eq!(decoded, Event::Undecodable { name: &event.name });
                return Ok(());
            };
            let get = |name: &str| parsed.params.iter().find(|param| param.name == name).map(|param| param.value.clone());
            let id = || get("tx_id").and_then(Token::into_fixed_bytes).map(|bytes| H256::from_slice(&bytes));
            match decoded {
                Event::Buffered { tx_id, origin, target, scheduled, frozen } => {
                    prop_assert_eq!(Some(tx_id), id());
                    prop_assert_eq!(Some(Token::Address(origin)), get("origin_rollup"));
                    prop_assert_eq!(Some(Token::Address(target)), get("target_rollup"));
                    prop_assert_eq!(Some(Token::Uint(scheduled)), get("timestamp"));
                    prop_assert_eq!(frozen, get("dependency_tx_id").is_some());
                }
                Event::Ready { tx_id } => prop_assert_eq!(Some(tx_id), id()),
                Event::Failed { tx_id, reason, .. } => {
                    prop_assert_eq!(Some(tx_id), id());
                    let logged = get("reason").and_then(Token::into_string);
                    prop_assert_eq!(Some(reason), logged.as_deref().map(sanitise));
                }
                Event::Other { tx_id, .. } => prop_assert_eq!(tx_id, id()),
                Event::Undecodable { name } => prop_assert!(false, "{} does not decode", name),
            }
        }
    }
}
