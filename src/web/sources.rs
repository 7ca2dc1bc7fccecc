//! Who sends, how much, and who was refused and why.

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use crate::dicom::sources::Source;
use crate::web::Shared;
use crate::web::Web;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;

/// Rows of each table; what is behind them is counted.
const ROWS_MAX: usize = 300;

#[derive(Serialize)]
struct Page {
    frame: Frame,
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
    open: u64,
    associations: u64,
    offered: u64,
    stored: u64,
    warned: u64,
    refused: String,
    failed: u64,
    size: String,
    rate: String,
    rejections: String,
    is_trouble: bool,
}

#[derive(Serialize)]
struct Stranger {
    calling_ae: String,
    called_ae: String,
    address: String,
    seen: Moment,
    times: u64,
    reasons: String,
}

pub async fn show(State(web): State<Web>) -> Result<Response, Failure> {
    let page = web.read(|web| Ok(page_of(web))).await?;
    web.pages.render("sources", &page)
}

fn page_of(web: &Shared) -> Page {
    let now = web.node.clock.now();
    let (strangers, sources): (Vec<Source>, Vec<Source>) =
        web.node.sources.list().into_iter().partition(Source::is_stranger);
    Page {
        frame: Frame::new(web, "sources", "sources"),
        sources_left_out: sources.len().saturating_sub(ROWS_MAX),
        strangers_left_out: strangers.len().saturating_sub(ROWS_MAX),
        sources: sources.into_iter().take(ROWS_MAX).map(|source| row(source, now)).collect(),
        strangers: strangers.into_iter().take(ROWS_MAX).map(|s| stranger(s, now)).collect(),
    }
}

fn row(source: Source, now: Timestamp) -> Row {
    let named = [
        ("peer", &source.peer),
        ("user", &source.user),
        ("certificate", &source.certificate),
        ("software", &source.implementation),
    ];
    let who = named.iter().filter(|(_, text)| !text.is_empty());
    let statuses = counted(&source.statuses);
    Row {
        who: who.map(|(what, text)| format!("{what} {text}")).collect(),
        address: source.address.to_string(),
        seen: page::moment(source.last_seen, now),
        open: source.open,
        associations: source.associations,
        offered: source.offered,
        stored: source.stored,
        warned: source.warned,
        is_trouble: source.refused + source.failed > 0,
        refused: match source.refused {
            0 => String::new(),
            refused => format!("{refused} ({statuses})"),
        },
        failed: source.failed,
        size: page::size(source.stored_bytes),
        rate: match source.bytes_per_second {
            0 => String::new(),
            rate => format!("{}/s", page::size(rate)),
        },
        rejections: counted(&source.rejections),
        calling_ae: source.calling_ae,
    }
}

fn stranger(source: Source, now: Timestamp) -> Stranger {
    Stranger {
        address: source.address.to_string(),
        seen: page::moment(source.last_seen, now),
        times: source.rejections.values().sum(),
        reasons: counted(&source.rejections),
        calling_ae: source.calling_ae,
        called_ae: source.called_ae,
    }
}

fn counted(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(what, count)| format!("{what} x {count}")).collect();
    all.join(", ")
}
