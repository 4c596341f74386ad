//! `--config.on-error stay`: a broken configuration ends nothing, loses nothing, and is mended in place.

use std::path::Path;

use super::program::{Program, run};
use super::{seven, sink};
use crate::requests::{Reply, get};
use sluicegate::bench::sink::{Behaviour, SinkHandle};

const STAY: [&str; 2] = ["--config.on-error", "stay"];

fn working(sink: &SinkHandle) -> String {
    format!("remote_write:\n  - url: {}\n", sink.url())
}

fn write(file: &Path, text: &str) {
    // As a mounted ConfigMap changes: all of it at once.
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn metric(program: &Program, line: &str) -> bool {
    let metrics = get(program.admin, "/metrics").await.body;
    metrics.lines().any(|there| there == line)
}

async fn verdict(program: &Program) -> (String, String) {
    let status = get(program.admin, "/api/v1/status").await.body;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let word = |key: &str| status["verdict"][key].as_str().unwrap().to_owned();
    (word("id"), word("text"))
}

fn refused(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("5"), "{reply:?}");
    assert!(
        reply.body.contains("no configuration that works"),
        "{reply:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_one_it_stands_by_and_takes_the_mended_file_by_itself() {
    let (sink, folder) = (sink(Behaviour::default()), tempfile::tempdir().unwrap());
    let file = folder.path().join("sluicegate.yaml");
    write(
        &file,
        "remote_wriet: []\nremote_write: [{url: 'ftp://x'}]\n",
    );
    let flags = [&STAY[..], &["--config.file", text(&file)]].concat();
    let mut program = Program::start_standing_by(&flags);
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(get(program.admin, path).await.status, 200, "{path}");
    }
    refused(&seven("early").send(program.data).await);
    assert!(metric(&program, "sluicegate_config_last_load_successful 0").await);
    let metrics = get(program.admin, "/metrics").await.body;
    assert!(metrics.contains("reason=\"configuration\""), "{metrics}");
    let (id, said) = verdict(&program).await;
    assert_eq!(id, "configuration");
    assert!(
        said.contains("sluicegate.yaml:1: remote_wriet") && said.ends_with("; and 1 more)."),
        "{said}"
    );
    assert_eq!(get(program.admin, "/").await.status, 200);

    // Still broken, in another way: that is what it says then.
    write(&file, "surprise: 1\nremote_write: [{url: 'discard:'}]\n");
    program.says("sluicegate.yaml:1: surprise").await;
    assert!(verdict(&program).await.1.contains("surprise"));
    write(&file, &working(&sink));
    program.is_ready_again();
    assert!(metric(&program, "sluicegate_config_last_load_successful 1").await);
    assert_eq!(seven("late").send(program.data).await.status, 204);
    assert_ne!(verdict(&program).await.0, "configuration");
    program.signal("TERM");
    let (code, log) = program.end();
    assert_eq!(code, 0, "{log}");
    assert_eq!(sink.stats().samples, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_one_is_kept_beside_the_log_and_goes_on_delivering() {
    let (sink, folder) = (sink(Behaviour::default()), tempfile::tempdir().unwrap());
    let (file, log) = (
        folder.path().join("sluicegate.yaml"),
        folder.path().join("log"),
    );
    write(&file, &working(&sink));
    let flags = ["--config.file", text(&file), "--storage.path", text(&log)];
    let flags = [&STAY[..], &flags].concat();
    let program = Program::start(&flags);
    assert_eq!(seven("first").send(program.data).await.status, 204);
    program.signal("TERM");
    assert_eq!(program.end().0, 0);

    for (mark, broken) in [("a", "remote_write: ["), ("b", "surprise: 1\n"), ("c", "")] {
        write(&file, broken);
        let program = Program::start(&flags);
        assert_eq!(seven(mark).send(program.data).await.status, 204);
        let (id, said) = verdict(&program).await;
        assert_eq!(id, "configuration", "{said}");
        assert!(said.contains("the last good one is in use"), "{said}");
        assert!(metric(&program, "sluicegate_config_last_load_successful 0").await);
        program.signal("TERM");
        let (code, said) = program.end();
        assert_eq!(code, 0, "{said}");
        let kept = std::fs::read_to_string(log.join("config.last-good.yaml"));
        assert_eq!(
            kept.unwrap(),
            working(&sink),
            "a broken one never takes its place"
        );
    }

    // Mended while it runs: it takes the new one, and that is the last good one then.
    let mut program = Program::start(&flags);
    write(
        &file,
        &format!("shutdown:\n  deadline: 5s\n{}", working(&sink)),
    );
    program.is_ready_again();
    assert_ne!(verdict(&program).await.0, "configuration");
    assert_eq!(seven("mended").send(program.data).await.status, 204);
    program.signal("TERM");
    let (code, said) = program.end();
    assert_eq!(code, 0, "{said}");
    assert_eq!(sink.stats().samples, 5 * 7, "{said}");
    let kept = std::fs::read_to_string(log.join("config.last-good.yaml")).unwrap();
    assert!(kept.starts_with("shutdown:"), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_make_no_sense_and_a_start_that_fails_are_stood_by_too() {
    let folder = tempfile::tempdir().unwrap();
    let no_certificate = folder.path().join("ca.pem");
    std::fs::write(&no_certificate, "no certificate").unwrap();
    let file = folder.path().join("sluicegate.yaml");
    let tls = format!("tls_config: {{ca_file: {}}}", text(&no_certificate));
    write(
        &file,
        &format!("remote_write:\n  - url: https://127.0.0.1/\n    {tls}\n"),
    );
    for (flags, says) in [
        (&["--upstream", "ftp://receiver/"][..], "ftp"),
        (&["--upstream", "discard:", "--ack", "maybe"], "maybe"),
        (&["--config.file", text(&file)], "ca.pem"),
    ] {
        let program = Program::start_standing_by(&[&STAY[..], flags].concat());
        refused(&seven("refused").send(program.data).await);
        let (id, said) = verdict(&program).await;
        assert_eq!(id, "configuration");
        assert!(said.contains(says), "{said}");
        program.signal("TERM");
        let (code, log) = program.end();
        assert_eq!(code, 0, "{log}");
        assert!(log.contains(says), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_mended_is_taken_and_the_folder_is_not_in_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, log) = (folder.path().join("ca.pem"), folder.path().join("log"));
    write(&ca, "no certificate");
    let file = folder.path().join("sluicegate.yaml");
    let tls = format!("tls_config: {{ca_file: {}}}", text(&ca));
    write(
        &file,
        &format!("remote_write:\n  - url: https://127.0.0.1/\n    {tls}\n"),
    );
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["check", text(&file)])
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains("ca.pem"),
        "{checked:?}"
    );

    let flags = ["--config.file", text(&file), "--storage.path", text(&log)];
    let mut program = Program::start_standing_by(&[&STAY[..], &flags].concat());
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    write(&ca, &key.cert.pem());
    program.is_ready_again();
    assert_ne!(verdict(&program).await.0, "configuration");
    program.signal("TERM");
    let (code, said) = program.end();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("another process"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_with_the_folder_open_gives_it_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let mut args = sluicegate::cli::RunArgs {
        upstream: vec!["discard:".to_owned()],
        listen: Some(taken),
        web_listen_address: Some(([127, 0, 0, 1], 0).into()),
        storage_path: Some(folder.path().to_owned()),
        ..Default::default()
    };
    let mut config = sluicegate::config::load(&args).unwrap().config;
    config.storage.as_mut().unwrap().lock_wait = std::time::Duration::ZERO;
    let error = sluicegate::app::App::build(&config).await.err();
    assert!(error.is_some_and(|error| error.contains("cannot listen")));
    args.listen = Some(([127, 0, 0, 1], 0).into());
    config.listen = args.listen.unwrap();
    let built = sluicegate::app::App::build(&config).await;
    assert!(built.is_ok(), "{:?}", built.err());
}

#[test]
fn what_is_no_word_for_it_is_a_wrong_command_line() {
    let (code, _, log) = run(&["--config.on-error", "shrug", "--upstream", "discard:"]);
    assert_eq!(code, 64, "{log}");
    assert!(log.contains("exit, stay"), "{log}");
}
