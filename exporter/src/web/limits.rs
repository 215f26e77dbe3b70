//! How many connections are served, which one makes room for another, and how long each may take.
//!
//! Pure: neither a clock nor a socket. Its rule: whoever waits costs less than whoever is served, so a
//! connection that has not asked in time goes first, then one whose client does not read, then a new one, then
//! an idle one.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// A client has this long for its TLS handshake, and again for its first request's head; later heads have it
/// from their first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer may stand still for this long because its client does not read, or reads next to nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection may lie idle for this long. Longer than any usual scrape interval, so that a scraper keeps
/// its connection; when there are too many, the oldest idle one goes at once.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// A connection that is younger than this has not had its chance: its client may have asked already. Nor has an
/// answer: its client may be reading it.
const CHANCE: Duration = Duration::from_millis(500);

/// The most connections at a time, whatever the system allows.
const MAX_CONNECTIONS: usize = 256;
/// Clients get one file descriptor in this many: the rest is for endpoints and files.
const DESCRIPTORS_FOR_EACH: u64 = 4;

/// How many connections may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Of all clients together.
    pub(super) total: usize,
    /// Of one client. Half, as scrapers behind a proxy or a container engine share one address.
    pub(super) each_peer: usize,
}

impl Limits {
    /// For a process that may open this many file descriptors.
    pub(super) fn for_descriptors(descriptors: u64) -> Self {
        let share = usize::try_from(descriptors / DESCRIPTORS_FOR_EACH).unwrap_or(usize::MAX);
        let total = share.clamp(2, MAX_CONNECTIONS);
        Self { total, each_peer: total / 2 }
    }
}

/// Who is at the other end: an IPv4 address, or the network of 64 bits that one IPv6 host can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(u64);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits())),
            // No network lies below 2000::, so none looks like an IPv4 address.
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request yet, and nothing to answer.
    Opening(Instant),
    /// A TLS handshake whose beginning was answered, or its first head.
    Shaking(Instant),
    /// Between two requests.
    Idle(Instant),
    /// A head after the first has begun.
    Reading(Instant),
    /// An answer is being made.
    Answering,
    /// An answer is on its way.
    Sending(Instant),
    /// An answer waits for its client to read.
    Blocked(Instant),
}

impl Phase {
    /// When the connection is ended unless its phase changes.
    pub(super) fn deadline(self) -> Option<Instant> {
        match self {
            Self::Opening(since) | Self::Shaking(since) | Self::Reading(since) => Some(since + HEAD_TIMEOUT),
            Self::Idle(since) => Some(since + IDLE_TIMEOUT),
            Self::Sending(since) | Self::Blocked(since) => Some(since + WRITE_TIMEOUT),
            // Bounded by what answers.
            Self::Answering => None,
        }
    }

    /// The lowest goes first; `None` never goes.
    fn rank(self, now: Instant) -> Option<(u8, Instant)> {
        match self {
            Self::Opening(since) if now.duration_since(since) >= CHANCE => Some((0, since)),
            Self::Blocked(since) => Some((1, since)),
            Self::Sending(since) if now.duration_since(since) >= CHANCE => Some((1, since)),
            Self::Opening(since) => Some((2, since)),
            Self::Shaking(since) | Self::Sending(since) => Some((3, since)),
            Self::Reading(since) | Self::Idle(since) => Some((4, since)),
            Self::Answering => None,
        }
    }
}

/// What becomes of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission<Id> {
    /// There is room.
    Admit,
    /// There is once this one is closed.
    Replace(Id),
    /// All are being answered.
    Refuse,
}

/// Whether there is room `now` for one more of `peer` beside those that are open. A peer at its limit makes room
/// among its own.
pub(super) fn admit<Id: Copy>(
    limits: Limits,
    peer: Peer,
    now: Instant,
    open: impl Iterator<Item = (Id, Peer, Phase)> + Clone,
) -> Admission<Id> {
    let own = open.clone().filter(|(_, of, _)| *of == peer);
    let victim = if own.clone().count() >= limits.each_peer {
        first_to_go(now, own)
    } else if open.clone().count() >= limits.total {
        first_to_go(now, open)
    } else {
        return Admission::Admit;
    };
    victim.map_or(Admission::Refuse, Admission::Replace)
}

