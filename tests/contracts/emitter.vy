# pragma version 0.4.3
"""
@title A contract that logs whatever it is told to
@notice For tests only: hostile, broken and foreign logs that no well-behaved contract produces. Its views
        are settable, so that they can contradict its logs.
"""

owner: public(address)
transaction_count: public(uint256)
coordination_window: public(uint256)


@deploy
def __init__():
    self.owner = msg.sender
    self.coordination_window = 30


@external
def set_owner(to: address):
    self.owner = to


@external
def set_transaction_count(count: uint256):
    self.transaction_count = count


@external
def set_coordination_window(window: uint256):
    self.coordination_window = window


@external
def emit(topics: DynArray[bytes32, 4], data: Bytes[4096]):
    # The length of a list decides on the opcode, so every length is its own call.
    if len(topics) == 0:
        raw_log([], data)
    elif len(topics) == 1:
        raw_log([topics[0]], data)
    elif len(topics) == 2:
        raw_log([topics[0], topics[1]], data)
    elif len(topics) == 3:
        raw_log([topics[0], topics[1], topics[2]], data)
    else:
        raw_log([topics[0], topics[1], topics[2], topics[3]], data)
