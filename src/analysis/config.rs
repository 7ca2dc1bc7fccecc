//! `[analysis]` of the settings.

mod gateway;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

pub use gateway::Gateway;
pub use gateway::Kind;
pub use gateway::Limits;
pub use gateway::ResponseFormat;

use crate::analysis::canary::Canary;
use crate::analysis::cost::Budget;
use crate::analysis::cost::Price;
use crate::analysis::pool::Pool;
use crate::analysis::provider::cache;
use crate::analysis::strategy::Strategy;
use crate::domain::call::Call;
use crate::domain::priority::Priority;
use crate::domain::uid::StudyUid;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who reads where a profile says `default`: `local` (no network) or the name of a gateway.
    pub provider: String,
    /// Gateways that are asked in turn when the first gives no reading.
    pub fallback: Vec<String>,
    /// How it is read where a profile says `default`: `single` (one model) or one of `strategies`.
    pub strategy: String,
    pub strategies: BTreeMap<String, Strategy>,
    /// Regions in which a gateway outside the building may be. Empty: any.
    pub regions_allowed: Vec<String>,
    /// Folder with profiles of the site; a file of the same name replaces ours. Empty: none.
    pub profiles: PathBuf,
    pub gateways: BTreeMap<String, Gateway>,
    /// Seconds between two looks whether a gateway answers at all. 0: none.
    pub health_interval_s: u64,
    pub waits: Waits,
    pub pools: BTreeMap<String, Pool>,
    pub canaries: BTreeMap<String, Canary>,
    pub cache: cache::Config,
    /// What prices and budgets are in, e.g. `EUR`.
    pub currency: String,
    /// By name of the model, as its gateway has it.
    pub prices: BTreeMap<String, Price>,
    pub budgets: BTreeMap<String, Budget>,
    pub context: Context,
}

/// How long a study waits for gateways that cannot be asked: refused connections, keys that are not
/// taken, answers that are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Waits {
    /// Seconds until a person hears that it needs review: of a study that is wanted stat or urgent,
    /// and of any other.
    pub urgent_s: u64,
    pub routine_s: u64,
    /// Seconds after that in which it is still read by itself, once its gateway answers again.
    pub read_again_s: u64,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { urgent_s: 15 * 60, routine_s: 2 * 3600, read_again_s: 3 * 86_400 }
    }
}

impl Waits {
    pub fn of(&self, priority: Priority) -> u64 {
        match priority {
            Priority::Stat | Priority::Urgent => self.urgent_s,
            Priority::Routine => self.routine_s,
        }
    }

    fn check(&self, at: &str, problems: &mut Vec<String>) {
        let d = Waits::default();
        let why = "a longer wait hides from a person that nobody reads";
        for (key, s, max, usual) in [
            ("urgent_s", self.urgent_s, 86_400, d.urgent_s),
            ("routine_s", self.routine_s, 7 * 86_400, d.routine_s),
            ("read_again_s", self.read_again_s, 30 * 86_400, d.read_again_s),
        ] {
            if s > max {
                problems.push(format!("{at}.{key} = {s}: use 0 to {max} (default {usual}); {why}"));
            }
        }
    }
}

/// What a model is told beside the pictures, where a site has a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    /// To whom texts go that others wrote freely: the headers' reason for the request, impressions
    /// of earlier readings. What identifies the patient is masked in them as far as it is known.
    pub free_text: Leaves,
    /// Earlier readings of the same patient; 0: none.
    pub earlier_max: usize,
    /// How many days before the study they may lie.
    pub earlier_days_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaves {
    Never,
    /// Only to gateways that are `inside_the_building`.
    #[default]
    Inside,
    Always,
}

