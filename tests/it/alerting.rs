//! The loop of an alert with a real mail server and a receiver of webhooks: raised, told level by
//! level, answered by its link, taken back.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::delivering::Archive;
use crate::gateway::Gateway;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::Peers;
use crate::way::files;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub struct Hook {
    _process: Background,
    folder: PathBuf,
    pub set: Vec<String>,
}

impl Hook {
    fn start(folder: &Path, answers: &[&str]) -> Hook {
        Hook::named(folder, "pager", answers)
    }

    pub fn named(folder: &Path, name: &str, answers: &[&str]) -> Hook {
        let folder = folder.join(format!("hook-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let mut hook = Command::new(python());
        hook.arg(root().join("tests/peers/webhook.py")).arg(port.to_string());
        let hook = hook.arg(&folder).arg(SECRET).args(answers).spawn().unwrap();
        wait_until_listening(port);
        let secret = folder.join("secret");
        std::fs::write(&secret, SECRET).unwrap();
        let set = vec![
            format!("deliver.webhook.{name}.url=\"http://127.0.0.1:{port}/hook\""),
            format!("deliver.webhook.{name}.secret_file=\"{}\"", secret.display()),
            format!("deliver.webhook.{name}.timeout_s=1"),
        ];
        Hook { _process: Background(hook), folder, set }
    }

    pub fn requests(&self) -> Vec<Value> {
        let all = files(&self.folder).into_iter();
        let kept = all.filter(|file| file.extension().is_some_and(|end| end == "json"));
        kept.filter_map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).ok()).collect()
    }
}

/// Only kim hears, and has time.
const ALONE: &str = "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600}]";

