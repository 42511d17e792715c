//! The agent's decisions: what is planned, which attempt comes next, what the pod's status says.

use std::collections::{BTreeMap, BTreeSet};

use entroos::base::{Uid, UnixMillis};
use entroos::container::image::ImageConfig;
use entroos::container::spec::{ContainerRecord, ContainerState as Shim, Exit};
use entroos::node::agent::env::expand;
use entroos::node::agent::history::{Attempt, AttemptState, Backoff, Failures, History, Step, container_id, next_step};
use entroos::node::agent::plan::{Action, Assigned, plan};
use entroos::node::agent::process::{Bounds, container_spec, hostname, stop_signal};
use entroos::node::agent::status::{Seen, Waiting, container_status, phase};
use entroos::orchestrator::object::{
    Container, ContainerState, ContainerStatus, Phase, PodSpec, PullPolicy, Quantities, RestartPolicy, Security,
    Terminated,
};
use entroos::orchestrator::{Key, Kind};

const BACKOFF: Backoff = Backoff { base: 10_000, cap: 300_000, reset: 600_000 };
const NOW: UnixMillis = UnixMillis(1_000_000_000);
const UID: Uid = Uid([9; 16]);

fn key(name: &str) -> Key {
    Key { kind: Kind::Pod, namespace: "default".into(), name: name.into() }
}

fn running(attempt: u32) -> ContainerRecord {
    ContainerRecord { name: "main".into(), attempt, state: Shim::Running { pid: 7, started: UnixMillis(5) } }
}

fn exited(attempt: u32, code: i32) -> ContainerRecord {
    let exit = Exit { code, signal: 0, oom_killed: false, started: NOW, finished: NOW };
    ContainerRecord { name: "main".into(), attempt, state: Shim::Exited(exit) }
}

fn terminated(code: i32) -> Terminated {
    let reason = if code == 0 { "Completed" } else { "Error" }.into();
    Terminated { exit_code: code, signal: 0, reason, message: String::new(), started: NOW, finished: NOW }
}

fn committed(attempt: u32, state: ContainerState, last: Option<Terminated>) -> ContainerStatus {
    ContainerStatus {
        name: "main".into(),
        ready: false,
        state,
        last,
        restarts: attempt,
        image: String::new(),
        image_id: String::new(),
        id: container_id(&UID, "main", attempt),
    }
}

fn read(records: &[ContainerRecord], committed: Option<&ContainerStatus>) -> History {
    History::read("main", records, committed, NOW)
}

#[test]
fn the_plan_is_what_is_assigned_less_what_is_here() {
    let [fresh, finished, retired, deleted, stray] = [1, 2, 3, 4, 5].map(|n| Uid([n; 16]));
    let pod = |name: &str, finished, deleted| Assigned { key: key(name), finished, deleted };
    let assigned = BTreeMap::from([
        (fresh, pod("fresh", false, false)),
        (finished, pod("finished", true, false)),
        (retired, pod("retired", true, false)),
        (deleted, pod("deleted", true, true)),
    ]);
    let actions = plan(&assigned, &BTreeSet::from([retired, stray]));
    let expected = BTreeMap::from([
        (fresh, Action::Run(key("fresh"))),
        (retired, Action::Retire(key("retired"))),
        (deleted, Action::End(key("deleted"))),
        (stray, Action::Discard),
    ]);
    assert_eq!(actions, expected);
    assert!(plan(&BTreeMap::new(), &BTreeSet::new()).is_empty());
}

#[test]
fn the_restart_policy_decides_what_comes_next() {
    use RestartPolicy::{Always, Never, OnFailure};
    let lost = ContainerRecord { name: "main".into(), attempt: 0, state: Shim::Lost { started: NOW, at: NOW } };
    let broken = Shim::StartFailed { message: "no such file".into(), at: NOW };
    let broken = ContainerRecord { name: "main".into(), attempt: 0, state: broken };
    let next = Step::Start { attempt: 1 };
    let cases = [
        (vec![], Never, Step::Start { attempt: 0 }),
        (vec![running(0)], Always, Step::Keep),
        (vec![exited(0, 0)], Always, next),
        (vec![exited(0, 0)], OnFailure, Step::Done),
        (vec![exited(0, 3)], OnFailure, next),
        (vec![exited(0, 3)], Never, Step::Done),
        (vec![lost.clone()], Always, next),
        (vec![lost.clone()], OnFailure, next),
        (vec![lost], Never, Step::Done),
        (vec![broken.clone()], Never, Step::Done),
        (vec![broken], OnFailure, next),
        (vec![exited(0, 1), running(1)], Always, Step::Keep),
    ];
    for (records, policy, expected) in cases {
        let step = next_step(&read(&records, None), policy, &mut Failures::default(), &BACKOFF, NOW);
        assert_eq!(step, expected, "{records:?} {policy:?}");
    }
}

