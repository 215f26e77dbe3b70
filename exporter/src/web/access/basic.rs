//! Basic authentication: bcrypt, in the same time whether or not there is such a user, and whatever its hash costs.
//!
//! A password that was right is remembered as a keyed hash, so that only the first scrape costs a bcrypt;
//! no password is kept. One bcrypt runs at a time, and few wait: a flood of wrong passwords takes one core
//! and holds up nobody whose password is known already.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::HeaderValue;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::web::limits::Peer;

/// Passwords that wait to be verified, at most; each takes as long as its hash's cost says.
const WAITING: usize = 32;
/// Of one client.
const WAITING_OF_PEER: usize = 8;

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Verdict {
    /// It names a user and the right password.
    Granted,
    /// It does not.
    Denied,
    /// Too many wait to be verified.
    Busy,
}

/// Users and their passwords.
pub(in crate::web) struct Basic {
    users: HashMap<String, User>,
    /// Whom a name stands for that is none.
    nobody: User,
    /// Of the costliest hash.
    highest: u32,
    memory: Memory,
}

/// Outlives a reload.
#[derive(Clone)]
struct Memory {
    /// Absent where the system has no randomness; then nothing is remembered.
    key: Option<Arc<hmac::Key>>,
    queue: Arc<Queue>,
}

struct User {
    hash: String,
    /// The keyed hash of the password that was right.
    proven: Mutex<Option<hmac::Tag>>,
}

struct Queue {
    bcrypt: Arc<Semaphore>,
    waiting: Mutex<HashMap<Peer, usize>>,
}

impl Basic {
    /// The names with their valid bcrypt hashes. What was proven before holds while the hash stays.
    pub(super) fn new(users: BTreeMap<String, String>, before: Option<&Self>) -> Self {
        let memory = before.map_or_else(Memory::new, |before| before.memory.clone());
        let highest = users.values().filter_map(|hash| cost(hash)).max().unwrap_or(bcrypt::DEFAULT_COST);
        let nobody = User { hash: of_nothing(highest), proven: Mutex::default() };
        let users = users.into_iter().map(|(name, hash)| {
            let known = before.and_then(|before| before.users.get(&name)).filter(|known| known.hash == hash);
            let proven = Mutex::new(known.and_then(User::proven));
            (name, User { hash, proven })
        });
        Self { users: users.collect(), nobody, highest, memory }
    }

    /// Verifies an `Authorization` header.
    pub(in crate::web) async fn check(&self, header: Option<&HeaderValue>, peer: Peer) -> Verdict {
        let Some((name, password)) = header.and_then(credentials) else { return Verdict::Denied };
        let user = std::str::from_utf8(&name).ok().and_then(|name| self.users.get(name));
        let (exists, user) = user.map_or((false, &self.nobody), |user| (true, user));
        let known = [name.as_slice(), b"\0", password.as_slice()].concat();
        if user.has_proven(self.memory.key.as_deref(), &known) {
            return Verdict::Granted;
        }

        let queue = &self.memory.queue;
        let Some(_place) = queue.enter(peer) else { return Verdict::Busy };
        let Ok(permit) = Arc::clone(&queue.bcrypt).acquire_owned().await else { return Verdict::Busy };
        // Another request with the same password may have been first.
        if user.has_proven(self.memory.key.as_deref(), &known) {
            return Verdict::Granted;
        }
        let (hash, highest) = (user.hash.clone(), self.highest);
        let verified = tokio::task::spawn_blocking(move || {
            // Also where nobody waits for it any more: one at a time.
            let _permit = permit;
            verify(&hash, highest, |hash| bcrypt::verify(&password, hash).unwrap_or(false))
        });
        // A panic there was logged, and proves nothing.
        if !verified.await.unwrap_or(false) || !exists {
            return Verdict::Denied;
        }
        *lock(&user.proven) = self.memory.key.as_deref().map(|key| hmac::sign(key, &known));
        Verdict::Granted
    }
}

/// The cost of a bcrypt hash; `None` when it is none.
pub(super) fn cost(hash: &str) -> Option<u32> {
    hash.parse().ok().map(|parts: bcrypt::HashParts| parts.get_cost())
}

/// A hash that no password has, though bcrypt computes it whole.
fn of_nothing(cost: u32) -> String {
    format!("$2b${cost:02}${}", ".".repeat(53))
}

/// Whether `fits` a hash. Where not, as much is computed as for one hash of the `highest` cost: each cost doubles the
/// work, so that what is missing to it is one hash of the own cost and of each above it.
fn verify(hash: &str, highest: u32, mut fits: impl FnMut(&str) -> bool) -> bool {
    let is_right = fits(hash);
    if !is_right && let Some(cost) = cost(hash) {
        for cost in cost..highest {
            // Computed for its time alone.
            fits(&of_nothing(cost));
        }
    }
    is_right
}

/// User and password of a header, if it is one of this scheme.
fn credentials(header: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some((pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
}

impl Memory {
    fn new() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Arc::new);
        let queue = Queue { bcrypt: Arc::new(Semaphore::new(1)), waiting: Mutex::default() };
        Self { key, queue: Arc::new(queue) }
    }
}

impl User {
    fn proven(&self) -> Option<hmac::Tag> {
        *lock(&self.proven)
    }

    fn has_proven(&self, key: Option<&hmac::Key>, known: &[u8]) -> bool {
        let proven = key.zip(self.proven());
        proven.is_some_and(|(key, tag)| hmac::verify(key, known, tag.as_ref()).is_ok())
    }
}

