# pragma version 0.4.3
"""
@title Tesseract, variant B (buffer)
@notice For tests only, written from the facts that an outside observer sees. A failed resolution reverts,
        so nothing of it reaches the chain; the only TransactionFailed that stays comes from the sweep of
        an expired swap group.
"""

event TransactionBuffered:
    tx_id: indexed(bytes32)
    origin_rollup: indexed(address)
    target_rollup: indexed(address)
    dependency_tx_id: bytes32
    timestamp: uint256

event TransactionReady:
    tx_id: indexed(bytes32)
    resolved_at: uint256

event TransactionFailed:
    tx_id: indexed(bytes32)
    reason: String[256]
    failed_at: uint256

event TransactionRevealed:
    tx_id: indexed(bytes32)
    revealed_at: uint256

event TransactionRefunded:
    tx_id: indexed(bytes32)
    recipient: indexed(address)
    amount: uint256

event SwapGroupCreated:
    group_id: indexed(bytes32)
    creator: indexed(address)
    created_at: uint256

event SwapGroupCompleted:
    group_id: indexed(bytes32)
    completed_at: uint256

event EmergencyPause:
    caller: indexed(address)
    paused_at: uint256

event EmergencyUnpause:
    caller: indexed(address)
    unpaused_at: uint256

event RoleGranted:
    role: indexed(bytes32)
    account: indexed(address)
    sender: indexed(address)

event RoleRevoked:
    role: indexed(bytes32)
    account: indexed(address)
    sender: indexed(address)

# An unset state is 0, which is no member: never compare an unset one with a member and expect it to match.
flag State:
    BUFFERED
    READY
    FAILED

struct Transaction:
    sender: address
    dependency: bytes32
    group_id: bytes32
    timestamp: uint256
    deadline: uint256
    state: State

struct SwapGroup:
    expires_at: uint256
    ready: uint256
    closed: bool

MIN_WINDOW: constant(uint256) = 5
MAX_WINDOW: constant(uint256) = 300
MAX_AHEAD: constant(uint256) = 24 * 60 * 60
MAX_GROUP: constant(uint256) = 64
BREAKER_THRESHOLD: constant(uint256) = 50
OPERATOR: public(constant(bytes32)) = keccak256("OPERATOR")

owner: public(address)
emergency_admin: public(address)
paused: public(bool)
circuit_breaker_active: public(bool)
transaction_count: public(uint256)
coordination_window: public(uint256)
swap_group_timeouts: public(uint256)
transactions: public(HashMap[bytes32, Transaction])
swap_groups: public(HashMap[bytes32, SwapGroup])
members: HashMap[bytes32, DynArray[bytes32, MAX_GROUP]]
roles: HashMap[bytes32, HashMap[address, bool]]


@deploy
def __init__():
    self.owner = msg.sender
    self.emergency_admin = msg.sender
    self.coordination_window = 30
    self._grant(msg.sender)


# What no event marks: only the views show it.

@external
def transfer_ownership(to: address):
    self._only_owner()
    self.owner = to


@external
def set_emergency_admin(admin: address):
    self._only_owner()
    self.emergency_admin = admin


@external
def set_coordination_window(window: uint256):
    self._only_owner()
    assert window >= MIN_WINDOW and window <= MAX_WINDOW, "Window out of range"
    self.coordination_window = window


@external
def reset_circuit_breaker():
    self._only_owner()
    self.circuit_breaker_active = False
    self.swap_group_timeouts = 0


# Pause and roles.

@external
def emergency_pause():
    """
    @notice May repeat while paused: the view is the truth, not the event.
    """
    assert msg.sender == self.owner or msg.sender == self.emergency_admin, "Only emergency admin"
    self.paused = True
    log EmergencyPause(caller=msg.sender, paused_at=block.timestamp)


@external
def emergency_unpause():
    self._only_owner()
    self.paused = False
    log EmergencyUnpause(caller=msg.sender, unpaused_at=block.timestamp)


@external
def grant_operator(account: address):
    self._only_owner()
    self._grant(account)


@external
def revoke_operator(account: address):
    self._only_owner()
    self.roles[OPERATOR][account] = False
    log RoleRevoked(role=OPERATOR, account=account, sender=msg.sender)


# Transactions.

@external
def buffer_transaction(tx_id: bytes32, origin_rollup: address, target_rollup: address, dependency: bytes32, timestamp: uint256):
    self._buffer(tx_id, origin_rollup, target_rollup, dependency, timestamp, empty(bytes32))


