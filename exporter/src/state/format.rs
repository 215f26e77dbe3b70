//! How progress is written: a line that says the format, a line of JSON with all that is small, the
//! transactions one after another in binary, and the SHA-256 of everything before it.
//!
//! The first two lines are for people and for other versions. A transaction is two hashes and some numbers:
//! as JSON it took 190 bytes, so it takes about 80, or 45 when it is settled. Everything passes in pieces:
//! the whole is never in memory beside the ledger.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use ring::digest::{Context, Digest, SHA256, SHA256_OUTPUT_LEN};
use serde::{Deserialize, Serialize};
use web3::types::{H160, H256, U256};

use super::{Gap, Saved};
use crate::chain::BlockRef;
use crate::ledger::{Deadline, Ledger, Pending, Settled, State, Transaction};
use crate::proof::Proof;

/// Changes whenever an older program would misread the file.
pub(super) const FORMAT: u32 = 3;

/// A larger file is neither read nor written. It would hold six million pending transactions.
pub(super) const LARGEST: u64 = 512 << 20;

/// Longer lines are none of ours.
const LONGEST_LINE: u64 = 1 << 20;

/// No saved transaction takes less, pending or settled.
const SMALLEST_PENDING: u64 = 68;
const SMALLEST_SETTLED: u64 = 34;

/// Written and read in pieces of this size.
const PIECE: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
struct Seal {
    format: u32,
}

/// All that is small.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    chain_id: u64,
    contract: H160,
    start_block: Option<u64>,
    first_block: u64,
    anchor: Option<BlockRef>,
    compared: Option<(u64, i64)>,
    gaps: Cow<'a, [Gap]>,
    proof: Cow<'a, Proof>,
    ledger: Cow<'a, State>,
    /// How many transactions follow.
    pending: u64,
    settled: u64,
}

/// Writes everything.
pub(super) fn write(file: &mut impl Write, saved: &Saved<'_>) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(PIECE, Sealed::new(&mut *file));
    let (state, pending, settled) = saved.ledger.saved();
    let head = Head {
        chain_id: saved.chain_id,
        contract: saved.contract,
        start_block: saved.start_block,
        first_block: saved.first_block,
        anchor: saved.anchor,
        compared: saved.compared,
        gaps: Cow::Borrowed(&saved.gaps),
        proof: Cow::Borrowed(&saved.proof),
        ledger: Cow::Borrowed(state),
        pending: pending.len() as u64,
        settled: settled.len() as u64,
    };
    serde_json::to_writer(&mut out, &Seal { format: FORMAT })?;
    out.write_all(b"\n")?;
    serde_json::to_writer(&mut out, &head)?;
    out.write_all(b"\n")?;
    for (id, pending) in pending {
        write_pending(&mut out, &id, &pending)?;
    }
    for (id, settled) in settled {
        out.write_all(id.as_bytes())?;
        write_number(&mut out, settled.buffered.into())?;
        write_number(&mut out, settled.due.into())?;
    }
    let digest = out.into_inner().map_err(io::IntoInnerError::into_error)?.digest();
    file.write_all(digest.as_ref())
}

/// Reads a file of this length.
///
/// # Errors
/// One line that says why it is not believed.
pub(super) fn read(mut file: impl Read, length: u64) -> Result<Saved<'static>, String> {
    if length > LARGEST {
        return Err(format!("is too large: {length} bytes, expected {LARGEST} at most"));
    }
    let body = length.checked_sub(SHA256_OUTPUT_LEN as u64).ok_or_else(torn)?;
    let mut input = BufReader::with_capacity(PIECE, Sealed::new((&mut file).take(body)));
    let seal: Seal = read_line(&mut input)?;
    if seal.format != FORMAT {
        let age = if seal.format > FORMAT { "a newer" } else { "an older" };
        return Err(format!("was written by {age} version (format {}, expected {FORMAT})", seal.format));
    }
    let head: Head<'static> = read_line(&mut input)?;
    let ledger = read_ledger(&mut input, &head, body).map_err(|error| unreadable(&error))?;
    let rest = input.fill_buf().map_err(|error| unreadable(&error))?.len();
    let digest = input.into_inner().digest();
    let mut expected = [0; SHA256_OUTPUT_LEN];
    file.read_exact(&mut expected).map_err(|error| unreadable(&error))?;
    if rest > 0 || digest.as_ref() != expected {
        return Err(torn());
    }
    Ok(Saved {
        chain_id: head.chain_id,
        contract: head.contract,
        start_block: head.start_block,
        first_block: head.first_block,
        anchor: head.anchor,
        compared: head.compared,
        gaps: head.gaps,
        proof: head.proof,
        ledger: Cow::Owned(ledger),
    })
}

