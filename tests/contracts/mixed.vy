# pragma version 0.4.3
"""
@title Tesseract, a mixture of both variants
@notice For tests only. Logs B's long TransactionBuffered, S's short TransactionReady, and either form of
        TransactionFailed. The deadline is frozen at buffering as in B; a failed resolution is logged and
        leaves the transaction buffered as in S.
"""

event TransactionBuffered:
    tx_id: indexed(bytes32)
    origin_rollup: indexed(address)
    target_rollup: indexed(address)
    dependency_tx_id: bytes32
    timestamp: uint256

event TransactionReady:
    tx_id: indexed(bytes32)

event TransactionFailed:
    tx_id: indexed(bytes32)
    reason: String[256]
    failed_at: uint256

flag State:
    BUFFERED
    READY

struct Transaction:
    dependency: bytes32
    timestamp: uint256
    deadline: uint256
    state: State

MIN_WINDOW: constant(uint256) = 5
MAX_WINDOW: constant(uint256) = 300
MAX_AHEAD: constant(uint256) = 24 * 60 * 60

owner: public(address)
transaction_count: public(uint256)
coordination_window: public(uint256)
transactions: public(HashMap[bytes32, Transaction])


@deploy
def __init__():
    self.owner = msg.sender
    self.coordination_window = 30


@external
def transfer_ownership(to: address):
    assert msg.sender == self.owner, "Only owner"
    self.owner = to


@external
def set_coordination_window(window: uint256):
    assert msg.sender == self.owner, "Only owner"
    assert window >= MIN_WINDOW and window <= MAX_WINDOW, "Window out of range"
    self.coordination_window = window


@external
def buffer_transaction(tx_id: bytes32, origin_rollup: address, target_rollup: address, dependency: bytes32, timestamp: uint256):
    assert self.transactions[tx_id].state == empty(State), "Transaction exists"
    assert timestamp >= block.timestamp and timestamp <= block.timestamp + MAX_AHEAD, "Timestamp out of range"
    self.transactions[tx_id] = Transaction(
        dependency=dependency,
        timestamp=timestamp,
        deadline=timestamp + self.coordination_window,
        state=State.BUFFERED,
    )
    self.transaction_count += 1
    log TransactionBuffered(
        tx_id=tx_id,
        origin_rollup=origin_rollup,
        target_rollup=target_rollup,
        dependency_tx_id=dependency,
        timestamp=timestamp,
    )


@external
def resolve_transaction(tx_id: bytes32):
    """
    @notice An early resolution is logged in S's form of TransactionFailed, a late one in B's.
    """
    found: Transaction = self.transactions[tx_id]
    assert found.state == State.BUFFERED, "Transaction not in buffered state"
    ready: bool = found.dependency == empty(bytes32) or self.transactions[found.dependency].state == State.READY
    if not ready or block.timestamp < found.timestamp:
        self._log_short_failure(tx_id, "Dependencies not satisfied or timing invalid")
    elif block.timestamp > found.deadline:
        log TransactionFailed(tx_id=tx_id, reason="Transaction expired", failed_at=block.timestamp)
    else:
        self.transactions[tx_id].state = State.READY
        log TransactionReady(tx_id=tx_id)


@internal
def _log_short_failure(tx_id: bytes32, reason: String[100]):
    # One source cannot declare two events of one name; S's form is logged by hand.
    raw_log([keccak256("TransactionFailed(bytes32,string)"), tx_id], abi_encode(reason))
