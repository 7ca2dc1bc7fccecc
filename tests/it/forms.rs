//! Every form of every page, pressed in real browsers as its users do: a desk and a phone, with and
//! without JavaScript. What each changes is looked up in the ledger.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::accounts::PASSWORD;
use crate::accounts::done;
use crate::alerting::Hook;
use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::root;
use crate::node::run;
use crate::proxy;
use crate::way::POSITIVE;
use crate::way::Peers;

const DESK: (u32, u32) = (1400, 900);
const PHONE: (u32, u32) = (390, 844);
/// Who was not let in.
const REFUSED: &str = "SCANNER";

#[test]
fn every_form_works_in_chromium_at_a_desk() {
    every_form_works("chrome", DESK, true, false);
}

#[test]
fn every_form_works_in_chromium_on_a_phone_without_javascript_behind_nginx() {
    every_form_works("chrome", PHONE, false, true);
}

#[test]
fn every_form_works_in_firefox_at_a_desk() {
    every_form_works("firefox", DESK, true, false);
}

#[test]
fn every_form_works_in_firefox_on_a_phone() {
    every_form_works("firefox", PHONE, true, false);
}

/// Three studies with an urgent finding that are still being received, an archive that is away, a
/// webhook that refuses, two people who are told, and a caller who was not let in.
fn every_form_works(
    browser: &str,
    (width, height): (u32, u32),
    javascript: bool,
    behind_nginx: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let gateway = Gateway::start(folder.path(), "read");
    let refuses = Hook::named(folder.path(), "refuses", &["400"; 100]);
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut set = peers.set.clone();
    set.retain(|one| !one.starts_with("alert."));
    let own = [
        "assemble.quiet_period_s=1800".to_owned(),
        "dicom.loopback_trusted=false".to_owned(),
        format!("analysis.gateways.away.url=\"http://127.0.0.1:{}/v1\"", free_port()),
        "analysis.gateways.away.model=\"m\"".to_owned(),
        format!("analysis.profiles=\"{}\"", bones_by_away(folder.path()).display()),
        "dicom.peers.ct={ae_title=\"STORESCU\", addresses=[\"127.0.0.1\"]}".to_owned(),
        "deliver.webhook.refuses.reports=true".to_owned(),
        "deliver.pacs.gone.ae_title=\"GONE\"".to_owned(),
        format!("deliver.pacs.gone.address=\"127.0.0.1:{}\"", free_port()),
        "alert.base_url=\"http://127.0.0.1:1\"".to_owned(),
        "alert.recipients.kim.emails=[\"kim@hospital.example\"]".to_owned(),
        "alert.recipients.lee.emails=[\"lee@hospital.example\"]".to_owned(),
        "alert.services.chest.steps=[{tell=[\"kim\"],wait_s=600},{tell=[\"lee\"],wait_s=600}]"
            .to_owned(),
        "alert.rules=[{service=\"chest\"}]".to_owned(),
    ];
    if behind_nginx {
        // As the file for nginx says.
        let typed = format!("{PASSWORD}\n");
        done(&data, &["user", "add", "first", "--role", "administrator"], &typed);
        set.extend([
            "http.login=required".to_owned(),
            "http.secure_cookie=true".to_owned(),
            format!("http.hosts_allowed=[\"{}\"]", proxy::NAME),
            "http.trusted_proxies=[\"127.0.0.1\"]".to_owned(),
        ]);
    }
    set.extend(gateway.set.iter().chain(&refuses.set).cloned().chain(own));
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let node = Node::start(&data, &set);
    let image = |name: &str| -> (PathBuf, String) {
        let file = folder.path().join(name);
        let id = format!("PatientID={name}");
        let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", &id]);
        (file, uid)
    };
    let (files, studies): (Vec<PathBuf>, Vec<String>) =
        ["a", "b", "c"].map(image).into_iter().unzip();
    node.storescu(&files);
    // One study with the images of two patients.
    let (twin, twins) = image("d");
    let other = folder.path().join("e");
    let of_study = format!("StudyInstanceUID={twins}");
    chest_xray(POSITIVE, &other, &["PatientID=e", &of_study]);
    node.storescu(&[twin, other]);
    let hand = folder.path().join("f");
    let limb = chest_xray(POSITIVE, &hand, &["BodyPartExamined=HAND", "StudyDescription=Hand"]);
    node.storescu(&[hand]);
    let port = node.dicom.port().to_string();
    let mut stranger = Command::new("storescu");
    stranger.args(["-aet", REFUSED, "-aec", "PRELIM", "127.0.0.1", &port]).arg(&files[0]);
    assert!(!stranger.output().unwrap().status.success(), "nobody let it in");

    let proxied = behind_nginx.then(|| {
        let port = free_port();
        (proxy::nginx(folder.path(), port, &node), port)
    });
    let direct = format!("http://{}", node.http);
    let url = proxied.as_ref().map(|(_, port)| format!("https://{}:{port}", proxy::NAME));
    let context = json!({
        "url": url.unwrap_or(direct),
        "host": proxy::NAME,
        "prelim": PRELIM,
        "data": node.data,
        "mails": peers.mail_folder,
        "studies": studies,
        "twins": twins,
        "limb": limb,
        "password": if behind_nginx { PASSWORD } else { "" },
        "image": files[0],
        "refused": REFUSED,
        "browser": browser,
        "width": width,
        "height": height,
        "javascript": javascript,
    });
    let file = folder.path().join("context.json");
    std::fs::write(&file, context.to_string()).unwrap();
    run(Command::new("node").arg(root().join("tests/peers/forms.mjs")).arg(file));
}

/// A folder of profiles of the site: bones are read by the gateway that is away.
fn bones_by_away(folder: &Path) -> PathBuf {
    let profiles = folder.join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    let shipped = std::fs::read_to_string(root().join("config/profiles/bone_xray.toml")).unwrap();
    let own = shipped.replacen("name = ", "provider = \"away\"\nname = ", 1);
    std::fs::write(profiles.join("bone_xray.toml"), own).unwrap();
    profiles
}
