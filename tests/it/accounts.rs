//! Who may come in: accounts, roles, tokens of programs and HTTPS, with curl as browser and program.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use serde_json::json;

use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;
use crate::node::wait_until_listening;

pub const PASSWORD: &str = "correct horse battery";

/// Runs `prelim ARGS --data …` with a line on its standard input.
fn prelim(data: &Path, args: &[&str], typed: &str) -> Output {
    let mut command = Command::new(PRELIM);
    command.args(args).arg("--data").arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a command of these arguments says, which succeeds.
pub fn done(data: &Path, args: &[&str], typed: &str) -> String {
    let output = prelim(data, args, typed);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Status and body.
fn curl(args: &[&str]) -> (u16, String) {
    let output = run(Command::new("curl").args(["-s", "-w", "\n%{http_code}"]).args(args));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// A browser that logged in.
struct Browser {
    jar: String,
    at: String,
}

impl Browser {
    fn log_in(node: &Node, folder: &Path, name: &str, password: &str) -> (u16, Browser) {
        let jar = folder.join(format!("{name}.jar")).display().to_string();
        let browser = Browser { jar, at: format!("http://{}", node.http) };
        let form = format!("name={name}&password={password}&next=/queue");
        (browser.post("/login", &form), browser)
    }

    fn post(&self, path: &str, form: &str) -> u16 {
        let url = format!("{}{path}", self.at);
        curl(&["-b", &self.jar, "-c", &self.jar, "-d", form, &url]).0
    }

    fn get(&self, path: &str) -> (u16, String) {
        curl(&["-b", &self.jar, "-H", "Accept: text/html", &format!("{}{path}", self.at)])
    }
}

#[test]
fn each_role_may_what_it_is_for_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &["assemble.quiet_period_s=1800"]);
    let at = |path: &str| format!("http://{}{path}", node.http);
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    let study = "/studies/1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    assert_eq!(curl(&[&at("/queue")]).0, 200, "nobody has an account: open on this machine");

    let refused = prelim(&data, &["user", "add", "chief", "--role", "administrator"], "short\n");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("at least 12 characters"), "{}", said(&refused));
    let typed = format!("{PASSWORD}\n");
    for (name, role) in [
        ("chief", "administrator"),
        ("kim", "radiologist"),
        ("duty", "on_call"),
        ("guest", "viewer"),
    ] {
        done(&data, &["user", "add", name, "--role", role], &typed);
    }
    // Within a second, without a restart.
    wait_for("login to be asked for", || (curl(&[&at("/queue")]).0 == 401).then_some(()));
    let (status, page) = curl(&["-L", "-H", "Accept: text/html", &at(study)]);
    assert!(status == 200 && page.contains("name=\"password\""), "{status} {page}");

    let browser = |name: &str| {
        let (status, browser) = Browser::log_in(&node, folder.path(), name, PASSWORD);
        assert_eq!(status, 303, "{name}");
        browser
    };
    let [chief, kim, duty, guest] = ["chief", "kim", "duty", "guest"].map(browser);
    for (who, look, answer, judge, operate) in [
        (&guest, 200, 403, 403, 403),
        (&duty, 200, 404, 403, 403),
        (&kim, 200, 404, 422, 403),
        (&chief, 200, 404, 422, 400),
    ] {
        let said = (
            who.get(study).0,
            who.post("/alerts/none", "name=x"),
            curl(&[
                "-b",
                &who.jar,
                "--json",
                "{\"finding\":\"F1\",\"verdict\":\"agree\"}",
                &at(&format!("/api/v1{study}/feedback")),
            ])
            .0,
            who.post("/queue/cancel", "id=none"),
        );
        let judged = if judge == 422 { [404, 422].contains(&said.2) } else { said.2 == judge };
        let operated =
            if operate == 400 { said.3 != 403 && said.3 < 500 } else { said.3 == operate };
        assert!(said.0 == look && said.1 == answer && judged && operated, "{}: {said:?}", who.jar);
    }
    // What one may not do is not offered.
    for (who, offered) in [(&guest, false), (&kim, true)] {
        assert_eq!(who.get(study).1.contains("/complete"), offered, "{}", who.jar);
    }
    for (who, offered) in [(&kim, false), (&chief, true)] {
        assert_eq!(who.get("/").1.contains("href=\"/settings\""), offered, "{}", who.jar);
    }
    let (status, page) = guest.get("/metrics");
    assert!(status == 403 && page.contains("the right to watch"), "{page}");
    // A form of another site's page changes nothing, logged in or not.
    let cross = ["-b", &chief.jar, "-H", "Origin: http://evil.example", "-d", "id=1"];
    assert_eq!(curl(&[&cross[..], &[&at("/queue/retry")]].concat()).0, 403);

    // A changed password ends the other sessions; a removed account ends all.
    let (_, second) = Browser::log_in(&node, folder.path(), "kim", PASSWORD);
    let other = Browser { jar: format!("{}.2", second.jar), at: second.at.clone() };
    assert_eq!(other.post("/login", &format!("name=kim&password={PASSWORD}")), 303);
    let new = "another good phrase";
    let form = |old: &str| format!("old={old}&new={new}&again={new}");
    let wrong = curl(&["-b", &second.jar, "-d", &form("not this one"), &at("/account/password")]);
    assert!(wrong.1.contains("not the name and the password"), "{}", wrong.1);
    let right = curl(&["-b", &second.jar, "-d", &form(PASSWORD), &at("/account/password")]);
    assert!(right.1.contains("The password is changed"), "{}", right.1);
    assert_eq!((second.get(study).0, other.get(study).0), (200, 303));
    done(&data, &["user", "remove", "guest"], "");
    wait_for("the session to end", || (guest.get(study).0 == 303).then_some(()));
    let last = prelim(&data, &["user", "remove", "chief"], "");
    assert!(said(&last).contains("last administrator"), "{}", said(&last));

    // Who came in and who looked stands in the ledger, by name.
    let page = chief.get(study).1;
    assert!(page.contains("duty (127.0.0.1)") && page.contains("kim (127.0.0.1)"), "{page}");
    assert!(!node.log().contains(PASSWORD) && !node.log().contains(new));
}

