use std::path::Path;

use serde_json::Value;

use super::example::outage;
use super::*;

#[test]
fn the_example_in_the_description_of_the_api_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (open, close) = ("```json\n", "\n```");
    let (before, rest) = page.split_once(open).expect("an example stands there");
    let (example, after) = rest.split_once(close).expect("it ends");
    let fresh = serde_json::to_string_pretty(&outage()).unwrap();
    if std::env::var_os("SLUICEGATE_BLESS").is_some() {
        std::fs::write(&path, [before, open, &fresh, close, after].concat()).unwrap();
        return;
    }
    assert!(
        example == fresh,
        "docs/api.md is stale: run again with SLUICEGATE_BLESS=1"
    );
}

#[test]
fn every_word_of_a_finding_is_described() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rules = include_str!("verdict.rs");
    let ids = rules.split("Level::").skip(1).filter_map(|rest| {
        let call = rest.split(')').next()?;
        let mut quoted = call.split('"').skip(1);
        quoted.next()
    });
    let ids: std::collections::BTreeSet<_> = ids.filter(|id| !id.is_empty()).collect();
    assert!(ids.len() >= 12, "{ids:?}");
    for id in ids {
        assert!(
            page.contains(&format!("`{id}`")),
            "{id} is not in docs/api.md"
        );
    }
}

#[test]
fn a_report_survives_json_and_one_from_another_version_is_read_as_far_as_it_goes() {
    let report = outage();
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    let mut value: Value = serde_json::from_str(&json).unwrap();
    value["queues"][0]["new_in_the_future"] = Value::from(7);
    value.as_object_mut().unwrap().remove("memory");
    let read: Report = serde_json::from_value(value).unwrap();
    assert_eq!(read.queues, report.queues);
    assert_eq!(read.memory, Memory::default());
}

#[test]
fn the_text_for_a_terminal_tells_all_of_it_and_nothing_in_it_steers() {
    let mut report = outage();
    let told = text::text(&report);
    for words in [
        "TROUBLE: The receiver answers 503 since 14:02:11 UTC",
        "12,400 samples/s",
        "room for an outage of 3 h 20 min",
        "1,240,000 samples (730,000 unread, 500,000 in lanes, 10,000 in flight), nothing goes out",
        "3 actual, 2.3 desired, 50 max",
        "0.184 ms a sample × (12,400/s in + 5 % of 3,900 waiting, a second) = 2.3, that is 3 shards",
        "p50 92 ms, p99 610 ms; 204 × 2,280,000, 503 × 212; gate closed",
        "36 % saved",
        "17 dropped (rejected)",
        "0 samples at risk",
        "/var/lib/sluicegate (volume), writable, sync p50 ≤ 2.0 ms",
        "torn_tail",
    ] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    let evil = "\u{1b}[2J\r\nWELL: all is well\u{202e}";
    evil.clone_into(&mut report.queues[0].errors[0].text);
    evil.clone_into(&mut report.queues[0].url);
    evil.clone_into(&mut report.verdict.text);
    evil.clone_into(&mut report.senders.address);
    evil.clone_into(&mut report.ack.means);
    let told = text::text(&report);
    let steering = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!told.contains(steering), "{told:?}");
    assert!(!told.contains("\nWELL"), "{told}");
}
