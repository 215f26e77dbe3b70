//! Random traffic of every kind and fate on a real node: three well-behaved contracts, and one that logs
//! anything.
//!
//! A seed and the sequence of calls decide everything, so a seed replays the same chain. Many actions are
//! meant to fail: too early, too late, refused, paused. It never says what a monitor should make of it.

mod hostile_logs;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use web3::ethabi::Token;
use web3::types::{H256, U256};

use crate::anvil::{Anvil, Contract};

/// How many members a burst group has: with the timeouts of all of them the breaker trips.
const BURST: usize = 50;

/// How many of the newest transactions are still worth resolving.
const RECENT: usize = 60;

/// The contracts, and what was done with them so far.
///
/// Clone it with a snapshot of the node, to go on from there after a return to the snapshot.
#[derive(Clone)]
pub struct Traffic {
    rng: ChaCha8Rng,
    millis: u64,
    pace: Pace,
    sites: Vec<Site>,
}

/// How far apart the blocks are.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// Always this many milliseconds; block times are whole seconds, so several blocks may share one.
    Even(u64),
    /// Mostly a few seconds, at times many minutes.
    Ragged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Simple,
    Buffer,
    Mixed,
    Emitter,
}

#[derive(Clone)]
struct Site {
    kind: Kind,
    contract: Contract,
    /// The account that owns the contract, by its index.
    owner: usize,
    /// Every window so far; the last is in force.
    windows: Vec<u64>,
    transactions: Vec<(H256, U256)>,
    groups: Vec<H256>,
}

impl Traffic {
    /// Deploys all four contracts, a block each, from this time on (seconds since the Unix epoch).
    pub async fn start(anvil: &Anvil, seed: u64, pace: Pace, from: u64) -> Self {
        let mut sites = Vec::new();
        let kinds = [
            (Kind::Simple, "simple"),
            (Kind::Buffer, "buffer"),
            (Kind::Mixed, "mixed"),
            (Kind::Emitter, "emitter"),
        ];
        for (time, (kind, name)) in (from..).zip(kinds) {
            let contract = anvil.deploy(name, time).await;
            let (transactions, groups) = (Vec::new(), Vec::new());
            sites.push(Site { kind, contract, owner: 0, windows: vec![30], transactions, groups });
        }
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { rng, millis: (from + 4) * 1000, pace, sites }
    }

    /// The contracts by the names of their artefacts: `simple`, `buffer`, `mixed`, `emitter`.
    pub fn contract(&self, name: &str) -> &Contract {
        let site = self.sites.iter().find(|site| format!("{:?}", site.kind).eq_ignore_ascii_case(name));
        &site.unwrap_or_else(|| panic!("no contract {name}")).contract
    }

    /// Goes on differently from here, for another branch after a return to a snapshot.
    pub fn reseed(&mut self, seed: u64) {
        self.rng = ChaCha8Rng::seed_from_u64(seed);
    }

    /// Takes blocks away from the node, and so owners back to who they were; what follows differs from
    /// what was there.
    pub async fn roll_back(&mut self, anvil: &Anvil, depth: u64) {
        let contracts: Vec<&Contract> = self.sites.iter().map(|site| &site.contract).collect();
        anvil.roll_back(depth, &contracts).await;
        for site in self.sites.iter_mut().filter(|site| matches!(site.kind, Kind::Buffer | Kind::Mixed)) {
            let owner = anvil.view(&site.contract, "owner").await.into_address();
            let index = anvil.accounts().iter().position(|account| Some(*account) == owner);
            site.owner = index.expect("an account of the node owns the contract");
        }
    }

    /// Mines one block with a few random actions, or none.
    pub async fn block(&mut self, anvil: &Anvil) {
        self.millis += match self.pace {
            Pace::Even(millis) => millis,
            Pace::Ragged if self.rng.random_bool(0.1) => self.rng.random_range(60_000..4_000_000),
            Pace::Ragged => self.rng.random_range(0..8_000),
        };
        let now = self.millis / 1000;
        for _ in 0..self.rng.random_range(0..6) {
            let site = self.rng.random_range(0..self.sites.len());
            let site = &mut self.sites[site];
            match site.kind {
                Kind::Simple => site.act_simple(&mut self.rng, anvil, now).await,
                Kind::Mixed => site.act_mixed(&mut self.rng, anvil, now).await,
                Kind::Buffer => site.act_buffer(&mut self.rng, anvil, now).await,
                Kind::Emitter => site.act_emitter(&mut self.rng, anvil, now).await,
            }
        }
        self.honest_count(anvil).await;
        anvil.mine_at(now).await;
    }

