//! What is documented is what happens.

use std::fmt::Write;

use clap::CommandFactory;

use super::super::choice::Choice;
use super::super::keys::SectionDoc;
use super::super::preset::Preset;
use super::super::raw::SECTIONS;
use super::super::{docs, types};
use super::*;

#[test]
fn the_page_with_all_keys_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
    let page = docs::render();
    if std::env::var_os("SLUICEGATE_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        stored == page,
        "docs/config.md is stale: SLUICEGATE_BLESS=1 cargo test --lib config"
    );
}

fn section(path: &str) -> &'static SectionDoc {
    SECTIONS
        .iter()
        .find(|section| section.path == path)
        .expect("a section")
}

/// Writes the keys of a section that have a default, and the sections below it.
fn write_defaults(text: &mut String, path: &str, indent: usize) {
    for key in section(path)
        .keys
        .iter()
        .filter(|key| !key.default.is_empty())
    {
        writeln!(text, "{:indent$}{}: {}", "", key.name, key.default).unwrap();
    }
    let below = if path.is_empty() {
        String::new()
    } else {
        format!("{path}.")
    };
    for child in SECTIONS {
        let Some(name) = child.path.strip_prefix(&below) else {
            continue;
        };
        // Those with a default need a companion, or are a list's item: tested elsewhere.
        let skipped = ["", "authorization", "spread[]", "remote_write[]"];
        if !name.contains('.') && !skipped.contains(&name) && child.path != path {
            writeln!(text, "{:indent$}{name}:", "").unwrap();
            write_defaults(text, child.path, indent + 2);
        }
    }
}

#[test]
fn every_documented_default_is_accepted_and_changes_nothing() {
    let mut yaml = String::new();
    write_defaults(&mut yaml, "", 0);
    yaml.push_str("remote_write:\n- url: http://r/\n");
    write_defaults(&mut yaml, "remote_write[]", 2);
    assert!(yaml.lines().count() > 50, "{yaml}");
    assert_eq!(
        config(&yaml),
        config("remote_write: [{url: 'http://r/'}]\n"),
        "{yaml}"
    );
}

#[test]
fn the_values_that_scripts_rely_on() {
    let config = load_flags(&["--upstream", "http://r/w"]).unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:9201");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9202");
    assert_eq!(config.ack, super::super::AckMode::Upstream);
    assert_eq!(config.memory_limit.to_string(), "768MiB");
    assert_eq!(config.shutdown_deadline.as_secs(), 30);
    let expected = QueueConfig::new(
        "default",
        super::super::EndpointConfig::Http(HttpEndpoint::new("http://r/w")),
    );
    assert_eq!(config.queues, [expected]);
    assert_eq!(config.listen, types::LISTEN);
}

#[test]
fn every_preset_sets_its_four_numbers_and_flag_and_file_win_over_it() {
    for (name, preset) in Preset::WORDS {
        let yaml = format!("preset: {name}\nremote_write: [{{url: 'discard:'}}]\n");
        assert_eq!(queue(&yaml).limits, preset.limits(), "{name}");
        let flags = ["--upstream", "discard:", "--preset", name];
        assert_eq!(
            load_flags(&flags).unwrap().config.queues[0].limits,
            preset.limits()
        );
    }
    let yaml = "remote_write: [{url: 'discard:', queue_config: {max_shards: 7}}]\n";
    let flags = ["--preset", "large", "--capacity", "6000"];
    let limits = load_with(yaml, &flags)
        .unwrap()
        .config
        .queues
        .remove(0)
        .limits;
    assert_eq!(
        (limits.max_shards, limits.capacity, limits.min_shards),
        (7, 6_000, 3)
    );
    assert_eq!(limits.max_samples_per_send, 1_000);
}

#[test]
fn runai_and_prometheus_presets_are_verbatim() {
    let limits = Preset::Runai.limits();
    assert_eq!(
        (
            limits.capacity,
            limits.max_samples_per_send,
            limits.max_shards
        ),
        (5_000, 1_000, 100)
    );
    assert_eq!(Preset::Prometheus.limits(), types::QueueLimits::default());
}

#[test]
fn every_flag_is_documented_at_a_key_and_has_its_environment_variable() {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("run");
    let documented: Vec<&str> = SECTIONS
        .iter()
        .flat_map(|section| section.keys)
        .map(|key| key.flag)
        .collect();
    let mut flags = Vec::new();
    for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
        let long = arg.get_long().expect("a long name");
        let variable = format!(
            "SLUICEGATE_{}",
            long.replace(['.', '-'], "_").to_uppercase()
        );
        assert_eq!(
            arg.get_env().and_then(|env| env.to_str()),
            Some(variable.as_str()),
            "--{long}"
        );
        let flag = format!("--{long}");
        // Where the file is, what it does when it is broken, and what stands for a whole entry.
        if !["--config.file", "--config.on-error", "--upstream"].contains(&flag.as_str()) {
            assert!(documented.contains(&flag.as_str()), "{flag}");
        }
        flags.push(flag);
    }
    for flag in documented.iter().filter(|flag| !flag.is_empty()) {
        assert!(
            flags.iter().any(|known| known == flag),
            "{flag} is documented only"
        );
    }
}

#[test]
fn help_tells_the_documented_defaults() {
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("run");
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        if key.flag.is_empty() || key.default.is_empty() {
            continue;
        }
        let arg = run
            .get_arguments()
            .find(|arg| arg.get_long() == key.flag.strip_prefix("--"));
        let help = arg
            .and_then(|arg| arg.get_help())
            .expect("a flag with help")
            .to_string();
        let told = format!("[default: {}]", key.default);
        assert!(
            help.replace('`', "").contains(&told),
            "{}: {help}",
            key.flag
        );
    }
}

#[test]
fn spread_rules_match_exactly_or_by_their_stars() {
    for (pattern, job, expected) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*", "ab", true),
        ("a*", "ba", false),
        ("*a*", "bab", true),
        ("*a*", "b", false),
        ("*", "anything", true),
    ] {
        let rule = types::SpreadRule {
            job: pattern.to_owned(),
            by: vec!["x".to_owned()],
        };
        assert_eq!(rule.matches(job), expected, "{pattern} {job}");
    }
    assert!(types::SpreadRule::kube_state_metrics().matches("monitoring/kube-state-metrics"));
}
