//! What the tests, the demo and the soak share.

pub mod process;
