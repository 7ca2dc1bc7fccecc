//! One after the other, by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::OwnedMutexGuard;

/// Turns of those that must not do the same at the same time.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn of this name; it lasts as long as what is returned.
    pub async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Names come from the configuration, and change with it.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_of_a_name_waits_for_the_first_and_no_other_does() {
        let turns = Turns::default();
        let first = turns.lock("kim").await;
        let _other = turns.lock("lee").await;
        let waiting = turns.lock("kim");
        tokio::pin!(waiting);
        let now = tokio::task::yield_now();
        let is_first = tokio::select! {
            biased;
            _ = &mut waiting => false,
            () = now => true,
        };
        assert!(is_first, "the second came beside the first");
        drop(first);
        waiting.await;
    }
}
