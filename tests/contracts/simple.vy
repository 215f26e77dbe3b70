# pragma version 0.4.3
"""
@title Tesseract, variant S (simple)
@notice For tests only, written from the facts that an outside observer sees. It keeps what matters to a
        monitor: which event a call logs, what a view returns, and that a failed resolution is logged
        and leaves the transaction buffered.
"""

event TransactionBuffered:
    tx_id: indexed(bytes32)
    origin_rollup: indexed(address)
    target_rollup: indexed(address)
    timestamp: uint256

event TransactionReady:
    tx_id: indexed(bytes32)

event TransactionFailed:
    tx_id: indexed(bytes32)
    reason: String[100]

# An unset state is 0, which is no member: never compare an unset one with a member and expect it to match.
flag State:
    BUFFERED
    READY

struct Transaction:
    dependency: bytes32
    timestamp: uint256
    state: State

MIN_WINDOW: constant(uint256) = 5
MAX_WINDOW: constant(uint256) = 300

owner: public(immutable(address))
transaction_count: public(uint256)
coordination_window: public(uint256)
transactions: public(HashMap[bytes32, Transaction])


@deploy
def __init__():
    owner = msg.sender
    self.coordination_window = 30


@external
def set_coordination_window(window: uint256):
    assert msg.sender == owner, "Only owner"
    assert window >= MIN_WINDOW and window <= MAX_WINDOW, "Window out of range"
    self.coordination_window = window


@external
def buffer_transaction(tx_id: bytes32, origin_rollup: address, target_rollup: address, dependency: bytes32, timestamp: uint256):
    """
    @notice Any future timestamp is accepted, 2^256-1 too.
    """
    assert self.transactions[tx_id].state == empty(State), "Transaction exists"
    assert timestamp >= block.timestamp, "Timestamp in the past"
    self.transactions[tx_id] = Transaction(dependency=dependency, timestamp=timestamp, state=State.BUFFERED)
    self.transaction_count += 1
    log TransactionBuffered(tx_id=tx_id, origin_rollup=origin_rollup, target_rollup=target_rollup, timestamp=timestamp)


@external
def resolve_transaction(tx_id: bytes32):
    """
    @notice A failure is logged, not reverted, and may be followed by a success.
    """
    found: Transaction = self.transactions[tx_id]
    assert found.state == State.BUFFERED, "Transaction not in buffered state"
    ready: bool = found.dependency == empty(bytes32) or self.transactions[found.dependency].state == State.READY
    if not ready or block.timestamp < found.timestamp:
        log TransactionFailed(tx_id=tx_id, reason="Dependencies not satisfied")
    elif block.timestamp - found.timestamp > self.coordination_window:
        log TransactionFailed(tx_id=tx_id, reason="Transaction expired")
    else:
        self.transactions[tx_id].state = State.READY
        log TransactionReady(tx_id=tx_id)
