//! `mode: passthrough` on top of a configuration that was made for batches.

use super::super::Mode;
use super::*;

#[test]
fn the_mode_is_normal_unless_it_is_said() {
    assert_eq!(
        load_flags(&["--upstream", "discard:"]).unwrap().config.mode,
        Mode::Normal
    );
    let loaded = load_flags(&["--upstream", "discard:", "--mode", "passthrough"]).unwrap();
    assert_eq!(loaded.config.mode, Mode::Passthrough);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn what_shapes_batches_has_no_effect_and_is_named_as_it_is_written() {
    let yaml = "remote_write:\n\
                - name: one\n  url: http://r/\n  grouping: arrival\n  merge_window: 10s\n  \
                protobuf_message: auto\n  compression: zstd\n  separate_by: [a]\n  \
                spread: [{job: x, by: [y]}]\n  metadata_config: {send: false}\n  \
                queue_config: {max_samples_per_send: 500, min_shards: 2, max_shards: 9, capacity: 5000}\n\
                - name: two\n  url: http://s/\n  queue_config: {capacity: 6000}\n";
    let ack = ["--mode", "passthrough", "--ack", "memory"];
    let warnings = load_with(yaml, &ack).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "one: no effect with mode passthrough, which sends each body as it came: protobuf_message, compression, \
             grouping, separate_by, spread, merge_window, max_samples_per_send, min_shards, metadata_config.send"
        ]
    );
    // As many as senders send: max_shards is no limit then.
    let upstream = load_with(yaml, &["--mode", "passthrough"])
        .unwrap()
        .warnings;
    assert!(
        upstream
            .iter()
            .any(|warning| warning.contains("min_shards, max_shards,")),
        "{upstream:?}"
    );
    let flags = [
        "--upstream",
        "discard:",
        "--mode",
        "passthrough",
        "--merge-window",
        "5s",
    ];
    let warnings = load_flags(&flags).unwrap().warnings;
    let named = |warning: &String| warning.ends_with("as it came: merge_window");
    assert!(warnings.iter().any(named), "{warnings:?}");
}

#[test]
fn what_keeps_something_back_is_refused() {
    let yaml = "remote_write:\n- url: http://r/\n  send_exemplars: false\n  send_native_histograms: false\n";
    assert_eq!(
        problems(load_with(yaml, &["--mode", "passthrough"])),
        [
            "f:3: remote_write[0].send_exemplars: false: mode passthrough sends each body whole, exemplars included",
            "f:4: remote_write[0].send_native_histograms: false: mode passthrough sends each body whole, native \
             histograms included",
        ]
    );
    assert!(
        load_with(yaml, &[]).is_ok(),
        "in the normal mode both are kept back"
    );
}