/// Settings in which kim hears first, then lee, each for some seconds.
fn two_levels(peers: &Peers, more: &[&str]) -> Vec<String> {
    let mut set: Vec<String> = peers.set.clone();
    set.retain(|one| !one.starts_with("alert."));
    let own = [
        "alert.base_url=\"http://127.0.0.1:1\"",
        "alert.undelivered_s=2",
        "alert.recipients.kim.emails=[\"kim@hospital.example\"]",
        "alert.recipients.lee.emails=[\"lee@hospital.example\"]",
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=3},{tell=[\"lee\"],wait_s=3}]",
        "alert.services.chest.repeats=0",
        "alert.rules=[{service=\"chest\"}]",
    ];
    set.extend(own.iter().chain(more).map(|&one| one.to_owned()));
    set
}

fn start(folder: &Path, set: &[String]) -> Node {
    Node::start(&folder.join("data"), &set.iter().map(String::as_str).collect::<Vec<_>>())
}

fn send(node: &Node, folder: &Path, name: &str, what: &[&str]) -> String {
    let file = folder.join(name);
    let uid = chest_xray(POSITIVE, &file, what);
    node.storescu(&[file]);
    uid
}

/// `prelim alerts --json` of a study.
fn alerts(node: &Node, uid: &str) -> Vec<Value> {
    let mut command = Command::new(PRELIM);
    command.args(["alerts", "--json", "--study", uid, "--data"]).arg(&node.data);
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default()
}

fn alert_that(node: &Node, uid: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for("an alert in this state", || alerts(node, uid).into_iter().find(&is))
}

fn mail_to(peers: &Peers, to: &str) -> Value {
    wait_for("a mail", || peers.mails().into_iter().find(|mail| mail["to"][0] == to))
}

/// The link to answer in a mail, as a path.
fn link(mail: &Value) -> String {
    let text = mail["parts"][0]["text"].as_str().unwrap();
    let from = text.find("/alert/").unwrap_or_else(|| panic!("no link in {text}"));
    text[from..].split_whitespace().next().unwrap().to_owned()
}

/// An answer of the API, with its head.
fn http_post(node: &Node, path: &str, body: &Value) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-i", "-H", "Content-Type: application/json", "-d", &body.to_string()]);
    let output = curl.arg(format!("http://{}{path}", node.http)).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn post(node: &Node, path: &str, form: &[(&str, &str)]) -> u16 {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"]);
    for (key, value) in form {
        curl.arg("--data-urlencode").arg(format!("{key}={value}"));
    }
    let output = curl.arg(format!("http://{}{path}", node.http)).output().unwrap();
    String::from_utf8_lossy(&output.stdout).parse().unwrap()
}

#[test]
fn an_alert_that_nobody_answers_goes_to_the_next_and_an_answer_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let node = start(folder.path(), &two_levels(&peers, &[]));
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let first = mail_to(&peers, "kim@hospital.example");
    let second = mail_to(&peers, "lee@hospital.example");
    let subject = second["headers"]["subject"].as_str().unwrap();
    assert!(subject.contains("not answered yet"), "{subject}");
    assert_eq!(second["headers"]["in-reply-to"], first["headers"]["message-id"], "one thread");
    assert!(second["parts"][0]["text"].as_str().unwrap().contains("nobody has answered since"));

    // A mail scanner opens the link: that is no answer.
    let path = link(&second);
    let page = http(&node, &path);
    assert!(page.contains("Nobody has answered yet") && page.contains("lee@hospital.example"));
    assert!(!page.contains("Zyxwv") && !page.contains("PID-998877"), "no identity: {page}");
    assert_eq!(alerts(&node, &uid)[0]["state"], "open");

    let form = [("answer", "take"), ("name", "Dr Lee"), ("note", "called ward 3, read back")];
    assert_eq!(post(&node, &path, &form), 303);
    let row = alerts(&node, &uid).remove(0);
    assert_eq!(
        (&row["state"], &row["by"]),
        (&json!("acknowledged"), &json!("Dr Lee, lee@hospital.example"))
    );
    assert_eq!((&row["how"], &row["note"]), (&json!("link"), &json!("called ward 3, read back")));
    // Who comes later is told who has it.
    let page = http(&node, &link(&first));
    assert!(page.contains("Dr Lee, lee@hospital.example has it since"), "{page}");
    assert_eq!(post(&node, &link(&first), &[("answer", "take")]), 303);
    assert_eq!(alerts(&node, &uid)[0]["by"], "Dr Lee, lee@hospital.example", "the first counts");
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(peers.mails().len(), 2, "nobody else is told");
    let page = http(&node, &format!("/studies/{uid}"));
    assert!(page.contains("has it since"), "the record is on the page");
    // And an addendum for the PACS, as DCMTK reads it.
    let file = folder.path().join("record.dcm");
    let mut export = Command::new(PRELIM);
    export.args(["alerts", "--study", &uid, "--export"]).arg(&file);
    run(export.arg("--data").arg(&node.data));
    let dump = run(Command::new("dsrdump").args(["+Pl"]).arg(&file));
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    for said in [
        "Communication of Critical Results",
        "Told lee@hospital.example by e-mail",
        "called ward 3",
    ] {
        assert!(dump.contains(said), "{said} in {dump}");
    }
    let metrics = http(&node, "/metrics");
    for name in
        ["prelim_alerts_escalated_total 1", "prelim_alert_answer_seconds", "prelim_alert_seconds"]
    {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    // Who saw it stands in the ledger: by the link, by the command, by the API.
    http(&node, "/api/v1/alerts");
    http(&node, "/api/v1/studies");
    let mut audit = Command::new(PRELIM);
    audit.args(["audit", "list", "--json", "--data"]).arg(&node.data);
    let seen: Value = serde_json::from_slice(&run(&mut audit).stdout).unwrap();
    let seen = |by: &str, what: &str, of: Option<&str>| {
        seen["rows"].as_array().unwrap().iter().any(|row| {
            let who = row["by"].as_str().is_some_and(|who| who.starts_with(by));
            who && row["what"] == what && row["study_uid"].as_str() == of
        })
    };
    for who in ["kim@hospital.example by the link (127.0.0.1)", "lee@hospital.example by the link"]
    {
        assert!(seen(who, "alert", Some(&uid)), "{who}");
    }
    assert!(seen("command line", "alerts", Some(&uid)));
    assert!(seen("127.0.0.1", "list of studies", None));
    assert!(!seen("127.0.0.1", "alerts that wait", None), "none waits: nothing was seen");
    // A changed link holds nothing.
    let forged = format!("{}A", &path[..path.len() - 1]);
    assert!(forged == path || post(&node, &forged, &form) == 404);
}

/// What browsers, readers of mail and proxies make of a form: the link is proof enough, and it leaves to
/// no other site. Nothing else takes a foreign page's word.
#[test]
fn the_link_of_an_alert_is_answered_from_whatever_window_it_was_opened_in() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let node = start(folder.path(), &two_levels(&peers, &[ALONE]));
    let windows = [
        &["Origin: null", "Sec-Fetch-Site: same-origin"][..],
        &["Origin: null"],
        &["Origin: null", "Sec-Fetch-Site: cross-site"],
        &["Origin: https://webmail.hospital.example"],
        &["Sec-Fetch-Site: none"],
    ];
    let say = |path: &str, heads: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", "answer=take&name=Dr Kim"]);
        heads.iter().for_each(|head| {
            curl.args(["-H", head]);
        });
        let output = curl.arg(format!("http://{}{path}", node.http)).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for (n, heads) in windows.iter().enumerate() {
        let uid = send(&node, folder.path(), &format!("{n}.dcm"), &[&format!("PatientID=W-{n}")]);
        let mail = wait_for("its mail", || {
            let of = |mail: &Value| mail["parts"][0]["text"].as_str().unwrap().contains(&uid);
            peers.mails().into_iter().find(of)
        });
        let key = alerts(&node, &uid)[0]["alert"].as_str().unwrap().to_owned();
        let is_foreign = n != 0 && n != 4;
        if is_foreign {
            assert_eq!(say(&format!("/alerts/{key}"), heads), "403", "{heads:?} on a page of ours");
        }
        assert_eq!(say(&link(&mail), heads), "303", "{heads:?}");
        assert_eq!(alerts(&node, &uid)[0]["state"], "acknowledged", "{heads:?}");
        let head = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-D", "-"])
            .arg(format!("http://{}{}", node.http, link(&mail)))
            .output()
            .unwrap();
        let head = String::from_utf8_lossy(&head.stdout).to_lowercase();
        assert!(head.contains("referrer-policy: same-origin"), "{head}");
    }
}

