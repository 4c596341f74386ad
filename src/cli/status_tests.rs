use std::net::TcpListener;

use super::*;

fn status(url: &str, output: Output) -> StatusArgs {
    StatusArgs {
        url: url.to_owned(),
        output,
        watch: false,
    }
}

fn run(url: &str, output: Output) -> (u8, String, String) {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = status(url, output).run(&mut out, &mut errors).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(errors))
}

/// Answers one request with these bytes, and tells what was asked.
fn answers(bytes: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            asked.extend(byte);
        }
        stream.write_all(bytes.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, answering)
}

fn report(level: &str) -> String {
    format!(
        "HTTP/1.0 200 OK\r\n\r\n{{\"verdict\":{{\"level\":\"{level}\",\"id\":\"x\",\"text\":\"a\\u001b[31mb\"}},\
         \"from_the_future\":1}}"
    )
}

#[test]
fn the_code_follows_the_level_and_nothing_steers_the_terminal() {
    for (level, code) in [
        ("well", exit::OK),
        ("attention", exit::OK),
        ("trouble", exit::FAILED),
    ] {
        let (url, answering) = answers(report(level));
        let (ended, out, errors) = run(&url, Output::Text);
        assert_eq!((ended, &*errors), (code, ""), "{level}: {out}");
        let first = format!("{}: a\\u{{1b}}[31mb\n", level.to_uppercase());
        assert!(out.starts_with(&first), "{out}");
        assert!(!out.contains('\u{1b}'), "{out}");
        let asked = answering.join().unwrap();
        assert!(
            asked.starts_with("GET /api/v1/status HTTP/1.0\r\nHost: 127.0.0.1:"),
            "{asked}"
        );
    }
}

#[test]
fn json_is_passed_on_as_it_came() {
    let (url, answering) = answers(report("well"));
    let (code, out, _) = run(&url, Output::Json);
    answering.join().unwrap();
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &value["from_the_future"]),
        (exit::OK, &serde_json::json!(1))
    );
}

#[test]
fn where_nobody_answers_the_flag_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let (code, out, errors) = run(&url, Output::Text);
    assert_eq!((code, &*out), (exit::UNREACHABLE, ""));
    for word in [&*url, "--url", "admin=", "--web.listen-address"] {
        assert!(errors.contains(word), "{word} is not in {errors}");
    }
}

#[test]
fn what_is_no_admin_listener_is_said() {
    for (answer, word) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "answers 404"),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\nloopback only\n",
            "loopback only",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", "not as a Sluicegate"),
        ("HTTP/1.1 200 OK\r\n\r\n{\"a\":1}", "not as a Sluicegate"),
        ("SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        ("", "does not speak HTTP"),
    ] {
        let (url, answering) = answers(answer.to_owned());
        let (code, out, errors) = run(&url, Output::Text);
        answering.join().unwrap();
        assert_eq!((code, &*out), (exit::UNREACHABLE, ""), "{answer}");
        assert!(errors.contains(word), "{errors}");
    }
}

#[test]
fn a_url_that_is_none_is_a_usage_error() {
    for url in [
        "",
        "127.0.0.1",
        "https://127.0.0.1:9202",
        "http://u:p@h:1",
        "http://h:1 x:2",
        ":9202",
        "http://h:x",
    ] {
        let (code, _, errors) = run(url, Output::Text);
        assert_eq!(code, exit::USAGE, "{url}");
        assert!(errors.contains("--url"), "{errors}");
    }
    assert_eq!(authority("http://[::1]:9202/x").unwrap(), "[::1]:9202");
    assert_eq!(authority("localhost:9202").unwrap(), "localhost:9202");
}