impl Default for Context {
    fn default() -> Context {
        Context { free_text: Leaves::Inside, earlier_max: 2, earlier_days_max: 1825 }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            provider: "local".into(),
            fallback: Vec::new(),
            strategy: "single".into(),
            strategies: BTreeMap::new(),
            regions_allowed: Vec::new(),
            profiles: PathBuf::new(),
            gateways: BTreeMap::new(),
            health_interval_s: 300,
            waits: Waits::default(),
            pools: BTreeMap::new(),
            canaries: BTreeMap::new(),
            cache: cache::Config::default(),
            currency: "USD".into(),
            prices: BTreeMap::new(),
            budgets: BTreeMap::new(),
            context: Context::default(),
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let is_pool = self.pools.contains_key(&self.provider);
        if let Some(known) = unknown(&self.provider, "local", &self.gateways).filter(|_| !is_pool) {
            problems.push(format!(
                "{at}.provider = {:?}: use one of {known}; no study could be read otherwise",
                self.provider
            ));
        }
        if let Some(known) = unknown(&self.strategy, "single", &self.strategies) {
            problems.push(format!("{at}.strategy = {:?}: use one of {known}", self.strategy));
        }
        for (name, strategy) in &self.strategies {
            self.check_strategy(&format!("{at}.strategies.{name}"), name, strategy, problems);
        }
        self.check_money(at, problems);
        self.check_pools(at, problems);
        for (name, canary) in &self.canaries {
            let at = format!("{at}.canaries.{name}");
            canary.check(&at, problems);
            self.check_pair(&at, (&canary.of, &canary.candidate), problems);
        }
        if self.health_interval_s != 0 && !(10..=86_400).contains(&self.health_interval_s) {
            problems.push(format!(
                "{at}.health_interval_s = {}: use 0 (off) or 10 to 86400 (default 300)",
                self.health_interval_s
            ));
        }
        self.waits.check(&format!("{at}.waits"), problems);
        self.cache.check(&format!("{at}.cache"), problems);
        for name in &self.fallback {
            match (self.gateways.get(&self.provider), self.gateways.get(name)) {
                (_, None) => problems.push(format!(
                    "{at}.fallback: {name:?} is no gateway here; the local model needs no mention, it comes last"
                )),
                (Some(first), Some(other)) if other.is_further_out_than(first) => {
                    problems.push(format!(
                        "{at}.fallback: {name:?} is outside the building and {:?} is inside: what was to stay inside does not leave because of a fault",
                        self.provider
                    ));
                }
                (_, Some(_)) => {}
            }
        }
        if self.context.earlier_max > 10 {
            problems.push(format!(
                "{at}.context.earlier_max = {}: use 0 to 10 (default 2); more crowd out the pictures",
                self.context.earlier_max
            ));
        }
        for (name, gateway) in &self.gateways {
            let ok = (1..=32).contains(&name.len())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
            if !ok || name == "local" || name == "default" {
                problems.push(format!(
                    "{at}.gateways.{name}: a name is 1 to 32 of a-z, 0-9, _ and -, not `local` or `default`"
                ));
            }
            gateway.check(&format!("{at}.gateways.{name}"), problems);
            if !self.may_be_where_it_is(gateway) {
                problems.push(format!(
                    "{at}.gateways.{name}.region = {:?}: {at}.regions_allowed has {:?}; it would never be asked",
                    gateway.region, self.regions_allowed
                ));
            }
        }
        match crate::analysis::profile::load(self.site_profiles()) {
            Ok(profiles) => {
                for profile in profiles {
                    let to = &profile.provider;
                    let strategy = &profile.strategy;
                    if !["default", "single"].contains(&strategy.as_str())
                        && !self.strategies.contains_key(strategy)
                    {
                        problems.push(format!(
                            "{at}.profiles: {} is read by the strategy {strategy:?}, which is not configured",
                            profile.name
                        ));
                    }
                    if !["default", "local"].contains(&to.as_str()) && !self.is_asked(to) {
                        problems.push(format!(
                            "{at}.profiles: {} asks the gateway {to:?}, which is not configured",
                            profile.name
                        ));
                    }
                }
            }
            Err(error) => {
                problems.extend(error.problems.iter().map(|line| format!("{at}.profiles: {line}")));
            }
        }
    }