/// The connection that is missed least.
pub(super) fn first_to_go<Id: Copy>(
    now: Instant,
    open: impl Iterator<Item = (Id, Peer, Phase)>,
) -> Option<Id> {
    let ranked = open.filter_map(|(id, _, phase)| Some((phase.rank(now)?, id)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Peer = Peer(1);
    const B: Peer = Peer(2);
    const C: Peer = Peer(3);

    #[test]
    fn the_limit_follows_the_descriptors() {
        for (descriptors, total, each_peer) in [
            (0, 2, 1),
            (64, 16, 8),
            (256, 64, 32),
            (1024, 256, 128),
            (1_048_576, 256, 128),
            (u64::MAX, 256, 128),
        ] {
            assert_eq!(Limits::for_descriptors(descriptors), Limits { total, each_peer }, "{descriptors}");
        }
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_64_bits() {
        let peer = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        for (one, other) in
            [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("192.0.2.1", "2001:db8::1")]
        {
            assert_ne!(peer(one), peer(other), "{one} {other}");
        }
    }

    #[test]
    fn who_makes_room() {
        use Admission::{Admit, Refuse, Replace};
        use Phase::{Answering, Blocked, Idle, Opening, Reading, Sending, Shaking};
        let zero = Instant::now();
        let at = |seconds: u64| zero + Duration::from_secs(seconds);
        let now = at(10);
        let limits = Limits { total: 4, each_peer: 3 };
        type Case<'a> = (&'a str, &'a [(Peer, Phase)], Peer, Admission<usize>);
        let table: [Case<'_>; 16] = [
            ("none is open", &[], A, Admit),
            ("there is room", &[(A, Answering), (A, Answering), (B, Answering)], B, Admit),
            (
                "who never asked goes before who was idle for longer",
                &[(A, Idle(at(0))), (A, Opening(at(5))), (B, Blocked(at(0))), (B, Opening(at(4)))],
                C,
                Replace(3),
            ),
            (
                "of those who never asked the oldest goes",
                &[(A, Opening(at(10))), (A, Opening(at(5))), (B, Opening(at(7))), (B, Opening(now))],
                C,
                Replace(1),
            ),
            (
                "who does not read goes before who has just come",
                &[(A, Opening(now)), (A, Shaking(at(9))), (B, Blocked(now)), (B, Idle(at(0)))],
                C,
                Replace(2),
            ),
            (
                "who has just come goes before whose handshake was answered, and that before who is idle",
                &[(A, Idle(at(0))), (A, Shaking(at(6))), (B, Opening(now)), (B, Shaking(at(5)))],
                C,
                Replace(2),
            ),
            (
                "who does not read goes before who is idle",
                &[(A, Idle(at(0))), (A, Blocked(at(5))), (B, Blocked(at(4))), (B, Reading(at(0)))],
                C,
                Replace(2),
            ),
            (
                "nor does one whose answer has been on its way for a while",
                &[(A, Idle(at(0))), (A, Opening(now)), (B, Sending(at(9))), (B, Shaking(at(5)))],
                C,
                Replace(2),
            ),
            (
                "while one whose answer was just made may be reading it",
                &[(A, Idle(at(9))), (A, Sending(now)), (B, Sending(now)), (B, Opening(now))],
                C,
                Replace(3),
            ),
            (
                "and of such a one and a handshake the older goes",
                &[(A, Idle(at(0))), (A, Sending(now - CHANCE / 2)), (B, Shaking(now)), (B, Idle(at(0)))],
                C,
                Replace(1),
            ),
            (
                "the oldest idle one goes",
                &[(A, Idle(at(2))), (A, Idle(at(1))), (B, Reading(at(3))), (B, Answering)],
                C,
                Replace(1),
            ),
            (
                "all are being answered",
                &[(A, Answering), (A, Answering), (B, Answering), (B, Answering)],
                C,
                Refuse,
            ),
            (
                "a peer at its limit makes room among its own",
                &[(A, Idle(at(9))), (A, Idle(at(8))), (A, Answering), (B, Opening(at(0)))],
                A,
                Replace(1),
            ),
            (
                "also while there is room for others",
                &[(A, Idle(at(9))), (A, Idle(at(8))), (A, Idle(at(7)))],
                A,
                Replace(2),
            ),
            (
                "a peer whose own are all being answered",
                &[(A, Answering), (A, Answering), (A, Answering)],
                A,
                Refuse,
            ),
            ("which leaves room for others", &[(A, Answering), (A, Answering), (A, Answering)], B, Admit),
        ];
        for (what, open, newcomer, expected) in table {
            let open = open.iter().enumerate().map(|(id, (peer, phase))| (id, *peer, *phase));
            assert_eq!(admit(limits, newcomer, now, open), expected, "{what}");
        }
    }

    #[test]
    fn only_an_answer_being_made_has_no_deadline_of_its_own() {
        let since = Instant::now();
        let table = [
            (Phase::Opening(since), Some(5)),
            (Phase::Shaking(since), Some(5)),
            (Phase::Reading(since), Some(5)),
            (Phase::Sending(since), Some(10)),
            (Phase::Blocked(since), Some(10)),
            (Phase::Idle(since), Some(300)),
            (Phase::Answering, None),
        ];
        for (phase, seconds) in table {
            assert_eq!(phase.deadline(), seconds.map(|it| since + Duration::from_secs(it)), "{phase:?}");
        }
    }
}
