//! Reports as messages: to people by a real mail server, to programs by a receiver of webhooks.

use serde_json::Value;
use serde_json::json;

use crate::alerting::Hook;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::study;
use crate::node::wait_for;
use crate::way::POSITIVE;
use crate::way::Peers;

const IDENTITY: [&str; 4] = ["Zyxwv", "Quentin", "PID-998877", "ACC-774411"];

/// Once more after a passing refusal, a revision in the thread of the first, a refusal for good in
/// front of a person; and an identity only where the settings ask for it.
#[test]
fn a_report_goes_to_people_and_programs_and_names_the_patient_only_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::faulty(folder.path(), &["--by-address"]);
    let busy = Hook::named(folder.path(), "busy", &["500"]);
    let gone = Hook::named(folder.path(), "gone", &["410"]);
    let mut set = peers.set.clone();
    set.retain(|one| !one.starts_with("alert.") && !one.starts_with("deliver.pacs"));
    set.extend([&busy, &gone].iter().flat_map(|hook| hook.set.clone()));
    set.extend(
        [
            "deliver.retry_first_s=1",
            "alert.base_url=\"http://node.example\"",
            "deliver.mailbox.ward.to=[\"451@hospital.example\"]",
            "deliver.mailbox.chief.to=[\"chief@hospital.example\"]",
            "deliver.mailbox.chief.identity=\"full\"",
            "deliver.mailbox.chief.attach=[\"report.pdf\"]",
            "deliver.webhook.busy.reports=true",
            "deliver.webhook.busy.files=[\"report.pdf\"]",
            "deliver.webhook.gone.reports=true",
            "deliver.webhook.gone.identity=\"numbers\"",
        ]
        .map(str::to_owned),
    );
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &set);
    let (first, second) = (folder.path().join("a.dcm"), folder.path().join("b.dcm"));
    let uid = chest_xray(POSITIVE, &first, &[]);
    node.storescu(&[first]);
    let mails = |to: &str, count: usize| {
        wait_for("mails", || {
            let own = peers.mails().into_iter().filter(|mail| mail["to"][0] == to);
            let own: Vec<Value> = own.collect();
            (own.len() == count).then_some(own)
        })
    };
    let ward = mails("451@hospital.example", 1).remove(0);
    let chief = mails("chief@hospital.example", 1).remove(0);
    let words = |mail: &Value| {
        let parts = mail["parts"].as_array().unwrap().iter().filter_map(|p| p["text"].as_str());
        parts.chain(mail["headers"]["subject"].as_str()).collect::<Vec<_>>().join("\n")
    };
    for named in IDENTITY {
        assert!(!words(&ward).contains(named), "{named} in {ward:#}");
        // Its file name says nothing, its text does.
        assert!(words(&chief).contains(named), "{named} not in {chief:#}");
    }
    let link = format!("http://node.example/studies/{uid}");
    for said in [link.as_str(), "Pneumonia", "A physician has not verified it"] {
        assert!(words(&ward).contains(said), "{said} not in {}", words(&ward));
    }
    let subject = chief["headers"]["subject"].as_str().unwrap();
    assert!(subject.starts_with("[Prelim PRELIMINARY]") && !subject.contains("Zyxwv"), "{subject}");
    let pdf = chief["parts"].as_array().unwrap().last().unwrap();
    let kept = node.data.join(format!("results/{uid}/1/report.pdf"));
    let size = std::fs::metadata(kept).unwrap().len();
    assert_eq!((&pdf["disposition"], &pdf["size_bytes"]), (&json!("attachment"), &json!(size)));

    let events = wait_for("an event", || Some(busy.requests()).filter(|all| all.len() == 2));
    assert_eq!((&events[0]["answer"], &events[1]["answer"]), (&json!("500"), &json!("200")));
    let id = |event: &Value| event["headers"]["webhook-id"].clone();
    assert_eq!((id(&events[0]), &events[0]["body"]), (id(&events[1]), &events[1]["body"]));
    let event = &events[1]["body"];
    assert!(events[1]["signed"] == true && event["type"] == "report.preliminary", "{event:#}");
    let data = &event["data"];
    assert_eq!((&data["study_uid"], &data["revision"]), (&json!(uid), &json!(1)));
    assert_eq!((&data["report_url"], &data["urgency"]), (&json!(link), &json!("urgent")));
    assert_eq!(data["findings"][0]["key"], "pneumonia", "{data:#}");
    assert_eq!(data["files"][0]["url"], format!("http://node.example/results/{uid}/1/report.pdf"));
    for named in IDENTITY {
        assert!(!event.to_string().contains(named), "{named} in {event:#}");
    }
    let row = |destination: &str, state: &str| {
        wait_for("a delivery", || {
            let shown = study(&node.data, &uid)?;
            let rows = shown["deliveries"].as_array()?.clone();
            rows.into_iter().find(|r| r["destination"] == destination && r["state"] == state)
        })
    };
    let dead = row("webhook.gone", "dead");
    assert!(dead["cause"].as_str().unwrap().contains("HTTP 410"), "{dead}");
    assert_eq!(gone.requests()[0]["body"]["data"]["patient"], json!({"id": "PID-998877"}));

    chest_xray(POSITIVE, &second, &[&format!("StudyInstanceUID={uid}")]);
    node.storescu(&[second]);
    for (to, first) in [("451@hospital.example", &ward), ("chief@hospital.example", &chief)] {
        let later = mails(to, 2).remove(1);
        let headers = &later["headers"];
        assert_ne!(headers["message-id"], first["headers"]["message-id"]);
        assert_eq!(headers["in-reply-to"], first["headers"]["message-id"], "one thread");
        assert!(headers["subject"].as_str().unwrap().contains("Revision 2"), "{headers:#}");
    }
    let later = wait_for("an event", || busy.requests().get(2).cloned());
    assert_eq!(later["body"]["data"]["revision"], 2);
    assert_eq!(node.terminate(), Some(0));
}