/// The secret that a page shows this once.
fn secret(page: &str) -> String {
    let (_, rest) = page.split_once("<code class=\"secret\">").unwrap_or_else(|| panic!("{page}"));
    rest.split_once("</code>").unwrap().0.to_owned()
}

#[test]
fn who_runs_the_node_makes_changes_and_removes_accounts_and_tokens_on_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &["assemble.quiet_period_s=1800"]);
    let at = format!("http://{}", node.http);
    let page = format!("{at}/accounts");
    let ask = |jar: &str, form: &str| curl(&["-b", jar, "-d", form, &page]);

    // Nobody has an account: the first is that of an administrator, and no token comes before it.
    let open = curl(&[&page]).1;
    assert!(open.contains("everyone on this machine may do everything"), "{open}");
    for form in ["deed=add&name=kim&role=viewer", "deed=add_token&name=ris&view=1"] {
        let (status, said) = ask("", form);
        assert!(status == 400 && said.contains("The first account is that of"), "{form}: {said}");
    }
    let (status, said) = ask("", "deed=add&name=chief&role=administrator");
    assert_eq!(status, 200, "{said}");
    let (status, chief) = Browser::log_in(&node, folder.path(), "chief", &secret(&said));
    assert_eq!((status, curl(&[&page]).0), (303, 401), "from now on everyone logs in");

    // A typed password is not shown; a person comes in, sees no such page, and loses the session by
    // a new role, a new password and the end of the account.
    let typed = format!("deed=add&name=kim&role=radiologist&password={PASSWORD}");
    let (status, said) = ask(&chief.jar, &typed);
    assert!(status == 200 && !said.contains("class=\"secret\"") && !said.contains(PASSWORD));
    assert_eq!(ask(&chief.jar, &typed).0, 400, "there is one already");
    let (_, kim) = Browser::log_in(&node, folder.path(), "kim", PASSWORD);
    assert_eq!((kim.get("/").0, kim.get("/accounts").0), (200, 403));
    assert!(!kim.get("/").1.contains("/accounts"));
    assert_eq!(ask(&kim.jar, "deed=role&name=kim&role=administrator").0, 403);
    assert_eq!(ask(&chief.jar, "deed=role&name=kim&role=viewer").0, 200);
    assert_eq!(kim.get("/").0, 303, "the session ended with the role");
    let (_, kim) = Browser::log_in(&node, folder.path(), "kim", PASSWORD);
    let made = secret(&ask(&chief.jar, "deed=password&name=kim").1);
    assert_eq!(kim.get("/").0, 303, "and with the password");
    assert_eq!(Browser::log_in(&node, folder.path(), "kim", PASSWORD).0, 401);
    let (status, kim) = Browser::log_in(&node, folder.path(), "kim", &made);
    assert_eq!(status, 303);
    assert!(chief.get("/accounts").1.contains("just now"), "the last login is known");
    assert_eq!(ask(&chief.jar, "deed=remove&name=kim").0, 200);
    assert_eq!(kim.get("/").0, 303);
    // Another of that name is another person.
    assert_eq!(ask(&chief.jar, &typed).0, 200);
    assert_eq!(kim.get("/").0, 303);

    // What went wrong is said in the language of who asks.
    let wrong = "name=kim&password=guess";
    let korean = curl(&["-H", "Accept-Language: ko", "-d", wrong, &format!("{at}/login")]).1;
    assert!(korean.contains("계정의 이름과 비밀번호가 아닙니다"), "{korean}");

    // Neither oneself nor the last administrator.
    for form in ["deed=remove&name=chief", "deed=role&name=chief&role=viewer"] {
        assert!(ask(&chief.jar, form).1.contains("Your own account"), "{form}");
    }
    let form = "deed=add_token&name=robot&operate=1&days=1";
    let robot = secret(&ask(&chief.jar, form).1);
    let bearer = format!("Authorization: Bearer {robot}");
    let (status, said) = curl(&["-H", &bearer, "-d", "deed=remove&name=chief", &page]);
    assert!(status == 400 && said.contains("last administrator"), "{said}");
    // A token holds until it is taken back, and its secret is shown once.
    assert!(!chief.get("/accounts").1.contains(&robot));
    assert_eq!(ask(&chief.jar, "deed=add_token&name=none&days=5").0, 400, "no right");
    assert_eq!(ask(&chief.jar, "deed=remove_token&name=robot").0, 200);
    assert_eq!(curl(&["-H", &bearer, &page]).0, 401);
    // A form of another site's page changes nothing.
    let cross = ["-b", &chief.jar, "-H", "Origin: http://evil.example"];
    assert_eq!(curl(&[&cross[..], &["-d", "deed=remove&name=kim", &page]].concat()).0, 403);

    // Each change stands in the ledger, by whom; no secret does.
    let audit = wait_for("the last line of the audit", || {
        let page = chief.get("/audit?deed=changed").1;
        page.contains("changed tokens: robot removed").then_some(page)
    });
    for line in [
        "changed accounts: chief added as administrator",
        "changed accounts: kim is now viewer",
        "changed accounts: kim has a new password",
        "changed accounts: kim removed",
        "changed tokens: robot made, may operate",
    ] {
        assert!(audit.contains(line), "{line}: {audit}");
    }
    assert!(audit.contains("chief (127.0.0.1)"));
    let kept = std::fs::read_to_string(data.join("accounts.toml")).unwrap();
    for secret in [made.as_str(), &robot, PASSWORD] {
        assert!(!kept.contains(secret) && !node.log().contains(secret));
    }
}

