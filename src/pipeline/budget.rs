//! Budgets: what was spent so far, from the view of the ledger, and who reads when it is too much.

use crate::analysis::cost;
use crate::analysis::cost::Spent;
use crate::pipeline::calling::Caller;
use crate::pipeline::job::StepError;

/// A budget that the study at hand would overdraw.
pub struct Overdrawn {
    pub name: String,
    /// A gateway, or `local`.
    pub instead: String,
}

/// - `gateway`: who would read it.
pub fn overdrawn(asking: &Caller<'_>, gateway: &str) -> Result<Option<Overdrawn>, StepError> {
    let kit = asking.way.kit;
    let budgets = &kit.analysis.budgets;
    if budgets.is_empty() {
        return Ok(None);
    }
    let today = cost::day(kit.clock.now(), &kit.equipment.time_zone);
    let rows = kit.store.usage(today.first_of_month(), today).map_err(StepError::passing)?;
    let spent: Vec<Spent> = rows
        .into_iter()
        .map(|row| Spent {
            day: row.day,
            modality: row.modality,
            source: row.source,
            cost_micro: row.cost_micro,
        })
        .collect();
    for (name, budget) in budgets {
        let used = cost::used(budget, &spent, today, 0);
        metrics::gauge!("prelim_budget_used_ratio", "budget" => name.clone()).set(used);
        if used >= cost::WARN_AT {
            tracing::warn!(budget = name, percent = (used * 100.0) as u64, "the budget goes down");
        }
    }
    let more = asking.estimate_micro(gateway)?;
    let over = cost::overdrawn(budgets, asking.kind(), &spent, today, more);
    Ok(over
        .map(|(name, budget)| Overdrawn { name: name.to_owned(), instead: budget.instead.clone() }))
}
