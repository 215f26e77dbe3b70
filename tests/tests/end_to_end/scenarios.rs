//! What goes wrong and on which network.

use tesseract_tests::sim::Variant;

/// One alert, brought about and put right. Every scenario has a network of its own, so that all run at
/// once, and the whole takes as long as the slowest.
pub(crate) struct Scenario {
    pub(crate) alert: &'static str,
    pub(crate) place: Place,
    /// Why the alert outlives this test although all is well again.
    pub(crate) lasts: Option<&'static str>,
}

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The network of this name, with this contract.
    Network(&'static str, Variant),
    /// An exporter as a whole.
    Exporter,
}

const fn on(alert: &'static str, network: &'static str, variant: Variant) -> Scenario {
    Scenario { alert, place: Place::Network(network, variant), lasts: None }
}

/// An event is told once and never called off.
const fn event(alert: &'static str, network: &'static str, variant: Variant) -> Scenario {
    Scenario { alert, place: Place::Network(network, variant), lasts: Some("an event is kept for an hour") }
}

/// The alerts that are left out hold for ten minutes before they fire, and look back over as much; they have
/// their unit tests.
pub(crate) const SCENARIOS: [Scenario; 13] = [
    event("TesseractTransactionFailed", "failure", Variant::Simple),
    event("TesseractTransactionsExpired", "expiry", Variant::Buffer),
    on("TesseractHighFailureRate", "failure-rate", Variant::Simple),
    on("TesseractContractPaused", "pause", Variant::Buffer),
    on("TesseractCircuitBreakerActive", "breaker", Variant::Buffer),
    Scenario {
        alert: "TesseractOwnerUnexpected",
        place: Place::Network("owner", Variant::Buffer),
        lasts: Some("a change of owner stays for an hour"),
    },
    on("TesseractContractMissing", "no-contract", Variant::Simple),
    on("TesseractNodeDisconnected", "node-down", Variant::Simple),
    on("TesseractExporterStalled", "no-logs", Variant::Simple),
    on("TesseractChainStalled", "stalled", Variant::Simple),
    event("TesseractReorg", "reorg", Variant::Simple),
    on("TesseractMissingEvents", "uncounted", Variant::Simple),
    Scenario { alert: "TesseractExporterDown", place: Place::Exporter, lasts: None },
];

impl Scenario {
    /// The name of its network.
    pub(crate) fn network(&self) -> Option<&'static str> {
        match self.place {
            Place::Network(name, _) => Some(name),
            Place::Exporter => None,
        }
    }
}
