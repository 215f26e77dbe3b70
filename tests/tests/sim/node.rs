//! The node over a real socket, read with web3's types.