fn read_ledger(input: &mut impl Read, head: &Head<'static>, body: u64) -> io::Result<Ledger> {
    // Room is made for no more than the file can hold.
    let count = |count: u64, smallest: u64| {
        let possible = usize::try_from(count).ok().filter(|_| count <= body / smallest);
        possible.ok_or(io::ErrorKind::InvalidData)
    };
    let (pending, settled) = (count(head.pending, SMALLEST_PENDING)?, count(head.settled, SMALLEST_SETTLED)?);
    let mut ledger = Ledger::restored(head.ledger.clone().into_owned(), pending, settled);
    for _ in 0..pending {
        let (id, pending) = read_pending(input)?;
        ledger.restore(id, Transaction::Pending(pending));
    }
    for _ in 0..settled {
        let id = read_hash(input)?;
        let settled = Settled { buffered: read_u64(input)?, due: read_u64(input)? };
        ledger.restore(id, Transaction::Settled(settled));
    }
    Ok(ledger)
}

fn write_pending(out: &mut impl Write, id: &H256, pending: &Pending) -> io::Result<()> {
    let (kind, window) = match pending.deadline {
        Deadline::Floating => (0, None),
        Deadline::Frozen(window) => (1, Some(window)),
        Deadline::Guessed(window) => (2, Some(window)),
        Deadline::Assumed(window) => (3, Some(window)),
        Deadline::Never => (4, None),
    };
    out.write_all(id.as_bytes())?;
    out.write_all(pending.tx_hash.as_bytes())?;
    out.write_all(&[kind])?;
    write_number(out, pending.block.into())?;
    write_number(out, pending.buffered.into())?;
    write_number(out, pending.scheduled)?;
    window.map_or(Ok(()), |window| write_number(out, window))
}

fn read_pending(input: &mut impl Read) -> io::Result<(H256, Pending)> {
    let (id, tx_hash) = (read_hash(input)?, read_hash(input)?);
    let kind = read_array::<1>(input)?;
    let (block, buffered, scheduled) = (read_u64(input)?, read_u64(input)?, read_number(input)?);
    let deadline = match kind {
        [0] => Deadline::Floating,
        [1] => Deadline::Frozen(read_number(input)?),
        [2] => Deadline::Guessed(read_number(input)?),
        [3] => Deadline::Assumed(read_number(input)?),
        [4] => Deadline::Never,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    Ok((id, Pending { tx_hash, block, buffered, scheduled, deadline }))
}

/// How many bytes it has, and these, the lowest first.
fn write_number(out: &mut impl Write, number: U256) -> io::Result<()> {
    let mut bytes = [0; 32];
    number.to_little_endian(&mut bytes);
    let length = number.bits().div_ceil(8);
    // At most 32.
    out.write_all(&[length as u8])?;
    out.write_all(&bytes[..length])
}

fn read_number(input: &mut impl Read) -> io::Result<U256> {
    let [length] = read_array(input)?;
    let mut bytes = [0; 32];
    input.read_exact(bytes.get_mut(..length.into()).ok_or(io::ErrorKind::InvalidData)?)?;
    Ok(U256::from_little_endian(&bytes))
}

fn read_u64(input: &mut impl Read) -> io::Result<u64> {
    u64::try_from(read_number(input)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn read_hash(input: &mut impl Read) -> io::Result<H256> {
    read_array(input).map(H256)
}

fn read_array<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_line<T: for<'a> Deserialize<'a>>(input: &mut impl BufRead) -> Result<T, String> {
    let mut line = Vec::new();
    input.take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
    serde_json::from_slice(&line).map_err(|_| torn())
}

fn torn() -> String {
    "is torn or damaged".to_owned()
}

/// A failing disk is not a torn file.
fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => torn(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Computes the checksum of all that passes, and lets no more pass than may be saved.
struct Sealed<T> {
    inner: T,
    checksum: Context,
    passed: u64,
}

impl<T> Sealed<T> {
    fn new(inner: T) -> Self {
        Self { inner, checksum: Context::new(&SHA256), passed: SHA256_OUTPUT_LEN as u64 }
    }

    fn digest(self) -> Digest {
        self.checksum.finish()
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.checksum.update(&bytes[..written]);
        self.passed += written as u64;
        if self.passed > LARGEST {
            return Err(io::Error::other(format!("it would be larger than {LARGEST} bytes")));
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Sealed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.checksum.update(&bytes[..read]);
        Ok(read)
    }
}
