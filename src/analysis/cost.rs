//! What calls cost, what they will cost, and what is left of a budget. Pure; sums come from the
//! ledger's view.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::AnalyzeError;
use crate::analysis::config::Config;
use crate::analysis::config::Kind;
use crate::analysis::plan::Route;
use crate::analysis::provider::Question;
use crate::analysis::strategy::Strategy;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::profile::Profile;

/// Pixels that one token of a picture stands for, where a gateway does not count. Published rules
/// differ (85 + 170 a tile of 512 px; width x height / 750): this is the second.
const PIXELS_PER_TOKEN: u64 = 750;
/// Of English text.
const BYTES_PER_TOKEN: u64 = 4;
/// Of a usual answer, for what is estimated beforehand.
pub const ANSWER_TOKENS: u64 = 1500;
/// Of rules, schema, context and list of pictures beside a profile's own words, about.
const TEXT_BYTES: usize = 10_000;
/// Share of a budget at which the log warns.
pub const WARN_AT: f64 = 0.8;

/// Price of a model, in the site's currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Price {
    /// A million tokens of prompt, pictures included.
    pub input: f64,
    /// A million tokens of answer.
    pub output: f64,
    /// One picture, where they are paid for apart.
    pub picture: f64,
}

impl Price {
    /// In millionths of the currency, rounded up.
    pub fn of(&self, tokens: Tokens, pictures: u32) -> u64 {
        let micro = tokens.prompt as f64 * self.input
            + tokens.completion as f64 * self.output
            + f64::from(pictures) * self.picture * 1e6;
        // Prices are checked to be small and positive.
        micro.ceil() as u64
    }

    /// A call that a gateway turned away is not paid for, nor is an answer that was kept.
    pub fn of_call(&self, call: &Call) -> u64 {
        let taken = call.tokens != Tokens::default() && !call.is_cached();
        if taken { self.of(call.tokens, call.pictures) } else { 0 }
    }
}

/// The tokens that a question has.
pub fn tokens_of(question: &Question<'_>) -> u64 {
    let text = question.prompt.system.len()
        + question.prompt.user.len()
        + question.schema.to_string().len();
    let pixels = |picture: &crate::domain::picture::Picture| {
        u64::from(picture.reference.width_px) * u64::from(picture.reference.height_px)
    };
    let pictures: u64 =
        question.pictures.iter().map(|picture| pixels(picture).div_ceil(PIXELS_PER_TOKEN)).sum();
    (text as u64).div_ceil(BYTES_PER_TOKEN) + pictures
}

/// What a call took, when the gateway did not say. One that was turned away took nothing; one that
/// gave no answer in time has read the question all the same.
pub fn tokens_taken(question: &Question<'_>, said: Result<&str, &AnalyzeError>) -> Tokens {
    match said {
        Ok(text) => Tokens {
            prompt: tokens_of(question),
            completion: (text.len() as u64).div_ceil(BYTES_PER_TOKEN),
        },
        Err(AnalyzeError::TimedOut { .. } | AnalyzeError::BadAnswer { .. }) => {
            Tokens { prompt: tokens_of(question), completion: 0 }
        }
        Err(
            AnalyzeError::Unreachable { .. }
            | AnalyzeError::Untrusted { .. }
            | AnalyzeError::Busy { .. }
            | AnalyzeError::Resting { .. }
            | AnalyzeError::Refused { .. }
            | AnalyzeError::TooLarge { .. }
            | AnalyzeError::Unreadable { .. }
            | AnalyzeError::Failed { .. }
            | AnalyzeError::NotCovered { .. }
            | AnalyzeError::Misconfigured { .. },
        ) => Tokens::default(),
    }
}

/// What reading a study takes, before its pictures are made: all stations of its route, each asked
/// once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Who is asked over a network.
    pub gateways: Vec<String>,
    /// Of each.
    pub pictures: u64,
    /// Of all.
    pub tokens: u64,
    /// Millionths of the currency, as far as there are prices.
    pub cost_micro: u64,
    /// Gateways without a price.
    pub unpriced: Vec<String>,
}

