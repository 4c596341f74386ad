use serde_json::Value;

use super::*;
use crate::report::example::{outage, well};

/// Every text in it, whatever it is for, becomes this.
fn poisoned(value: &mut Value, poison: &str) {
    match value {
        Value::String(text) => poison.clone_into(text),
        Value::Array(parts) => parts.iter_mut().for_each(|part| poisoned(part, poison)),
        Value::Object(parts) => {
            for (name, part) in parts {
                // Words of closed sets: other values are no report.
                if !matches!(name.as_str(), "level" | "state") {
                    poisoned(part, poison);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn whatever_receivers_and_folders_are_called_nothing_of_it_becomes_markup() {
    const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;";
    for report in [outage(), well()] {
        let mut value = serde_json::to_value(&report).unwrap();
        poisoned(&mut value, EVIL);
        let report: Report = serde_json::from_value(value).unwrap();
        let parts = parts_of(&report).parts.into_values();
        for html in parts.chain([page(&report)]) {
            assert!(
                !html.contains("<img") && !html.contains("<script>"),
                "{html}"
            );
            assert!(!html.contains("\"'>"), "no attribute ends early: {html}");
            assert!(html.contains("&lt;script&gt;") || !html.contains("script&gt;"));
        }
    }
}

#[test]
fn without_scripts_the_page_tells_everything() {
    let html = page(&outage());
    for words in [
        "<title>■ trouble · Sluicegate</title>",
        "The receiver answers 503 since 14:02:11 UTC; 1.2 M samples wait in the log, room for 3 h 20 min",
        ">12,400 <span class=\"unit\">samples/s",
        "nothing goes out",
        "10 % of 10 GiB used",
        ">36 %",
        "41.0 B a sample in, 26.3 out",
        "https://receiver.example/api/v1/write",
        "0.184 ms a sample × (12,400/s in + 5 % of 3,900 waiting, a second) = 2.3, that is 3 shards",
        "p50 92 ms · p99 610 ms",
        "503 × 212",
        "14:04:59 UTC",
        "receiver answered 503: upstream connect error",
        "Dropped: rejected",
        "if the node lost power now",
        "A 2xx means that the request is on disk here, synced.",
        "5.0 MiB of 1.0 GiB",
        "/var/lib/sluicegate on a volume",
        "fsync EIO × 1",
        "1 × torn tail",
    ] {
        assert!(html.contains(words), "{words} is not in\n{html}");
    }
}

#[test]
fn nothing_is_loaded_from_elsewhere_and_nothing_stands_inline() {
    let html = page(&outage());
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            assert!(
                !target.contains(':') && !target.starts_with('/'),
                "{target}: relative, so that the page works below a path too"
            );
        }
    }
    for inline in ["style=", "onclick", "onload", "<style", "javascript:"] {
        assert!(!html.contains(inline), "{inline}");
    }
    assert_eq!(html.matches("<script").count(), 1);
    for asset in [SCRIPT, STYLE] {
        assert!(!asset.contains("http"), "an asset names another place");
        assert!(!asset.contains("eval("));
    }
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
    ] {
        assert!(POLICY.contains(rule), "{rule}");
    }
    assert!(!POLICY.contains("unsafe") && !POLICY.contains('*'));
}

#[test]
fn the_script_gets_the_parts_of_the_first_paint() {
    let (report, html) = (outage(), page(&outage()));
    let parts = parts_of(&report);
    assert!(html.contains(&parts.title));
    assert_eq!(parts.parts.len(), 5);
    for (id, part) in &parts.parts {
        assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
        assert!(html.contains(part.as_str()), "{id}");
    }
}

#[test]
fn all_kinds_of_queues_find_their_place() {
    let mut report = well();
    let mut discards = report.queues[0].clone();
    (discards.name, discards.discards, discards.required) = ("shadow".to_owned(), true, false);
    report.queues.push(discards);
    let html = page(&report);
    assert!(html.contains("Queue shadow (not required)"), "{html}");
    assert!(html.contains("counted and thrown away"), "{html}");
    report.queues.clear();
    report.storage = None;
    report.ack.mode = "upstream".to_owned();
    assert!(page(&report).contains("senders keep what is not delivered"));
    assert!(
        page(&Report::default()).contains("</html>"),
        "a report of nothing is a page too"
    );
}

#[test]
fn a_queue_that_sends_nowhere_shows_what_it_would_save_and_why() {
    use crate::report::shadow::{CameIn, Measured, MeasuredRow, ShadowState, shadow};
    let mut report = well();
    report.queues[0].discards = true;
    let came = CameIn {
        requests: 100,
        samples: 100_000,
        bytes: 5_000_000,
    };
    let row = |protocol: &str, bytes| MeasuredRow {
        cut: "target".to_owned(),
        protocol: protocol.to_owned(),
        compression: "snappy".to_owned(),
        per_send: Some(2_000),
        samples: 100_000,
        requests: 50,
        bytes,
        came,
        ..MeasuredRow::default()
    };
    let measured = Measured {
        state: ShadowState::Measuring,
        passed_seconds: 100.0,
        length_seconds: 600.0,
        came_v1: came,
        rows: vec![row("1.0", 4_000_000), row("2.0", 2_000_000)],
        per_send: 2_000,
        windows_seconds: vec![60.0],
        ..Measured::default()
    };
    report.queues[0].shadow = Some(shadow(&measured));
    let page = page(&report);
    for words in [
        "Bytes it would save",
        "measured, by target in 1.0; with 2.0 60 %",
        "1 of 10 minutes, so numbers are provisional: saves by target 20 %, with 2.0 60 %",
        "4,000,000 bytes for 100,000 samples in 50 requests; the same came as 5,000,000 bytes",
        "60 s merged: not known",
        "What the numbers do not show",
    ] {
        assert!(page.contains(words), "{words} is not in\n{page}");
    }
}

#[test]
fn what_waits_for_a_receiver_that_takes_nothing_is_not_on_its_way() {
    let mut report = outage();
    report.queues[0].drain.state = DrainState::Steady;
    let html = page(&report);
    assert!(html.contains("the receiver takes none") && !html.contains("on their way"));
    report.queues[0].endpoint.failing = None;
    assert!(page(&report).contains("on their way"));
}