#[test]
fn a_crash_loop_is_slowed_down_and_forgiven_after_ten_minutes() {
    let delays: Vec<u64> = (0..9).map(|n| BACKOFF.delay(n) / 1000).collect();
    assert_eq!(delays, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(BACKOFF.delay(u32::MAX), 300_000);

    let mut failures = Failures::default();
    let mut step = |records: &[ContainerRecord], now| {
        next_step(&read(records, None), RestartPolicy::Always, &mut failures, &BACKOFF, now)
    };
    assert_eq!(step(&[exited(0, 1)], NOW), Step::Start { attempt: 1 });
    // However often it looks, one end is one failure.
    for _ in 0..3 {
        assert_eq!(step(&[exited(1, 1)], NOW), Step::Wait { until: NOW.plus(10_000) });
    }
    assert_eq!(step(&[exited(1, 1)], NOW.plus(10_000)), Step::Start { attempt: 2 });
    assert_eq!(step(&[exited(2, 1)], NOW), Step::Wait { until: NOW.plus(20_000) });
    // A clock set back by a day does not stretch the wait.
    assert_eq!(step(&[exited(2, 1)], UnixMillis(NOW.0 - 86_400_000)), Step::Start { attempt: 3 });
    let long = Exit { code: 1, signal: 0, oom_killed: false, started: UnixMillis(NOW.0 - 600_000), finished: NOW };
    let long = ContainerRecord { name: "main".into(), attempt: 3, state: Shim::Exited(long) };
    assert_eq!(step(&[long], NOW), Step::Start { attempt: 4 });
    assert_eq!(step(&[exited(4, 1)], NOW), Step::Start { attempt: 5 });
    // What goes down with the machine is not its fault.
    let lost = ContainerRecord { name: "main".into(), attempt: 5, state: Shim::Lost { started: NOW, at: NOW } };
    assert_eq!(step(&[lost], NOW), Step::Start { attempt: 6 });

    // A node that was restarted guesses from the attempt's number.
    let step = next_step(&read(&[exited(3, 1)], None), RestartPolicy::Always, &mut Failures::default(), &BACKOFF, NOW);
    assert_eq!(step, Step::Wait { until: NOW.plus(40_000) });
}

/// Every order of crash points between start, exit, report and the sandbox's destruction: numbers only go up, and what
/// the shim or the ledger knows is never run again.
#[test]
fn no_attempt_comes_twice_whatever_is_lost() {
    let waiting = || ContainerState::Waiting { reason: "CrashLoopBackOff".into(), message: String::new() };
    let since = UnixMillis(5);
    let cases: Vec<(&str, Vec<ContainerRecord>, Option<ContainerStatus>, u32)> = vec![
        ("started, not reported", vec![exited(0, 1)], None, 1),
        ("two attempts, none reported", vec![exited(0, 1), exited(1, 1)], None, 2),
        (
            "reported as running, ended while the node was down",
            vec![exited(0, 1)],
            Some(committed(0, ContainerState::Running { since }, None)),
            1,
        ),
        (
            "reported as running, sandbox gone with the machine",
            vec![],
            Some(committed(4, ContainerState::Running { since }, None)),
            5,
        ),
        ("reported as waiting, sandbox destroyed", vec![], Some(committed(2, waiting(), Some(terminated(1)))), 3),
        ("reported as ended", vec![], Some(committed(2, ContainerState::Terminated(terminated(1)), None)), 3),
        (
            "the shim is ahead of the report",
            vec![exited(3, 1)],
            Some(committed(2, ContainerState::Terminated(terminated(1)), None)),
            4,
        ),
        (
            "the report is ahead of a new sandbox's shim",
            vec![exited(1, 1)],
            Some(committed(2, ContainerState::Terminated(terminated(1)), None)),
            3,
        ),
    ];
    for (what, records, status, expected) in cases {
        let history = read(&records, status.as_ref());
        let far = NOW.plus(10_000_000);
        let step = next_step(&history, RestartPolicy::Always, &mut Failures::default(), &BACKOFF, far);
        assert_eq!(step, Step::Start { attempt: expected }, "{what}");
    }

    // One pod's life: a node that dies at every point, with a shim that dies at some of them.
    let (mut records, mut status): (Vec<ContainerRecord>, Option<ContainerStatus>) = (Vec::new(), None);
    let mut started = Vec::new();
    for round in 0u32..60 {
        let mut fresh = Failures::default();
        let history = read(&records, status.as_ref());
        if let Step::Start { attempt } =
            next_step(&history, RestartPolicy::Always, &mut fresh, &BACKOFF, NOW.plus(10_000_000))
        {
            started.push(attempt);
            records.retain(|r| r.attempt + 1 >= attempt);
            records.push(running(attempt));
        }
        if round % 2 == 0 {
            let last = records.pop().unwrap();
            records.push(exited(last.attempt, 1));
        }
        // The report is lost in every third round, but never before the sandbox goes.
        if round % 3 != 0 || round % 5 == 0 {
            let history = read(&records, status.as_ref());
            let seen = seen(history, None);
            status = Some(container_status(&UID, &seen));
        }
        if round % 5 == 0 {
            records.clear();
        }
    }
    let expected: Vec<u32> = (0..u32::try_from(started.len()).unwrap()).collect();
    assert_eq!(started, expected);
    assert!(started.len() > 30);
}

#[test]
fn the_last_state_is_how_the_attempt_before_ended() {
    let by_shim = read(&[exited(0, 3), running(1)], None);
    assert_eq!(by_shim.before.as_ref().map(|t| t.exit_code), Some(3));
    // The shim keeps the newest record only; the ledger tells of the one before.
    let old = committed(0, ContainerState::Terminated(terminated(4)), None);
    assert_eq!(read(&[running(1)], Some(&old)).before.as_ref().map(|t| t.exit_code), Some(4));
    let same = committed(1, ContainerState::Running { since: UnixMillis(5) }, Some(terminated(5)));
    assert_eq!(read(&[running(1)], Some(&same)).before.as_ref().map(|t| t.exit_code), Some(5));
    let waiting = ContainerState::Waiting { reason: "CrashLoopBackOff".into(), message: String::new() };
    let waits = committed(0, waiting, Some(terminated(6)));
    assert_eq!(read(&[running(1)], Some(&waits)).before.as_ref().map(|t| t.exit_code), Some(6));
    assert_eq!(read(&[running(0)], None).before, None);
}

fn seen(history: History, waiting: Option<Waiting>) -> Seen {
    Seen {
        name: "main".into(),
        history,
        waiting,
        image: "docker.io/library/alpine:latest".into(),
        image_id: "sha256:1".into(),
    }
}

#[test]
fn a_container_says_how_it_is() {
    let oom = Exit { code: 137, signal: 9, oom_killed: true, started: NOW, finished: NOW };
    let oom = ContainerRecord { name: "main".into(), attempt: 2, state: Shim::Exited(oom) };
    let status = container_status(&UID, &seen(read(&[oom], None), None));
    let ContainerState::Terminated(end) = &status.state else { panic!("{status:?}") };
    assert_eq!((end.reason.as_str(), end.exit_code, status.restarts, status.ready), ("OOMKilled", 137, 2, false));
    assert_eq!(status.id, container_id(&UID, "main", 2));

    let broken = Shim::StartFailed { message: "exec \"ecoh\": not found".into(), at: NOW };
    let broken = ContainerRecord { name: "main".into(), attempt: 0, state: broken };
    let status = container_status(&UID, &seen(read(&[broken], None), None));
    let ContainerState::Terminated(end) = &status.state else { panic!("{status:?}") };
    assert_eq!((end.reason.as_str(), end.exit_code), ("StartError", 128));
    assert!(end.message.contains("ecoh"));

    let looping = Waiting::new("CrashLoopBackOff", "back-off 10s");
    let status = container_status(&UID, &seen(read(&[exited(1, 1)], None), Some(looping)));
    assert!(matches!(&status.state, ContainerState::Waiting { reason, .. } if reason == "CrashLoopBackOff"));
    assert_eq!((status.last.map(|t| t.exit_code), status.restarts), (Some(1), 1));

    let status = container_status(&UID, &seen(History::default(), None));
    assert!(matches!(&status.state, ContainerState::Waiting { reason, .. } if reason == "ContainerCreating"));
    assert!(status.id.is_empty());

    let gone = committed(1, ContainerState::Running { since: UnixMillis(5) }, None);
    let history = read(&[], Some(&gone));
    assert!(matches!(&history.latest, Some(Attempt { number: 1, state: AttemptState::Lost(_) })));
    let end = history.end().unwrap();
    assert_eq!((end.reason.as_str(), end.exit_code), ("ContainerStatusUnknown", 137));
}

#[test]
fn the_phase_is_kubernetes_own() {
    use RestartPolicy::{Always, Never, OnFailure};
    let run = || committed(0, ContainerState::Running { since: NOW }, None);
    let end = |code| committed(0, ContainerState::Terminated(terminated(code)), None);
    let waiting = || ContainerState::Waiting { reason: "x".into(), message: String::new() };
    let new = || committed(0, waiting(), None);
    let again = || committed(1, waiting(), Some(terminated(1)));
    let cases = [
        (Never, vec![], Phase::Pending),
        (Never, vec![new()], Phase::Pending),
        (Never, vec![run(), new()], Phase::Pending),
        (Never, vec![run()], Phase::Running),
        (Never, vec![run(), end(1)], Phase::Running),
        (Never, vec![end(0), end(0)], Phase::Succeeded),
        (Never, vec![end(0), end(1)], Phase::Failed),
        (OnFailure, vec![end(0)], Phase::Succeeded),
        (OnFailure, vec![end(0), again()], Phase::Running),
        (Always, vec![again()], Phase::Running),
        (Always, vec![end(0)], Phase::Running),
    ];
    for (policy, containers, expected) in cases {
        assert_eq!(phase(policy, &containers), expected, "{policy:?} {containers:?}");
    }
}

fn container() -> Container {
    Container {
        name: "main".into(),
        image: "alpine".into(),
        pull_policy: PullPolicy::IfNotPresent,
        command: vec![],
        args: vec![],
        working_dir: String::new(),
        env: vec![],
        ports: vec![],
        requests: Quantities::default(),
        limits: Quantities::default(),
        requirements: Quantities::default(),
        bandwidth_min: None,
        security: Security::default(),
        stdin: false,
        stdin_once: false,
        tty: false,
    }
}

#[test]
fn image_and_pod_make_the_process() {
    let bounds = Bounds { log_max: entroos::base::Bytes(1), log_files_max: 1, pids: 10 };
    let image = ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["default".into()],
        env: vec!["A=image".into(), "B=image".into()],
        user: "daemon".into(),
        working_dir: "/srv".into(),
        ..ImageConfig::default()
    };
    let words = |w: &[&str]| w.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
    let make = |container: &Container, image: &ImageConfig, variables: Vec<(String, String)>| {
        container_spec(&PodSpec::default(), container, image, vec![], variables, "pod", 0, bounds)
    };
    let cases = [
        (vec![], vec![], words(&["/entry", "default"])),
        (vec![], words(&["own"]), words(&["/entry", "own"])),
        (words(&["/bin/x"]), vec![], words(&["/bin/x"])),
        (words(&["/bin/x"]), words(&["$(A)", "$$(A)", "$(C)"]), words(&["/bin/x", "pod", "$(A)", "$(C)"])),
    ];
    for (command, args, expected) in cases {
        let container = Container { command, args, ..container() };
        let spec = make(&container, &image, vec![("A".into(), "pod".into())]).unwrap();
        assert_eq!(spec.args, expected);
        assert!(spec.env.contains(&"A=pod".to_owned()) && spec.env.contains(&"B=image".to_owned()));
        assert!(spec.env.contains(&"HOSTNAME=pod".to_owned()) && spec.env.iter().any(|v| v.starts_with("PATH=/")));
        assert_eq!((spec.user.as_str(), spec.cwd.as_str()), ("daemon", "/srv"));
    }
    assert!(make(&container(), &ImageConfig::default(), vec![]).is_err());
}

#[test]
fn small_words_are_read_right() {
    let known = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    let cases =
        [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("a$", "a$"), ("$(A", "$(A"), ("x$(A)y$(A)", "x1y1")];
    for (text, expected) in cases {
        assert_eq!(expand(text, &known), expected, "{text}");
    }
    let signals = [("SIGQUIT", 3), ("quit", 3), ("9", 9), ("", 15), ("SIGRTMIN+3", 37), ("nonsense", 15), ("0", 15)];
    for (name, expected) in signals {
        assert_eq!(stop_signal(name), expected, "{name}");
    }
    assert_eq!(hostname(&format!("{}-{}", "a".repeat(62), "b"), &PodSpec::default()), "a".repeat(62));
}
