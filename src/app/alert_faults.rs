//! The loop of an alert against servers that go wrong, by a clock that is stepped: the real store, queue
//! and steps, a mail server and a receiver of webhooks over sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::alert;
use crate::analysis::plan::Route;
use crate::app::parts;
use crate::config::Settings;
use crate::domain::alert::Answer;
use crate::domain::clock::Clock;
use crate::domain::sample;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::alerting;
use crate::pipeline::escalating;
use crate::pipeline::escalating::Started;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::runner;
use crate::pipeline::steps;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store;
use crate::store::AlertRow;
use crate::store::JobState;
use crate::store::Lane;
use crate::store::Store;
use crate::store::Wanted;
use crate::store::event::JobKind;

const BEGIN: i64 = 1_800_000_000;
const HOUR: i64 = 3600;
/// For an answer.
const WAIT: i64 = 900;

/// What a server does to what would go to a person. Seconds since the alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Refuses with words that say for good, until then.
    RefusesUntil(i64),
    RefusesForEver,
    /// There is no such person.
    NoSuchAddress,
    /// Takes it without its picture alone.
    RefusesPicture,
    /// Takes 20 s for each.
    Slow,
    /// Takes each for the first time and says nothing.
    LosesAnswers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Mail,
    Webhook,
}

#[derive(Debug, Clone)]
struct Taken {
    at: i64,
    to: String,
    id: String,
    has_picture: bool,
}

/// The servers, the time that they share with the node, and what they took.
struct World {
    now: Mutex<Timestamp>,
    fault: Fault,
    taken: Mutex<Vec<Taken>>,
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }
}

impl World {
    fn at(&self) -> i64 {
        self.now().as_second() - BEGIN
    }

    fn step_to(&self, second: i64) {
        *self.now.lock().unwrap() = Timestamp::from_second(BEGIN + second).unwrap();
    }

    fn refuses(&self) -> bool {
        match self.fault {
            Fault::RefusesUntil(until) => self.at() < until,
            Fault::RefusesForEver => true,
            Fault::Nothing
            | Fault::NoSuchAddress
            | Fault::RefusesPicture
            | Fault::Slow
            | Fault::LosesAnswers => false,
        }
    }

    /// Takes a message. Whether its answer goes out.
    fn take(&self, to: &str, id: &str, has_picture: bool) -> bool {
        if self.fault == Fault::Slow {
            self.step_to(self.at() + 20);
        }
        let (to, id) = (to.to_owned(), id.to_owned());
        let mut taken = self.taken.lock().unwrap();
        let is_known = taken.iter().any(|one| one.to == to && one.id == id);
        taken.push(Taken { at: self.at(), to, id, has_picture });
        self.fault != Fault::LosesAnswers || is_known
    }

    fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }
}

