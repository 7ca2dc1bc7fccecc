//! The Debian package as users get it, made of the program under test.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;

/// Makes it once for all tests, and says where it is.
pub fn package() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let profile = if PRELIM.contains("/release/") { "release" } else { "dev" };
        let script = root().join("scripts/package");
        let output = run(Command::new(script).args(["--built", profile]));
        root().join(String::from_utf8(output.stdout).unwrap().trim())
    };
    MADE.get_or_init(make).clone()
}

#[test]
fn lintian_finds_no_error_in_the_package() {
    run(Command::new("lintian").args(["--allow-root", "--fail-on", "error"]).arg(package()));
}

/// Each line of the script is a claim: the first that does not hold ends it.
#[test]
fn the_package_installs_is_upgraded_and_goes_and_studies_stay() {
    const LIFE: &str = r#"
        export DEBIAN_FRONTEND=noninteractive
        test ! -e /etc/prelim
        dpkg -i "$DEB"
        id prelim
        systemctl is-enabled prelim
        man --warnings -w prelim-serve
        test "$(stat -c %U:%a /var/lib/prelim)" = prelim:700
        as_prelim="setpriv --reuid prelim --regid prelim --clear-groups"
        $as_prelim prelim check-config /etc/prelim/prelim.toml

        : the unit
        systemd-analyze verify prelim.service
        systemd-analyze security --offline=true --threshold=20 prelim.service

        : the port below 1024, by the words of the drop-in
        mkdir -p /etc/systemd/system/prelim.service.d
        cp /usr/share/doc/prelim/examples/port-104.conf /etc/systemd/system/prelim.service.d/
        systemd-analyze verify prelim.service
        rm -r /etc/systemd/system/prelim.service.d
        low="prelim serve --dicom 127.0.0.1:104 --http 127.0.0.1:0 --data"
        $as_prelim --bounding-set -all $low /tmp/low 2>/tmp/said && exit 1
        grep -q port-104.conf /tmp/said
        rights=$(sed -n 's/^AmbientCapabilities=CAP_\(.*\)/+\L\1/p' \
            /usr/share/doc/prelim/examples/port-104.conf)
        $as_prelim --bounding-set "-all,$rights" --inh-caps "$rights" --ambient-caps "$rights" \
            $low /tmp/low & node=$!
        until test -s /tmp/low/node.json; do sleep 0.1; done
        kill $node
        wait $node

        : a machine without zones or a home, a volume that belongs to another
        mount -t tmpfs tmpfs /usr/share/zoneinfo
        env -i $(command -v prelim) check-config /etc/prelim/prelim.toml --set 'report.time_zone="Asia/Seoul"'
        umount /usr/share/zoneinfo
        mkdir -m 755 /tmp/volume
        $as_prelim prelim serve --data /tmp/volume 2>/tmp/said && exit 1
        grep -q "/tmp/volume belongs to user 0 .*chown -R $(id -u prelim):" /tmp/said

        : an upgrade keeps what a person wrote, and what the node did
        echo '# of this site' >>/etc/prelim/prelim.toml
        $as_prelim prelim serve --config /etc/prelim/prelim.toml --data /var/lib/prelim \
            --dicom 127.0.0.1:0 --http 127.0.0.1:0 & node=$!
        until test -s /var/lib/prelim/node.json; do sleep 0.1; done
        kill $node
        wait $node
        dpkg -i "$DEB"
        grep -q 'of this site' /etc/prelim/prelim.toml
        prelim verify --data /var/lib/prelim

        dpkg -r prelim
        test -e /etc/prelim/prelim.toml -a ! -e /usr/bin/prelim
        dpkg -P prelim
        test -s /var/lib/prelim/format -a ! -e /etc/prelim
        test -z "$(find /etc/systemd /usr/lib/systemd -name 'prelim.*')"
        id prelim
    "#;
    let script = format!("{}in_scratch_root bash -euxc \"$0\"", ". scripts/lib.sh; export DEB; ");
    let mut bash = Command::new("bash");
    let output = run(bash.current_dir(root()).args(["-euc", &script, LIFE]).env("DEB", package()));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("the studies in /var/lib/prelim are kept"), "{said}");
}

#[test]
fn a_newcomer_comes_from_the_package_to_the_first_alert_by_the_words_of_the_readme() {
    package();
    let output = run(Command::new(root().join("scripts/newcomer")).arg("--made"));
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// By the schemas of the oldest and the newest API that we name, and the settings by the program.
#[test]
fn the_manifests_fit_the_api_of_kubernetes_and_their_settings_the_program() {
    for folder in ["node", "canary", "autoscaling"] {
        let folder = root().join("packaging/kubernetes").join(folder);
        for version in ["1.29", "1.37"] {
            let mut check = Command::new(python());
            check.arg(root().join("tests/peers/check_kubernetes.py")).arg(&folder).arg(version);
            run(&mut check);
        }
        let settings = folder.join("prelim.toml");
        if settings.is_file() {
            run(Command::new(PRELIM).arg("check-config").arg(settings));
        }
    }
}

#[test]
fn the_container_knows_by_its_own_check_whether_the_node_is_alive() {
    let dockerfile = std::fs::read_to_string(root().join("packaging/Dockerfile")).unwrap();
    let check = dockerfile.split("HEALTHCHECK").nth(1).unwrap().split("CMD ").nth(1).unwrap();
    let words: Vec<String> = serde_json::from_str(check.lines().next().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let set = ["http.login=required", "http.hosts_allowed=[\"prelim.example\"]"];
    let node = Node::start(folder.path(), &set);
    let asked = |port: u16| {
        let words = words.iter().map(|word| word.replace("8080", &port.to_string()));
        let words: Vec<String> = words.collect();
        Command::new(&words[0]).args(&words[1..]).status().unwrap().success()
    };
    assert!(asked(node.http.port()));
    assert!(!asked(free_port()), "nobody is there");
}