#[test]
fn who_is_not_the_one_hands_over_at_once_and_the_end_of_the_chain_is_on_the_pages() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let slow = "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600},{tell=[\"lee\"],wait_s=2}]";
    let mut set = two_levels(&peers, &[]);
    set.push(slow.to_owned());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let first = mail_to(&peers, "kim@hospital.example");
    assert_eq!(post(&node, &link(&first), &[("answer", "decline")]), 303);
    let second = mail_to(&peers, "lee@hospital.example");
    let text = second["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("kim@hospital.example has handed it over"), "{text}");
    let row = alert_that(&node, &uid, |row| row["state"] == "exhausted");
    assert_eq!(row["declined"][0]["by"], "kim@hospital.example");
    let page = wait_for("a banner", || {
        Some(http(&node, "/")).filter(|page| page.contains("that nobody has answered"))
    });
    assert!(page.contains("1 alert that nobody has answered"), "{page}");
    // It can still be answered, on the page too.
    let path = format!("/alerts/{}", row["alert"].as_str().unwrap());
    assert_eq!(post(&node, &path, &[("name", "Dr Kim")]), 303);
    assert_eq!(alerts(&node, &uid)[0]["by"], "Dr Kim");
}

/// A receiver that refuses uses up nobody's time, and it is tried on beside the escalation.
#[test]
fn an_alert_that_cannot_be_delivered_goes_to_the_next_in_its_time_and_is_tried_on() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let long =
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600},{tell=[\"lee\"],wait_s=600}]";
    // A password was changed; then it is well again.
    let hook = Hook::start(folder.path(), &["401", "404", "401", "403"]);
    let mut set = two_levels(&peers, &[long]);
    set.retain(|one| !one.starts_with("alert.recipients.kim"));
    set.push("alert.recipients.kim.webhooks=[\"pager\"]".to_owned());
    set.extend(hook.set.clone());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let second = mail_to(&peers, "lee@hospital.example");
    let text = second["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("no server has taken the messages"), "{text}");
    let row = alert_that(&node, &uid, |row| row["sendings"][0]["state"] == "done");
    assert_eq!(row["state"], "open");
    assert_eq!(row["steps"].as_array().unwrap().len(), 2, "nobody else was told: {row:#}");
    assert_eq!(hook.requests().len(), 5, "each refusal was tried again, and no storm");
    // The last of its round: a person who answers now ends it.
    assert_eq!(post(&node, &link(&second), &[("answer", "take")]), 303);
}

/// A filter that does not want the picture keeps nobody from hearing.
#[test]
fn a_mail_that_is_refused_for_its_picture_goes_out_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::faulty(folder.path(), &["--no-pictures"]);
    let gateway = Gateway::start(folder.path(), "read");
    let mut set = two_levels(&peers, &[ALONE]);
    set.extend(gateway.set.clone());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &["PatientAge=051Y"]);
    let row = alert_that(&node, &uid, |row| row["sendings"][0]["state"] == "done");
    assert_eq!(row["sendings"][0]["attempts"], 1, "{row:#}");
    let mail = mail_to(&peers, "kim@hospital.example");
    let parts = mail["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 2, "text and HTML: {parts:#?}");
    assert!(!parts[1]["text"].as_str().unwrap().contains("cid:"), "no broken picture");
}

/// A job of an alert is not a delivery: who has no need of it says why.
#[test]
fn an_alert_is_not_cancelled_on_the_queue_but_closed_with_a_reason_by_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let node = start(folder.path(), &two_levels(&peers, &[ALONE]));
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let row = alert_that(&node, &uid, |row| row["sendings"][0]["state"] == "done");
    // What is left in the queue is of the alert.
    node.study_in(&uid, "delivered");
    let key = row["alert"].as_str().unwrap().to_owned();
    let job = format!("{uid}/1/escalate/{key}/0/acknowledged");
    let page = http(&node, "/queue");
    assert!(page.contains(&job) && !page.contains("action=\"/queue/cancel\""), "{page}");
    assert_eq!(post(&node, "/queue/cancel", &[("id", &job)]), 409);
    let api = http_post(&node, "/api/v1/queue/cancel", &json!({"id": job}));
    assert!(api.contains("409") && api.contains("closes it with a reason"), "{api}");
    let mut cancel = Command::new(PRELIM);
    cancel.args(["queue", "--cancel", &job, "--data"]).arg(&node.data);
    let refused = cancel.output().unwrap();
    assert!(!refused.status.success());
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("prelim alerts"), "it says what to do instead: {words}");
    assert_eq!(alerts(&node, &uid)[0]["state"], "open");

    // Without a reason nothing is closed, by none of the three ways.
    let close = format!("/alerts/{key}/close");
    assert_eq!(post(&node, &close, &[("name", "Dr Kim"), ("note", "  ")]), 400);
    let api = format!("/api/v1/alerts/{key}/close");
    assert!(http_post(&node, &api, &json!({"by": "Dr Kim"})).contains("400"));
    let by_command = |more: &[&str]| {
        let mut command = Command::new(PRELIM);
        command.args(["alerts", "--close", &key, "--by", "Dr Kim"]).args(more);
        command.arg("--data").arg(&node.data).output().unwrap()
    };
    assert!(!by_command(&[]).status.success());
    assert_eq!(alerts(&node, &uid)[0]["state"], "open");
    let closed = by_command(&["--reason", "known since Monday, drain in place"]);
    assert!(closed.status.success(), "{}", String::from_utf8_lossy(&closed.stderr));
    let row = alerts(&node, &uid).remove(0);
    assert_eq!((&row["state"], &row["by"]), (&json!("closed"), &json!("Dr Kim")));
    assert_eq!(row["note"], "known since Monday, drain in place");
    // Who was told hears of it in the same thread, and the record has it.
    let mails = wait_for("a second mail", || Some(peers.mails()).filter(|m| m.len() == 2));
    let told = mails.iter().find(|m| m["headers"]["in-reply-to"].is_string()).unwrap();
    let text = told["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("Dr Kim has closed it: known since Monday"), "{text}");
    let file = folder.path().join("record.dcm");
    let mut export = Command::new(PRELIM);
    export.args(["alerts", "--study", &uid, "--export"]).arg(&file);
    run(export.arg("--data").arg(&node.data));
    let dump = run(Command::new("dsrdump").args(["+Pl"]).arg(&file));
    assert!(String::from_utf8_lossy(&dump.stdout).contains("Closed by Dr Kim"));
    let page = http(&node, &format!("/studies/{uid}"));
    assert!(page.contains("Dr Kim has closed it") && !page.contains(&close), "{page}");
    // The first word counts.
    assert_eq!(post(&node, &link(&mails[0]), &[("answer", "take")]), 303);
    assert_eq!(alerts(&node, &uid)[0]["state"], "closed");
}

/// A doctor's word that it is not there is an answer; a later reading by software is none.
#[test]
fn a_doctor_who_disagrees_with_the_finding_closes_its_alert() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let node = start(folder.path(), &two_levels(&peers, &[ALONE]));
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    alert_that(&node, &uid, |row| row["sendings"][0]["state"] == "done");
    node.study_in(&uid, "delivered");
    let say = |word: &str| {
        let mut command = Command::new(PRELIM);
        command.args(["feedback", &uid, "--finding", "F1", word, "--by", "Dr Lee"]);
        run(command.args(["--comment", "a skin fold", "--data"]).arg(&node.data));
    };
    say("--agree");
    assert_eq!(alerts(&node, &uid)[0]["state"], "open", "who agrees has not taken it");
    say("--disagree");
    let row = alerts(&node, &uid).remove(0);
    assert_eq!((&row["state"], &row["how"]), (&json!("closed"), &json!("feedback")));
    assert_eq!(row["by"], "Dr Lee (command line)");
    assert!(row["note"].as_str().unwrap().contains("a skin fold"), "{row:#}");
    wait_for("word of it", || Some(peers.mails()).filter(|mails| mails.len() == 2));
}