#[test]
fn a_token_of_a_program_may_what_it_was_made_for_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &["assemble.quiet_period_s=1800"]);
    let watch = done(&data, &["token", "add", "prometheus", "--may", "watch"], "");
    let ris = done(&data, &["token", "add", "ris", "--may", "send,view", "--days", "365"], "");
    let ask = |token: &str, args: &[&str], path: &str| {
        let key = format!("Authorization: Bearer {token}");
        let url = format!("http://{}{path}", node.http);
        curl(&[&["-H", &key], args, &[&url]].concat()).0
    };
    wait_for("tokens to be known", || (ask("none", &[], "/metrics") == 401).then_some(()));
    let file = format!("file=@{}", pydicom_file("CT_small.dcm").display());
    assert_eq!(ask(&watch, &[], "/metrics"), 200);
    assert_eq!(ask(&watch, &[], "/"), 403);
    assert_eq!(ask(&watch, &["-F", &file], "/api/v1/analyze"), 403);
    assert_eq!(ask(&ris, &[], "/metrics"), 403);
    assert_eq!(ask(&ris, &["-F", &file], "/api/v1/analyze"), 202);
    assert_eq!(ask(&ris, &[], "/dicom-web/studies"), 200);
    assert_eq!(ask(&ris, &["-d", "id=1"], "/queue/retry"), 403);
    let listed: Value = serde_json::from_str(&done(&data, &["token", "--json"], "")).unwrap();
    assert_eq!(listed["ris"]["rights"], serde_json::json!(["view", "send"]));
    let secret = ris.rsplit_once('@').unwrap().1;
    let kept = std::fs::read_to_string(data.join("accounts.toml")).unwrap();
    assert!(!kept.contains(secret) && !node.log().contains(secret));
    done(&data, &["token", "remove", "ris"], "");
    wait_for("the token to end", || (ask(&ris, &[], "/") == 401).then_some(()));
}

