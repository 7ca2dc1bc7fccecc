//! DICOMweb against a public client, and against clients that are wrong.

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::node::Node;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;

/// Status, headers and body of what curl got.
fn curl(arguments: &[&str]) -> (u16, String) {
    let output = run(Command::new("curl").args(["-sS", "-i", "--max-time", "30"]).args(arguments));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // An upload may be answered by 100 first.
    let last = text.rsplit("HTTP/1.1 ").find(|part| !part.starts_with("100")).unwrap_or_default();
    let status = last.get(..3).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("{text}")), last.to_owned())
}

fn peer(script: &str) -> Command {
    let mut command = Command::new(python());
    command.args(["-W", "ignore"]).arg(root().join("tests/peers").join(script));
    command
}

/// Files of many kinds: modalities, syntaxes, frames, no pixels, character sets.
const FILES: &[&str] = &[
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "JPEG2000.dcm",
    "JPEG-LL.dcm",
    "emri_small_jpeg_ls_lossless.dcm",
    "examples_ybr_color.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "image_dfl.dcm",
    "rtdose.dcm",
    "reportsi.dcm",
];

#[test]
fn dicomweb_client_stores_searches_and_retrieves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    let url = format!("http://{}/dicom-web", node.http);
    let mut seen = Vec::new();
    // Several of the files are one instance in several syntaxes: the first of each.
    for file in FILES.iter().map(|name| pydicom_file(name)) {
        let dump = run(Command::new("dcmdump").args(["+P", "0008,0018"]).arg(&file));
        let uid = String::from_utf8_lossy(&dump.stdout).into_owned();
        if seen.iter().all(|(known, _)| *known != uid) {
            seen.push((uid, file));
        }
    }
    let said = said(&run(peer("dicomweb_check.py").arg(&url).args(seen.iter().map(|(_, f)| f))));
    assert!(said.contains("instances of"), "{said}");
    assert!(seen.len() > 8, "{}", seen.len());

    // Who looked is in the ledger, who the patients are is not.
    assert_eq!(node.terminate(), Some(0));
    let mut ledger = Vec::new();
    for part in ["ledger", "journal"] {
        for entry in std::fs::read_dir(data.join(part)).into_iter().flatten() {
            ledger.extend(std::fs::read(entry.unwrap().path()).unwrap_or_default());
        }
    }
    let holds = |word: &str| ledger.windows(word.len()).any(|part| part == word.as_bytes());
    for what in ["DICOMweb search", "DICOMweb: instances", "DICOMweb: headers", "DICOMweb: images"]
    {
        assert!(holds(what), "{what}");
    }
    // The index of searches is a cache: thrown away, damaged, it is made anew.
    let cache = data.join("dicomweb");
    assert!(cache.is_dir());
    for harm in ["removed", "garbage"] {
        match harm {
            "removed" => std::fs::remove_dir_all(&cache).unwrap(),
            _ => std::fs::write(cache.join("db"), vec![0x5a; 200_000]).unwrap(),
        }
        let node = Node::start(&data, &[]);
        let url = format!("http://{}/dicom-web/instances?limit=10000", node.http);
        let found = crate::node::wait_for("a whole index", || {
            let (status, answer) = curl(&[&url]);
            let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
            let found: Vec<Value> = serde_json::from_str(body).unwrap_or_default();
            (status == 200 && found.len() == seen.len()).then_some(found.len())
        });
        assert_eq!(found, seen.len(), "{harm}");
        assert_eq!(node.terminate(), Some(0));
    }
}

#[test]
fn an_instance_of_any_size_goes_through_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &["assemble.quiet_period_s=1800"]);
    let url = format!("http://{}/dicom-web", node.http);
    run(peer("dicomweb_large.py").args([&url, "400"]));
    let node_file = std::fs::read(node.data.join("node.json")).unwrap();
    let pid = serde_json::from_slice::<Value>(&node_file).unwrap()["pid"].as_u64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 120 << 10, "{kilobytes} kB for an instance of 400 MB");
}

