//! Who sends, how much, and who was refused and why.

use std::collections::BTreeMap;

use axum::Extension;
use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::negotiation::Rejection;
use crate::dicom::peers_file;
use crate::dicom::peers_file::Caller;
use crate::dicom::sources::Source;
use crate::pipeline::audit;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

/// Rows of each table; what is behind them is counted.
const ROWS_MAX: usize = 300;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    /// Expected by the settings or by habit, and not in the list: never heard of here.
    never: Vec<String>,
    sources: Vec<Row>,
    sources_left_out: usize,
    strangers: Vec<Stranger>,
    strangers_left_out: usize,
}

#[derive(Serialize)]
struct Row {
    calling_ae: String,
    address: String,
    /// Peer, user, certificate, software: what there is of them.
    who: Vec<String>,
    seen: Moment,
    /// When it stored something last.
    stored_at: Option<Moment>,
    is_missed: bool,
    open: u64,
    associations: u64,
    offered: u64,
    stored: u64,
    warned: u64,
    /// Instances of the last hour, and of the last 24.
    hour: u64,
    day: u64,
    refused: u64,
    statuses: Vec<Reason>,
    failed: u64,
    size: String,
    rate: String,
    rejections: Vec<Reason>,
    is_trouble: bool,
}

/// Why something was refused, and how often.
#[derive(Serialize)]
struct Reason {
    why: Phrase,
    times: u64,
}

#[derive(Serialize)]
struct Stranger {
    calling_ae: String,
    called_ae: String,
    address: String,
    seen: Moment,
    times: u64,
    reasons: Vec<Reason>,
    /// What lets it in; empty where that is not what it was refused for.
    command: String,
    /// The same for a form: `CT1@10.0.0.5`.
    who: String,
    /// It was let in since, and has not called again.
    may_send: bool,
}

pub async fn show(State(web): State<Web>) -> Result<Response, Failure> {
    let page = web.read(|web| Ok(page_of(web))).await?;
    web.pages.render("sources", &page)
}

fn page_of(web: &Shared) -> Page {
    let now = web.node.clock.now();
    let missed = (web.node.missed)();
    let (strangers, sources): (Vec<Source>, Vec<Source>) =
        web.node.sources.list().into_iter().partition(Source::is_stranger);
    let is_known = |ae: &String| sources.iter().any(|source| source.calling_ae == *ae);
    Page {
        frame: Frame::new(web, "sources", "sources"),
        never: missed.iter().filter(|ae| !is_known(ae)).cloned().collect(),
        sources_left_out: sources.len().saturating_sub(ROWS_MAX),
        strangers_left_out: strangers.len().saturating_sub(ROWS_MAX),
        sources: sources.into_iter().take(ROWS_MAX).map(|s| row(s, &missed, now)).collect(),
        strangers: strangers.into_iter().take(ROWS_MAX).map(|s| stranger(web, s, now)).collect(),
    }
}

fn row(source: Source, missed: &[String], now: Timestamp) -> Row {
    let named = [
        ("peer", &source.peer),
        ("user", &source.user),
        ("certificate", &source.certificate),
        ("software", &source.implementation),
    ];
    let who = named.iter().filter(|(_, text)| !text.is_empty());
    Row {
        who: who.map(|(what, text)| format!("{what} {text}")).collect(),
        address: source.address.to_string(),
        seen: page::moment(source.last_seen, now),
        stored_at: source.last_stored.map(|at| page::moment(at, now)),
        is_missed: missed.contains(&source.calling_ae),
        hour: source.stored_within(1, now),
        day: source.stored_within(24, now),
        open: source.open,
        associations: source.associations,
        offered: source.offered,
        stored: source.stored,
        warned: source.warned,
        is_trouble: source.refused + source.failed > 0,
        refused: source.refused,
        statuses: reasons("status", &source.statuses),
        failed: source.failed,
        size: page::size(source.stored_bytes),
        rate: match source.bytes_per_second {
            0 => String::new(),
            rate => format!("{}/s", page::size(rate)),
        },
        rejections: reasons("rejection", &source.rejections),
        calling_ae: source.calling_ae,
    }
}

fn stranger(web: &Shared, source: Source, now: Timestamp) -> Stranger {
    let may_send = web.node.access.knows(&source.calling_ae, source.address);
    let who = caller(&source).filter(|_| !may_send).map(|who| who.to_string());
    let command = who.as_ref().map(|who| format!("prelim peers add {}", quoted(who)));
    Stranger {
        address: source.address.to_string(),
        seen: page::moment(source.last_seen, now),
        times: source.rejections.values().sum(),
        reasons: reasons("rejection", &source.rejections),
        command: command.unwrap_or_default(),
        who: who.unwrap_or_default(),
        may_send,
        calling_ae: source.calling_ae,
        called_ae: source.called_ae,
    }
}

/// In the words of `group`; a reason that has none stands as it is.
fn reasons(group: &str, counts: &BTreeMap<String, u64>) -> Vec<Reason> {
    let reason = |(why, times): (&String, &u64)| Reason {
        why: Phrase::new(format!("{group}.{why}")),
        times: *times,
    };
    counts.iter().map(reason).collect()
}

/// Whom an operator can let in, where it was refused because no peer of ours is called so or calls
/// from there.
fn caller(source: &Source) -> Option<Caller> {
    let unknown = [Rejection::Stranger, Rejection::CallingAe, Rejection::Address];
    let is_unknown = unknown.iter().any(|why| source.rejections.contains_key(why.as_str()));
    // Another title than the standard allows is none of a peer, * is any, and a dash would be an
    // option of the command.
    let who = format!("{}@{}", source.calling_ae, source.address).parse().ok();
    who.filter(|who: &Caller| {
        is_unknown && who.ae_title.is_some() && !source.calling_ae.starts_with('-')
    })
}

#[derive(Deserialize)]
pub struct LetIn {
    /// As the page had it: `CT1@10.0.0.5`.
    who: String,
}

/// Lets one in that was refused, and nobody else.
pub async fn let_in(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Form(form): Form<LetIn>,
) -> Result<Response, Failure> {
    let refused = web.node.sources.list().into_iter().filter(Source::is_stranger);
    let who = refused.filter_map(|source| caller(&source)).find(|who| who.to_string() == form.who);
    let gone = || Failure::new(StatusCode::CONFLICT, Phrase::new("problem.not_refused"));
    let who = who.ok_or_else(gone)?;
    let line = web
        .read(move |web| {
            let name = peers_file::change(web.node.store.data(), |peers| {
                let name = peers_file::free_name(peers, &who);
                peers_file::let_in(peers, &name, &who);
                name
            });
            let name = name.map_err(|why| {
                tracing::error!(why, "a peer cannot be let in");
                Failure::internal("the peers file cannot be changed")
            })?;
            web.node.access.reload();
            Ok(format!("{} peers: {who} let in as {name}", audit::message::words::CHANGED))
        })
        .await?;
    web.audit.note(None, &line, &viewer.name).await;
    Ok(Redirect::to("/sources").into_response())
}

/// One word for a shell, whatever a caller called itself.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@._:-".contains(c);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_writes_a_command_of_its_own() {
        for (text, word) in [
            ("CT1@10.0.0.5", "CT1@10.0.0.5"),
            ("CT 1@fd00::1", "'CT 1@fd00::1'"),
            ("$(reboot)@10.0.0.5", "'$(reboot)@10.0.0.5'"),
            ("a'b@10.0.0.5", "'a'\\''b@10.0.0.5'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
