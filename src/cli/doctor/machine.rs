//! What is on this machine: clock, disk, ports, certificates.

use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::app::listening;
use crate::app::listening::Unlistened;
use crate::cli::doctor::Check;
use crate::cli::node::Node;
use crate::cli::tls_check;
use crate::config::Settings;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::store;
use crate::web::Login;
use crate::web::accounts;
use crate::web::accounts::ACCOUNTS_FILE;
use crate::web::rights::Role;

/// A write to the disk and back that takes longer than this holds up the scanners.
const SLOW: Duration = Duration::from_millis(250);

/// Whether the system's clock follows a time server: times of findings and alerts rest on it.
pub fn clock() -> Check {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output()
        .ok()
        .filter(|output| output.status.success());
    let word = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let now = crate::cli::time(jiff::Timestamp::now());
    match word.as_deref() {
        Some("yes") => Check::ok("clock", format!("{now}, set by a time server")),
        Some("no") => Check::broken(
            "clock",
            format!("{now}, and no time server sets it: times of findings and alerts may be wrong"),
            "timedatectl set-ntp true, or install chrony with the hospital's time server",
        ),
        _ => Check::warning(
            "clock",
            format!("{now}; whether a time server sets it cannot be told here"),
            "compare it with a watch; in a container the host's clock counts: look there",
        ),
    }
}

/// The data folder: there, ours alone, with space, and quick enough.
pub fn folder(data: &Path, config: &store::Config) -> Vec<Check> {
    let shown = data.display();
    let Ok(meta) = std::fs::metadata(data).and_then(|meta| match meta.is_dir() {
        true => Ok(meta),
        false => Err(std::io::ErrorKind::NotADirectory.into()),
    }) else {
        let mend = format!(
            "the first start makes it; else name the node's own with --data, or: install -d -m 700 -o prelim {shown}"
        );
        return vec![Check::warning("data folder", format!("there is no folder {shown}"), mend)];
    };
    let mut checks = Vec::new();
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        checks.push(Check::warning(
            "data folder",
            format!("others may enter {shown} (mode {mode:o}), though not the folders in it"),
            format!("chmod 700 {shown}"),
        ));
    }
    checks.push(match written(data) {
        Ok(took) if took > SLOW => Check::warning(
            "disk",
            format!("a small file took {} ms to be safe on it", took.as_millis()),
            "a disk of its own, or an SSD; no network file system",
        ),
        Ok(took) => Check::ok("disk", format!("a small file is safe in {} ms", took.as_millis())),
        Err(error) => Check::broken(
            "disk",
            format!("{shown} cannot be written to: {error}"),
            "run this as the node's user (sudo -u prelim prelim doctor); else chown -R prelim it",
        ),
    });
    checks.push(space(data, config));
    checks
}

/// A file that is written, synced and read back.
fn written(data: &Path) -> std::io::Result<Duration> {
    let began = Instant::now();
    let mut file = tempfile::Builder::new().prefix(".doctor-").tempfile_in(data)?;
    let wrote = [7_u8; 4096];
    file.write_all(&wrote)?;
    file.as_file().sync_all()?;
    file.rewind()?;
    let mut read = Vec::new();
    file.read_to_end(&mut read)?;
    match read == wrote {
        true => Ok(began.elapsed()),
        false => Err(std::io::Error::other("what was written is not what is read")),
    }
}

fn space(data: &Path, config: &store::Config) -> Check {
    let space = match store::space(data) {
        Ok(space) => space,
        Err(error) => return Check::warning("space", error.to_string(), "df -h"),
    };
    let config = config.for_disk(&space);
    let (least, few) = (config.free_bytes_min, config.free_bytes_warn);
    let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let found = format!("{} of {} free", gb(space.free), gb(space.total));
    let mend = "a larger disk, or [store.retention]; prelim retention shows what could go";
    match space.free {
        free if free < least => {
            let found = format!("{found}: below {} no instance is taken (A700)", gb(least));
            Check::broken("space", found, mend)
        }
        free if free < few => {
            Check::warning("space", format!("{found}; a warning stands below {}", gb(few)), mend)
        }
        _ => Check::ok("space", found),
    }
}

