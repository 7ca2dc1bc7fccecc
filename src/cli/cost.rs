//! `prelim cost`: what models were asked, and what it cost.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Zoned;
use jiff::civil::Date;
use serde::Serialize;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::store::UsageRow;
use crate::web::inspect;
use crate::web::inspect::UsageView;

/// Shows what models were asked, how often they failed, and what it cost
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  prelim cost\n  prelim cost --from 2026-11-01 --by modality\n\n\
    Prices stand in [analysis.prices] of the settings; calls of models without one are counted\n\
    and not priced. Calls that failed are counted with what they took."
)]
pub struct Args {
    /// First day; without: the first of this month
    #[arg(long, value_name = "DATE")]
    from: Option<Date>,
    /// Last day; without: today
    #[arg(long, value_name = "DATE")]
    to: Option<Date>,
    /// What is summed
    #[arg(long, value_enum, default_value_t = By::Model)]
    by: By,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"currency", "first", "last", "sums", "total", "saving"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Day,
    Month,
    Model,
    Gateway,
    Key,
    Tier,
    Modality,
    Source,
}

impl By {
    fn of(self, row: &UsageRow) -> String {
        match self {
            By::Day => row.day.to_string(),
            By::Month => row.day.strftime("%Y-%m").to_string(),
            By::Model => row.model.clone(),
            By::Gateway => row.gateway.clone(),
            By::Key if row.key.is_empty() => row.gateway.clone(),
            By::Key => format!("{}/{}", row.gateway, row.key),
            By::Tier => row.tier.clone(),
            By::Modality => row.modality.clone(),
            By::Source => row.source.clone(),
        }
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let today = Zoned::now().date();
    let first = args.from.unwrap_or(today.first_of_month());
    let last = args.to.unwrap_or(today);
    anyhow::ensure!(first <= last, "--from {first} is after --to {last}");
    let view = cli::block_on(view(&args, first, last))?;
    let report = Report::of(&view, args.by);
    if args.json {
        return cli::print_json(&report);
    }
    let money = |micro: u64| format!("{:.4}", micro as f64 / 1e6);
    let header =
        ["", "Calls", "Failed", "Kept", "Tokens in", "Tokens out", "Pictures", "ms a call", "Cost"];
    let mut table = cli::table(header);
    let total = ("all".to_owned(), report.total.clone());
    for (name, sum) in
        report.sums.iter().map(|(name, sum)| (name.clone(), sum.clone())).chain([total])
    {
        let cost = match sum.unpriced {
            0 => money(sum.cost_micro),
            n => format!("{} and {n} calls without a price", money(sum.cost_micro)),
        };
        table.add_row([
            cli::plain(&name),
            sum.calls.to_string(),
            sum.failed.to_string(),
            sum.cached.to_string(),
            sum.tokens_in.to_string(),
            sum.tokens_out.to_string(),
            sum.pictures.to_string(),
            (sum.latency_ms / sum.calls.max(1)).to_string(),
            cost,
        ]);
    }
    println!("{first} to {last}, cost in {}", cli::plain(&report.currency));
    println!("{table}");
    if let Some(saving) = &report.saving {
        println!(
            "Tiers: {} studies were screened; reading each with the reader alone is estimated at {} \
             ({:.0} % saved).",
            saving.studies,
            money(saving.single_micro),
            saving.share * 100.0
        );
    }
    Ok(ExitCode::SUCCESS)
}

async fn view(args: &Args, first: Date, last: Date) -> anyhow::Result<UsageView> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => {
            let view = node.get_json(&format!("usage?first={first}&last={last}")).await?;
            view.ok_or_else(|| anyhow::anyhow!("the node has no sums of calls"))
        }
        Folder::Own(store) => Ok(inspect::usage(&store, first, last, "the site's currency")?),
    }
}

#[derive(Debug, Serialize)]
struct Report {
    currency: String,
    first: Date,
    last: Date,
    sums: BTreeMap<String, Sum>,
    total: Sum,
    /// Of a tiered reading against a single one; where something was screened.
    saving: Option<Saving>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Sum {
    calls: u64,
    failed: u64,
    /// Served by an answer that was kept.
    cached: u64,
    tokens_in: u64,
    tokens_out: u64,
    pictures: u64,
    latency_ms: u64,
    cost_micro: u64,
    unpriced: u64,
}

impl Sum {
    fn add(&mut self, row: &UsageRow) {
        self.calls += row.calls;
        self.failed += row.failed;
        self.cached += row.cached;
        self.tokens_in += row.tokens.prompt;
        self.tokens_out += row.tokens.completion;
        self.pictures += row.pictures;
        self.latency_ms += row.latency_ms;
        self.cost_micro += row.cost_micro;
        self.unpriced += row.unpriced;
    }