    fn check_strategy(
        &self,
        at: &str,
        name: &str,
        strategy: &Strategy,
        problems: &mut Vec<String>,
    ) {
        if ["single", "default", ""].contains(&name) {
            problems.push(format!("{at}: the name is taken"));
        }
        let Strategy { read, confident, unsure, .. } = strategy;
        let others = strategy.others();
        for (key, gateway) in [("read", read.as_str())].into_iter().chain(others.iter().copied()) {
            if !gateway.is_empty() && !self.is_asked(gateway) {
                problems
                    .push(format!("{at}.{key} = {gateway:?}: there is no such gateway or pool"));
            }
        }
        if read.is_empty() && self.provider == "local" {
            problems.push(format!(
                "{at}.read is empty and analysis.provider is \"local\": name the gateway that reads"
            ));
        }
        if others.is_empty() {
            problems.push(format!("{at}: with the reader alone it is the strategy \"single\""));
        }
        let reader = if read.is_empty() { &self.provider } else { read };
        for (key, gateway) in others {
            let why = match key {
                "verify" => "cannot weigh what another says",
                "third" => {
                    "answers on its own findings only, and the third's answer is to stand for all"
                }
                _ => "",
            };
            if !why.is_empty() && self.stands_for(gateway).any(|one| one.kind == Kind::Onnx) {
                problems.push(format!(
                    "{at}.{key} = {gateway:?}: a model of kind \"onnx\" {why}; use a gateway or a program"
                ));
            }
            if gateway == reader {
                problems.push(format!(
                    "{at}.{key} = {gateway:?}: it reads already; another model has to look"
                ));
            }
        }
        for (key, found, usual) in [("confident", *confident, 0.7), ("unsure", *unsure, 0.5)] {
            if !(0.0..=1.0).contains(&found) {
                problems.push(format!("{at}.{key} = {found}: use 0 to 1 (default {usual})"));
            }
        }
    }

    fn check_pools(&self, at: &str, problems: &mut Vec<String>) {
        for (name, pool) in &self.pools {
            let at = format!("{at}.pools.{name}");
            if name == "local" || name == "default" || self.gateways.contains_key(name) {
                problems.push(format!("{at}: the name is taken"));
            }
            if pool.members.is_empty() {
                problems.push(format!("{at}.members is empty: name gateways with their weights"));
            }
            let mut known = pool.members.keys().filter_map(|member| self.gateways.get(member));
            let first = known.next().map(Gateway::is_inside);
            if known.any(|other| Some(other.is_inside()) != first) {
                problems
                    .push(format!("{at}.members: some are inside the building and some are not"));
            }
            for (member, weight) in &pool.members {
                if !self.gateways.contains_key(member) {
                    problems.push(format!("{at}.members.{member}: there is no such gateway"));
                }
                if !(1..=1000).contains(weight) {
                    problems.push(format!("{at}.members.{member} = {weight}: use 1 to 1000"));
                }
            }
        }
    }

    /// One gateway in the place of another.
    fn check_pair(&self, at: &str, (of, candidate): (&str, &str), problems: &mut Vec<String>) {
        match (self.gateways.get(of), self.gateways.get(candidate)) {
            (Some(first), Some(other)) if other.is_further_out_than(first) => {
                problems.push(format!(
                    "{at}: {candidate:?} is outside the building and {of:?} is inside"
                ));
            }
            (Some(_), Some(_)) => {}
            (found, _) => {
                let missing = if found.is_none() { of } else { candidate };
                problems.push(format!("{at}: {missing:?} is no gateway here"));
            }
        }
    }

    /// Whether it is a gateway, or a pool of them.
    pub fn is_asked(&self, name: &str) -> bool {
        self.gateways.contains_key(name) || self.pools.contains_key(name)
    }

    /// The gateways that a name stands for.
    fn stands_for<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Gateway> {
        let pool = self.pools.get(name).into_iter().flat_map(|pool| pool.members.keys());
        pool.map(String::as_str).chain([name]).filter_map(|one| self.gateways.get(one))
    }