/// Each address that the node listens on: ours when it runs, else free to be taken.
pub async fn ports(data: &Path, settings: &Settings) -> Vec<Check> {
    let node = Node::find(data).await.ok().flatten();
    let http = settings.http.listen.to_string();
    let named = [
        ("dicom.listen", &settings.dicom.listen),
        ("dicom.tls.listen", &settings.dicom.tls.listen),
        ("hl7.listen", &settings.hl7.listen),
        ("hl7.tls.listen", &settings.hl7.tls.listen),
        ("http.listen", &http),
        ("http.tls.listen", &settings.http.tls.listen),
    ];
    let mut checks = Vec::new();
    for (key, listen) in named {
        let Ok(address) = listen.parse::<SocketAddr>() else { continue };
        checks.push(match &node {
            Some(node) => ours(key, address, node),
            None => free(key, address),
        });
    }
    if let Some(node) = &node {
        let reasons = node.notes().await;
        let mend = "the log of the node says more: journalctl -u prelim";
        checks.push(match reasons.is_empty() {
            true => Check::ok("node", format!("runs as process {} and is well", node.pid())),
            false => Check::warning("node", reasons.join("; "), mend),
        });
    }
    checks
}

fn ours(key: &str, mut address: SocketAddr, node: &Node) -> Check {
    if address.port() == 0 {
        return Check::ok(key, "any free port; the node that runs has one");
    }
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    match std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(_) => Check::ok(key, format!("the node (process {}) listens on {address}", node.pid())),
        Err(error) => Check::broken(
            key,
            format!("the node runs and does not listen on {address}: {error}"),
            "it was started with other settings: restart it; journalctl -u prelim",
        ),
    }
}

fn free(key: &str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(key, format!("{address} is free")),
        Err(error) => {
            let Unlistened { found, mend, .. } = listening::why(key, &address.to_string(), &error);
            Check::broken(key, format!("{address}: {found}"), mend)
        }
    }
}

/// The certificates that we show to those who call.
pub fn certificates(settings: &Settings) -> Vec<Check> {
    let mut checks = Vec::new();
    let all = [
        ("dicom.tls", &settings.dicom.tls),
        ("http.tls", &settings.http.tls),
        ("hl7.tls", &settings.hl7.tls),
    ];
    for (key, tls) in all {
        if !tls.is_on() {
            continue;
        }
        let problems = tls_check::problems(tls);
        let mend = "a new certificate from the hospital's CA; prelim tls-check shows this one";
        checks.push(match problems.is_empty() {
            true => Check::ok(key, "certificate, key and roots belong together and hold"),
            false => Check::broken(key, problems.join("; "), mend),
        });
    }
    checks
}

/// Who may come in: on the pages, and by the API.
pub fn accounts(data: &Path, settings: &Settings) -> Check {
    const WHAT: &str = "accounts";
    let file = data.join(ACCOUNTS_FILE);
    let accounts = match accounts::read(&file) {
        Ok(accounts) => accounts,
        Err(error) => {
            let mend =
                "prelim user and prelim token write this file; those from before stay in force";
            return Check::broken(WHAT, error.to_string(), mend);
        }
    };
    let (http, now) = (&settings.http, SystemClock.now());
    let is_by_others = http.token_file.is_some() || http.oidc.is_on();
    let administrators = accounts.users.values().filter(|user| user.role == Role::Administrator);
    let ended =
        accounts.tokens.iter().filter(|(_, token)| token.ends.is_some_and(|end| end <= now));
    let ended: Vec<&str> = ended.map(|(name, _)| name.as_str()).collect();
    let (users, tokens) = (accounts.users.len(), accounts.tokens.len());
    if accounts.is_empty() && !is_by_others {
        let mend = "prelim user add NAME --role administrator";
        return match http.login {
            Login::Required => {
                Check::broken(WHAT, "a login is required and nobody has an account", mend)
            }
            Login::Auto => Check::warning(
                WHAT,
                "nobody has an account: everyone on this machine may do everything",
                mend,
            ),
        };
    }
    if !ended.is_empty() {
        let found = format!("these tokens have ended: {}", ended.join(", "));
        return Check::warning(WHAT, found, "prelim token remove NAME, and add a new one");
    }
    if administrators.count() == 0 && !is_by_others {
        let found = format!("{users} users, none of them an administrator");
        return Check::warning(WHAT, found, "prelim user role NAME administrator");
    }
    Check::ok(WHAT, format!("{users} users, {tokens} tokens of programs"))
}
