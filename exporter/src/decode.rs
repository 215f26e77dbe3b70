//! Raw log to [`Event`], by topic0; the events of all variants stand in `abi.json`.
//!
//! Pure: no I/O. What does not decode is said to be so, never skipped and never guessed.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use web3::ethabi::{self, RawLog, Token};
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
    /// Without its topic, so that no log's is computed again.
    parameters: ethabi::Event,
    bloom: BloomKey,
}

static BY_TOPIC: LazyLock<HashMap<H256, Known>> = LazyLock::new(|| {
    let known = |event: &'static ethabi::Event| {
        let topic = event.signature();
        let parameters = ethabi::Event { anonymous: true, ..event.clone() };
        (topic, Known { name: &event.name, parameters, bloom: BloomKey::of(topic.as_bytes()) })
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
    let Known { name, parameters, .. } = BY_TOPIC.get(topic)?;
    let raw = RawLog { topics: indexed.to_vec(), data: log.data.0.clone() };
    let undecodable = Event::Undecodable { name };
    let Ok(parsed) = parameters.parse_log(raw) else {
        return Some(undecodable);
    };
    let get = |name: &str| parsed.params.iter().find(|param| param.name == name).map(|param| &param.value);
    Some(event(name, get).unwrap_or(undecodable))
}

/// The topics of every known event.
pub fn topics() -> impl Iterator<Item = &'static H256> {
    BY_TOPIC.keys()
}

/// The topics of every known event, each with what it adds to a bloom.
pub fn topics_in_blooms() -> impl Iterator<Item = (&'static H256, &'static BloomKey)> {
    BY_TOPIC.iter().map(|(topic, known)| (topic, &known.bloom))
}

fn event<'a>(name: &str, get: impl Fn(&str) -> Option<&'a Token>) -> Option<Event> {
    let word = |name| get(name).cloned().and_then(Token::into_fixed_bytes).map(|b| H256::from_slice(&b));
    let address = |name| get(name).cloned().and_then(Token::into_address);
    let tx_id = word("tx_id");
    Some(match name {
        "TransactionBuffered" => Event::Buffered {
            tx_id: tx_id?,
            origin: address("origin_rollup")?,
            target: address("target_rollup")?,
            scheduled: get("timestamp")?.clone().into_uint()?,
            frozen: get("dependency_tx_id").is_some(),
        },
        "TransactionReady" => Event::Ready { tx_id: tx_id? },
        "TransactionFailed" => {
            let logged = get("reason")?.clone().into_string()?;
            Event::Failed { tx_id: tx_id?, class: classify(&logged), reason: sanitise(&logged) }
        }
        _ => Event::Other { index: OTHER_EVENTS.iter().position(|other| *other == name)?, tx_id },
    })
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
    use proptest::prelude::*;
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
        fn any_log_is_taken(place in 0..14_usize, topics: Vec<[u8; 32]>, data: Vec<u8>) {
            let mut all = vec![*super::topics().nth(place).unwrap()];
            all.extend(topics.into_iter().map(H256));
            prop_assert!(decode(&log(all, data)).is_some());
        }
    }
}
