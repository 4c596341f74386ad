use super::super::shadow_text;
use super::*;

fn came(requests: u64, samples: u64, bytes: u64) -> CameIn {
    CameIn {
        requests,
        samples,
        bytes,
    }
}

fn row(cut: &str, protocol: &str, samples: u64, bytes: u64, came: CameIn) -> MeasuredRow {
    MeasuredRow {
        cut: cut.to_owned(),
        protocol: protocol.to_owned(),
        compression: "snappy".to_owned(),
        per_send: (cut != "as_sent").then_some(2_000),
        samples,
        left_out: came.samples - samples,
        requests: 5,
        bytes,
        came,
        cpu_seconds: samples as f64 * 300e-9,
    }
}

/// Three minutes at a thousand samples a second of 50 bytes; a tenth of it was measured.
fn measured() -> Measured {
    let part = came(180, 18_000, 900_000);
    Measured {
        state: ShadowState::Measuring,
        passed_seconds: 180.0,
        length_seconds: 600.0,
        came_v1: came(1_800, 180_000, 9_000_000),
        stretches: 2,
        longest_seconds: 58.0,
        rows: vec![
            row("as_sent", "1.0", 18_000, 900_000, part),
            row("target", "1.0", 18_000, 720_000, part),
            row("target", "2.0", 18_000, 360_000, part),
        ],
        cpu_seconds: 1.8,
        cpu_share_most: 0.05,
        memory_peak_bytes: 3 << 20,
        per_send: 2_000,
        windows_seconds: vec![15.0, 60.0],
        ack: "upstream".to_owned(),
        ..Measured::default()
    }
}

#[test]
fn each_way_is_held_against_what_its_own_samples_weighed() {
    let told = shadow(&measured());
    let saved: Vec<_> = told.rows.iter().map(|row| row.saved_share).collect();
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(
        near(saved[0], 0.0) && near(saved[1], 0.2) && near(saved[2], 0.6),
        "{saved:?}"
    );
    assert!(near(told.rows[1].bytes_per_sample, 40.0));
    assert!(near(told.rows[1].cpu_ns_per_sample, 300.0));
    // The rule of thumb: 1000 samples/s × 50 B are 129.6 GB in 30 days.
    assert!(near(told.gb_per_month.unwrap(), 129.6));
    assert!(near(told.rows[2].gb_per_month.unwrap(), 51.84));
    assert!(near(told.cost.cpu_share.unwrap(), 0.01));
}

#[test]
fn what_came_as_2_0_is_told_apart() {
    let mut measured = measured();
    assert!(
        !shadow(&measured)
            .notes
            .iter()
            .any(|note| note.contains("came as 2.0"))
    );
    measured.came_v2 = came(100, 60_000, 1_200_000);
    let told = shadow(&measured);
    assert_eq!(told.came, came(1_900, 240_000, 10_200_000));
    assert_eq!(told.came_v2, came(100, 60_000, 1_200_000));
    let note = told.notes.iter().find(|note| note.contains("came as 2.0"));
    assert!(note.unwrap().starts_with("25 % of the samples"), "{note:?}");
}

#[test]
fn a_window_that_was_not_held_is_not_known_and_why() {
    let mut measured = measured();
    let told = shadow(&measured).unknown;
    assert_eq!(told.len(), 2);
    assert_eq!(
        told[1],
        "60 s merged: not known, no stretch was as long yet."
    );
    measured.cramped = true;
    measured.longest_seconds = 8.0;
    let told = shadow(&measured).unknown;
    assert!(told[0].contains("held 8.0 s of this data"), "{told:?}");
    let merged = row(
        "merged_60s",
        "1.0",
        18_000,
        300_000,
        came(180, 18_000, 900_000),
    );
    measured.rows.push(merged);
    assert_eq!(shadow(&measured).unknown.len(), 1);
}

#[test]
fn samples_that_a_message_cannot_carry_are_counted_beside_it() {
    let mut measured = measured();
    measured.rows = vec![row(
        "target",
        "1.0",
        17_000,
        680_000,
        came(180, 18_000, 900_000),
    )];
    let told = shadow(&measured);
    assert_eq!(told.rows[0].left_out, 1_000);
    assert!((told.rows[0].bytes_per_sample - 40.0).abs() < 1e-9);
    assert!(
        told.notes
            .iter()
            .any(|note| note.contains("custom buckets"))
    );
}

#[test]
fn nothing_is_told_before_anything_came_and_nothing_divides_by_nothing() {
    let told = shadow(&Measured {
        length_seconds: 600.0,
        windows_seconds: vec![60.0],
        ..Measured::default()
    });
    assert_eq!(
        told.stage(),
        "nothing has come yet; it takes 10 min from the first sample on"
    );
    assert_eq!(
        (told.gb_per_month, told.rows.len(), told.advice.len()),
        (None, 0, 0)
    );
    assert!(shadow_text::text(&told).contains("nothing has come yet"));
    let json = serde_json::to_string(&told).unwrap();
    assert!(!json.contains("NaN"), "{json}");
}

#[test]
fn the_text_says_how_far_it_is_and_lists_every_way_with_its_sums() {
    let mut measured = measured();
    let told = shadow_text::text(&shadow(&measured));
    for words in [
        "3 of 10 minutes, so numbers are provisional",
        "50.0 B a sample, 1,000 samples/s in 10 requests/s of 100: 130 GB a month",
        "1.0 each request as it came",
        "2.0 by target, 2,000 a request",
        "60 %",
        "grouping:",
        "1000/s × 0.5 s / 2000 = 0.25 busy",
        "storage.max_bytes:",
        "1.0 % of a core (it rests to stay at 5.0 %)",
    ] {
        assert!(told.contains(words), "{words} is not in\n{told}");
    }
    measured.state = ShadowState::Ready;
    measured.passed_seconds = 600.0;
    assert!(shadow_text::text(&shadow(&measured)).contains("10 min measured, ready"));
}