/// D8: errors, a drop, a receiver that does not answer, a redirect.
#[test]
fn a_webhook_is_signed_and_tried_again_as_the_same_message() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let hook = Hook::start(folder.path(), &["500", "hang", "drop"]);
    let mut set = two_levels(&peers, &["alert.recipients.kim.webhooks=[\"pager\"]"]);
    set.extend(hook.set.clone());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let id = wait_for("a job that waits", || {
        let sending = |row: &Value| {
            let rows = row["sendings"].as_array().cloned().unwrap_or_default();
            rows.into_iter().find(|s| s["channel"] == "kim/webhook:pager" && s["attempts"] == 1)
        };
        let row = alerts(&node, &uid).into_iter().find(|row| sending(row).is_some())?;
        Some(format!("{uid}/1/alert/{}/kim/webhook:pager", row["alert"].as_str()?))
    });
    assert!(id.contains("/alert/"), "{id}");
    let taken = wait_for("four requests", || Some(hook.requests()).filter(|r| r.len() >= 4));
    let ids: Vec<&Value> = taken.iter().map(|one| &one["headers"]["webhook-id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(taken.iter().all(|one| one["signed"] == true), "{taken:?}");
    let body = &taken[0]["body"];
    assert_eq!(body["type"], "alert.raised");
    assert_eq!(body["data"]["urgency"], "urgent");
    assert!(body["data"]["answer_url"].as_str().unwrap().contains("/alert/"));
    let all = body.to_string();
    for name in ["Zyxwv", "PID-998877", "ACC-774411", "20210630"] {
        assert!(!all.contains(name), "{name} in {all}");
    }
    let log = node.log();
    assert!(!log.contains("MfKQ9r8G"), "no secret in the log");
}

/// A mail server takes the connection and says nothing; one message at a time goes out by it.
#[test]
fn a_mail_server_that_hangs_keeps_no_webhook_and_no_next_level_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let hook = Hook::start(folder.path(), &[]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let steps =
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=1},{tell=[\"page\"],wait_s=600}]";
    let own = [
        "alert.recipients.page.webhooks=[\"pager\"]",
        "alert.undelivered_s=1",
        "pipeline.alerts_at_once=1",
        steps,
    ];
    let mut set = two_levels(&peers, &own);
    set.retain(|one| !one.starts_with("deliver.email."));
    set.push("deliver.email.host=\"127.0.0.1\"".into());
    set.push(format!("deliver.email.port={}", silent.local_addr().unwrap().port()));
    set.push("deliver.email.mode=\"none\"".into());
    set.push("deliver.email.from=\"prelim@hospital.example\"".into());
    set.push("deliver.email.timeout_s=300".into());
    set.extend(hook.set.clone());
    let node = start(folder.path(), &set);
    let studies = ["a.dcm", "b.dcm", "c.dcm"].map(|name| send(&node, folder.path(), name, &[]));
    wait_for("the second level of each", || (hook.requests().len() == 3).then_some(()));
    for uid in studies {
        let row = alert_that(&node, &uid, |row| row["sendings"].is_array());
        let sendings = row["sendings"].as_array().unwrap();
        let mail = sendings.iter().find(|one| one["channel"] == "kim/kim@hospital.example");
        assert_eq!(mail.unwrap()["state"], "queued", "no mail has ended: {row:#}");
    }
}

/// What a doctor wrote ends the telling, with that reason; nobody has to press anything.
#[test]
fn a_final_report_that_denies_the_finding_closes_its_alert() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let gateway = Gateway::start(folder.path(), "read");
    let mut set = two_levels(&peers, &[ALONE]);
    set.extend(gateway.set.clone());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    alert_that(&node, &uid, |row| row["state"] == "open");
    let text = "FINDINGS: No pneumothorax, no consolidation. IMPRESSION: Normal chest.";
    let url = format!("http://{}/api/v1/studies/{uid}/final?by=Dr%20Lee", node.http);
    run(Command::new("curl").args(["-sf", "-H", "Content-Type: text/plain", "-d", text, &url]));
    let row = alert_that(&node, &uid, |row| row["state"] != "open");
    assert_eq!(row["state"], "closed", "{row:#}");
    assert!(row.to_string().contains("final report"), "{row:#}");
}

/// Late images, and the second reading is empty: two readings differ in something urgent, and that is
/// a person's matter.
#[test]
fn what_a_later_reading_does_not_show_stays_open_until_a_person_answers() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let gateway = Gateway::start(folder.path(), "once");
    let short =
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600},{tell=[\"lee\"],wait_s=600}]";
    let mut set = two_levels(&peers, &[short]);
    set.extend(gateway.set.clone());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    let first = mail_to(&peers, "kim@hospital.example");
    node.study_in(&uid, "delivered");
    let same = format!("StudyInstanceUID={uid}");
    send(&node, folder.path(), "b.dcm", &[&same, "InstanceNumber=2"]);
    let row = alert_that(&node, &uid, |row| row["doubt"].is_object());
    assert_eq!(row["state"], "open", "{row:#}");
    assert!(row["doubt"]["why"].as_str().unwrap().contains("revision 2"), "{row:#}");
    let mails = wait_for("a second mail", || Some(peers.mails()).filter(|m| m.len() == 2));
    let later = mails.iter().find(|m| m["headers"]["message-id"] != first["headers"]["message-id"]);
    let later = later.unwrap();
    assert_eq!(later["headers"]["in-reply-to"], first["headers"]["message-id"]);
    let subject = later["headers"]["subject"].as_str().unwrap();
    assert!(subject.contains("a later reading does not show it"), "{subject}");
    // Its place on the worklist is that of the alert, not of the reading that does not show it.
    assert!(http(&node, "/").contains("<tr class=\"urgent\">"));
    let marked = "A later reading does not show it";
    assert!(http(&node, &link(&first)).contains(marked), "on the page of the link");
    assert!(http(&node, &format!("/studies/{uid}")).contains(marked), "on the page of the study");
    // Who hears next hears of both.
    assert_eq!(post(&node, &link(&first), &[("answer", "decline")]), 303);
    let next = mail_to(&peers, "lee@hospital.example");
    let text = next["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("A LATER READING DOES NOT SHOW IT: revision 2"), "{text}");
    assert_eq!(post(&node, &link(&next), &[("answer", "take")]), 303);
    assert_eq!(alerts(&node, &uid)[0]["state"], "acknowledged");
}

#[test]
fn what_a_later_revision_shows_again_joins_the_alert_that_is_out() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let gateway = Gateway::start(folder.path(), "read");
    let mut set = two_levels(&peers, &[ALONE]);
    set.extend(gateway.set.clone());
    let node = start(folder.path(), &set);
    let first = send(&node, folder.path(), "a.dcm", &[]);
    let row = alert_that(&node, &first, |row| row["sendings"][0]["state"] == "done");
    assert_eq!(row["state"], "open");
    let same = format!("StudyInstanceUID={first}");
    send(&node, folder.path(), "b.dcm", &[&same, "InstanceNumber=2"]);
    let row = alert_that(&node, &first, |row| row["joined"][0] == 2);
    assert_eq!(row["sendings"].as_array().unwrap().len(), 1, "{row:#}");
    assert_eq!(peers.mails().len(), 1);
}

#[test]
fn what_comes_too_fast_for_one_person_is_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let more = ["alert.messages_per_hour_max=1", "alert.group_s=3", "alert.undelivered_s=300"];
    let node = start(folder.path(), &two_levels(&peers, &[&more[..], &[ALONE]].concat()));
    let first = send(&node, folder.path(), "a.dcm", &[]);
    alert_that(&node, &first, |row| row["sendings"][0]["state"] == "done");
    // Three others: kim has had her message of this hour.
    let others: Vec<String> = (1..=3)
        .map(|n| {
            let id = format!("PatientID=OTHER-{n}");
            send(&node, folder.path(), &format!("c{n}.dcm"), &[&id])
        })
        .collect();
    for uid in &others {
        alert_that(&node, uid, |row| row["sendings"][0]["state"] == "done");
    }
    let mails = peers.mails();
    let together = mails.iter().filter(|mail| {
        mail["headers"]["subject"].as_str().unwrap().contains("alert")
            && mail["parts"][0]["text"].as_str().unwrap().contains("told together")
    });
    let together: Vec<&Value> = together.collect();
    assert!(!together.is_empty() && mails.len() < 5, "{} mails", mails.len());
    let text = together[0]["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("/alert/"), "each can be answered: {text}");
    // Each of them is told once.
    for uid in &others {
        let row = alerts(&node, uid).remove(0);
        let of = |mail: &&Value| {
            let text = mail["parts"][0]["text"].as_str().unwrap();
            text.contains(&format!("/studies/{}", row["study_uid"].as_str().unwrap()))
        };
        assert_eq!(mails.iter().filter(of).count(), 1, "{uid}");
    }
}

#[test]
fn a_drill_goes_through_the_whole_loop_and_names_its_times() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let node = start(folder.path(), &two_levels(&peers, &[]));
    let mut drill = Command::new(PRELIM);
    drill.args(["drill", "chest", "--json", "--wait", "30", "--data"]).arg(&node.data);
    let drill = drill.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mail = mail_to(&peers, "kim@hospital.example");
    assert!(mail["headers"]["subject"].as_str().unwrap().starts_with("[Prelim DRILL]"));
    let text = mail["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("THIS IS A DRILL") && !text.contains("needs review"), "{text}");
    assert!(http(&node, &link(&mail)).contains("This is a drill"));
    assert_eq!(post(&node, &link(&mail), &[("answer", "take")]), 303);
    let output = drill.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{said:#}");
    assert_eq!(
        (&said["answered_by"], &said["levels"]),
        (&json!("kim@hospital.example"), &json!(1))
    );
    assert!(said["delivered_s"].as_f64().unwrap() < 10.0, "{said:#}");
    let unknown = Command::new(PRELIM).args(["drill", "no", "--data"]).arg(&node.data).output();
    assert!(
        String::from_utf8_lossy(&unknown.unwrap().stderr).contains("chest"),
        "names those there are"
    );
    // It is no study.
    assert!(!http(&node, "/").contains("DRILL"));
}

/// Timers and messages survive: killed again and again, each level is told and nothing is lost.
#[test]
fn killed_between_two_levels_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let set = two_levels(&peers, &[]);
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path(), "a.dcm", &[]);
    mail_to(&peers, "kim@hospital.example");
    node.kill();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let node = start(folder.path(), &set);
    mail_to(&peers, "lee@hospital.example");
    node.kill();
    let node = start(folder.path(), &set);
    let row = alert_that(&node, &uid, |row| row["state"] == "exhausted");
    assert_eq!(row["steps"].as_array().unwrap().len(), 2, "{row:#}");
}

