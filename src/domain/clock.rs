//! What time it is, as an argument.

use jiff::Timestamp;

/// Where wall-clock time comes from. Deadlines on disk are wall-clock times; waits use tokio's
/// monotonic timers and ask again.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
