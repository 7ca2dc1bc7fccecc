//! `prelim study`: where a study is and what was found.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::agreement::Compared;
use crate::domain::agreement::How;
use crate::domain::agreement::Origin as SaidBy;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::origin::Origin;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::closing;
use crate::pipeline::origins;
use crate::pipeline::origins::ChangeError;
use crate::pipeline::whose;
use crate::pipeline::whose::SettleError;
use crate::web::inspect;
use crate::web::inspect::StudyView;
use crate::web::local::Holds;
use crate::web::local::Said;
use crate::web::local::Word;

/// Shows where a study is: states, findings, artefacts, deliveries, alerts
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  prelim study 1.2.840.113619.2.1.1\n  \
    prelim study 1.2.840.113619.2.1.1 --json | jq -r .state\n  \
    prelim study complete 1.2.840.113619.2.1.1 --by 'J. Kim' --reason 'scan was aborted'\n  \
    prelim study origin 1.2.840.113619.2.1.1 1.2.840.113619.2.1.1.4 image\n\n\
    Exit code: 0 found, 1 the node has no such study."
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Action>,
    /// Study Instance UID (0020,000D)
    #[arg(required = true)]
    uid: Option<StudyUid>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print everything as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Reads a study now, without waiting for more images
    #[command(after_help = "Exit code: 0 done, 1 no study with this UID waits for images.")]
    Complete(Complete),
    /// Says what objects of a study are: an image to read, or a result that stands beside
    #[command(after_help = "Examples:\n  \
        prelim study origin 1.2.840.113619.2.1.1 1.2.840.113619.2.1.1.4 image --by 'J. Kim'\n\n\
        An image opens the next revision, which is read with it. What was an image and is none any more:\n\
        the study is read again without it.\n\n\
        Exit code: 0 done, 1 there is no such study or object.")]
    Origin(Change),
    /// Says whose a study is whose images name more than one patient
    #[command(
        after_help = "The page of the study shows who they are, by number; the first came first.\n\n\
        The study goes on under that patient, as its next revision.\n\n\
        Exit code: 0 done, 1 there is no such study."
    )]
    Identity(Settle),
}

#[derive(Debug, clap::Args)]
struct Complete {
    /// Study Instance UID (0020,000D)
    uid: StudyUid,
    /// Who says so; stands in the study's history
    #[arg(long, default_value = "the command line")]
    by: String,
    /// Why; stands there too
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    data: cli::DataArgs,
}

#[derive(Debug, clap::Args)]
struct Change {
    /// Study Instance UID (0020,000D)
    uid: StudyUid,
    /// Series Instance UID (0020,000E) or SOP Instance UID (0008,0018)
    of: String,
    /// What it is: image, derived, report or ours
    origin: Origin,
    /// Who says so; stands in the study's history
    #[arg(long, default_value = "the command line")]
    by: String,
    /// Why; stands there too
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    data: cli::DataArgs,
}

#[derive(Debug, clap::Args)]
struct Settle {
    /// Study Instance UID (0020,000D)
    uid: StudyUid,
    /// Number of the patient whose it is
    number: usize,
    /// Who says so; stands in the study's history
    #[arg(long, default_value = "the command line")]
    by: String,
    /// Why; stands there too
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    data: cli::DataArgs,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(Action::Complete(args)) => {
            let done = cli::block_on(complete(args))?;
            if !done {
                eprintln!("error: no study {} waits for images in this data folder", args.uid);
            }
            return Ok(ExitCode::from(u8::from(!done)));
        }
        Some(Action::Origin(args)) => {
            let done = cli::block_on(change(args))?;
            if !done {
                eprintln!("error: no study {} with the object {}", args.uid, cli::plain(&args.of));
            }
            return Ok(ExitCode::from(u8::from(!done)));
        }
        Some(Action::Identity(args)) => {
            let done = cli::block_on(settle(args))?;
            if !done {
                eprintln!("error: no study {} of more than one patient", args.uid);
            }
            return Ok(ExitCode::from(u8::from(!done)));
        }
        None => {}
    }
    let Some(uid) = &args.uid else { return Ok(ExitCode::from(2)) };
    let Some(view) = cli::block_on(find(&args, uid))? else {
        eprintln!("error: no study {uid} in this data folder");
        return Ok(ExitCode::from(1));
    };
    if args.json {
        return cli::print_json(&view);
    }
    print(&view);
    Ok(ExitCode::SUCCESS)
}