#[test]
fn results_that_were_given_up_are_told_once_and_tried_again_by_destination() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    // Refused for good: cannot understand.
    let statuses = ["C000"; 6].join(",");
    let archive = Archive::start(folder.path(), "archive", &["--status", &statuses]);
    let mut set = two_levels(&peers, &[ALONE]);
    set.retain(|one| !one.starts_with("deliver.pacs"));
    set.extend(archive.set("main"));
    set.push("alert.recipients.it={emails=[\"it@hospital.example\"],technical=true}".to_owned());
    let node = start(folder.path(), &set);
    let uids: Vec<String> = (0..2)
        .map(|n| send(&node, folder.path(), &format!("{n}.dcm"), &[&format!("PatientID=T-{n}")]))
        .collect();
    let mail = mail_to(&peers, "it@hospital.example");
    let subject = mail["headers"]["subject"].as_str().unwrap();
    assert_eq!(subject, "[Prelim] 6 results not delivered to pacs.main");
    let text = mail["parts"][0]["text"].as_str().unwrap();
    assert!(text.contains("C000") && text.contains("--retry pacs.main"), "{text}");
    assert!(!text.contains("Zyxwv"), "no identity: {text}");
    assert!(archive.kept().is_empty());
    let mut retry = Command::new(PRELIM);
    run(retry.args(["queue", "--retry", "pacs.main", "--data"]).arg(&node.data));
    for uid in &uids {
        node.study_in(uid, "delivered");
    }
    assert_eq!(archive.kept().len(), 6);
    let to_it = peers.mails().into_iter().filter(|mail| mail["to"][0] == "it@hospital.example");
    assert_eq!(to_it.count(), 1, "once for all that failed together");
}

