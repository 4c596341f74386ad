//! Starting and stopping the real program, with real signals.

pub(crate) mod program;
mod stay;

use std::time::{Duration, Instant};

use sluicegate::bench::sink::{Behaviour, Down, Hang, Sink, SinkHandle, SinkOptions, When};

use program::{Program, command, run};

use crate::harness::LIMIT;
use crate::requests::{Connection, Post, V1, get, many, v1};

fn sink(behaviour: Behaviour) -> SinkHandle {
    let options = SinkOptions {
        behaviour,
        ..SinkOptions::default()
    };
    Sink::start(options).expect("the sink listens")
}

fn hanging() -> Behaviour {
    Behaviour {
        hang: Some(Hang {
            series: None,
            time: None,
            when: When::BeforeStoring,
        }),
        ..Behaviour::default()
    }
}

fn down() -> Behaviour {
    Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    }
}

fn seven(mark: &str) -> Post {
    Post::new(V1, &v1(many(mark, 7)))
}

#[tokio::test(flavor = "multi_thread")]
async fn discard_works_anywhere_and_an_idle_program_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let program = Program::start(&["--upstream", "discard:"]);
        assert_eq!(get(program.admin, "/-/ready").await.status, 200);
        assert_eq!(seven("discard").send(program.data).await.status, 204);
        let metrics = get(program.admin, "/metrics").await.body;
        let dropped = metrics.lines().find(|line| {
            line.starts_with("sluicegate_dropped_samples_total")
                && line.contains("\"sample\"")
                && line.contains("\"discarded\"")
        });
        assert!(dropped.unwrap().ends_with(" 7"), "{dropped:?}");
        let began = Instant::now();
        program.signal(signal);
        let (code, log) = program.end();
        assert_eq!(code, 0, "{log}");
        // Two seconds of silence, and what it takes.
        assert!(began.elapsed() < Duration::from_secs(8), "{log}");
        assert!(log.contains("msg=stopped pending=0 lost=0"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loopback_sender_may_flush_after_the_signal() {
    let sink = sink(hanging());
    let program = Program::start(&["--upstream", &sink.url(), "--ack", "memory"]);
    assert_eq!(seven("before").send(program.data).await.status, 204);
    program.signal("TERM");
    program.says("msg=stopping").await;
    // The sender's last requests, on old and new connections; and no probe is told to go away yet.
    assert_eq!(seven("after").send(program.data).await.status, 204);
    assert_eq!(get(program.admin, "/-/healthy").await.status, 200);
    assert_eq!(get(program.admin, "/-/ready").await.status, 200);
    sink.set_behaviour(Behaviour::default());
    let began = Instant::now();
    let (code, log) = program.end();
    assert_eq!(code, 0, "{log}");
    assert!(began.elapsed() < Duration::from_secs(10), "{log}");
    assert!(log.contains("msg=stopped pending=0 lost=0"), "{log}");
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.duplicates), (14, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_from_elsewhere_are_sent_away_at_once() {
    let sink = sink(hanging());
    let flags = ["--upstream", &sink.url(), "--ack", "memory"];
    let mut program = Program::start(&[&flags[..], &["--listen", "0.0.0.0:0"]].concat());
    program.data.set_ip([127, 0, 0, 1].into());
    assert_eq!(seven("before").send(program.data).await.status, 204);
    let began = Instant::now();
    program.signal("TERM");
    while get(program.admin, "/-/ready").await.status != 503 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "half the deadline is 15 s"
        );
    }
    let reply = seven("after").send(program.data).await;
    assert_eq!((reply.status, reply.retry_after()), (503, Some(1)));
    assert!(reply.closes());
    sink.set_behaviour(Behaviour::default());
    let (code, log) = program.end();
    assert_eq!(code, 0, "{log}");
    assert_eq!(sink.stats().samples, 7, "what was accepted is delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_half_the_deadline_senders_are_sent_away_and_the_rest_is_delivered() {
    let sink = sink(hanging());
    let flags = [
        "--upstream",
        &sink.url(),
        "--ack",
        "memory",
        "--shutdown.deadline",
        "8s",
    ];
    let program = Program::start(&flags);
    assert_eq!(seven("before").send(program.data).await.status, 204);
    let mut kept = Connection::open(program.data).await;
    assert_eq!(kept.request(&seven("kept")).await.status, 204);
    let began = Instant::now();
    program.signal("TERM");
    let mut accepted = 2;
    let reply = loop {
        let reply = seven(&format!("after {accepted}")).send(program.data).await;
        if reply.status != 204 {
            break reply;
        }
        accepted += 1;
        assert!(began.elapsed() < LIMIT);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let took = began.elapsed();
    assert_eq!((reply.status, reply.retry_after()), (503, Some(1)));
    assert!(reply.closes());
    assert!(took >= Duration::from_millis(3_900), "{took:?}");
    assert!(took < Duration::from_millis(7_500), "{took:?}");
    assert_eq!(kept.request(&seven("kept too")).await.status, 503);
    kept.closed().await;
    assert_eq!(get(program.admin, "/-/ready").await.status, 503);
    assert_eq!(get(program.admin, "/-/healthy").await.status, 200);
    sink.set_behaviour(Behaviour::default());
    let (code, log) = program.end();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("msg=stopped pending=0 lost=0"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(9));
    assert_eq!(sink.stats().samples, 7 * accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_costs_the_deadline_and_the_log_says_what_is_left() {
    for (ack, left) in [
        ("memory", "pending=14 lost=14"),
        ("upstream", "pending=14 lost=0"),
    ] {
        let sink = sink(down());
        let flags = ["--upstream", &sink.url(), "--ack", ack];
        let program = Program::start(&[&flags[..], &["--shutdown.deadline", "2s"]].concat());
        let (one, two, to) = (seven("one"), seven("two"), program.data);
        let one = tokio::spawn(async move { Connection::open(to).await.maybe(&one).await });
        let two = tokio::spawn(async move { Connection::open(to).await.maybe(&two).await });
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = get(program.admin, "/metrics").await.body;
            let pending = text.lines().filter(|line| {
                line.starts_with("sluicegate_pending_samples") && line.contains("\"sample\"")
            });
            let pending: f64 = pending
                .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
                .sum();
            if pending == 14.0 {
                break;
            }
            assert!(Instant::now() < deadline, "{text}");
        }
        let began = Instant::now();
        program.signal("TERM");
        let (code, log) = program.end();
        let took = began.elapsed();
        assert_eq!(code, 0, "{log}");
        assert!(took >= Duration::from_millis(1_900), "{took:?}");
        assert!(took < Duration::from_secs(6), "{took:?}");
        assert!(log.contains(&format!("msg=stopped {left}")), "{log}");
        // Who still waited was not told that it is safe.
        let statuses = [one.await.unwrap(), two.await.unwrap()];
        let expected = if ack == "memory" { Some(204) } else { None };
        for status in statuses {
            assert!(
                status == expected || status == Some(503) && ack == "upstream",
                "{status:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let sink = sink(down());
    let program = Program::start(&["--upstream", &sink.url(), "--ack", "memory"]);
    assert_eq!(seven("lost").send(program.data).await.status, 204);
    let began = Instant::now();
    program.signal("TERM");
    program.says("msg=stopping").await;
    program.signal("INT");
    let (code, log) = program.end();
    assert_ne!(code, 0, "{log}");
    assert!(log.contains("second signal"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_port_in_use_is_said_clearly() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for (listen, admin, flag) in [
        (&*taken, free, "--listen"),
        (free, &*taken, "--web.listen-address"),
    ] {
        let (code, printed, log) = run(&[
            "--upstream",
            "discard:",
            "--listen",
            listen,
            "--web.listen-address",
            admin,
        ]);
        assert_eq!(code, 1, "{log}");
        assert_eq!(printed, "", "it was never ready");
        let says = format!("cannot listen on {taken} ({flag})");
        assert!(log.contains(&says), "{log}");
    }
}

#[test]
fn exit_codes_tell_a_wrong_command_line_from_a_wrong_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "remote_write: [{url: 'ftp://x'}]\nsurprise: 1\n").unwrap();
    let file = file.path().to_str().unwrap();
    for (flags, code, says) in [
        (&["--surprise"][..], 64, "--surprise"),
        (&["--capacity", "many"], 64, "many"),
        (
            &["--listen", "nowhere", "--upstream", "discard:"],
            64,
            "nowhere",
        ),
        (&[], 78, "upstream"),
        (&["--upstream", "ftp://receiver/"], 78, "ftp"),
        (&["--upstream", "discard:", "--ack", "maybe"], 78, "maybe"),
        (&["--config.file", file], 78, "surprise"),
        (
            &["--config.file", "/nonexistent.yaml"],
            78,
            "/nonexistent.yaml",
        ),
    ] {
        let (ended, printed, log) = run(flags);
        assert_eq!(ended, code, "{flags:?}: {log}");
        assert!(log.contains(says), "{flags:?}: {log}");
        assert_eq!(printed, "", "{flags:?}");
    }
    let help = command(&["--help"]).output().unwrap();
    assert!(help.status.success() && !help.stdout.is_empty());
}

#[test]
fn a_signal_in_the_first_moments_is_a_stop_like_any_other() {
    for _ in 0..3 {
        let program = Program::start(&["--upstream", "discard:"]);
        program.signal("TERM");
        let (code, log) = program.end();
        assert_eq!(code, 0, "{log}");
    }
}