    /// The emitter's count is what it was told: here the truth.
    async fn honest_count(&mut self, anvil: &Anvil) {
        let emitter = self.sites.iter().find(|site| site.kind == Kind::Emitter).expect("an emitter");
        let count = Token::Uint(emitter.transactions.len().into());
        anvil.send(anvil.accounts()[0], &emitter.contract, "set_transaction_count", &[count]).await;
    }
}

impl Site {
    async fn act_simple(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, now: u64) {
        match rng.random_range(0..100) {
            0..45 => {
                let endless = rng.random_bool(0.05);
                let scheduled = if endless { U256::MAX } else { scheduled(rng, now) };
                self.buffer(rng, anvil, scheduled).await;
            }
            45..93 => self.resolve(rng, anvil, now).await,
            _ => self.change_window(rng, anvil).await,
        }
    }

    async fn act_mixed(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, now: u64) {
        match rng.random_range(0..100) {
            0..45 => {
                let scheduled = scheduled(rng, now);
                self.buffer(rng, anvil, scheduled).await;
            }
            45..92 => self.resolve(rng, anvil, now).await,
            92..98 => self.change_window(rng, anvil).await,
            _ => self.change_owner(rng, anvil).await,
        }
    }

    async fn act_buffer(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, now: u64) {
        match rng.random_range(0..100) {
            0..28 => {
                let scheduled = scheduled(rng, now);
                self.buffer(rng, anvil, scheduled).await;
            }
            30..60 => self.resolve(rng, anvil, now).await,
            60..66 => {
                let timeout = rng.random_range(1..120);
                let group = self.create_group(rng, anvil, timeout).await;
                // A group of one or two has a chance to become ready as a whole.
                for _ in 0..rng.random_range(0..3) {
                    self.buffer_in_group(rng, anvil, group, now.into()).await;
                }
            }
            66..75 => {
                if let Some(group) = self.group(rng) {
                    let scheduled = scheduled(rng, now);
                    self.buffer_in_group(rng, anvil, group, scheduled).await;
                }
            }
            75..84 => {
                if let Some(group) = self.group(rng) {
                    self.call(anvil, 0, "sweep_swap_group", &[id(group)]).await;
                }
            }
            84..87 => self.change_window(rng, anvil).await,
            87 => self.call(anvil, self.owner, "emergency_pause", &[]).await,
            88..92 => self.call(anvil, self.owner, "emergency_unpause", &[]).await,
            92 => self.change_owner(rng, anvil).await,
            93 => self.call(anvil, self.owner, "grant_operator", &[account(anvil, 2)]).await,
            94 => self.call(anvil, self.owner, "revoke_operator", &[account(anvil, 2)]).await,
            95 => self.on_any(rng, anvil, "reveal_transaction", &[]).await,
            28..30 | 96 => self.on_any(rng, anvil, "refund_transaction", &[Token::Uint(now.into())]).await,
            97..99 => self.call(anvil, self.owner, "reset_circuit_breaker", &[]).await,
            _ => {
                let group = self.create_group(rng, anvil, 20).await;
                for _ in 0..BURST {
                    let scheduled = scheduled(rng, now);
                    self.buffer_in_group(rng, anvil, group, scheduled).await;
                }
            }
        }
    }

    async fn act_emitter(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, now: u64) {
        if rng.random_bool(0.05) {
            return self.change_window(rng, anvil).await;
        }
        let (topics, data) = hostile_logs::any(rng, &mut self.transactions, now);
        let topics = topics.iter().map(|topic| id(*topic)).collect();
        self.call(anvil, 0, "emit", &[Token::Array(topics), Token::Bytes(data)]).await;
    }

    async fn buffer(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, scheduled: U256) {
        let arguments = self.transaction(rng, anvil, scheduled);
        self.call(anvil, 0, "buffer_transaction", &arguments).await;
    }

    async fn buffer_in_group(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, group: H256, scheduled: U256) {
        let mut arguments = self.transaction(rng, anvil, scheduled);
        arguments.insert(0, id(group));
        self.call(anvil, 0, "buffer_in_group", &arguments).await;
    }