    /// The gateways that a name stands for, in the order in which they are asked about this study.
    pub fn turn(&self, name: &str, study: &StudyUid) -> Vec<String> {
        match self.pools.get(name) {
            Some(pool) => pool.order(study).into_iter().map(str::to_owned).collect(),
            None => vec![name.to_owned()],
        }
    }

    fn check_money(&self, at: &str, problems: &mut Vec<String>) {
        if !(1..=8).contains(&self.currency.trim().len()) {
            problems.push(format!("{at}.currency = {:?}: 1 to 8 letters", self.currency));
        }
        for (model, price) in &self.prices {
            for (key, found) in
                [("input", price.input), ("output", price.output), ("picture", price.picture)]
            {
                if !(0.0..=1e6).contains(&found) {
                    problems.push(format!("{at}.prices.{model}.{key} = {found}: use 0 to 1000000"));
                }
            }
            if !self.gateways.values().any(|gateway| gateway.model == *model) {
                problems.push(format!("{at}.prices.{model}: no gateway has a model of this name"));
            }
        }
        for (name, budget) in &self.budgets {
            let at = format!("{at}.budgets.{name}");
            if !(budget.amount > 0.0 && budget.amount <= 1e9) {
                problems.push(format!("{at}.amount = {}: use more than 0", budget.amount));
            }
            if let Some(known) = unknown(&budget.instead, "local", &self.gateways) {
                problems.push(format!("{at}.instead = {:?}: use one of {known}", budget.instead));
            }
            if self.prices.is_empty() {
                problems.push(format!("{at}: without analysis.prices nothing is ever spent"));
            }
        }
    }

    /// What a call costs, in millionths of the currency. `None` where its model has no price.
    pub fn cost_micro(&self, call: &Call) -> Option<u64> {
        self.prices.get(&call.model).map(|price| price.of_call(call))
    }

    pub fn price_of(&self, gateway: &str) -> Option<&Price> {
        self.gateways.get(gateway).and_then(|gateway| self.prices.get(&gateway.model))
    }

    /// Whether what leaves may go to where this gateway is. Inside the building nothing leaves.
    pub fn may_be_where_it_is(&self, gateway: &Gateway) -> bool {
        let allowed = &self.regions_allowed;
        let region = gateway.region.trim();
        gateway.is_inside()
            || allowed.is_empty()
            || allowed.iter().any(|one| one.trim().eq_ignore_ascii_case(region))
    }

    /// The site's folder of profiles, if there is one.
    pub fn site_profiles(&self) -> Option<&std::path::Path> {
        (!self.profiles.as_os_str().is_empty()).then_some(self.profiles.as_path())
    }
}

/// The names that there are, when this is none of them.
fn unknown<T>(name: &str, built_in: &str, others: &BTreeMap<String, T>) -> Option<String> {
    let known = || [built_in].into_iter().chain(others.keys().map(String::as_str));
    (!known().any(|one| one == name)).then(|| known().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_needs_no_network_and_has_no_problem() {
        let mut problems = Vec::new();
        Config::default().check("analysis", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config =
            Config { provider: "cloud".into(), profiles: "/no/such".into(), ..Config::default() };
        let broken = Gateway {
            max_tokens: 1,
            connect_timeout_s: 0,
            api_key_file: "/no/key".into(),
            ..Gateway::default()
        };
        config.gateways.insert("Big One".into(), broken);
        let mut problems = Vec::new();
        config.check("analysis", &mut problems);
        let all = problems.join("\n");
        for part in [
            "analysis.provider = \"cloud\"",
            "a name is 1 to 32",
            ".url",
            ".model is empty",
            ".api_key_file",
            ".max_tokens = 1",
            ".connect_timeout_s = 0",
            "/no/such",
        ] {
            assert!(all.contains(part), "{part} in\n{all}");
        }
    }
}
