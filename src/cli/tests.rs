use clap::error::ErrorKind;

use super::*;

fn read(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn what_cannot_be_read_is_a_usage_error() {
    for line in [
        "sluicegate run --capacity many",
        "sluicegate run --min-backoff 5",
        "sluicegate run --memory.limit lots",
        "sluicegate run --listen localhost:9201",
        "sluicegate run --nonsense",
        "sluicegate check",
        "sluicegate nonsense",
    ] {
        assert!(read(line).unwrap_err().use_stderr(), "{line}");
    }
    assert_eq!(
        read("sluicegate run --help").unwrap_err().kind(),
        ErrorKind::DisplayHelp
    );
}

#[test]
fn help_fits_a_terminal_and_never_shows_an_upstream_from_the_environment() {
    let help = read("sluicegate run --help").unwrap_err().to_string();
    assert!(
        help.contains("--upstream discard:") && help.contains("SLUICEGATE_UPSTREAM"),
        "{help}"
    );
    assert!(!help.contains("SLUICEGATE_UPSTREAM="), "{help}");
}

fn check(yaml: &str) -> (u8, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut out = Vec::new();
    let code = CheckArgs { file: file.clone() }
        .run(&mut out, |_| Ok(()))
        .unwrap();
    let printed = String::from_utf8(out).unwrap();
    (code, printed.replace(file.to_str().unwrap(), "f.yaml"))
}

#[test]
fn check_prints_every_problem_and_answers_with_its_code() {
    let (code, printed) = check("remote_write: [{url: 'discard:', required: false}]\n");
    assert_eq!(code, exit::OK);
    assert_eq!(
        printed,
        "warning: ack: upstream waits for required queues only, and none is required\n\
         f.yaml: ok, 1 queue(s)\n"
    );
    let (code, printed) = check("a: 1\nremote_write: [{url: x, b: 2}]\n");
    assert_eq!(code, exit::FAILED);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    assert!(
        lines[0].starts_with("f.yaml:1: a: unknown key"),
        "{printed}"
    );
}
