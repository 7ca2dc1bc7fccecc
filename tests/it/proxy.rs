//! The node behind nginx, by the file of `config/`.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::accounts::PASSWORD;
use crate::accounts::done;
use crate::node::Background;
use crate::node::Node;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::root;
use crate::node::run;
use crate::node::wait_for;
use crate::node::wait_until_listening;

pub const NAME: &str = "prelim.hospital.example";

/// nginx on `port` before the node, with a certificate of its own.
pub fn nginx(folder: &Path, port: u16, node: &Node) -> Background {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
    let [cert, key] = ["prelim.crt", "prelim.key"].map(|name| folder.join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let shipped = std::fs::read_to_string(root().join("config/nginx.conf")).unwrap();
    let server = shipped
        .replace("listen 443", &format!("listen 127.0.0.1:{port}"))
        .replace("/etc/nginx", &folder.display().to_string())
        .replace("http://127.0.0.1:8080", &format!("http://{}", node.http));
    serving(folder, port, &server)
}

/// nginx by the words of a server, which listens on `port`.
fn serving(folder: &Path, port: u16, server: &str) -> Background {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {name};"))
        .join(" ");
    let whole = format!(
        "daemon off; master_process off; pid pid; error_log error.log;\n\
         events {{}}\nhttp {{ access_log off; {temporary}\n{server}}}\n"
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    let mut nginx = Command::new("/usr/sbin/nginx");
    nginx.arg("-p").arg(folder).arg("-e").arg("error.log").arg("-c").arg(&file);
    let child = Background(nginx.stderr(Stdio::null()).spawn().unwrap());
    wait_until_listening(port);
    child
}

/// Pages live through the proxy, and each person behind it counts by their own address.
#[test]
fn behind_nginx_pages_are_live_and_each_person_counts_for_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let typed = format!("{PASSWORD}\n");
    done(&data, &["user", "add", "kim", "--role", "radiologist"], &typed);
    let settings = [
        "http.login=required",
        "http.secure_cookie=true",
        "http.hosts_allowed=[\"prelim.hospital.example\"]",
        "http.trusted_proxies=[\"127.0.0.1\"]",
    ];
    let node = Node::start(&data, &settings);
    let port = free_port();
    let _nginx = nginx(folder.path(), port, &node);

    let jar = folder.path().join("jar").display().to_string();
    let resolve = format!("{NAME}:{port}:127.0.0.1");
    let cacert = folder.path().join("prelim.crt").display().to_string();
    let origin = format!("Origin: https://{NAME}:{port}");
    let browser = |from: &str, path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--interface", from, "--resolve", &resolve, "--cacert", &cacert]);
        curl.args(["-b", &jar, "-c", &jar, "-H", &origin]);
        curl.arg(format!("https://{NAME}:{port}{path}"));
        curl
    };
    let log_in = |from: &str, password: &str| {
        let form = format!("name=kim&password={password}&next=/");
        let mut curl = browser(from, "/login");
        let said = run(curl.args(["-o", "/dev/null", "-w", "%{http_code}", "-d", &form]));
        String::from_utf8(said.stdout).unwrap()
    };
    for n in 0..10 {
        assert_eq!(log_in("127.0.0.2", &format!("guess-{n}")), "401");
    }
    assert_eq!(log_in("127.0.0.2", PASSWORD), "429", "who guessed waits");
    assert_eq!(log_in("127.0.0.3", PASSWORD), "303", "a colleague behind the same proxy does not");

    let told = folder.path().join("events");
    let mut events = browser("127.0.0.3", "/events");
    let events = events.arg("-N").stdout(std::fs::File::create(&told).unwrap());
    let _events = Background(events.spawn().unwrap());
    let versions = || std::fs::read_to_string(&told).unwrap().matches("event: version").count();
    wait_for("the first version", || (versions() == 1).then_some(()));
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    wait_for("a change, through the proxy", || (versions() > 1).then_some(()));

    let log = done(&data, &["audit", "list"], "");
    assert!(log.contains("127.0.0.2") && log.contains("kim (127.0.0.3)"), "{log}");
    assert!(!log.contains("(127.0.0.1)"), "nobody is the proxy: {log}");
}

/// A portal shows the pages below a path: the proxy takes the path away and says so, or leaves it.
#[test]
fn below_a_path_of_a_portal_links_login_and_redirects_stay_there() {
    for (name, base_path, pass) in [
        ("taken away", "", "/; proxy_set_header X-Forwarded-Prefix /prelim"),
        ("left", "http.base_path=/prelim", ""),
        ("left, with a slash", "http.base_path=/prelim/", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let typed = format!("{PASSWORD}\n");
        done(&data, &["user", "add", "kim", "--role", "administrator"], &typed);
        let set: Vec<&str> =
            ["http.login=required", base_path].into_iter().filter(|set| !set.is_empty()).collect();
        let node = Node::start(&data, &set);
        let port = free_port();
        let server = format!(
            "server {{ listen 127.0.0.1:{port}; location /prelim/ {{ proxy_pass http://{}{pass}; \
             proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto https; }} }}",
            node.http
        );
        let _nginx = serving(folder.path(), port, &server);
        let jar = folder.path().join("jar").display().to_string();
        let asked = |path: &str, more: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "-i", "-b", &jar, "-H", "Accept: text/html"]).args(more);
            let output = run(curl.arg(format!("http://127.0.0.1:{port}{path}")));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let head = |said: &str, name: &str| {
            let mut lines = said.lines().take_while(|line| !line.trim().is_empty());
            let line = lines.find(|line| line.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_default()
        };
        let sent = asked("/prelim/queue", &[]);
        assert_eq!(head(&sent, "location"), "/prelim/login?next=/queue", "{name}: {sent}");
        let page = asked("/prelim/login?next=/queue", &[]);
        let links = page.split('<').flat_map(|tag| {
            ["href=\"/", "src=\"/", "action=\"/"].into_iter().filter_map(move |link| {
                Some(format!("/{}", tag.split_once(link)?.1.split('"').next()?))
            })
        });
        let links: Vec<String> = links.collect();
        assert!(links.len() > 3, "{name}: {page}");
        for link in &links {
            assert!(link.starts_with("/prelim/"), "{name}: {link}");
        }
        let style = links.iter().find(|link| link.ends_with(".css")).expect("a style sheet");
        assert!(asked(style, &[]).starts_with("HTTP/1.1 200"), "{name}: {style}");
        let form = format!("name=kim&password={PASSWORD}&next=/queue");
        let entered = asked("/prelim/login", &["-d", &form]);
        assert_eq!(head(&entered, "location"), "/prelim/queue", "{name}: {entered}");
        let cookie = head(&entered, "set-cookie");
        assert!(
            cookie.contains("Path=/prelim/;") && cookie.ends_with("; Secure"),
            "{name}: {cookie}"
        );
        let session = format!("Cookie: {}", cookie.split(';').next().unwrap());
        let queue = asked("/prelim/queue", &["-H", &session]);
        assert!(queue.starts_with("HTTP/1.1 200"), "{name}: {queue}");
        assert!(queue.contains("data-events=\"/prelim/events"), "{name}: {queue}");
    }
}