impl Queue {
    fn enter(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let mut waiting = lock(&self.waiting);
        let own = waiting.get(&peer).copied().unwrap_or(0);
        if own >= WAITING_OF_PEER || waiting.values().sum::<usize>() >= WAITING {
            return None;
        }
        waiting.insert(peer, own + 1);
        Some(Place { queue: Arc::clone(self), peer })
    }
}

/// One place in the queue.
struct Place {
    queue: Arc<Queue>,
    peer: Peer,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        if let Some(own) = waiting.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&self.peer);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change under it is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// As cheap as bcrypt gets.
    const COST: u32 = 4;

    fn basic(before: Option<&Basic>) -> Basic {
        let hash = bcrypt::hash_with_salt("sesame", COST, [7; 16]).unwrap().to_string();
        Basic::new(BTreeMap::from([("alice".to_owned(), hash)]), before)
    }

    fn header(pair: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair))).unwrap()
    }

    fn peer(number: u8) -> Peer {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, number)).into()
    }

    #[tokio::test]
    async fn only_the_right_pair_is_granted() {
        let basic = basic(None);
        let bearer = HeaderValue::from_static("Bearer YWxpY2U6c2VzYW1l");
        let lower = HeaderValue::from_static("basic YWxpY2U6c2VzYW1l");
        let broken = HeaderValue::from_static("Basic YWxpY2U6c2VzYW1l!");
        let table = [
            (None, Verdict::Denied),
            (Some(bearer), Verdict::Denied),
            (Some(broken), Verdict::Denied),
            (Some(header("alice")), Verdict::Denied),
            (Some(header("alice:")), Verdict::Denied),
            (Some(header("alice:Sesame")), Verdict::Denied),
            (Some(header("bob:sesame")), Verdict::Denied),
            (Some(header(":")), Verdict::Denied),
            (Some(header("alice:sesame")), Verdict::Granted),
            (Some(lower), Verdict::Granted),
            // Now that one is known.
            (Some(header("alice:sesame ")), Verdict::Denied),
            (Some(header("alice:sesame")), Verdict::Granted),
        ];
        for (header, verdict) in table {
            assert_eq!(basic.check(header.as_ref(), peer(1)).await, verdict, "{header:?}");
        }
    }

    /// What verifying a hash computes, in units of a cost of 0.
    fn work(hash: &str, highest: u32, right: bool) -> u64 {
        let mut work = 0;
        let verified = verify(hash, highest, |computed| {
            work += 1_u64 << cost(computed).unwrap();
            right && computed == hash
        });
        assert_eq!(verified, right);
        work
    }

    #[test]
    fn whatever_is_wrong_costs_the_same() {
        for costs in [&[4][..], &[4, 4], &[4, 5], &[6, 10, 8], &[4, 18]] {
            let hashed = |cost: u32| (cost.to_string(), of_nothing(cost));
            let basic = Basic::new(costs.iter().copied().map(hashed).collect(), None);
            let highest = *costs.iter().max().unwrap();
            for user in basic.users.values().chain([&basic.nobody]) {
                let work = work(&user.hash, basic.highest, false);
                assert_eq!(work, 1 << highest, "{costs:?}, {}", user.hash);
            }
        }
        assert_eq!(work(&of_nothing(6), 10, true), 1 << 6, "who is right waits for no other");
    }

    #[test]
    fn no_password_fits_the_hash_of_nothing() {
        assert_eq!(bcrypt::verify("sesame", &of_nothing(COST)).ok(), Some(false));
    }

    #[tokio::test]
    async fn what_was_proven_holds_while_the_hash_stays() {
        let first = basic(None);
        assert_eq!(first.check(Some(&header("alice:sesame")), peer(1)).await, Verdict::Granted);
        let second = basic(Some(&first));
        assert!(second.users["alice"].proven().is_some());
        let hash = bcrypt::hash_with_salt("other", COST, [7; 16]).unwrap().to_string();
        let third = Basic::new(BTreeMap::from([("alice".to_owned(), hash)]), Some(&second));
        assert!(third.users["alice"].proven().is_none());
        assert_eq!(third.check(Some(&header("alice:sesame")), peer(1)).await, Verdict::Denied);
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_all_but_those_who_are_known() {
        let basic = basic(None);
        assert_eq!(basic.check(Some(&header("alice:sesame")), peer(1)).await, Verdict::Granted);
        let queue = &basic.memory.queue;
        let own: Vec<_> =
            std::iter::repeat_with(|| queue.enter(peer(1))).take_while(Option::is_some).collect();
        assert_eq!(own.len(), WAITING_OF_PEER);
        assert_eq!(basic.check(Some(&header("alice:wrong")), peer(1)).await, Verdict::Busy);
        assert_eq!(basic.check(Some(&header("alice:wrong")), peer(2)).await, Verdict::Denied);
        let mut others = Vec::new();
        for number in 2.. {
            let Some(place) = queue.enter(peer(number)) else { break };
            others.push(place);
        }
        assert_eq!(own.len() + others.len(), WAITING);
        assert_eq!(basic.check(Some(&header("alice:wrong")), peer(200)).await, Verdict::Busy);
        assert_eq!(basic.check(Some(&header("alice:sesame")), peer(1)).await, Verdict::Granted);
        drop((own, others));
        assert!(lock(&queue.waiting).is_empty());
    }
}
