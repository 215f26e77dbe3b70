//! Every fault of the hostile node, each with a name, a kind and a line that says what it is.

use std::fmt;

use super::refusal::{RANGES, RATES, Refusal};

/// What a fault asks of the one who meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node may be like this for ever: all must go on as with a healthy one.
    Quirk,
    /// `eth_getLogs` is refused beyond a cap, for ever: more requests, the same numbers.
    Capped,
    /// Nothing can be read while it lasts: no wrong number meanwhile, and the right ones afterwards.
    Outage,
    /// Like an outage, but asking less often is part of the cure.
    RateLimit,
    /// The newest blocks are missing, for ever: the numbers stop that much earlier, and are right.
    Behind,
    /// Wrong in a way that only other endpoints, a configuration or time can set right: for a test of its own.
    Special,
}

macro_rules! faults {
    ($($variant:ident $name:literal $kind:ident $about:literal)+) => {
        /// One way in which a node misbehaves.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Fault {
            /// `eth_getLogs` beyond a cap is refused in a provider's own words.
            Range(&'static Refusal),
            /// Every request is refused as one too many, in a provider's own words.
            Rate(&'static Refusal),
            $(#[doc = $about] $variant,)+
        }

        /// The faults that are not a provider's wording.
        const PLAIN: &[Fault] = &[$(Fault::$variant),+];

        impl Fault {
            /// What the tables and the soak call it.
            pub fn name(self) -> &'static str {
                match self {
                    Self::Range(refusal) | Self::Rate(refusal) => refusal.provider,
                    $(Self::$variant => $name,)+
                }
            }

            /// What it does, in a line.
            pub fn about(self) -> &'static str {
                match self {
                    Self::Range(refusal) | Self::Rate(refusal) => refusal.message,
                    $(Self::$variant => $about,)+
                }
            }

            /// What it asks of the one who meets it.
            pub fn kind(self) -> Kind {
                match self {
                    Self::Range(_) => Kind::Capped,
                    Self::Rate(_) => Kind::RateLimit,
                    $(Self::$variant => Kind::$kind,)+
                }
            }
        }
    };
}

