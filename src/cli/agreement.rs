//! `prelim agreement`: how well readings agree with doctors, and what drifts.

use std::process::ExitCode;

use crate::analysis::agreement::By;
use crate::analysis::agreement::Share;
use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::pipeline::statistics;
use crate::pipeline::statistics::Statistics;

/// Shows sensitivity, PPV and agreement with doctors, how right alerts were, and what drifts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Rests on prelim feedback and on final reports (SR sent to the node, prelim final).\n\
    Intervals are of 95 % (Wilson).\n\n\
    Examples:\n  prelim agreement\n  prelim agreement --by finding,model --days 90\n  \
    prelim agreement --by week --json\n\n\
    Exit code: 0; 1 when something is found more or less often than in the weeks before."
)]
pub struct Args {
    /// What a line is of: finding, model, prompt, scanner, week, or several of them
    #[arg(long, value_delimiter = ',', default_value = "finding", value_parser = by)]
    by: Vec<By>,
    /// How many days back
    #[arg(long, default_value_t = 365)]
    days: u32,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

fn by(word: &str) -> Result<By, String> {
    By::parse(word).ok_or_else(|| format!("use one of {}", By::WORDS.join(", ")))
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let found = cli::block_on(find(&args))?;
    let drifts = found.drift.iter().any(|line| line.alarm);
    if args.json {
        cli::print_json(&found)?;
    } else {
        print(&found);
    }
    Ok(ExitCode::from(u8::from(drifts)))
}

async fn find(args: &Args) -> anyhow::Result<Statistics> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => {
            let by: Vec<&str> = args.by.iter().map(|by| by.as_str()).collect();
            let path = format!("agreement?by={}&days={}", by.join(","), args.days);
            let found = node.get_json(&path).await?;
            found.ok_or_else(|| anyhow::anyhow!("the node knows no statistics"))
        }
        Folder::Own(store) => {
            Ok(statistics::statistics(&store, &args.by, args.days, SystemClock.now())?)
        }
    }
}

fn print(found: &Statistics) {
    let names: Vec<&str> = found.by.iter().map(|by| by.as_str()).collect();
    let header = [
        &names.join(", "),
        "N",
        "Estimated",
        "TP",
        "FP",
        "FN",
        "TN",
        "Sensitivity",
        "PPV",
        "Agreement",
    ];
    let mut table = cli::table(header);
    for line in &found.lines {
        table.add_row([
            cli::plain(&line.group.join(", ")),
            line.observations.to_string(),
            line.estimated.to_string(),
            line.true_positive.to_string(),
            line.false_positive.to_string(),
            line.false_negative.to_string(),
            line.true_negative.to_string(),
            percent(line.sensitivity),
            percent(line.ppv),
            percent(line.agreement),
        ]);
    }
    match found.lines.is_empty() {
        true => println!("No doctor has said anything of a reading yet."),
        false => println!("{table}\n\n{}", found.notice),
    }
    if let Some(precision) = found.alert_precision {
        let (of, share) = (precision.of, percent(Some(precision)));
        println!(
            "\nAlerts with a finding that is there: {share}, of {of} of which anything is said."
        );
    }
    let mut table =
        cli::table(["Week of", "Read", "With findings", "By several models", "They differ"]);
    for week in &found.weeks {
        table.add_row([
            week.week.clone(),
            week.studies.to_string(),
            week.with_findings.to_string(),
            week.read_by_several.to_string(),
            week.models_differ.to_string(),
        ]);
    }
    if !found.weeks.is_empty() {
        println!("\n{table}");
    }
    let mut table = cli::table(["Drift", "Examination", "Last 7 days", "56 days before", "z"]);
    for line in found.drift.iter().filter(|line| line.alarm) {
        let (name, examination) = (cli::plain(&line.finding), cli::plain(&line.examination));
        let z = format!("{:+.1}", line.z);
        table.add_row([name, examination, percent(line.week), percent(line.before), z]);
    }
    if table.row_iter().next().is_some() {
        println!("\n{table}");
    }
}

fn percent(share: Option<Share>) -> String {
    share.map_or("-".to_owned(), |s| {
        let [value, low, high] = [s.value, s.low, s.high].map(|share| share * 100.0);
        format!("{value:.0}% ({low:.0} to {high:.0})")
    })
}
