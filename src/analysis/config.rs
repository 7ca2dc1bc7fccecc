//! `[analysis]` of the settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::calibration;
use crate::analysis::calibration::Calibration;
use crate::analysis::canary::Canary;
use crate::analysis::cost::Budget;
use crate::analysis::cost::Price;
use crate::analysis::pool::Pool;
use crate::analysis::provider::address;
use crate::analysis::provider::cache;
use crate::analysis::provider::command;
use crate::analysis::provider::keys::Key;
use crate::analysis::provider::keys::Rotation;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::analysis::strategy::Strategy;
use crate::domain::call::Call;
use crate::domain::secret::Secret;
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

/// Who reads: an OpenAI-compatible endpoint, or a model or program of the site on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    pub kind: Kind,
    /// Of an ONNX model: graph and `manifest.json`.
    pub folder: PathBuf,
    /// Whole path of a program that reads.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Address space of the program, and each file that it writes.
    pub memory_mb_max: u64,
    /// Its answer.
    pub output_bytes_max: u64,
    /// Base URL, e.g. `https://gateway.example/v1`; `/chat/completions` is added.
    pub url: String,
    pub model: String,
    /// Who made the model, for report and SR.
    pub manufacturer: String,
    /// File that holds the bearer key and nothing else. Empty: `api_key`, or no key.
    pub api_key_file: PathBuf,
    /// The key itself, from the environment.
    pub api_key: Secret,
    /// Several keys in turn, in place of these two.
    pub keys: Vec<Key>,
    pub rotation: Rotation,
    pub response_format: ResponseFormat,
    pub max_tokens: u32,
    /// Seconds for one call; 0: as the profile says.
    pub timeout_s: u64,
    pub connect_timeout_s: u64,
    /// True when the pictures stay inside: burned-in text is then not masked.
    pub inside_the_building: bool,
    /// Where it is, for `regions_allowed` and for the record of what left.
    pub region: String,
    /// Modalities that this model may be asked about, e.g. `["CR", "DX"]`. Empty: all.
    pub modalities_allowed: Vec<String>,
    /// Allows `http://` to addresses that are not private. Only for tests and closed networks.
    pub allow_plain: bool,
    /// Proxy URL. Empty: none; the environment's proxy variables are not used.
    pub proxy: String,
    /// Pictures in one request; more are put together on sheets. 0: no limit.
    pub pictures_max: u32,
    /// Whole request; more is not sent.
    pub request_bytes_max: usize,
    pub limits: Limits,
    /// What its probabilities mean, by key of the finding.
    pub calibration: Calibration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Openai,
    Onnx,
    Command,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Openai => "openai",
            Kind::Onnx => "onnx",
            Kind::Command => "command",
        }
    }

    /// Whether a reader of this kind has such a key.
    fn has(self, key: &str) -> bool {
        /// Of readers on this machine; a gateway has all the others.
        const HERE: [&str; 5] =
            ["folder", "program", "arguments", "memory_mb_max", "output_bytes_max"];
        const ALL: [&str; 5] = ["kind", "timeout_s", "modalities_allowed", "limits", "calibration"];
        match self {
            Kind::Openai => !HERE.contains(&key),
            Kind::Onnx => ALL.contains(&key) || key == "folder",
            Kind::Command => {
                ALL.contains(&key)
                    || ["model", "manufacturer", "pictures_max"].contains(&key)
                    || (HERE.contains(&key) && key != "folder")
            }
        }
    }
}

/// How much one gateway is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls on their way at the same time; more wait.
    pub calls_at_once: usize,
    /// 0: no limit.
    pub calls_per_minute: u32,
    /// Failed calls in a row after which it rests.
    pub failures_max: u32,
    /// Seconds of the first rest; each failed trial after it doubles the next, up to 10 minutes.
    pub rest_s: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { calls_at_once: 4, calls_per_minute: 0, failures_max: 5, rest_s: 30 }
    }
}

/// How the schema is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// `response_format` with the schema, strict.
    #[default]
    JsonSchema,
    /// `response_format` JSON; the schema stands in the prompt.
    JsonObject,
    /// No `response_format`; the schema stands in the prompt.
    None,
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