#[test]
fn who_guesses_passwords_has_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let typed = format!("{PASSWORD}\n");
    done(&data, &["user", "add", "kim", "--role", "administrator"], &typed);
    let node = Node::start(&data, &[]);
    let guess = |n: u32| Browser::log_in(&node, folder.path(), "kim", &format!("guess-{n}")).0;
    let times: Vec<u16> = (0..11).map(guess).collect();
    assert_eq!(times[..10], [401; 10]);
    assert_eq!(times[10], 429);
    let (status, _) = Browser::log_in(&node, folder.path(), "kim", PASSWORD);
    assert_eq!(status, 429, "the right one has to wait as well");
}

#[test]
fn pages_and_api_speak_https_and_take_a_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (cert, key) = (folder.path().join("web.crt"), folder.path().join("web.key"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
    };
    renew();
    let port = free_port();
    let set = [
        format!("http.tls.listen=127.0.0.1:{port}"),
        format!("http.tls.certificate_file={:?}", cert.display().to_string()),
        format!("http.tls.key_file={:?}", key.display().to_string()),
        "http.tls.reload_s=1".to_owned(),
    ];
    let node = Node::start(&data, &set.each_ref().map(String::as_str));
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    let (url, roots) = (format!("https://localhost:{port}"), cert.display().to_string());
    let ask = |path: &str| {
        let headers = ["-D", "-", "--cacert", &roots, "--max-time", "20"];
        run(Command::new("curl").arg("-sS").args(headers).arg(format!("{url}{path}")))
    };
    let page = String::from_utf8(ask("/").stdout).unwrap();
    assert!(page.contains("strict-transport-security: max-age="), "{page}");
    let plain = curl(&["-i", "-H", "Forwarded: proto=https", &format!("http://{}/", node.http)]).1;
    assert!(!plain.contains("strict-transport"), "what a client claims counts nothing");
    let study = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    let found = String::from_utf8(ask(&format!("/dicom-web/studies/{study}/metadata")).stdout);
    assert!(found.unwrap().contains(&format!("{url}/dicom-web/studies/{study}")));
    // curl trusts the new certificate alone from now on.
    renew();
    wait_for("the new certificate", || {
        let mut curl = Command::new("curl");
        let ended = curl.args(["-s", "-o", "/dev/null", "--cacert", &roots, &url]).status();
        ended.unwrap().success().then_some(())
    });
}

/// What a proxy in front of the node is called.
const OUTSIDE: &str = "https://prelim.example";

/// A browser at the identity provider: asks for the page that a login leads to, says who it is, and
/// is sent back. Returns status of the way back, and its headers and page.
fn by_provider(node: &Node, jar: &str, sub: &str) -> (u16, String) {
    let cookies = ["-b", jar, "-c", jar];
    let whereto = |args: &[&str]| {
        let output = run(Command::new("curl")
            .args(["-s", "-o", "/dev/null"])
            .args(args)
            .args(["-w", "%{redirect_url}"]));
        String::from_utf8(output.stdout).unwrap()
    };
    let begin = format!("http://{}/login/oidc?next=/account", node.http);
    let form = whereto(&[&cookies[..], &[&begin]].concat());
    assert!(form.contains("code_challenge_method=S256") && form.contains("nonce="), "{form}");
    let sub = format!("sub={sub}");
    let back = whereto(&["-d", &sub, &form]);
    assert!(back.starts_with(&format!("{OUTSIDE}/login/oidc/back?")), "{back}");
    let here = |url: String| url.replace(OUTSIDE, &format!("http://{}", node.http));
    let back = here(back);
    // Another browser cannot use what was begun in this one.
    assert_eq!(curl(&[&back.replace("code=", "code=x")]).0, 400);
    let again = whereto(&[&cookies[..], &[&begin]].concat());
    let back = here(whereto(&["-d", &sub, &again]));
    curl(&[&cookies[..], &["-i", "-L", "-H", "Accept: text/html", &back]].concat())
}

