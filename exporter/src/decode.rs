//! Raw log to `Event`, by topic0, tables as data. Pure: no I/O.

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
