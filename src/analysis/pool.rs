//! Pools: several gateways that can stand for each other under one name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::uid::StudyUid;

/// `[analysis.pools.NAME]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Gateways with their weights: their shares of the studies.
    pub members: BTreeMap<String, u32>,
}

impl Pool {
    /// The members in the order in which they are asked about this study: the same each time, the
    /// first by weight over many studies (weighted rendezvous hashing). When a member goes, only its
    /// studies move.
    pub fn order(&self, study: &StudyUid) -> Vec<&str> {
        let mut scored: Vec<(f64, &str)> = self
            .members
            .iter()
            .map(|(name, weight)| {
                // More than 0 and less than 1, so the logarithm is below 0.
                let drawn = share(name, study).clamp(1e-12, 1.0 - 1e-12);
                (-f64::from((*weight).max(1)) / drawn.ln(), name.as_str())
            })
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().map(|(_, name)| name).collect()
    }
}

/// A number from 0 to 1 that belongs to this study under this name.
pub fn share(name: &str, study: &StudyUid) -> f64 {
    let digest = Sha256::digest(format!("{name}\0{study}"));
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    // 53 bits are exact in an f64.
    (u64::from_be_bytes(head) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(n: u32) -> StudyUid {
        StudyUid::parse(&format!("1.2.{n}")).unwrap()
    }

    fn pool(members: &[(&str, u32)]) -> Pool {
        Pool {
            members: members.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
        }
    }

    #[test]
    fn studies_are_shared_by_weight_and_stay_when_another_goes() {
        let all = pool(&[("a", 3), ("b", 1), ("c", 1)]);
        let without = pool(&[("a", 3), ("b", 1)]);
        let mut first = BTreeMap::<String, u32>::new();
        for n in 0..5000 {
            let order = all.order(&study(n));
            assert_eq!(order.len(), 3);
            *first.entry(order[0].to_owned()).or_default() += 1;
            if order[0] != "c" {
                assert_eq!(without.order(&study(n))[0], order[0], "study {n} moved without need");
            }
        }
        let near =
            |name: &str, expected: u32| assert!(first[name].abs_diff(expected) < 150, "{first:?}");
        near("a", 3000);
        near("b", 1000);
        near("c", 1000);
        assert_eq!(all.order(&study(7)), all.order(&study(7)));
    }
}