/// One session of SMTP (RFC 5321).
async fn mail(world: Arc<World>, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail\r\n").await?;
    let (mut to, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end().to_owned();
        let answer = match command.get(..4).unwrap_or_default() {
            "MAIL" if world.refuses() => "554 5.7.1 client host blocked",
            "RCPT" => {
                to = command.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                match world.fault {
                    Fault::NoSuchAddress if to.starts_with("kim") => "550 5.1.1 user unknown",
                    _ => "250 ok",
                }
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mut body = String::new();
                while !body.ends_with("\r\n.\r\n") {
                    if stream.read_line(&mut body).await? == 0 {
                        return Ok(());
                    }
                }
                let id = body.lines().find_map(|line| line.strip_prefix("Message-ID: "));
                let has_picture = body.contains("Content-ID:");
                if world.fault == Fault::RefusesPicture && has_picture {
                    "552 5.3.4 message too big"
                } else if world.take(&to, id.unwrap_or_default(), has_picture) {
                    "250 taken"
                } else {
                    return Ok(());
                }
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "250 ok",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// One request; `/desk` is the technical staff's and always there.
async fn webhook(world: Arc<World>, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
        let line = head[from..].to_ascii_lowercase();
        if let Some(size) = line.strip_prefix("content-length:") {
            length = size.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_desk = path == "/desk";
    let lines = head.lines().map(str::to_ascii_lowercase);
    let id = lines.filter_map(|l| l.strip_prefix("webhook-id: ").map(str::to_owned)).next();
    let status = if is_desk {
        let at = world.at();
        let (to, id) = (path, id.unwrap_or_default());
        world.taken.lock().unwrap().push(Taken { at, to, id, has_picture: false });
        "200 OK"
    } else if world.refuses() {
        "401 Unauthorized"
    } else if world.fault == Fault::NoSuchAddress && path == "/kim" {
        "410 Gone"
    } else if world.take(&path, &id.unwrap_or_default(), false) {
        "200 OK"
    } else {
        return Ok(());
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await
}

/// A node in the middle of its work, and the world around it.
struct Node {
    folder: tempfile::TempDir,
    settings: Settings,
    world: Arc<World>,
    kit: Option<Kit>,
    study_uid: StudyUid,
}

impl Node {
    async fn start(by: By, fault: Fault, levels: usize, repeats: u32) -> Node {
        let at = Timestamp::from_second(BEGIN).unwrap();
        let world = World { now: Mutex::new(at), fault, taken: Mutex::default() };
        let world = Arc::new(world);
        let ports =
            [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await];
        let [mails, hooks] = ports.map(Result::unwrap);
        let (mail_port, hook_port) =
            (mails.local_addr().unwrap().port(), hooks.local_addr().unwrap().port());
        let tasks = TaskTracker::new();
        let (of, each) = (Arc::clone(&world), tasks.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _) = mails.accept().await.unwrap();
                each.spawn(mail(Arc::clone(&of), stream));
            }
        });
        let (of, each) = (Arc::clone(&world), tasks.clone());
        tasks.spawn(async move {
            loop {
                let (stream, _) = hooks.accept().await.unwrap();
                each.spawn(webhook(Arc::clone(&of), stream));
            }
        });
        let people = &["kim", "lee", "chief"][..levels];
        let mut text = format!(
            "[deliver.email]\nhost = \"127.0.0.1\"\nport = {mail_port}\nmode = \"none\"\n\
             from = \"prelim@h.example\"\ntimeout_s = 5\n\
             [deliver.webhook.desk]\nurl = \"http://127.0.0.1:{hook_port}/desk\"\n\
             [alert.recipients.it]\nwebhooks = [\"desk\"]\ntechnical = true\nminimum = \"critical\"\n"
        );
        for name in people {
            text += &match by {
                By::Mail => format!("[alert.recipients.{name}]\nemails = [\"{name}@h.example\"]\n"),
                By::Webhook => format!(
                    "[deliver.webhook.{name}]\nurl = \"http://127.0.0.1:{hook_port}/{name}\"\n\
                     [alert.recipients.{name}]\nwebhooks = [\"{name}\"]\n"
                ),
            };
        }
        let steps: Vec<String> =
            people.iter().map(|name| format!("{{tell=[\"{name}\"],wait_s={WAIT}}}")).collect();
        text += &format!(
            "[alert.services.all]\nrepeats = {repeats}\nsteps = [{}]\n[[alert.rules]]\nservice = \"all\"\n",
            steps.join(",")
        );
        let settings: Settings = toml::from_str(&text).unwrap();
        let study_uid = sample::positive_chest().study.study_uid;
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node { folder, settings, world, kit: None, study_uid };
        node.open().await;
        node
    }

    async fn open(&mut self) {
        let data = self.folder.path().join("data");
        let clock: Arc<dyn Clock> = self.world.clone();
        let of = Arc::clone(&clock);
        let opened =
            tokio::task::spawn_blocking(move || Store::open(&data, &store::Config::default(), of));
        let (store, _) = opened.await.unwrap().unwrap();
        let answers = self.folder.path().join("answers");
        let tasks = TaskTracker::new();
        let made =
            parts::kit(&self.settings, &store, &answers, Path::new("/bin/false"), &tasks, None);
        let mut kit = made.unwrap();
        kit.clock = clock;
        kit.started = Started::now(kit.clock.now());
        escalating::resume(&kit).await.unwrap();
        self.kit = Some(kit);
    }

    /// The power goes and comes back.
    async fn killed(&mut self) {
        self.kit = None;
        let data = self.folder.path().join("data");
        // What wrote the store ends by itself.
        for _ in 0..200 {
            let (path, clock) = (data.clone(), self.world.clone());
            let opened = tokio::task::spawn_blocking(move || {
                Store::open(&path, &store::Config::default(), clock).map(drop)
            });
            if opened.await.unwrap().is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.open().await;
    }

    fn kit(&self) -> &Kit {
        self.kit.as_ref().unwrap()
    }

    /// A reading with a finding that cannot wait, and its alert.
    async fn raise(&self) {
        let kit = self.kit();
        let way = Way { kit, study_uid: &self.study_uid, revision: 1 };
        let assessment = sample::positive_chest();
        way.save(record::ASSESSMENT, &assessment).unwrap();
        for picture in &assessment.pictures {
            way.save_bytes(&picture.file, &sample::picture_png(64, 64)).unwrap();
        }
        let profile = kit.profiles.iter().find(|profile| !profile.is_free()).unwrap().clone();
        let plan = PlanRecord {
            profile,
            route: Route::Local,
            notes: Vec::new(),
            not_read: Vec::new(),
            started_at: kit.clock.now(),
            review: None,
        };
        let raised = alert::decide(&assessment, plan.profile.alert_at).unwrap();
        assert_eq!(raised.urgency, Urgency::Critical);
        way.save(record::PLAN, &plan).unwrap();
        let events = alerting::raise(&way, &raised, "").unwrap();
        kit.store.commit(events).await.unwrap();
    }

    /// Works until that second.
    ///
    /// - `kills`: now and then the node dies between what a step did and its end in the ledger.
    async fn work_until(&mut self, second: i64, mut kills: u32) {
        let lanes = [Wanted::Of(Lane::Clocks), Wanted::OtherThan(Vec::new())];
        let mut steps_done = 0;
        loop {
            let kit = self.kit();
            let claim = |wanted: &Wanted| {
                kit.store.claim(kit.clock.now(), Duration::from_secs(600), wanted).unwrap()
            };
            let claimed = lanes.iter().find_map(claim);
            if let Some(claimed) = claimed {
                steps_done += 1;
                assert!(steps_done < 20_000, "a storm");
                if kills > 0 && steps_done % 3 == 0 {
                    kills -= 1;
                    let _ = steps::run(kit, &claimed, kit.clock.now()).await;
                    self.killed().await;
                } else {
                    runner::run_one(kit, &claimed).await;
                }
                continue;
            }
            let rows = kit.store.jobs().unwrap();
            let waits = rows.iter().filter(|row| row.state == JobState::Waiting);
            let Some(due) = waits.map(|row| row.due).min() else { break };
            let end = Timestamp::from_second(BEGIN + second).unwrap();
            if due > end {
                break;
            }
            let now =
                due.max(kit.clock.now().saturating_add(SignedDuration::from_millis(1)).unwrap());
            *self.world.now.lock().unwrap() = now;
        }
        if self.world.at() < second {
            self.world.step_to(second);
        }
    }

    fn row(&self) -> AlertRow {
        self.kit().store.alerts(&self.study_uid).unwrap().remove(0)
    }

    /// Whether something leads on.
    fn has_a_time(&self) -> bool {
        let rows = self.kit().store.jobs().unwrap();
        rows.iter()
            .any(|row| matches!(row.job.kind, JobKind::Escalate { .. }) && row.state.is_open())
    }

    async fn answer(&self) {
        let answer = Answer {
            by: "kim".into(),
            how: "link".into(),
            note: String::new(),
            at: self.world.now(),
        };
        alerting::acknowledge(&self.kit().store, &self.row(), answer).await.unwrap();
    }
}

async fn one(by: By, fault: Fault, levels: usize, kills: u32) {
    let what = format!("{by:?} {fault:?}, {levels} levels, {kills} kills");
    let repeats = if levels > 1 { 1 } else { 0 };
    let mut node = Node::start(by, fault, levels, repeats).await;
    node.raise().await;
    node.work_until(8 * HOUR, kills).await;
    let (row, taken) = (node.row(), node.world.taken());
    // Not lost, not silent: a person can still answer, and is told again until one does.
    assert!(row.standing.is_unanswered() && node.has_a_time(), "{what}: {row:#?}");
    let to = |name: &str| match by {
        By::Mail => format!("{name}@h.example"),
        By::Webhook => format!("/{name}"),
    };
    let told =
        |name: &str| -> Vec<&Taken> { taken.iter().filter(|one| one.to == to(name)).collect() };
    let passes = match fault {
        Fault::RefusesUntil(second) => Some(second),
        Fault::RefusesForEver => None,
        Fault::Nothing
        | Fault::NoSuchAddress
        | Fault::RefusesPicture
        | Fault::Slow
        | Fault::LosesAnswers => Some(0),
    };
    match passes {
        Some(second) if fault != Fault::NoSuchAddress => {
            let first = told("kim").first().map(|one| one.at);
            // 5 minutes between two tries, and a fifth of it.
            let bound = second + if second == 0 { 30 } else { 365 };
            assert!(first.is_some_and(|at| at <= bound), "{what}: kim was told at {first:?}");
        }
        Some(_) => assert!(told("kim").is_empty(), "{what}"),
        None => assert!(taken.iter().all(|one| one.to == "/desk"), "{what}"),
    }
    if levels > 1 && passes.is_some() {
        for name in ["lee", "chief"] {
            assert!(!told(name).is_empty(), "{what}: {name} was never told");
        }
    }
    for one in &taken {
        let same = taken.iter().filter(|other| other.to == one.to && other.id == one.id).count();
        let repeats = fault == Fault::LosesAnswers || kills > 0;
        assert!(same == 1 || repeats, "{what}: {} was told twice by {}", one.to, one.id);
        assert!(!(one.has_picture && fault == Fault::RefusesPicture), "{what}");
    }
    // By time alone: never sooner than a server may take, and after the time of who was told.
    for pair in row.steps.windows(2) {
        let at = |n: usize| pair[n].at.as_second() - BEGIN;
        assert!(at(1) - at(0) >= 60, "{what}: {pair:#?}");
        if pair[1].why.starts_with("nobody has answered since") {
            let had_time = taken.iter().any(|one| one.at <= at(1) - WAIT + 20);
            assert!(had_time, "{what}: {pair:#?} {taken:#?}");
        }
    }
    // A mail server that is away uses up nobody's silence: no second round before it is back.
    if let Some(second) = passes.filter(|second| *second > 60) {
        let early = row.steps.iter().filter(|step| step.at.as_second() - BEGIN < second).count();
        assert!(early <= levels, "{what}: {early} levels before it passed");
    }
    // The technical staff hears of the fault once; their turn at the end of a round is another message.
    let notices = told_of_fault(&taken);
    let expected = match fault {
        Fault::RefusesUntil(second) => usize::from(second > 60),
        Fault::RefusesForEver | Fault::NoSuchAddress => 1,
        Fault::Nothing | Fault::RefusesPicture | Fault::Slow | Fault::LosesAnswers => 0,
    };
    // Of each way: one mail server, or a receiver for each person.
    let ways = match (by, fault) {
        (By::Mail, _) | (By::Webhook, Fault::NoSuchAddress) => 1,
        (By::Webhook, _) => levels,
    };
    assert!((expected..=expected * ways).contains(&notices), "{what}: {notices} {taken:#?}");
    node.answer().await;
    let before = node.world.taken().len();
    node.work_until(32 * HOUR, 0).await;
    assert_eq!(node.world.taken().len(), before, "{what}: told after an answer");
    assert!(!node.has_a_time(), "{what}");
}

/// Messages, by their ids.
fn told_of_fault(taken: &[Taken]) -> usize {
    let ids: std::collections::BTreeSet<&str> = taken
        .iter()
        .filter(|one| one.to == "/desk" && one.id.contains("untold"))
        .map(|one| one.id.as_str())
        .collect();
    ids.len()
}

async fn matrix(by: By) {
    for fault in [
        Fault::Nothing,
        Fault::RefusesUntil(20),
        Fault::RefusesUntil(300),
        Fault::RefusesUntil(2 * HOUR),
        Fault::RefusesForEver,
        Fault::NoSuchAddress,
        Fault::RefusesPicture,
        Fault::Slow,
        Fault::LosesAnswers,
    ] {
        for (levels, kills) in [(1, 0), (3, 0), (1, 5), (3, 8)] {
            one(by, fault, levels, kills).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_mail_server_does_an_alert_is_answered_or_still_told() {
    matrix(By::Mail).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_receiver_of_webhooks_does_an_alert_is_answered_or_still_told() {
    matrix(By::Webhook).await;
}

/// Seen on a real machine: the battery of its clock was empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_a_day_ahead_puts_no_open_alert_off() {
    let mut node = Node::start(By::Mail, Fault::Nothing, 3, 1).await;
    let ahead = 26 * HOUR;
    node.world.step_to(ahead);
    node.raise().await;
    node.work_until(ahead + 70, 0).await;
    assert_eq!(node.world.taken().len(), 1, "kim was told");
    node.world.step_to(100);
    node.killed().await;
    node.work_until(100 + WAIT - 10, 0).await;
    assert_eq!(node.row().level, 0, "kim has the whole time, from the start of the node");
    node.work_until(100 + WAIT + 10, 0).await;
    assert_eq!(node.row().level, 1, "and no more of it");
    node.work_until(100 + 2 * WAIT + 30, 0).await;
    assert_eq!(node.row().level, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_answered_begins_again_after_its_pause_until_somebody_does() {
    let mut node = Node::start(By::Mail, Fault::Nothing, 1, 0).await;
    node.raise().await;
    // kim, then the technical staff, then the pause.
    node.work_until(2 * WAIT + 60, 0).await;
    assert_eq!(node.row().standing.as_str(), "unanswered");
    let rows = [node.row()];
    let said = alerting::attention(&rows, node.world.now()).unwrap();
    assert!(said.contains("nobody has answered"), "{said}");
    let before = node.world.taken().len();
    node.work_until(2 * WAIT + 1800 + 60, 0).await;
    let row = node.row();
    assert_eq!((row.standing.as_str(), row.begun_again.len()), ("open", 1));
    assert_eq!(node.world.taken().len(), before + 1, "kim is told again, by another message");
    assert!(alerting::attention(&[row], node.world.now()).is_some(), "it stays on the pages");
    node.work_until(24 * HOUR, 0).await;
    assert!(node.row().begun_again.len() > 10, "until somebody does");
    let reason = "the patient was seen at the scanner".to_owned();
    let closed =
        Answer { by: "kim".into(), how: "page".into(), note: reason, at: node.world.now() };
    alerting::close(&node.kit().store, &node.row(), closed).await.unwrap();
    let before = node.world.taken().len();
    node.work_until(48 * HOUR, 0).await;
    let after = node.world.taken().split_off(before);
    let closing = after.iter().filter(|one| one.id.contains("closed")).count();
    assert_eq!((closing, after.len()), (2, 2), "kim and the desk hear that, once: {after:#?}");
}