/// Mail server and receiver of webhooks go wrong in turn, the node is killed again and again: each
/// alert is taken by both, each time as the same message, or by the next person.
#[test]
fn no_alert_is_lost_over_faults_of_mail_and_webhooks_and_kills() {
    const STUDIES: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    // One address and one receiver refuse as if for good, and take it all the same a little later.
    let mail = "--faults=421,451,lost,450,hang,452,drop,552,lost,421,450,drop";
    let peers = Peers::faulty(folder.path(), &[mail, "--greylist=1"]);
    let hook = Hook::start(
        folder.path(),
        &["500", "drop", "429", "hang", "503", "redirect", "502", "drop", "408", "500"],
    );
    let both = "alert.recipients.kim={emails=[\"kim@hospital.example\"],webhooks=[\"pager\"]}";
    let long =
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600},{tell=[\"lee\"],wait_s=600}]";
    let more = ["alert.undelivered_s=300", "deliver.email.timeout_s=5", long];
    let mut set = two_levels(&peers, &more);
    set.retain(|one| !one.starts_with("alert.recipients.kim"));
    set.push(both.to_owned());
    set.extend(hook.set.clone());
    let mut node = start(folder.path(), &set);
    let mut uids = Vec::new();
    for n in 0..STUDIES {
        let id = format!("PatientID=FAULT-{n}");
        uids.push(send(&node, folder.path(), &format!("{n}.dcm"), &[&id]));
        if n % 4 == 3 {
            node.kill();
            node = start(folder.path(), &set);
        }
    }
    let ended = |sending: &Value| sending["state"] == "done" || sending["state"] == "dead";
    for uid in &uids {
        let row = alert_that(&node, uid, |row| {
            let sendings = row["sendings"].as_array().unwrap();
            sendings.len() >= 2
                && sendings.iter().all(ended)
                && sendings.iter().any(|sending| sending["state"] == "done")
        });
        let sendings = row["sendings"].as_array().unwrap();
        for sending in sendings.iter().filter(|sending| sending["state"] == "done") {
            let channel = sending["channel"].as_str().unwrap();
            let is_there = match channel.split_once('/').unwrap().1 {
                "webhook:pager" => hook.requests().iter().any(|one| {
                    one["body"]["data"]["alert"] == row["alert"] && one["answer"] == "200"
                }),
                to => peers.mails().iter().any(|mail| {
                    let text = mail["parts"][0]["text"].as_str().unwrap();
                    mail["to"][0] == to && text.contains(uid.as_str())
                }),
            };
            assert!(is_there, "{channel} is marked as told, and was not: {row:#}");
        }
    }
    assert!(hook.requests().iter().all(|one| one["signed"] == true));
    // What a server took and did not say is sent again as the same message, not as another.
    let mails = peers.mails();
    let ids: std::collections::BTreeSet<&str> =
        mails.iter().map(|mail| mail["headers"]["message-id"].as_str().unwrap()).collect();
    assert!(
        ids.len() <= STUDIES * 2 && mails.len() > ids.len(),
        "{} of {}",
        ids.len(),
        mails.len()
    );
}