faults! {
    RetryAfterSeconds "retry-after-seconds" RateLimit "HTTP 429 with Retry-After in seconds"
    RetryAfterDate "retry-after-date" RateLimit "HTTP 429 with Retry-After as an HTTP date"
    Hang "hang" Outage "takes the request and never answers"
    Trickle "trickle" Outage "sends its answer a byte at a time, without end in sight"
    Slow "slow" Quirk "answers late, within any sensible time-out"
    SlowCalls "slow-calls" Quirk "answers late by so much for each call: a long batch outlasts the time-out"
    Flaky "flaky" Quirk "a quarter of all requests fails in passing, each in one of seven ways"
    ResetBefore "reset-before" Outage "resets the connection instead of answering"
    ResetMidBody "reset-mid-body" Outage "resets the connection in the middle of the answer"
    CloseAfterEach "close-after-each" Quirk "closes the connection after every answer"
    HtmlOk "html-200" Outage "a page of HTML with status 200"
    BadGateway "html-502" Outage "a page of HTML with status 502"
    Unavailable "html-503" Outage "a page of HTML with status 503"
    Forbidden "json-403" Outage "HTTP 403 with a JSON body that is no JSON-RPC"
    EmptyBody "empty-body" Outage "status 200 and no body"
    TruncatedJson "truncated-json" Outage "half of the right answer, with a length that agrees"
    OversizedJson "oversized-json" Outage "an answer that grows for as long as one reads it"
    Garbage "garbage" Outage "random bytes with status 200"
    BitFlips "bit-flips" Outage "the right answer with the top bit of some bytes flipped"
    WrongId "wrong-id" Outage "every answer carries the id of another request"
    NullId "null-id" Outage "every answer carries a null id"
    NullResult "null-result" Outage "`result` is null"
    NoResult "no-result" Outage "neither result nor error"
    ErrorOk "error-200" Outage "an internal error with HTTP status 200"
    ErrorWithNullResult "error-and-null-result" Outage "an error beside a `result` of null"
    NullError "null-error" Quirk "an `error` of null beside every result"
    MethodMissing "method-missing" Outage "no method is known"
    OwnParent "own-parent" Special "every header names its own hash as its parent's"
    WrongChain "wrong-chain" Outage "another chain's id"
    LogsRefused "logs-refused" Outage "`eth_getLogs` is refused however few blocks are asked for"
    LogsFull "logs-full" Outage "every eighth block holds more logs than `eth_getLogs` gives, alone too"
    LogsNull "logs-null" Outage "`eth_getLogs` answers null, all else is right"
    LogsLate "logs-late" Outage "blocks are there at once, the logs of the newest ones not yet"
    Lagging "lagging" Behind "a replica without the newest blocks: null, or what it has"
    LaggingStrict "lagging-strict" Behind "a replica without the newest blocks, which says so in errors"
    Flapping "flapping" Quirk "every other request is answered by a lagging replica"
    FlappingParts "flapping-parts" Quirk "a balancer that splits batches, some parts go to a lagging replica"
    FlappingStrict "flapping-strict" Quirk "every other request is answered by a lagging replica that says so in errors"
    HeadJumps "head-jumps" Quirk "the head jumps back and forth, all blocks are there"
    TwoBranches "two-branches" Quirk "every other request is answered by a node on another branch"
    BatchRefused "batch-refused" Quirk "batches are refused with one error object"
    BatchRefused400 "batch-refused-400" Quirk "batches are refused with HTTP 400"
    BatchRefusedHtml "batch-refused-html" Quirk "batches are refused with HTTP 405 and HTML"
    BatchEmpty "batch-empty" Quirk "batches are answered with an empty array"
    BatchSmall "batch-small" Quirk "batches of more than three are refused"
    BatchCounted "batch-counted" Quirk "HTTP 429 for a batch of more than a dozen calls, as each counts against the rate"
    BatchReordered "batch-reordered" Quirk "the members of a batch come in another order"
    BatchMissing "batch-missing" Quirk "one member of every batch is left out"
    BatchTwice "batch-twice" Quirk "one member of every batch comes twice"
    BatchMembersRefused "batch-members-refused" Quirk "every member of a batch is refused for itself"
    BatchFirstOnly "batch-first-only" Quirk "only the first member of a batch is answered, as an object"
    TimestampsPresent "timestamps-present" Quirk "logs carry the right blockTimestamp"
    TimestampsNull "timestamps-null" Quirk "logs carry a blockTimestamp of null"
    TimestampsAbsent "timestamps-absent" Quirk "logs carry no blockTimestamp"
    TimestampsZero "timestamps-zero" Quirk "logs carry a blockTimestamp of 0x0"
    TimestampsMalformed "timestamps-malformed" Quirk "logs carry a blockTimestamp that is no number"
    NoiseTwice "noise-twice" Quirk "every log comes twice"
    NoiseUnordered "noise-unordered" Quirk "logs come in no order"
    NoiseForeign "noise-foreign" Quirk "logs of another contract among them"
    NoiseRange "noise-range" Quirk "logs of blocks that nobody asked for among them"
    NoiseRemoved "noise-removed" Quirk "logs that a reorganisation removed among them"
    NoiseTopics "noise-topics" Quirk "logs of unknown events, and without topics, among them"
    BloomAbsent "bloom-absent" Quirk "headers without logsBloom"
    BloomZero "bloom-zero" Quirk "headers with an empty logsBloom whatever they hold"
    BloomFull "bloom-full" Quirk "headers whose logsBloom promises everything"
    MulticallAbsent "multicall-absent" Quirk "there is no Multicall3"
    MulticallReverts "multicall-reverts" Quirk "Multicall3 reverts"
    MulticallLies "multicall-lies" Quirk "at the address of Multicall3 a contract says that every view is 1"
    MulticallPassing "multicall-passing" Quirk "Multicall3 is there for every other call"
    NoHashState "no-hash-state" Quirk "`eth_call` only by the number of a block"
    NoOldState "no-old-state" Quirk "`eth_call` only at the newest 128 blocks"
    NoOldStateOdd "no-old-state-odd" Quirk "`eth_call` only at the newest 128 blocks, refused in words unheard of"
    StateErrors "state-errors" Quirk "`eth_call` and `eth_getCode` fail in passing, once in fifty times"
    BadUpstream "bad-upstream" Quirk "`eth_call` and `eth_getCode` fail in passing, in words that have \"state\" in them"
    StatePassing "trie-node-passing" Quirk "`eth_call` and `eth_getCode` fail in passing, in the words for absent state"
    NoOldCode "no-old-code" Quirk "`eth_getCode` and `eth_call` only at the newest 128 blocks"
    StateGone "state-gone" Outage "`eth_call` and `eth_getCode` fail in the words for absent state"
    StateEmpty "state-empty" Quirk "`eth_call` at a block older than the newest 128 answers 0x"
    CodeEmpty "code-empty" Quirk "`eth_getCode` at a block older than the newest 128 answers 0x"
    LogsFirstOnly "logs-first-only" Special "of the last block of a range only the first log"
    LogsCut "logs-cut" Quirk "at most 20 logs, and no word of the others"
    StaleLog "stale-log" Quirk "one log of an orphaned block among those of an old block, now and then"
    LogsPending "logs-pending" Quirk "a log without a block among the others"
    IndexPerTx "index-per-tx" Quirk "logIndex counts within a transaction"
    RemovedNull "removed-null" Quirk "logs carry a `removed` of null"
    RemovedAbsent "removed-absent" Quirk "logs carry no `removed`"
    NoBlockHash "no-block-hash" Quirk "neither batches nor logs by the hash of a block"
    BloomShort "bloom-0x" Quirk "headers with a logsBloom of 0x"
    BloomPartial "bloom-partial" Special "every other logsBloom leaves out what the contract logged"
    BloomFalseOnce "bloom-false-once" Special "the logsBloom of every hundredth block promises a ready that never was"
    LogsOversized "logs-oversized" Special "every fiftieth block has more logs than one answer can hold, but not of one kind"
    StateAtLatest "state-at-latest" Special "`eth_call` and `eth_getCode` at `latest` alone"
    LogsHoles "logs-holes" Special "an index without the blocks below the newest 64 in which nothing was buffered"
    ReadyOmitted "ready-omitted" Special "no ready is ever answered, and no header has a logsBloom that would tell"
    LogsPruned "logs-pruned" Special "no logs below the newest 200 blocks"
    ChainSwap "chain-swap" Special "a node of another chain answers"
    BatchHollow "batch-hollow" Special "a batch is answered with nearly 16 MiB of empty objects"
    TreeCode "tree-code" Special "`eth_getCode` answers with an array of objects, nearly 16 MiB of it"
    TreeViews "tree-views" Special "`eth_call` answers with an array of objects, nearly 16 MiB of it"
    TreeTimes "tree-timestamps" Special "a log carries such an array as its blockTimestamp"
    Crumbs "one-byte-chunks" Special "nearly 16 MiB of an answer come in chunks of one byte"
    EndlessInterim "endless-1xx" Special "interim answers (HTTP 103) come without end"
    FinalizedUnknown "finalized-unknown" Special "no block is known as safe or finalized"
}

/// Each passes, and the next request may be answered well.
static FLAKY: [Fault; 7] = [
    Fault::RetryAfterSeconds,
    Fault::BadGateway,
    Fault::ResetBefore,
    Fault::TruncatedJson,
    Fault::NullResult,
    Fault::ErrorOk,
    Fault::Rate(&RATES[0]),
];

impl Fault {
    /// Every fault.
    pub fn all() -> impl Iterator<Item = Self> {
        let wordings = RANGES.iter().map(Self::Range).chain(RATES.iter().map(Self::Rate));
        wordings.chain(PLAIN.iter().copied())
    }

    /// What a fault is made of that is a mixture of others, and the share of all requests, in percent, that
    /// meets one of them.
    pub(super) fn mixture(self) -> Option<(&'static [Self], u32)> {
        (self == Self::Flaky).then_some((&FLAKY, 25))
    }

    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|fault| fault.name() == name)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