    /// Calls that a model answered for money.
    fn answered(&self) -> u64 {
        self.calls - self.failed - self.cached
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Saving {
    studies: u64,
    /// What the tiers took.
    tiered_micro: u64,
    /// What the reader alone would have taken for as many studies, at its mean price.
    single_micro: u64,
    /// Of `single_micro`, 0 to 1; negative when the tiers were dearer.
    share: f64,
}

impl Report {
    fn of(view: &UsageView, by: By) -> Report {
        let (mut sums, mut total) = (BTreeMap::<String, Sum>::new(), Sum::default());
        for row in &view.rows {
            sums.entry(by.of(row)).or_default().add(row);
            total.add(row);
        }
        let saving = saving(&view.rows);
        let currency = view.currency.clone();
        Report { currency, first: view.first, last: view.last, sums, total, saving }
    }
}

/// By modality, since a CT costs more to read than a chest X-ray.
fn saving(rows: &[UsageRow]) -> Option<Saving> {
    let mut tiers: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    for row in rows {
        tiers.entry((&row.modality, &row.tier)).or_default().add(row);
    }
    let of = |modality, tier| tiers.get(&(modality, tier)).cloned().unwrap_or_default();
    let (mut studies, mut tiered_micro, mut single_micro) = (0, 0, 0);
    for (modality, _) in tiers.keys().filter(|(_, tier)| *tier == "screen") {
        let [screen, read, third] = ["screen", "read", "third"].map(|tier| of(modality, tier));
        // Without a study that was read nobody knows what a reading costs.
        if read.answered() == 0 {
            continue;
        }
        let looked_at = screen.answered().max(read.answered());
        studies += looked_at;
        tiered_micro += screen.cost_micro + read.cost_micro + third.cost_micro;
        single_micro += looked_at * read.cost_micro / read.answered();
    }
    (single_micro > 0).then(|| Saving {
        studies,
        tiered_micro,
        single_micro,
        share: 1.0 - tiered_micro as f64 / single_micro as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::call::Tokens;
    use jiff::Timestamp;
    use jiff::civil::date;

    fn row(modality: &str, tier: &str, calls: u64, failed: u64, cost_micro: u64) -> UsageRow {
        let text = String::from;
        UsageRow {
            day: date(2026, 11, 1),
            gateway: text("g"),
            key: String::new(),
            model: text("m"),
            tier: text(tier),
            modality: text(modality),
            source: text("CT1"),
            calls,
            failed,
            cached: 0,
            tokens: Tokens { prompt: 10, completion: 1 },
            pictures: calls,
            cost_micro,
            unpriced: 0,
            latency_ms: 5,
            last_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_saving_is_against_reading_each_screened_study_with_the_reader() {
        // 10 screened for 10 in all, 4 of them read for 20 each, one of those by a third.
        let rows = [
            row("CR", "screen", 11, 1, 10),
            row("CR", "read", 4, 0, 80),
            row("CR", "third", 1, 0, 20),
            row("CR", "shadow", 10, 0, 999),
            row("MR", "read", 3, 0, 300),
        ];
        let saving = saving(&rows).unwrap();
        assert_eq!((saving.studies, saving.tiered_micro, saving.single_micro), (10, 110, 200));
        assert!((saving.share - 0.45).abs() < 1e-9);
        assert_eq!(super::saving(&rows[4..]), None, "nothing was screened");
        assert_eq!(super::saving(&rows[..1]), None, "nobody knows what a reading costs");
    }

    #[test]
    fn sums_are_by_what_was_asked_for() {
        let rows = vec![row("CR", "read", 4, 1, 80), row("MR", "read", 3, 0, 300)];
        let (first, last) = (date(2026, 11, 1), date(2026, 11, 2));
        let view = UsageView { currency: "EUR".into(), first, last, rows };
        for (by, names) in [
            (By::Modality, vec!["CR", "MR"]),
            (By::Month, vec!["2026-11"]),
            (By::Key, vec!["g"]),
            (By::Day, vec!["2026-11-01"]),
        ] {
            let report = Report::of(&view, by);
            assert_eq!(report.sums.keys().collect::<Vec<_>>(), names, "{by:?}");
            assert_eq!((report.total.calls, report.total.cost_micro), (7, 380));
        }
    }
}
