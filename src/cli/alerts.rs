//! `prelim alerts`: who was told, who answered, and answering.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node::Node;
use crate::domain::alert::Standing;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::store::AlertRow;
use crate::web::local::AlertWord;

/// Shows the alerts that nobody has answered, and takes answers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  prelim alerts\n  prelim alerts --study 1.2.840.1\n  \
    prelim alerts --study 1.2.840.1 --export record.dcm\n  prelim alerts --take 0f3a… --by 'Dr Kim' --note 'called ward 3, read back'\n  \
    prelim alerts --close 0f3a… --by 'Dr Kim' --reason 'known, drain in place'\n\n\
    Exit code: 0 when none is unanswered, or the answer was taken; 1 else.")]
pub struct Args {
    /// All alerts of one study, with each of their steps
    #[arg(long, value_name = "UID")]
    study: Option<String>,
    /// With --study: writes who was told, when and who answered as a structured report (Basic Text
    /// SR, Communication of Critical Results), for the PACS
    #[arg(long, value_name = "FILE", requires = "study")]
    export: Option<std::path::PathBuf>,
    /// Takes an alert over: it is told to nobody else
    #[arg(long, value_name = "ALERT", requires = "by", conflicts_with_all = ["decline", "close"])]
    take: Option<String>,
    /// Hands an alert over: the next are told at once
    #[arg(long, value_name = "ALERT", requires = "by", conflicts_with = "close")]
    decline: Option<String>,
    /// Ends an alert that nobody has to look after; those who were told hear of it
    #[arg(long, value_name = "ALERT", requires_all = ["by", "reason"])]
    close: Option<String>,
    /// With --close: why nobody has to
    #[arg(long, value_name = "TEXT", requires = "close")]
    reason: Option<String>,
    /// Who answers
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// What was read back or done
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print all that is known of each
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    cli::block_on(ask(args))
}

async fn ask(args: Args) -> anyhow::Result<ExitCode> {
    let node = Node::find(args.data.existing()?).await?;
    let node = node.ok_or_else(|| {
        anyhow::anyhow!("no node works on this data folder: start it, then ask again")
    })?;
    let (wanted, word) = match (&args.take, &args.decline, &args.close) {
        (Some(alert), _, _) => (Some(alert), "take"),
        (None, Some(alert), _) => (Some(alert), "decline"),
        (None, None, Some(alert)) => (Some(alert), "close"),
        (None, None, None) => (None, ""),
    };
    if let Some(alert) = wanted {
        let note = args.reason.as_ref().unwrap_or(&args.note).clone();
        let answer = word.to_owned();
        let word = AlertWord { answer, by: args.by.clone().unwrap_or_default(), note };
        let path = format!("alert/{alert}");
        let row: Option<AlertRow> = node.post_json(&path, &word).await?;
        let Some(row) = row else {
            eprintln!(
                "error: the node has no alert {}; prelim alerts lists them",
                cli::plain(alert)
            );
            return Ok(ExitCode::FAILURE);
        };
        if args.json {
            return cli::print_json(&row);
        }
        println!("{}", standing(&row));
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(uid), Some(file)) = (&args.study, &args.export) {
        let path = format!("study/{}/alerts.dcm", StudyUid::parse(uid)?);
        let Some(answer) = node.get(&path).await? else {
            eprintln!("error: the study has no alert, or no reading");
            return Ok(ExitCode::FAILURE);
        };
        std::fs::write(file, answer.bytes().await?)
            .map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = match &args.study {
        Some(uid) => format!("alerts?study={}", StudyUid::parse(uid)?),
        None => "alerts".to_owned(),
    };
    let rows: Vec<AlertRow> = node.get_json(&path).await?.unwrap_or_default();
    let code = ExitCode::from(u8::from(rows.iter().any(|row| row.standing.is_unanswered())));
    if args.json {
        cli::print_json(&rows)?;
        return Ok(code);
    }
    if rows.is_empty() {
        println!("No alert waits for an answer.");
        return Ok(code);
    }
    match args.study {
        Some(_) => rows.iter().for_each(print),
        None => list(&rows),
    }
    Ok(code)
}

fn list(rows: &[AlertRow]) {
    let mut table =
        cli::table(["Alert", "Raised", "Urgency", "Findings", "Told", "Stands", "Study"]);
    for row in rows {
        let told = row.steps.last().map(|step| step.channels.join(", ")).unwrap_or_default();
        table.add_row([
            row.alert.clone(),
            cli::time(row.raised_at),
            urgency(row).to_owned(),
            cli::plain(&what(row)),
            cli::plain(&told),
            row.standing.as_str().to_owned(),
            row.study_uid.to_string(),
        ]);
    }
    println!("{table}");
}

fn urgency(row: &AlertRow) -> &'static str {
    row.urgency.map_or("not assessed", Urgency::as_str)
}

fn what(row: &AlertRow) -> String {
    match row.findings.is_empty() {
        true => "needs review".to_owned(),
        false => row.findings.join(", "),
    }
}

/// One alert with each of its steps.
pub fn print(row: &AlertRow) {
    println!("{} {} {}", cli::time(row.raised_at), urgency(row), cli::plain(&what(row)));
    println!("  alert {}, revision {}, {}", row.alert, row.revision, standing(row));
    for step in &row.steps {
        let why = if step.why.is_empty() { String::new() } else { format!(", {}", step.why) };
        let (at, to) = (cli::time(step.at), cli::plain(&step.channels.join(", ")));
        println!("  {at} level {} to {to}{}", step.level, cli::plain(&why));
    }
    for sending in &row.sendings {
        let word = if sending.detail.is_empty() { &sending.cause } else { &sending.detail };
        let state = format!("{:?}", sending.state).to_lowercase();
        let (at, word) = (cli::time(sending.at), cli::plain(word));
        println!("  {at} {} {state} {word}", cli::plain(&sending.channel));
    }
    for answer in &row.declined {
        println!("  {} handed over by {}", cli::time(answer.at), cli::plain(&answer.by));
    }
    for revision in &row.joined {
        println!("  revision {revision} shows the same");
    }
    for at in &row.begun_again {
        println!("  {} begun again, nobody had answered", cli::time(*at));
    }
    if let Some(doubt) = &row.doubt {
        let (at, why) = (cli::time(doubt.at), cli::plain(&doubt.why));
        println!("  {at} a later reading does not show it: {why}");
    }
}

fn standing(row: &AlertRow) -> String {
    match &row.standing {
        Standing::Open => "nobody has answered yet".to_owned(),
        Standing::Exhausted { at } => {
            format!("everyone was told by {}, nobody has answered", cli::time(*at))
        }
        Standing::Acknowledged(answer) => {
            let note = if answer.note.is_empty() { "" } else { ": " };
            let (at, by) = (cli::time(answer.at), cli::plain(&answer.by));
            format!("{by} has it since {at} ({}){note}{}", answer.how, cli::plain(&answer.note))
        }
        Standing::Closed(answer) => {
            let (at, by) = (cli::time(answer.at), cli::plain(&answer.by));
            format!("closed by {by} {at} ({}): {}", answer.how, cli::plain(&answer.note))
        }
        Standing::Withdrawn { why, at } => {
            format!("withdrawn {}: {}", cli::time(*at), cli::plain(why))
        }
    }
}