async fn complete(args: &Complete) -> anyhow::Result<bool> {
    let word = Word { by: args.by.clone(), reason: args.reason.clone() };
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => node.post(&format!("study/{}/complete", args.uid), &word).await,
        Folder::Own(store) => {
            let at = SystemClock.now();
            let closed = closing::close_by_word(&store, &args.uid, word.text(), at).await?;
            Ok(closed.is_some())
        }
    }
}

async fn change(args: &Change) -> anyhow::Result<bool> {
    let Change { uid, of, origin, by, reason, data } = args;
    match node::open(data.existing()?).await? {
        Folder::Node(node) => {
            let said =
                Said { of: of.clone(), origin: *origin, by: by.clone(), reason: reason.clone() };
            node.post(&format!("study/{uid}/origin"), &said).await
        }
        Folder::Own(store) => {
            let word = origins::Word { by: by.clone(), reason: reason.clone() };
            match origins::change(&store, uid, of, *origin, &word, SystemClock.now()).await {
                Ok(_) => Ok(true),
                Err(ChangeError::Unknown | ChangeError::NoObject) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }
}

async fn settle(args: &Settle) -> anyhow::Result<bool> {
    let Settle { uid, number, by, reason, data } = args;
    match node::open(data.existing()?).await? {
        Folder::Node(node) => {
            let said = Holds { number: *number, by: by.clone(), reason: reason.clone() };
            node.post(&format!("study/{uid}/identity"), &said).await
        }
        Folder::Own(store) => {
            let word = origins::Word { by: by.clone(), reason: reason.clone() };
            match whose::settle(&store, uid, *number, &word, SystemClock.now()).await {
                Ok(()) => Ok(true),
                Err(SettleError::Unknown | SettleError::One) => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
    }
}

async fn find(args: &Args, uid: &StudyUid) -> anyhow::Result<Option<StudyView>> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => node.get_json(&format!("study/{uid}")).await,
        Folder::Own(store) => {
            let view = inspect::study(&store, uid)?;
            if view.is_some() {
                node::note_look(&store, Some(uid), "study").await?;
            }
            Ok(view)
        }
    }
}

fn print(view: &StudyView) {
    let study = &view.study;
    let urgency = study.urgency.map_or("not assessed", Urgency::as_str);
    let reason = match study.reason.is_empty() {
        true => String::new(),
        false => format!(" ({})", cli::plain(&study.reason)),
    };
    println!("Study        {}", study.study_uid);
    println!("State        {}{reason}, revision {}", study.state.as_str(), study.revision);
    println!("Urgency      {urgency}");
    println!("Examination  {} {}", cli::plain(&study.modality), cli::plain(&study.examination));
    println!("Images       {} from {}", study.instances, cli::plain(&study.calling_ae));
    println!(
        "Received     {} to {}",
        cli::time(study.first_received_at),
        cli::time(study.last_received_at)
    );
    if let Some(whose) = &study.whose {
        let names: Vec<&str> = whose.elements.iter().map(|element| element.name()).collect();
        let settled = match &whose.settled {
            Some(settled) => format!("settled by {}", cli::plain(&settled.by)),
            None => "a person has to say whose it is (prelim study identity)".to_owned(),
        };
        println!("Patients     the images differ in {}; {settled}", names.join(", "));
    }
    if let Some(missing) = &study.shortfall {
        println!("Incomplete   {}", cli::plain(&missing.what));
    }
    if study.conflicts > 0 {
        println!("Conflicts    {} images came again with other content", study.conflicts);
    }
    if let Some(reading) = &view.reading {
        println!("Reading      {}", reading.algorithm.label());
        println!("Impression   {}", cli::plain(&reading.impression));
        if !reading.unasked.is_empty() {
            println!("Looked for   {}; nothing else", cli::plain(&reading.looked_for.join(", ")));
        }
        for warning in &reading.warnings {
            println!("Warning      {}", cli::plain(warning));
        }
        let mut table = cli::table(["Id", "Finding", "Presence", "Probability", "Urgency", "Code"]);
        for finding in &reading.findings {
            table.add_row([
                finding.id.clone(),
                cli::plain(&located(finding)),
                presence(finding.presence).to_owned(),
                finding.probability.map(|p| format!("{p:.2}")).unwrap_or_default(),
                finding.assessed().map_or("", Urgency::as_str).to_owned(),
                format!("{} {}", finding.concept.scheme, finding.concept.value),
            ]);
        }
        section("Findings", &table);
    }
    let mut table = cli::table(["Objects", "Are", "Because", "By", "Series"]);
    for one in &view.objects {
        table.add_row([
            one.instances.to_string(),
            one.origin.map_or("not decided yet", Origin::as_str).to_owned(),
            cli::plain(&one.reason),
            cli::plain(&one.by),
            one.series_uid.to_string(),
        ]);
    }
    section("Objects", &table);
    let mut table = cli::table(["File", "Revision", "Bytes", "Path"]);
    for artefact in &view.artefacts {
        let row = &artefact.row;
        let (revision, size) = (row.revision.to_string(), row.size_bytes.to_string());
        table.add_row([row.file.clone(), revision, size, artefact.path.clone()]);
    }
    section("Artefacts", &table);
    let mut table = cli::table(["Artefact", "Destination", "State", "Tries", "Word"]);
    for row in &view.deliveries {
        let state = format!("{:?}", row.state).to_lowercase();
        let word = if row.detail.is_empty() { &row.cause } else { &row.detail };
        let (tries, word) = (row.attempts.to_string(), cli::plain(word));
        table.add_row([row.artefact.clone(), row.destination.clone(), state, tries, word]);
    }
    section("Deliveries", &table);
    let mut table = cli::table(["Alert", "Urgency", "Findings", "Channel", "State", "Word"]);
    for alert in &view.alerts {
        for sending in &alert.sendings {
            let word = if sending.detail.is_empty() { &sending.cause } else { &sending.detail };
            table.add_row([
                cli::time(alert.raised_at),
                alert.urgency.map_or("not assessed", Urgency::as_str).to_owned(),
                cli::plain(&alert.findings.join(", ")),
                sending.channel.clone(),
                format!("{:?}", sending.state).to_lowercase(),
                cli::plain(word),
            ]);
        }
    }
    section("Alerts", &table);
    let mut table = cli::table(["When", "Finding", "Ours", "Doctor", "How", "By", "Comment"]);
    for row in &view.comparisons {
        let comment = match &row.comparison.origin {
            SaidBy::Feedback { comment, .. } => comment.as_str(),
            SaidBy::Final { .. } => "",
        };
        for finding in row.comparison.findings.iter().filter(is_telling) {
            table.add_row([
                cli::time(row.at),
                finding.key.clone(),
                finding.ours.map_or("not asked", presence).to_owned(),
                if finding.truth == Some(true) { "present" } else { "absent" }.to_owned(),
                format!("{:?}", finding.how).to_lowercase(),
                cli::plain(&row.comparison.by),
                cli::plain(comment),
            ]);
        }
    }
    section("What doctors say", &table);
    let mut table = cli::table(["When", "Revision", "What", "Detail"]);
    for row in &view.history {
        let revision = row.revision.map(|revision| revision.to_string()).unwrap_or_default();
        table.add_row([cli::time(row.at), revision, row.what.clone(), cli::plain(&row.detail)]);
    }
    section("History", &table);
    println!("\n{}", view.notice);
}

/// Not what a report is silent on and the reading does not have either.
fn is_telling(compared: &&Compared) -> bool {
    let called = compared.ours == Some(Presence::Present);
    compared.truth.is_some() && (compared.how > How::Silence || called)
}

/// "Pneumothorax, left (left apex)".
fn located(finding: &Finding) -> String {
    match finding.location.as_str() {
        "" => finding.title(),
        location => format!("{} ({location})", finding.title()),
    }
}

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Present => "present",
        Presence::Absent => "absent",
        Presence::Undetermined => "undetermined",
    }
}

fn section(name: &str, table: &comfy_table::Table) {
    if table.row_iter().next().is_some() {
        println!("\n{name}\n{table}");
    }
}
