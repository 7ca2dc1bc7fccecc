//! Looks whether gateways answer at all, at start and at intervals.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::analysis::AnalyzeError;
use crate::analysis::provider::Provider as _;
use crate::pipeline::way::Kit;

/// Returns at once when it is switched off or there are no gateways.
pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    if kit.analysis.health_interval_s == 0 || kit.providers.is_empty() {
        return;
    }
    let interval = Duration::from_secs(kit.analysis.health_interval_s);
    loop {
        let checks = kit.providers.values().map(|gateway| async {
            // One that rests has been told of.
            let ended = gateway.check().await;
            if let Err(error) = ended.as_ref()
                && !matches!(error, AnalyzeError::Resting { .. })
            {
                tracing::warn!(gateway = gateway.name(), %error, "the gateway cannot be used");
            }
            metrics::gauge!("prelim_gateway_answers", "gateway" => gateway.name().to_owned())
                .set(f64::from(u8::from(ended.is_ok())));
        });
        tokio::select! {
            () = stop.cancelled() => return,
            _ = join_all(checks) => (),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => (),
        }
    }
}