/// - `images`: of the study that the profile shows, frames of multi-frame images included.
pub fn at_most(profile: &Profile, route: &Route, images: u64, config: &Config) -> Estimate {
    let Route::Gateway { name, strategy, .. } = route else { return Estimate::default() };
    let Strategy { screen, panel, third, verify, shadow, .. } = strategy.as_ref();
    let stations = [screen, name, third, verify].into_iter().chain(panel).chain(shadow);
    // What reads on this machine takes nothing.
    let is_called = |name: &&String| {
        config.gateways.get(*name).is_some_and(|gateway| gateway.kind == Kind::Openai)
    };
    let gateways: Vec<String> = stations.filter(is_called).cloned().collect();
    let plan = &profile.pictures;
    let windows = plan.windows.len().max(1) as u64;
    let pictures = (images * windows).min(u64::from(plan.pictures_max));
    let edge = u64::from(plan.edge_max_px);
    let text = profile.prompt.len() + TEXT_BYTES;
    let prompt = (text as u64).div_ceil(BYTES_PER_TOKEN)
        + pictures * (edge * edge).div_ceil(PIXELS_PER_TOKEN);
    let tokens = Tokens { prompt, completion: ANSWER_TOKENS };
    let shown = u32::try_from(pictures).unwrap_or(u32::MAX);
    let mut estimate = Estimate { pictures, ..Estimate::default() };
    for gateway in &gateways {
        estimate.tokens += prompt + ANSWER_TOKENS;
        match config.price_of(gateway) {
            Some(price) => estimate.cost_micro += price.of(tokens, shown),
            None => estimate.unpriced.push(gateway.clone()),
        }
    }
    Estimate { gateways, ..estimate }
}

/// `[analysis.budgets.NAME]`: what may be spent, on what, and who reads when it is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// In the site's currency.
    pub amount: f64,
    pub per: Period,
    /// Only studies of these modalities count, and are held to it. Empty: all.
    pub modalities: Vec<String>,
    /// Only studies of these calling AE titles. Empty: all.
    pub sources: Vec<String>,
    /// Who reads alone once it is used up: a gateway, or `local`.
    pub instead: String,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            amount: 0.0,
            per: Period::Month,
            modalities: Vec::new(),
            sources: Vec::new(),
            instead: "local".into(),
        }
    }
}

/// Begins at midnight, on the first of a month, of the time zone of the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Day,
    #[default]
    Month,
}

impl Period {
    pub fn begin(self, today: Date) -> Date {
        match self {
            Period::Day => today,
            Period::Month => today.first_of_month(),
        }
    }
}

/// The day in which calls at this time are counted.
pub fn day(at: Timestamp, zone: &TimeZone) -> Date {
    at.to_zoned(zone.clone()).date()
}

impl Budget {
    /// Whether this study is held to it.
    pub fn is_about(&self, modality: &str, source: &str) -> bool {
        let one_of =
            |list: &[String], value: &str| list.is_empty() || list.iter().any(|v| v == value);
        one_of(&self.modalities, modality) && one_of(&self.sources, source)
    }
}

/// What has been spent on one kind of study on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    pub day: Date,
    pub modality: String,
    pub source: String,
    pub cost_micro: u64,
}

/// How much of a budget is used, as a share of it.
///
/// - `more_micro`: what the study at hand will cost.
pub fn used(budget: &Budget, spent: &[Spent], today: Date, more_micro: u64) -> f64 {
    let begin = budget.per.begin(today);
    let counts = |one: &&Spent| {
        one.day >= begin && one.day <= today && budget.is_about(&one.modality, &one.source)
    };
    let sum: u64 = spent.iter().filter(counts).map(|one| one.cost_micro).sum();
    (sum + more_micro) as f64 / (budget.amount * 1e6)
}