@external
def resolve_transaction(tx_id: bytes32):
    """
    @notice A failure reverts, so its log never reaches the chain.
    """
    self._only_operator()
    self._only_live()
    found: Transaction = self.transactions[tx_id]
    assert found.state == State.BUFFERED, "Transaction not in buffered state"
    assert found.dependency == empty(bytes32) or self.transactions[found.dependency].state == State.READY, "Dependencies not satisfied"
    assert block.timestamp >= found.timestamp, "Dependencies not satisfied or timing invalid"
    assert block.timestamp <= found.deadline, "Transaction expired"
    self.transactions[tx_id].state = State.READY
    log TransactionReady(tx_id=tx_id, resolved_at=block.timestamp)
    if found.group_id != empty(bytes32):
        self.swap_groups[found.group_id].ready += 1
        if self.swap_groups[found.group_id].ready == len(self.members[found.group_id]):
            self.swap_groups[found.group_id].closed = True
            log SwapGroupCompleted(group_id=found.group_id, completed_at=block.timestamp)


@external
def reveal_transaction(tx_id: bytes32):
    self._only_operator()
    assert self.transactions[tx_id].state == State.READY, "Transaction not ready"
    log TransactionRevealed(tx_id=tx_id, revealed_at=block.timestamp)


@external
def refund_transaction(tx_id: bytes32, amount: uint256):
    self._only_operator()
    assert self.transactions[tx_id].state == State.FAILED, "Transaction not failed"
    log TransactionRefunded(tx_id=tx_id, recipient=self.transactions[tx_id].sender, amount=amount)


# Swap groups: ready together or failed together.

@external
def create_swap_group(group_id: bytes32, timeout: uint256):
    """
    @param timeout Seconds until the group may be swept.
    """
    self._only_operator()
    self._only_live()
    assert self.swap_groups[group_id].expires_at == 0, "Swap group exists"
    self.swap_groups[group_id].expires_at = block.timestamp + timeout
    log SwapGroupCreated(group_id=group_id, creator=msg.sender, created_at=block.timestamp)


@external
def buffer_in_group(
    group_id: bytes32,
    tx_id: bytes32,
    origin_rollup: address,
    target_rollup: address,
    dependency: bytes32,
    timestamp: uint256,
):
    assert self.swap_groups[group_id].expires_at >= block.timestamp, "Swap group not open"
    assert not self.swap_groups[group_id].closed, "Swap group closed"
    self._buffer(tx_id, origin_rollup, target_rollup, dependency, timestamp, group_id)
    self.members[group_id].append(tx_id)


@external
def sweep_swap_group(group_id: bytes32):
    """
    @notice Fails every member of an expired group for good, those that were ready and those that had
            passed their own deadline too. Works while paused, so that nothing is stuck.
    """
    group: SwapGroup = self.swap_groups[group_id]
    assert group.expires_at != 0 and block.timestamp > group.expires_at, "Swap group not expired"
    assert not group.closed, "Swap group closed"
    self.swap_groups[group_id].closed = True
    for tx_id: bytes32 in self.members[group_id]:
        self.transactions[tx_id].state = State.FAILED
        self.swap_group_timeouts += 1
        log TransactionFailed(tx_id=tx_id, reason="Swap group timeout", failed_at=block.timestamp)
    if self.swap_group_timeouts >= BREAKER_THRESHOLD:
        self.circuit_breaker_active = True


@internal
def _buffer(
    tx_id: bytes32,
    origin_rollup: address,
    target_rollup: address,
    dependency: bytes32,
    timestamp: uint256,
    group_id: bytes32,
):
    self._only_live()
    assert self.transactions[tx_id].state == empty(State), "Transaction exists"
    assert timestamp >= block.timestamp and timestamp <= block.timestamp + MAX_AHEAD, "Timestamp out of range"
    self.transactions[tx_id] = Transaction(
        sender=msg.sender,
        dependency=dependency,
        group_id=group_id,
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


@internal
def _grant(account: address):
    self.roles[OPERATOR][account] = True
    log RoleGranted(role=OPERATOR, account=account, sender=msg.sender)


@internal
@view
def _only_owner():
    assert msg.sender == self.owner, "Only owner"


@internal
@view
def _only_operator():
    assert self.roles[OPERATOR][msg.sender], "Only operator"


@internal
@view
def _only_live():
    assert not self.paused, "Paused"
    assert not self.circuit_breaker_active, "Circuit breaker active"