/// Made by `tests/peers/make_many.py`: its UID.
fn many(folder: &std::path::Path, count: usize, edge: usize) -> String {
    let (count, edge) = (count.to_string(), edge.to_string());
    let made = run(peer("make_many.py").arg(folder).args([&count, &edge]));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

fn files_of(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// R15. More instances than the node holds at one time for an answer.
#[test]
fn a_large_study_is_listed_and_given_whole_a_page_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &["assemble.quiet_period_s=1800"]);
    let slices = folder.path().join("slices");
    let uid = many(&slices, 2500, 4);
    node.send(&files_of(&slices));
    let url = format!("http://{}/dicom-web/studies/{uid}", node.http);
    let (status, answer) = curl(&[&format!("{url}/metadata")]);
    assert_eq!(status, 200, "{answer}");
    let body = &answer[answer.find("\r\n\r\n").unwrap()..];
    let body = &body[body.find('[').unwrap()..=body.rfind(']').unwrap()];
    let found: Vec<Value> = serde_json::from_str(body).unwrap();
    let number = |one: &Value| one["00200013"]["Value"][0].as_u64().unwrap();
    let numbers: std::collections::BTreeSet<u64> = found.iter().map(number).collect();
    assert_eq!((found.len(), numbers.len()), (2500, 2500));
    let whole = run(Command::new("curl").args(["-sS", "--max-time", "60", &url])).stdout;
    let head = b"Content-Type: application/dicom";
    assert_eq!(whole.windows(head.len()).filter(|part| part == head).count(), 2500);
}

/// R16. They take a first byte and no more; who searches does not wait for them, nor does who
/// reads from another machine.
#[test]
fn slow_readers_wait_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &["assemble.quiet_period_s=1800"]);
    let slices = folder.path().join("slices");
    let uid = many(&slices, 1, 3200);
    node.send(&files_of(&slices));
    let ask = format!("GET /dicom-web/studies/{uid} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut slow: Vec<std::net::TcpStream> =
        (0..100).map(|_| std::net::TcpStream::connect(node.http).unwrap()).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(ask.as_bytes()).unwrap());
    crate::node::wait_for("answers that are being sent", || {
        let begun = |stream: &&mut std::net::TcpStream| {
            stream.set_nonblocking(true).unwrap();
            stream.peek(&mut [0]).is_ok_and(|count| count == 1)
        };
        (slow.iter_mut().filter(begun).count() >= 12).then_some(())
    });
    let time = |arguments: &[&str]| {
        let begun = std::time::Instant::now();
        let (status, answer) = curl(arguments);
        assert_eq!(status, 200, "{answer}");
        begun.elapsed()
    };
    let at = |path: &str| format!("http://{}{path}", node.http);
    let other = ["--interface", "127.0.0.2"];
    let (search, page) = (time(&[&at("/dicom-web/studies")]), time(&[&at("/")]));
    let read = time(&[&other[..], &[&at(&format!("/dicom-web/studies/{uid}/metadata"))]].concat());
    println!("search {search:?}, page {page:?}, another reader {read:?}");
    for waited in [search, page, read] {
        assert!(waited < std::time::Duration::from_secs(5), "{waited:?}");
    }
    drop(slow);
}