/// The first budget that this study would overdraw.
pub fn overdrawn<'a>(
    budgets: &'a BTreeMap<String, Budget>,
    (modality, source): (&str, &str),
    spent: &[Spent],
    today: Date,
    more_micro: u64,
) -> Option<(&'a str, &'a Budget)> {
    let holds = |(_, budget): &(&String, &Budget)| {
        budget.is_about(modality, source) && used(budget, spent, today, more_micro) > 1.0
    };
    budgets.iter().find(holds).map(|(name, budget)| (name.as_str(), budget))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn a_call_costs_what_the_table_says_and_a_call_turned_away_nothing() {
        let price = Price { input: 2.5, output: 10.0, picture: 0.001 };
        let call = |prompt, completion, outcome: &str| Call {
            gateway: String::new(),
            key: String::new(),
            model: String::new(),
            tokens: Tokens { prompt, completion },
            is_estimate: false,
            pictures: 2,
            latency_ms: 0,
            outcome: outcome.into(),
            cost_micro: None,
        };
        for (call, micro) in [
            (call(1_000_000, 0, "answered"), 2_502_000),
            (call(0, 1000, "answered"), 12_000),
            (call(1, 0, "answered"), 2_003),
            (call(900, 0, "bad_answer"), 4_250),
            (call(0, 0, "busy"), 0),
            (call(900, 200, "cached"), 0),
        ] {
            assert_eq!(price.of_call(&call), micro, "{call:?}");
        }
    }

    #[test]
    fn a_budget_holds_what_it_is_about_for_as_long_as_it_is_for() {
        let row = |day, modality: &str, source: &str, cost| Spent {
            day,
            modality: modality.into(),
            source: source.into(),
            cost_micro: cost,
        };
        let spent = [
            row(date(2026, 10, 31), "CT", "CT1", 50_000_000),
            row(date(2026, 11, 1), "CT", "CT1", 6_000_000),
            row(date(2026, 11, 9), "CT", "CT2", 3_000_000),
            row(date(2026, 11, 9), "CR", "CR1", 1_000_000),
        ];
        let today = date(2026, 11, 9);
        let budget = |amount, per, modalities: &[&str], sources: &[&str]| Budget {
            amount,
            per,
            modalities: modalities.iter().map(|&m| m.to_owned()).collect(),
            sources: sources.iter().map(|&s| s.to_owned()).collect(),
            ..Budget::default()
        };
        for (budget, share) in [
            (budget(10.0, Period::Month, &[], &[]), 1.0),
            (budget(8.0, Period::Day, &[], &[]), 0.5),
            (budget(10.0, Period::Month, &["CT"], &[]), 0.9),
            (budget(10.0, Period::Month, &["CT", "CR"], &["CT1"]), 0.6),
        ] {
            assert!((used(&budget, &spent, today, 0) - share).abs() < 1e-9, "{budget:?}");
        }
        let budgets = BTreeMap::from([("ct".to_owned(), budget(9.5, Period::Month, &["CT"], &[]))]);
        let over = |modality, more| {
            overdrawn(&budgets, (modality, "CT1"), &spent, today, more).map(|(name, _)| name)
        };
        assert_eq!(over("CT", 500_000), None, "just enough");
        assert_eq!(over("CT", 500_001), Some("ct"));
        assert_eq!(over("CR", 9_000_000), None, "not about it");
    }

    #[test]
    fn an_estimate_counts_each_station_and_no_more_pictures_than_are_shown() {
        let mut config = Config::default();
        let gateway = |model: &str| crate::analysis::config::Gateway {
            model: model.into(),
            ..Default::default()
        };
        config.gateways.insert("strong".into(), gateway("s"));
        config.gateways.insert("cheap".into(), gateway("c"));
        config.prices.insert("s".into(), Price { picture: 0.5, ..Price::default() });
        let route = |screen: &str| Route::Gateway {
            name: "strong".into(),
            then: vec!["other".into()],
            strategy: Box::new(Strategy { screen: screen.into(), ..Strategy::default() }),
        };
        let mut profile = crate::analysis::testing::profile("chest_xray");
        profile.pictures.pictures_max = 4;
        for (screen, images, gateways, pictures, micro, unpriced) in [
            ("", 1, 1, 1, 500_000, 0),
            ("", 9, 1, 4, 2_000_000, 0),
            ("cheap", 2, 2, 2, 1_000_000, 1),
        ] {
            let found = at_most(&profile, &route(screen), images, &config);
            let counts = (found.gateways.len(), found.pictures, found.cost_micro);
            assert_eq!(counts, (gateways, pictures, micro), "{found:?}");
            assert_eq!(found.unpriced.len(), unpriced, "{found:?}");
        }
        assert_eq!(at_most(&profile, &Route::Local, 9, &config), Estimate::default());
    }
}
