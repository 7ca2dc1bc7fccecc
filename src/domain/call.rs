//! A call to a model, as it is counted and paid for.

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}

/// One request to a gateway, answered or not, or one that an answer kept from before made needless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its name in the configuration.
    pub gateway: String,
    /// Name of the key that was used; empty: its only one, or none.
    #[serde(default)]
    pub key: String,
    /// As the configuration names it.
    pub model: String,
    pub tokens: Tokens,
    /// The gateway did not say how many tokens it took: the number is ours.
    #[serde(default)]
    pub is_estimate: bool,
    pub pictures: u32,
    pub latency_ms: u64,
    /// `answered`, `cached`, or the kind of its failure.
    pub outcome: String,
    /// Millionths of the site's currency; `None` where the model has no price.
    #[serde(default)]
    pub cost_micro: Option<u64>,
}

pub const ANSWERED: &str = "answered";
pub const CACHED: &str = "cached";

impl Call {
    pub fn is_cached(&self) -> bool {
        self.outcome == CACHED
    }

    pub fn is_failed(&self) -> bool {
        self.outcome != ANSWERED && !self.is_cached()
    }
}