    /// A new transaction: mostly without a dependency, else on an earlier one, or on one that never comes.
    fn transaction(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, scheduled: U256) -> Vec<Token> {
        let dependency = match rng.random_range(0..10) {
            0..7 => H256::zero(),
            7..9 => self.recent().choose(rng).map_or(H256::zero(), |(id, _)| *id),
            _ => H256(rng.random()),
        };
        let tx_id = H256(rng.random());
        self.transactions.push((tx_id, scheduled));
        let (origin, target) = (account(anvil, 3), account(anvil, 4));
        vec![id(tx_id), origin, target, id(dependency), Token::Uint(scheduled)]
    }

    /// Mostly one whose time has come and not yet passed; else any, in vain or for the second time.
    async fn resolve(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, now: u64) {
        let now = U256::from(now);
        let in_time = |(_, scheduled): &&(H256, U256)| {
            *scheduled <= now && now <= scheduled.saturating_add(self.window().into())
        };
        let due: Vec<_> = self.recent().iter().filter(in_time).collect();
        let chosen = due.choose(rng).filter(|_| rng.random_bool(0.7)).copied();
        if let Some((tx_id, _)) = chosen.or_else(|| self.recent().choose(rng)) {
            self.call(anvil, 0, "resolve_transaction", &[id(*tx_id)]).await;
        }
    }

    async fn create_group(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil, timeout: u64) -> H256 {
        let group = H256(rng.random());
        self.groups.push(group);
        self.call(anvil, 0, "create_swap_group", &[id(group), Token::Uint(timeout.into())]).await;
        group
    }

    /// A frozen deadline must be right though the window returns to what it was. Where deadlines float, one
    /// that was in force before is not drawn again: there and back between two reads leaves no trace on the
    /// chain, and what expired in between shows only to who reads the state of every block.
    async fn change_window(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil) {
        let window = match self.kind {
            Kind::Buffer | Kind::Mixed => *[5, 30, 60, 300].choose(rng).expect("there are windows"),
            Kind::Simple | Kind::Emitter => loop {
                // In a long run more than there are numbers up to 300.
                let window = rng.random_range(5..=self.windows.len().max(150) as u64 * 2);
                if !self.windows.contains(&window) {
                    break window;
                }
            },
        };
        self.windows.push(window);
        self.call(anvil, self.owner, "set_coordination_window", &[Token::Uint(window.into())]).await;
    }

    async fn change_owner(&mut self, rng: &mut ChaCha8Rng, anvil: &Anvil) {
        let to = rng.random_range(0..2);
        self.call(anvil, self.owner, "transfer_ownership", &[account(anvil, to)]).await;
        self.owner = to;
    }

    async fn on_any(&self, rng: &mut ChaCha8Rng, anvil: &Anvil, function: &str, rest: &[Token]) {
        if let Some((tx_id, _)) = self.transactions.choose(rng) {
            self.call(anvil, 0, function, &[&[id(*tx_id)], rest].concat()).await;
        }
    }

    async fn call(&self, anvil: &Anvil, account: usize, function: &str, arguments: &[Token]) {
        anvil.send(anvil.accounts()[account], &self.contract, function, arguments).await;
    }

    fn window(&self) -> u64 {
        self.windows[self.windows.len() - 1]
    }

    fn recent(&self) -> &[(H256, U256)] {
        &self.transactions[self.transactions.len().saturating_sub(RECENT)..]
    }

    fn group(&self, rng: &mut ChaCha8Rng) -> Option<H256> {
        self.groups[self.groups.len().saturating_sub(4)..].choose(rng).copied()
    }
}

/// At once, soon, as callers are told to, or far ahead.
fn scheduled(rng: &mut ChaCha8Rng, now: u64) -> U256 {
    let ahead = match rng.random_range(0..10) {
        0..4 => rng.random_range(0..4),
        4..8 => rng.random_range(0..60),
        8 => 300,
        _ => rng.random_range(0..86_400),
    };
    U256::from(now + ahead)
}

fn id(id: H256) -> Token {
    Token::FixedBytes(id.0.to_vec())
}

fn account(anvil: &Anvil, index: usize) -> Token {
    Token::Address(anvil.accounts()[index])
}
