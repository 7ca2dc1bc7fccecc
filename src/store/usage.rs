//! What was asked of models: sums by day and kind.

use jiff::Timestamp;
use jiff::civil::Date;

use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::store::error::StoreError;
use crate::store::key;
use crate::store::rows::UsageRow;
use crate::store::txn::Txn;

/// For whom a call was made.
pub struct For<'a> {
    pub tier: &'a str,
    pub modality: &'a str,
    pub source: &'a str,
}

pub fn asked(
    txn: &mut Txn<'_>,
    call: &Call,
    whom: &For<'_>,
    day: Date,
    at: Timestamp,
) -> Result<(), StoreError> {
    let For { tier, modality, source } = whom;
    let key = key::usage(day, &[&call.gateway, &call.key, &call.model, tier, modality, source]);
    let mut row = txn.get::<UsageRow>(&key)?.unwrap_or_else(|| UsageRow {
        day,
        gateway: call.gateway.clone(),
        key: call.key.clone(),
        model: call.model.clone(),
        tier: (*tier).to_owned(),
        modality: (*modality).to_owned(),
        source: (*source).to_owned(),
        calls: 0,
        failed: 0,
        cached: 0,
        tokens: Tokens::default(),
        pictures: 0,
        cost_micro: 0,
        unpriced: 0,
        latency_ms: 0,
        last_at: at,
    });
    row.calls += 1;
    row.failed += u64::from(call.is_failed());
    row.cached += u64::from(call.is_cached());
    if !call.is_cached() {
        row.tokens.prompt = row.tokens.prompt.saturating_add(call.tokens.prompt);
        row.tokens.completion = row.tokens.completion.saturating_add(call.tokens.completion);
        row.pictures += u64::from(call.pictures);
    }
    row.cost_micro = row.cost_micro.saturating_add(call.cost_micro.unwrap_or(0));
    row.unpriced += u64::from(call.cost_micro.is_none());
    row.latency_ms = row.latency_ms.saturating_add(call.latency_ms);
    row.last_at = row.last_at.max(at);
    txn.put(key, row);
    Ok(())
}
