//! What makes no sense together with `mode: passthrough`.
//!
//! A key that shapes batches is warned of and nothing more: to ask "is it the proxy?" the mode is put on top of a
//! configuration that is there, and taken away again. A key that takes something out is refused: a body that goes
//! out whole would carry what the operator said must not leave.

use super::checks::Judge;
use super::choice::AckMode;
use super::problem::{Located, Source};
use super::raw::{RawConfig, RawRemoteWrite};
use super::types::Config;
use super::validate::section;

/// The keys that one entry gives and that have no effect.
type Given<'r> = (&'static str, Option<&'r Source>);

pub(super) fn check(raw: &RawConfig, config: &Config, judge: &mut Judge) {
    let entries = raw.remote_write.as_ref();
    let entries = entries.map_or(&[][..], |entries| &entries.value);
    let upstream = config.ack == AckMode::Upstream;
    for (entry, queue) in entries.iter().zip(&config.queues) {
        refuse(&entry.value, judge);
        let given: Vec<_> = idle_keys(&entry.value, upstream);
        if !given.is_empty() {
            let (name, given) = (&queue.name, given.join(", "));
            judge.warnings.push(format!(
                "{name}: no effect with mode passthrough, which sends each body as it came: {given}"
            ));
        }
    }
}

/// What a body that goes out whole cannot keep back.
fn refuse(entry: &RawRemoteWrite, judge: &mut Judge) {
    for (what, given) in [
        ("exemplars", &entry.send_exemplars),
        ("native histograms", &entry.send_native_histograms),
    ] {
        if let Some(Located {
            value: false,
            source,
        }) = given
        {
            let reason = format!("mode passthrough sends each body whole, {what} included");
            judge.problems.refuse(source, false, reason);
        }
    }
}

fn idle_keys(entry: &RawRemoteWrite, upstream: bool) -> Vec<&'static str> {
    let queue = section(entry.queue_config.as_ref());
    let metadata = section(entry.metadata_config.as_ref());
    let given: [Given<'_>; 14] = [
        ("protobuf_message", source(entry.protobuf_message.as_ref())),
        ("compression", source(entry.compression.as_ref())),
        ("grouping", source(entry.grouping.as_ref())),
        ("separate_by", source(entry.separate_by.as_ref())),
        ("spread", source(entry.spread.as_ref())),
        ("merge_window", source(entry.merge_window.as_ref())),
        (
            "max_samples_per_send",
            source(queue.max_samples_per_send.as_ref()),
        ),
        (
            "max_bytes_per_send",
            source(queue.max_bytes_per_send.as_ref()),
        ),
        (
            "batch_send_deadline",
            source(queue.batch_send_deadline.as_ref()),
        ),
        ("min_shards", source(queue.min_shards.as_ref())),
        (
            "max_shards",
            source(queue.max_shards.as_ref()).filter(|_| upstream),
        ),
        ("metadata_config.send", source(metadata.send.as_ref())),
        (
            "metadata_config.send_interval",
            source(metadata.send_interval.as_ref()),
        ),
        (
            "metadata_config.max_samples_per_send",
            source(metadata.max_samples_per_send.as_ref()),
        ),
    ];
    let given = given.into_iter().filter(|(_, source)| source.is_some());
    given.map(|(key, _)| key).collect()
}

fn source<T>(given: Option<&Located<T>>) -> Option<&Source> {
    given.map(|given| &given.source)
}
