//! Flags over the file: both end up in one raw form, and every value knows who said it.

use super::problem::{Located, Problems, Source};
use super::raw::{RawConfig, RawRemoteWrite};
use crate::cli::{QueueArgs, RunArgs};

/// Puts every flag that was given in the place of its key.
pub(super) fn apply_flags(args: &RunArgs, raw: &mut RawConfig, problems: &mut Problems) {
    upstreams(args, raw, problems);

    let server = open(&mut raw.server);
    put(&mut server.listen, "--listen", args.listen.as_ref());
    let admin = open(&mut raw.admin);
    put(
        &mut admin.listen,
        "--web.listen-address",
        args.web_listen_address.as_ref(),
    );
    let storage = open(&mut raw.storage);
    put(
        &mut storage.path,
        "--storage.path",
        args.storage_path.as_ref(),
    );
    put(
        &mut storage.max_bytes,
        "--storage.max-bytes",
        args.storage_max_bytes.as_ref(),
    );
    let memory = open(&mut raw.memory);
    put(
        &mut memory.limit,
        "--memory.limit",
        args.memory_limit.as_ref(),
    );
    let shutdown = open(&mut raw.shutdown);
    put(
        &mut shutdown.deadline,
        "--shutdown.deadline",
        args.shutdown_deadline.as_ref(),
    );
    let log = open(&mut raw.log);
    put(&mut log.level, "--log.level", args.log_level.as_ref());
    put(&mut log.format, "--log.format", args.log_format.as_ref());

    put(&mut raw.ack, "--ack", args.ack.as_ref());
    put(&mut raw.mode, "--mode", args.mode.as_ref());
    put(&mut raw.preset, "--preset", args.queue.preset.as_ref());

    for queue in raw
        .remote_write
        .iter_mut()
        .flat_map(|queues| &mut queues.value)
    {
        queue_flags(&args.queue, &mut queue.value);
    }
}

fn queue_flags(args: &QueueArgs, queue: &mut RawRemoteWrite) {
    put(
        &mut queue.protobuf_message,
        "--protobuf-message",
        args.protobuf_message.as_ref(),
    );
    put(
        &mut queue.compression,
        "--compression",
        args.compression.as_ref(),
    );
    put(&mut queue.grouping, "--grouping", args.grouping.as_ref());
    put(
        &mut queue.merge_window,
        "--merge-window",
        args.merge_window.as_ref(),
    );
    put(
        &mut queue.remote_timeout,
        "--remote-timeout",
        args.remote_timeout.as_ref(),
    );
    let limits = open(&mut queue.queue_config);
    put(&mut limits.capacity, "--capacity", args.capacity.as_ref());
    put(
        &mut limits.max_samples_per_send,
        "--max-samples-per-send",
        args.max_samples_per_send.as_ref(),
    );
    put(
        &mut limits.min_shards,
        "--min-shards",
        args.min_shards.as_ref(),
    );
    put(
        &mut limits.max_shards,
        "--max-shards",
        args.max_shards.as_ref(),
    );
    put(
        &mut limits.batch_send_deadline,
        "--batch-send-deadline",
        args.batch_send_deadline.as_ref(),
    );
    put(
        &mut limits.min_backoff,
        "--min-backoff",
        args.min_backoff.as_ref(),
    );
    put(
        &mut limits.max_backoff,
        "--max-backoff",
        args.max_backoff.as_ref(),
    );
}

/// The section, made where the file has none.
fn open<T: Default>(slot: &mut Option<Located<T>>) -> &mut T {
    let nothing = || Located {
        value: T::default(),
        source: Source::default(),
    };
    &mut slot.get_or_insert_with(nothing).value
}

fn put<T: Clone>(slot: &mut Option<Located<T>>, flag: &str, value: Option<&T>) {
    if let Some(value) = value.cloned() {
        *slot = Some(Located {
            value,
            source: Source::flag(flag),
        });
    }
}

/// Makes an entry of every `--upstream`. The file may have none then: which of both was meant
/// cannot be known, and guessing would send data to the wrong place.
fn upstreams(args: &RunArgs, raw: &mut RawConfig, problems: &mut Problems) {
    let flag = Source::flag("--upstream");
    // The environment variable holds all of them; a URL never holds a blank.
    let given: Vec<&str> = args
        .upstream
        .iter()
        .flat_map(|text| text.split_whitespace())
        .collect();
    if given.is_empty() {
        if !args.upstream.is_empty() {
            problems.note(&flag, "must not be empty: write URL, NAME=URL or discard:");
        }
        return;
    }
    if raw
        .remote_write
        .as_ref()
        .is_some_and(|entries| !entries.value.is_empty())
    {
        problems.note(
            &flag,
            "the file has remote_write entries as well; use the file alone, or take remote_write \
             out of it",
        );
        return;
    }
    let mut queues = Vec::new();
    for text in &given {
        let (name, url) = split_name(text);
        let located = |value: &str| Located {
            value: value.to_owned(),
            source: flag.clone(),
        };
        let entry = RawRemoteWrite {
            name: name.map(located),
            url: Some(located(url)),
            ..RawRemoteWrite::default()
        };
        queues.push(Located {
            value: entry,
            source: flag.clone(),
        });
    }
    raw.remote_write = Some(Located {
        value: queues,
        source: flag,
    });
}

/// `NAME=URL` or `URL`: a URL can hold `=`, but its scheme ends in `:` before that.
fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && name.bytes().all(super::checks::in_name) => {
            (Some(name), url)
        }
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn a_name_ends_at_the_first_equals_sign_and_urls_keep_theirs() {
        for (text, name, url) in [
            ("http://a/?x=1", None, "http://a/?x=1"),
            ("eu=http://a/?x=1", Some("eu"), "http://a/?x=1"),
            ("eu-1_b=discard:", Some("eu-1_b"), "discard:"),
            ("discard:", None, "discard:"),
            ("=http://a", None, "=http://a"),
            ("e u=http://a", None, "e u=http://a"),
        ] {
            assert_eq!(split_name(text), (name, url), "{text}");
        }
    }
}