#[test]
fn what_is_wrong_is_refused_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "0123456789abcdef-token").unwrap();
    let set = [
        "assemble.quiet_period_s=1800".to_owned(),
        format!("http.token_file={:?}", token.display().to_string()),
        "http.dicomweb.origins=[\"https://viewer.example\"]".to_owned(),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let node = Node::start(&folder.path().join("data"), &set);
    let at = |path: &str| format!("http://{}/dicom-web{path}", node.http);
    let key = "Authorization: Bearer 0123456789abcdef-token";
    let get = |path: &str, accept: &str| {
        let accept = format!("Accept: {accept}");
        curl(&["--path-as-is", "-H", key, "-H", &accept, &at(path)])
    };
    // Without the token: nothing.
    for path in ["/studies", "/studies/1.2.3/metadata", "/studies/1.2.3"] {
        assert_eq!(curl(&[&at(path)]).0, 401, "{path}");
    }
    assert_eq!(curl(&["-X", "POST", &at("/studies")]).0, 401);

    let ct = pydicom_file("CT_small.dcm");
    let mr = pydicom_file("MR_small.dcm");
    let body = folder.path().join("body");
    let part = |file: &std::path::Path| {
        let mut part = b"--b\r\nContent-Type: application/dicom\r\n\r\n".to_vec();
        part.extend(std::fs::read(file).unwrap());
        part.extend(b"\r\n");
        part
    };
    let post = |path: &str, kind: &str, bytes: Vec<u8>| {
        std::fs::write(&body, bytes).unwrap();
        let (kind, data) = (format!("Content-Type: {kind}"), format!("@{}", body.display()));
        curl(&["-H", key, "-H", &kind, "--data-binary", &data, &at(path)])
    };
    let related = "multipart/related; type=\"application/dicom\"; boundary=b";
    // Cut off before its end: nothing of it is stored.
    let (status, answer) = post("/studies", related, part(&ct));
    assert_eq!(status, 400, "{answer}");
    assert_eq!(get("/studies", "*/*").0, 204);
    for (kind, bytes, expected) in [
        ("multipart/form-data; boundary=b", part(&ct), 415),
        ("application/dicom+json", b"[]".to_vec(), 415),
        ("multipart/related; type=\"application/dicom+json\"; boundary=b", part(&ct), 415),
        ("multipart/related; type=\"application/dicom\"", part(&ct), 400),
        (related, b"--b--\r\n".to_vec(), 400),
        (related, b"no boundary at all".to_vec(), 400),
        (related, b"--b\r\n\r\nno DICOM\r\n--b--".to_vec(), 409),
        ("application/dicom", std::fs::read(&ct).unwrap()[..400].to_vec(), 409),
    ] {
        let (status, answer) = post("/studies", kind, bytes);
        assert_eq!(status, expected, "{kind}: {answer}");
    }
    assert_eq!(get("/studies", "*/*").0, 204, "nothing half is stored");

    let (status, answer) = curl(&[
        "-H",
        key,
        "-H",
        "Content-Type: application/dicom",
        "-H",
        "Content-Encoding: gzip",
        "--data-binary",
        &format!("@{}", ct.display()),
        &at("/studies"),
    ]);
    assert!(status == 415 && answer.contains("coded as gzip"), "{answer}");

    // One of two is of another study: 202, with the reason.
    let study = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";
    let both = [part(&ct), part(&mr), b"--b--".to_vec()].concat();
    let (status, answer) = post(&format!("/studies/{study}"), related, both);
    assert_eq!(status, 202, "{answer}");
    let json = answer.split("\r\n\r\n").nth(1).unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["00081199"]["Value"].as_array().unwrap().len(), 1, "{json:#}");
    let failed = &json["00081198"]["Value"][0];
    assert_eq!(failed["00081197"]["Value"][0], 0xA900, "{json:#}");
    let (_, found) = get("/studies", "application/dicom+json");
    assert_eq!(found.matches("\"0020000D\"").count(), 1, "{found}");
    // What was stored is told in the form that is asked for; where there is none such, in JSON.
    let stored = format!("studies/{study}/series/");
    for (accept, kind) in [
        ("application/dicom+xml", "application/dicom+xml"),
        ("application/dicom+json;q=0.1, application/xml", "application/dicom+xml"),
        ("text/html", "application/dicom+json"),
    ] {
        let (accept_header, data) = (format!("Accept: {accept}"), format!("@{}", ct.display()));
        let form = ["-H", "Content-Type: application/dicom", "--data-binary", &data];
        let url = at("/studies");
        let (status, answer) =
            curl(&[&["-H", key, "-H", &accept_header], &form[..], &[&url]].concat());
        assert_eq!(status, 200, "{accept}: {answer}");
        assert!(answer.contains(&format!("content-type: {kind}")), "{accept}: {answer}");
        assert!(answer.contains(&stored), "{accept}: {answer}");
        if kind.ends_with("xml") {
            let document = answer.split("\r\n\r\n").nth(1).unwrap();
            let file = folder.path().join("answer.xml");
            std::fs::write(&file, document).unwrap();
            let read = "import sys, xml.etree.ElementTree as e; r = e.parse(sys.argv[1]).getroot(); \
                        n = '{http://dicom.nema.org/PS3.19/models/NativeDICOM}'; \
                        print(r.find(f\"{n}DicomAttribute[@keyword='ReferencedSOPSequence']/{n}Item\"))";
            let output = run(Command::new(python()).args(["-c", read]).arg(&file));
            assert!(String::from_utf8_lossy(&output.stdout).contains("Item"), "{document}");
        }
    }
    // What says how a search is meant matches nothing.
    for query in ["TimezoneOffsetFromUTC=%2B0900", "00080201=-0500", "QueryRetrieveView=CLASSIC"] {
        let (status, answer) = get(&format!("/studies?StudyDate=20040119&{query}"), "*/*");
        assert_eq!(status, 200, "{query}: {answer}");
        let is_warned =
            answer.to_lowercase().contains("the timezone of the request is not applied");
        assert_eq!(is_warned, !query.contains("View"), "{query}: {answer}");
    }

    let instance = format!(
        "/studies/{study}/series/1.3.6.1.4.1.5962.1.3.1.1.20040119072730.12322/instances/\
         1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
    );
    // The object states no window: the node says which it found in the values.
    let found = "prelim-window: -38.0,1646.0,computed\r\n";
    for (asked, said) in [("", found), ("?window=40,400", "prelim-window: 40.0,400.0\r\n")] {
        let (status, answer) = get(&format!("{instance}/rendered{asked}"), "image/jpeg");
        assert!(status == 200 && answer.contains(said), "{answer}");
    }
    for (path, accept, expected) in [
        ("/studies/..%2f..%2fetc/metadata", "*/*", 400),
        ("/studies/1.2.3x/series", "*/*", 400),
        ("/studies/1.2.3", "*/*", 404),
        (&format!("{instance}/frames/0"), "*/*", 400),
        (&format!("{instance}/frames/2"), "*/*", 404),
        (&format!("{instance}/frames/x"), "*/*", 400),
        (&format!("{instance}/bulkdata/..%2f"), "*/*", 400),
        (&format!("{instance}/bulkdata/00081234"), "*/*", 404),
        (&format!("{instance}/rendered?window=1"), "*/*", 400),
        (&format!("{instance}/rendered?viewport=1,99999"), "*/*", 400),
        (&format!("{instance}/rendered?quality=101"), "*/*", 400),
        (&format!("{instance}/rendered"), "video/mpeg", 406),
        (&format!("{instance}/metadata"), "application/dicom+xml", 406),
        (&instance, "image/jpeg", 406),
        (&instance, "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90", 406),
        (&format!("{instance}/frames/1"), "multipart/related; type=\"image/jp2\"", 406),
        ("/studies?KVP=120", "*/*", 400),
        ("/studies?StudyDate=yesterday", "*/*", 400),
        ("/studies?limit=-1", "*/*", 400),
        (&format!("/instances?SOPInstanceUID={}", "1".repeat(65)), "*/*", 400),
    ] {
        let (status, answer) = get(path, accept);
        assert_eq!(status, expected, "{path} as {accept}: {answer}");
        assert!(answer.contains("\"detail\"") || answer.contains("\r\n\r\n"), "{answer}");
    }
    let (_, fuzzy) = get("/studies?fuzzymatching=true", "*/*");
    assert!(fuzzy.to_lowercase().contains("\r\nwarning: 299 "), "{fuzzy}");

    // Pages of other origins: those that are named, and no others.
    let asks = |origin: &str, method: &str| {
        let origin = format!("Origin: {origin}");
        let url = at("/studies");
        match method {
            "OPTIONS" => curl(&["-X", "OPTIONS", "-H", &origin, &url]),
            _ => curl(&["-H", key, "-H", &origin, &url]),
        }
    };
    for method in ["OPTIONS", "GET"] {
        let (status, answer) = asks("https://viewer.example", method);
        assert!(status == 204 || status == 200, "{answer}");
        assert!(answer.contains("access-control-allow-origin: https://viewer.example"), "{answer}");
        let (_, answer) = asks("https://evil.example", method);
        assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    }
}