#[test]
fn the_identity_provider_of_the_site_lets_in_who_has_a_role_here() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let provider = Background(
        Command::new(python().with_file_name("oidc-provider-mock"))
            .args(["--port", &port.to_string(), "--require-nonce", "true"])
            .args(["--user-claims", "{\"sub\":\"kim\",\"groups\":[\"staff\",\"radiology\"]}"])
            .args(["--user-claims", "{\"sub\":\"cook\",\"groups\":[\"kitchen\"]}"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    wait_until_listening(port);
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of the provider\n").unwrap();
    let set = [
        format!("http.oidc.client_secret_file={:?}", secret.display().to_string()),
        format!("http.oidc.issuer=http://localhost:{port}"),
        "http.oidc.client_id=prelim".to_owned(),
        format!("http.oidc.base_url={OUTSIDE}"),
        "http.oidc.name_claim=sub".to_owned(),
        "http.oidc.roles.radiology=radiologist".to_owned(),
    ];
    let data = folder.path().join("data");
    let node = Node::start(&data, &set.each_ref().map(String::as_str));
    assert_eq!(curl(&[&format!("http://{}/queue", node.http)]).0, 401);
    let page = curl(&[&format!("http://{}/login", node.http)]).1;
    assert!(page.contains("Hospital account"), "{page}");

    let jar = |name: &str| folder.path().join(name).display().to_string();
    let (status, page) = by_provider(&node, &jar("kim"), "kim");
    assert!(status == 200 && page.contains("kim") && page.contains("judge"), "{status} {page}");
    let (status, page) = by_provider(&node, &jar("cook"), "cook");
    assert!(status == 403 && page.contains("no role here"), "{status} {page}");

    // The provider still knows who has logged out here: whoever sits there next is asked.
    let jar_left = jar("left");
    let cookies = ["-b", &jar_left, "-c", &jar_left];
    let sent_to = || {
        let begin = format!("http://{}/login/oidc", node.http);
        let head = run(Command::new("curl").args(["-s", "-D", "-"]).args(cookies).arg(&begin));
        String::from_utf8(head.stdout).unwrap()
    };
    assert!(!sent_to().contains("prompt="), "nobody has been here before");
    assert_eq!(by_provider(&node, &jar_left, "kim").0, 200);
    let leave = format!("http://{}/logout", node.http);
    assert_eq!(curl(&[&cookies[..], &["-X", "POST", &leave]].concat()).0, 303);
    assert!(sent_to().contains("&prompt=login"));
    let (status, page) = by_provider(&node, &jar_left, "kim");
    let is_taken_away =
        page.contains("prelim_left=; Path=/login; HttpOnly; SameSite=Lax; Max-Age=0");
    assert!(status == 200 && is_taken_away, "whoever has shown who they are: {page}");

    // Without its provider a node lets nobody new in, and says so.
    drop(provider);
    let (status, _) = curl(&["-b", &jar("kim"), &format!("http://{}/account", node.http)]);
    assert_eq!(status, 200, "a session goes on");
    let begin = format!("http://{}/login/oidc", node.http);
    let (status, said) = curl(&[&begin]);
    assert!(status == 303 || (status == 502 && said.contains("does not answer")), "{said}");
}

/// Providers differ: how they take a secret, what they sign by, where they say who belongs to which
/// group. Who is refused is refused for a reason that stands in the log, and names nobody.
#[test]
fn identity_providers_of_many_kinds_let_in_or_are_told_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let (port, state) = (free_port(), folder.path().join("state.json"));
    let usual = json!({
        "claims": {"sub": "u1", "preferred_username": "kim", "groups": ["radiology"]},
        "userinfo": {"sub": "u1"}, "auth": ["basic", "post"], "secret": "s3cret",
        "alg": "RS256", "key": 1, "kid": true,
    });
    let secret = folder.path().join("secret");
    let write = |now: &Value| {
        std::fs::write(&state, now.to_string()).unwrap();
        std::fs::write(&secret, now["secret"].as_str().unwrap()).unwrap();
    };
    write(&usual);
    let script = root().join("tests/peers/oidc_provider.py");
    let _provider = Background(
        Command::new(python()).arg(script).arg(port.to_string()).arg(&state).spawn().unwrap(),
    );
    wait_until_listening(port);
    let set = [
        format!("http.oidc.client_secret_file={:?}", secret.display().to_string()),
        format!("http.oidc.issuer=http://127.0.0.1:{port}/realms/main"),
        "http.oidc.client_id=prelim".to_owned(),
        format!("http.oidc.base_url={OUTSIDE}"),
        "http.oidc.roles_claim=realm_access.roles".to_owned(),
        "http.oidc.roles.radiology=radiologist".to_owned(),
    ];
    let deep = Node::start(&folder.path().join("deep"), &set.each_ref().map(String::as_str));
    let flat = [&set[..4], &set[5..]].concat();
    let flat: Vec<&str> = flat.iter().map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &flat);
    let mut nth = 0;
    let mut comes = |node: &Node| {
        nth += 1;
        let jar = folder.path().join(format!("jar{nth}")).display().to_string();
        let whereto = |url: &str| {
            let args = ["-s", "-o", "/dev/null", "-b", &jar, "-c", &jar, "-w", "%{redirect_url}"];
            let output = run(Command::new("curl").args(args).arg(url));
            String::from_utf8(output.stdout).unwrap()
        };
        let at = whereto(&format!("http://{}/login/oidc?next=/account", node.http));
        let back = whereto(&at).replace(OUTSIDE, &format!("http://{}", node.http));
        curl(&["-b", &jar, "-c", &jar, "-L", "-H", "Accept: text/html", &back])
    };
    let with = |changes: Value| {
        let mut now = usual.clone();
        for (key, value) in changes.as_object().unwrap() {
            now[key] = value.clone();
        }
        now
    };
    let roles = json!({"sub": "u1", "preferred_username": "kim",
        "realm_access": {"roles": ["radiology"]}});
    write(&with(json!({"claims": roles})));
    assert_eq!(comes(&deep).0, 200, "roles that lie deeper: {}", deep.log());
    let info = json!({"sub": "u1", "preferred_username": "kim", "groups": ["/radiology"]});
    for (what, now) in [
        ("as usual", usual.clone()),
        ("a new key", with(json!({"key": 2}))),
        ("no name of the key, of two", with(json!({"key": 2, "kid": false}))),
        ("another kind of key", with(json!({"key": 3, "alg": "ES256"}))),
        ("PSS", with(json!({"key": 4, "alg": "PS256"}))),
        ("the secret in the form", with(json!({"key": 4, "auth": ["post"]}))),
        (
            "a secret that Basic escapes",
            with(json!({"key": 4, "secret": "a%2Bb+c:d~é", "auth": ["basic"]})),
        ),
        ("groups of UserInfo", with(json!({"key": 4, "claims": {"sub": "u1"}, "userinfo": info}))),
    ] {
        write(&now);
        // The node has asked which keys there are, and how it shows its secret, in this second.
        let said = wait_for(what, || Some(comes(&node)).filter(|said| said.0 == 200));
        assert!(said.1.contains("kim"), "{what}: {}", said.1);
    }
    let overage = json!({"sub": "u1", "preferred_username": "kim",
        "_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x"}}});
    let other = json!({"sub": "u2", "preferred_username": "lee", "groups": ["radiology"]});
    for (now, status, page, log) in [
        (with(json!({"key": 4, "alg": "HS256"})), 401, "did not prove", "signed by HS256"),
        (with(json!({"key": 4, "claims": overage})), 403, "too many groups", "_claim_names"),
        (
            with(json!({"key": 4, "claims": {"sub": "u1"}, "userinfo": other})),
            403,
            "no groups",
            "the UserInfo endpoint speaks of another person",
        ),
        (
            with(json!({"key": 4, "claims": {"sub": "u1", "email": "kim@h.example"}})),
            403,
            "no groups",
            "the token has iss, aud, iat, exp, nonce, sub, email",
        ),
        (
            with(json!({"key": 4, "claims": {"sub": "u1", "groups": ["kitchen"]}})),
            403,
            "no role here",
            "none of the groups in groups stands under http.oidc.roles",
        ),
        (with(json!({"key": 4, "error": "access_denied"})), 403, "let nobody in", "access_denied"),
        (
            with(json!({"key": 4, "claims": {"sub": "u1", "aud": "x"}})),
            401,
            "did not prove",
            "(aud)",
        ),
    ] {
        write(&now);
        let said = comes(&node);
        assert!(said.0 == status && said.1.contains(page), "{log}: {said:?}");
        assert!(node.log().contains(log), "{log}: {}", node.log());
    }
    // One that the provider refuses to know.
    write(&with(json!({"key": 4})));
    std::fs::write(&secret, "another").unwrap();
    let said = comes(&node);
    assert!(said.0 == 502 && node.log().contains("invalid_client"), "{said:?}: {}", node.log());
    for name in ["kim@h.example", "kitchen", "s3cret"] {
        assert!(!node.log().contains(name), "{name}: {}", node.log());
    }
}