impl Default for Gateway {
    fn default() -> Gateway {
        Gateway {
            kind: Kind::default(),
            folder: PathBuf::new(),
            program: PathBuf::new(),
            arguments: Vec::new(),
            memory_mb_max: 4096,
            output_bytes_max: 1_000_000,
            url: String::new(),
            model: String::new(),
            manufacturer: String::new(),
            api_key_file: PathBuf::new(),
            api_key: Secret::default(),
            keys: Vec::new(),
            rotation: Rotation::default(),
            response_format: ResponseFormat::default(),
            max_tokens: 8000,
            timeout_s: 0,
            connect_timeout_s: 10,
            inside_the_building: false,
            region: String::new(),
            modalities_allowed: Vec::new(),
            allow_plain: false,
            proxy: String::new(),
            pictures_max: 0,
            request_bytes_max: 40_000_000,
            limits: Limits::default(),
            calibration: Calibration::new(),
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

impl Gateway {
    fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.check_kind(at, problems);
        match self.kind {
            Kind::Openai => self.check_endpoint(at, problems),
            Kind::Onnx => {
                if let Err(lines) = Manifest::open(&self.folder) {
                    problems.extend(lines.iter().map(|line| format!("{at}.folder: {line}")));
                }
            }
            Kind::Command => self.check_program(at, problems),
        }
        if self.timeout_s > 3600 {
            problems.push(format!(
                "{at}.timeout_s = {}: use 0 (as the profile says) to 3600",
                self.timeout_s
            ));
        }
        let Limits { calls_at_once, calls_per_minute, failures_max, rest_s } = self.limits;
        for (key, found, (from, to), usual) in [
            ("calls_at_once", calls_at_once as u64, (1, 1000), 4),
            ("calls_per_minute", u64::from(calls_per_minute), (0, 60_000), 0),
            ("failures_max", u64::from(failures_max), (1, 1000), 5),
            ("rest_s", rest_s, (1, 600), 30),
        ] {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.limits.{key} = {found}: use {from} to {to} (default {usual})"
                ));
            }
        }
        calibration::check(&self.calibration, &format!("{at}.calibration"), problems);
    }

    /// Keys that say something to another kind of reader only.
    fn check_kind(&self, at: &str, problems: &mut Vec<String>) {
        let fields = |gateway: &Gateway| match serde_json::to_value(gateway) {
            Ok(serde_json::Value::Object(fields)) => fields,
            Ok(_) | Err(_) => serde_json::Map::new(),
        };
        let (found, usual) = (fields(self), fields(&Gateway::default()));
        let kind = self.kind;
        let known = || usual.keys().map(String::as_str).filter(|key| kind.has(key));
        for (key, value) in &found {
            if usual.get(key) != Some(value) && !kind.has(key) {
                let why = match key.as_str() {
                    "inside_the_building" => "it is always inside the building",
                    "model" | "manufacturer" => "the manifest names it",
                    _ => "it means nothing here",
                };
                problems.push(format!(
                    "{at}.{key}: leave it out for kind = \"{}\", {why}; its keys are {}",
                    kind.as_str(),
                    known().collect::<Vec<_>>().join(", ")
                ));
            }
        }
    }

    fn check_program(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(why) = command::can_be_run(&self.program) {
            problems.push(format!("{at}.program: {why}"));
        }
        if self.model.trim().is_empty() {
            problems.push(format!(
                "{at}.model is empty: name the program's model as reports are to name it"
            ));
        }
        for (key, found, (from, to), usual) in [
            ("memory_mb_max", self.memory_mb_max, (256, 1_000_000), 4096),
            ("output_bytes_max", self.output_bytes_max, (1000, 1 << 24), 1_000_000),
        ] {
            if !(from..=to).contains(&found) {
                problems
                    .push(format!("{at}.{key} = {found}: use {from} to {to} (default {usual})"));
            }
        }
    }

    fn check_endpoint(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(why) = self.endpoint() {
            problems.push(format!("{at}.url: {why}"));
        }
        if self.model.trim().is_empty() {
            problems.push(format!("{at}.model is empty: name the model as the gateway knows it"));
        }
        if !self.api_key_file.as_os_str().is_empty() {
            match std::fs::metadata(&self.api_key_file) {
                Ok(_) if !self.api_key.is_empty() => {
                    problems.push(format!("{at}: give api_key_file or api_key, not both"));
                }
                Ok(_) => {}
                Err(error) => {
                    let file = self.api_key_file.display();
                    problems.push(format!(
                        "{at}.api_key_file = {file}: {error}; every call would be refused"
                    ));
                }
            }
        }
        self.check_keys(at, problems);
        if !(256..=200_000).contains(&self.max_tokens) {
            problems.push(format!(
                "{at}.max_tokens = {}: use 256 to 200000 (default 8000); a shorter answer is cut and unreadable",
                self.max_tokens
            ));
        }
        if !(1..=120).contains(&self.connect_timeout_s) {
            problems.push(format!(
                "{at}.connect_timeout_s = {}: use 1 to 120 (default 10)",
                self.connect_timeout_s
            ));
        }
        if self.request_bytes_max < 100_000 {
            problems.push(format!(
                "{at}.request_bytes_max = {}: use at least 100000",
                self.request_bytes_max
            ));
        }
        if !self.proxy.is_empty() && reqwest::Proxy::all(&self.proxy).is_err() {
            problems.push(format!("{at}.proxy: not a URL"));
        }
    }

    fn check_keys(&self, at: &str, problems: &mut Vec<String>) {
        let has_one = !self.api_key_file.as_os_str().is_empty() || !self.api_key.is_empty();
        if has_one && !self.keys.is_empty() {
            problems.push(format!("{at}: give keys, or api_key_file, or api_key, not several"));
        }
        for (nth, key) in self.keys.iter().enumerate() {
            key.check(&format!("{at}.keys[{nth}]"), problems);
            if self.keys[..nth].iter().any(|other| other.name == key.name) {
                problems.push(format!("{at}.keys[{nth}].name = {:?} stands twice", key.name));
            }
        }
        let Rotation { hours, calls } = self.rotation;
        if !(1..=8760).contains(&hours) {
            problems.push(format!("{at}.rotation.hours = {hours}: use 1 to 8760 (default 12)"));
        }
        if calls == 0 {
            problems.push(format!("{at}.rotation.calls = 0: use at least 1 (default 5000)"));
        }
    }

    /// Whether what it is shown stays inside the building.
    pub fn is_inside(&self) -> bool {
        self.inside_the_building || self.kind != Kind::Openai
    }

    /// Where it is asked.
    ///
    /// # Errors
    /// As [`Self::endpoint`].
    pub fn host(&self) -> Result<String, String> {
        match self.kind {
            Kind::Openai => Ok(self.endpoint()?.host_str().unwrap_or_default().to_owned()),
            Kind::Onnx | Kind::Command => Ok("this machine".to_owned()),
        }
    }

    /// Where it says which models it has.
    ///
    /// # Errors
    /// As [`Self::endpoint`].
    pub fn models(&self) -> Result<reqwest::Url, String> {
        let endpoint = self.endpoint()?;
        let path = endpoint.path().trim_end_matches("chat/completions").to_owned() + "models";
        let mut url = endpoint;
        url.set_path(&path);
        Ok(url)
    }

    /// Whether it may be asked about pictures of this modality.
    pub fn may_see(&self, modality: &str) -> bool {
        let allowed = &self.modalities_allowed;
        allowed.is_empty() || allowed.iter().any(|one| one.eq_ignore_ascii_case(modality))
    }

    /// Whether it may be told what others wrote freely.
    pub fn may_be_told(&self, free_text: Leaves) -> bool {
        match free_text {
            Leaves::Never => false,
            Leaves::Inside => self.is_inside(),
            Leaves::Always => true,
        }
    }

    /// What goes to `other` stays inside, what goes here leaves.
    pub fn is_further_out_than(&self, other: &Gateway) -> bool {
        other.is_inside() && !self.is_inside()
    }

    /// The URL that is called.
    ///
    /// # Errors
    /// In words, without user or key: not http(s), credentials in it, plain to a public address,
    /// a link-local address.
    pub fn endpoint(&self) -> Result<reqwest::Url, String> {
        let text = format!("{}/chat/completions", self.url.trim().trim_end_matches('/'));
        let url = reqwest::Url::parse(&text)
            .map_err(|error| format!("{error}; use e.g. https://gateway.example/v1"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("no user or password here: keys come from api_key_file".into());
        }
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            other => {
                return Err(format!("scheme {other:?}: use https, or http inside the building"));
            }
        };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        match host.parse::<IpAddr>() {
            Ok(ip) if !address::may_connect(ip, plain && !self.allow_plain) => Err(match plain {
                true => {
                    "http:// only to loopback and private addresses; use https, or set allow_plain"
                        .into()
                }
                false => "this address is link-local or not a host".into(),
            }),
            // A name is checked when it has been resolved.
            _ if host.is_empty() => Err("there is no host in it".into()),
            _ => Ok(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(url: &str) -> Gateway {
        Gateway { url: url.into(), model: "m".into(), ..Gateway::default() }
    }

    #[test]
    fn the_default_needs_no_network_and_has_no_problem() {
        let mut problems = Vec::new();
        Config::default().check("analysis", &mut problems);
        assert_eq!(problems, Vec::<String>::new());
    }

    #[test]
    fn an_endpoint_is_https_or_inside() {
        for good in [
            "https://api.example/v1",
            "http://127.0.0.1:8000/v1/",
            "http://10.1.2.3",
            "http://[::1]:1",
            "http://gateway:8000/v1",
            "http://192.168.0.9/v1",
            "http://[fd00::1]/v1",
        ] {
            let url = gateway(good).endpoint().unwrap_or_else(|why| panic!("{good}: {why}"));
            assert!(
                url.path().ends_with("/chat/completions") && !url.path().contains("//"),
                "{url}"
            );
        }
        for bad in [
            "",
            "ftp://x",
            "http://8.8.8.8/v1",
            "https://key@api.example",
            "http://169.254.169.254/v1",
            "https://169.254.1.1",
            "file:///etc/passwd",
            "https://0.0.0.0/",
            "http://[fe80::1]/",
            "http://[::ffff:8.8.8.8]/",
        ] {
            assert!(gateway(bad).endpoint().is_err(), "{bad}");
        }
        let plain = Gateway { allow_plain: true, ..gateway("http://8.8.8.8/v1") };
        assert!(plain.endpoint().is_ok());
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