/// What the OHIF viewer 3.12 asks from another origin: its queries and headers, word for word.
#[test]
fn ohif_lists_opens_and_shows_studies() {
    const PAGE: &str = "http://localhost:3000";
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "assemble.quiet_period_s=1800",
        "http.dicomweb.origins=[\"http://localhost:3000\"]",
        "http.dicomweb.answers_max=2",
    ];
    let node = Node::start(&folder.path().join("data"), &set);
    let (pdf, document) = (folder.path().join("report.pdf"), folder.path().join("report.dcm"));
    std::fs::write(&pdf, "%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n%%EOF\n").unwrap();
    let ct = pydicom_file("CT_small.dcm");
    run(Command::new("pdf2dcm").arg("+st").arg(&ct).args([&pdf, &document]));
    let cine = pydicom_file("emri_small_jpeg_ls_lossless.dcm");
    node.send(&[ct, pydicom_file("MR_small.dcm"), cine, document]);

    let origin = format!("Origin: {PAGE}");
    let ask = |path: &str, accept: &str| {
        let (url, accept) =
            (format!("http://{}/dicom-web{path}", node.http), format!("Accept: {accept}"));
        let (status, answer) = curl(&["-H", &origin, "-H", &accept, &url]);
        assert!(answer.contains(&format!("access-control-allow-origin: {PAGE}")), "{answer}");
        (status, answer)
    };
    let list = |path: &str| -> Vec<Value> {
        let (status, answer) = ask(path, "application/dicom+json");
        assert!(status == 200 || status == 204, "{path}: {answer}");
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        serde_json::from_str(body).unwrap_or_default()
    };
    // The study list: by name, number, date, kinds; in pages.
    let rest = "fuzzymatching=false&includefield=00081030%2C00080060";
    for (query, found) in [
        ("limit=101&offset=0", 3),
        ("limit=101&offset=2", 1),
        ("limit=101&offset=100", 0),
        ("PatientName=*compressedsamples*&limit=101&offset=0", 2),
        ("00100020=*CT*&limit=101&offset=0", 1),
        ("AccessionNumber=*99*&limit=101&offset=0", 0),
        ("ModalitiesInStudy=MR&limit=101&offset=0", 2),
        ("ModalitiesInStudy=MR%2CUS&limit=101&offset=0", 2),
        ("ModalitiesInStudy=MR%2CCT&limit=101&offset=0", 3),
        ("ModalitiesInStudy=XA%2CUS&limit=101&offset=0", 0),
        ("limit=101&offset=0&StudyDate=20040101-20041231", 2),
        ("limit=101&offset=0&StudyDate=19700102-19800101", 0),
    ] {
        let studies = list(&format!("/studies?{query}&{rest}"));
        assert_eq!(studies.len(), found, "{query}: {studies:?}");
    }

    // A study, its series, their headers, their frames as they are stored.
    let stored = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=\"*\"";
    let bare = "multipart/related; type=application/octet-stream; transfer-syntax=*";
    let text = |value: &Value, tag: &str| value[tag]["Value"][0].as_str().unwrap().to_owned();
    let (mut frames, mut report) = (Vec::new(), String::new());
    for study in list(&format!("/studies?limit=101&offset=0&{rest}")) {
        let study = format!("/studies/{}", text(&study, "0020000D"));
        let fields = "includefield=00080021%2C00080031%2C0008103E%2C00200011";
        for series in list(&format!("{study}/series?{fields}")) {
            let series = format!("{study}/series/{}", text(&series, "0020000E"));
            for header in list(&format!("{series}/metadata")) {
                let instance = format!("{series}/instances/{}", text(&header, "00080018"));
                let count = header["00280008"]["Value"][0].as_u64().unwrap_or(1);
                match text(&header, "00080060").as_str() {
                    "CT" | "MR" => {
                        frames.extend((1..=count).map(|n| format!("{instance}/frames/{n}")));
                        let small = ask(&format!("{instance}/thumbnail?accept=image/jpeg"), "*/*");
                        assert!(small.1.contains("content-type: image/jpeg"), "{}", small.1);
                    }
                    _ => report = instance,
                }
            }
        }
    }
    assert_eq!(frames.len(), 12);
    let mut kinds = Vec::new();
    for (frame, accept) in frames.iter().flat_map(|frame| [(frame, stored), (frame, bare)]) {
        let (status, answer) = ask(frame, accept);
        assert_eq!(status, 200, "{answer}");
        kinds.push(answer.contains("type=\"image/jls\""));
    }
    assert_eq!(kinds.iter().filter(|jpeg_ls| **jpeg_ls).count(), 20);

    // The document within the viewer's own page, which shares memory; asked for without an Origin.
    let url = format!("http://{}/dicom-web{report}/rendered", node.http);
    let accept =
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    let (status, answer) = curl(&["-H", &format!("Referer: {PAGE}/"), "-H", accept, &url]);
    assert_eq!(status, 200, "{answer}");
    for wanted in [
        "content-type: application/pdf\r\n",
        "cross-origin-resource-policy: cross-origin\r\n",
        "cross-origin-embedder-policy: require-corp\r\n",
        "frame-ancestors 'self' http://localhost:3000\r\n",
        "%PDF-1.4\n",
    ] {
        assert!(answer.contains(wanted), "{wanted} in {answer}");
    }
    let (_, answer) = curl(&["-H", "Referer: http://evil.example/", "-H", accept, &url]);
    assert!(answer.contains("cross-origin-resource-policy: same-origin\r\n"), "{answer}");
    assert!(answer.contains("frame-ancestors 'self'\r\n"), "{answer}");
    assert_eq!(ask(&format!("{report}/rendered"), "image/jpeg").0, 406);
    let (_, answer) = ask(&format!("{report}/bulkdata/00420011"), "*/*");
    assert!(answer.contains("%PDF-1.4\n"), "{answer}");

    // All at once, through a proxy that speaks HTTP/2: more than there are places.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..8)
            .flat_map(|_| &frames)
            .map(|frame| scope.spawn(|| ask(frame, stored).0))
            .collect();
        let got: Vec<u16> = asked.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(got.iter().all(|status| *status == 200), "{got:?}");
    });
}
