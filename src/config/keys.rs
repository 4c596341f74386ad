//! What a key is: documented here, Prometheus' but not built, or a slip of the pen.

/// A key of the file, as `docs/config.md` shows it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// As it would be written in the file; empty for none, or for a section.
    pub(super) default: &'static str,
    /// The flag that overrides it; empty for none.
    pub(super) flag: &'static str,
    /// Lines of its description.
    pub(super) text: &'static [&'static str],
}

/// A mapping of the file: `""`, `server`, `remote_write[].queue_config`.
#[derive(Debug)]
pub(super) struct SectionDoc {
    pub(super) path: &'static str,
    pub(super) text: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

const PROMETHEUS_OWN: &str =
    "Prometheus' own, and not read here; keep only remote_write and Sluicegate's keys";
const NO_CLIENT_CERTIFICATE: &str = "TLS client certificates are not built yet";
const NO_AUTH: &str = "not built yet; authorization and basic_auth are";
const NO_SECRET_MANAGER: &str = "secret managers are not supported; use a file";

/// Keys that Prometheus or its operator has and we have not: section, key, why.
const NOT_BUILT: &[(&str, &str, &str)] = &[
    ("", "global", PROMETHEUS_OWN),
    ("", "runtime", PROMETHEUS_OWN),
    ("", "alerting", PROMETHEUS_OWN),
    ("", "rule_files", PROMETHEUS_OWN),
    ("", "scrape_configs", PROMETHEUS_OWN),
    ("", "scrape_config_files", PROMETHEUS_OWN),
    ("", "remote_read", PROMETHEUS_OWN),
    ("", "tracing", PROMETHEUS_OWN),
    ("", "otlp", PROMETHEUS_OWN),
    ("storage", "tsdb", PROMETHEUS_OWN),
    ("storage", "exemplars", PROMETHEUS_OWN),
    (
        "remote_write[]",
        "write_relabel_configs",
        "relabelling is not built yet; drop series in Prometheus' own remote_write",
    ),
    ("remote_write[]", "sigv4", NO_AUTH),
    ("remote_write[]", "azuread", NO_AUTH),
    ("remote_write[]", "google_iam", NO_AUTH),
    ("remote_write[]", "oauth2", NO_AUTH),
    (
        "remote_write[]",
        "http_headers",
        "not built yet; use headers",
    ),
    (
        "remote_write[]",
        "no_proxy",
        "not built yet; proxy_url is for this endpoint alone",
    ),
    ("remote_write[]", "proxy_connect_header", "not built yet"),
    (
        "remote_write[]",
        "messageVersion",
        "the operator's spelling; write protobuf_message",
    ),
    (
        "remote_write[].queue_config",
        "retryOnRateLimit",
        "the operator's spelling; write retry_on_http_429",
    ),
    (
        "remote_write[].queue_config",
        "maxRetries",
        "ignored by Prometheus since 2.11; remove it",
    ),
    ("remote_write[].tls_config", "cert", NO_CLIENT_CERTIFICATE),
    (
        "remote_write[].tls_config",
        "cert_file",
        NO_CLIENT_CERTIFICATE,
    ),
    (
        "remote_write[].tls_config",
        "cert_ref",
        NO_CLIENT_CERTIFICATE,
    ),
    ("remote_write[].tls_config", "key", NO_CLIENT_CERTIFICATE),
    (
        "remote_write[].tls_config",
        "key_file",
        NO_CLIENT_CERTIFICATE,
    ),
    (
        "remote_write[].tls_config",
        "key_ref",
        NO_CLIENT_CERTIFICATE,
    ),
    (
        "remote_write[].tls_config",
        "ca",
        "not built yet; use ca_file",
    ),
    ("remote_write[].tls_config", "ca_ref", NO_SECRET_MANAGER),
    (
        "remote_write[].tls_config",
        "min_version",
        "not built yet; TLS 1.2 and 1.3 are spoken",
    ),
    (
        "remote_write[].tls_config",
        "max_version",
        "not built yet; TLS 1.2 and 1.3 are spoken",
    ),
    (
        "remote_write[].authorization",
        "credentials_ref",
        NO_SECRET_MANAGER,
    ),
    (
        "remote_write[].basic_auth",
        "username_file",
        "not built yet; use username",
    ),
    (
        "remote_write[].basic_auth",
        "username_ref",
        NO_SECRET_MANAGER,
    ),
    (
        "remote_write[].basic_auth",
        "password_ref",
        NO_SECRET_MANAGER,
    ),
];

/// Why a key of a section is refused, and what was perhaps meant.
pub(super) fn unknown(section: &str, known: &[&str], key: &str) -> String {
    let not_built = NOT_BUILT
        .iter()
        .find(|(at, name, _)| *at == section && *name == key);
    if let Some((_, _, why)) = not_built {
        return format!("known but not supported: {why}");
    }
    if let Some(meant) = nearest(known, key) {
        return format!("unknown key, did you mean {meant}?");
    }
    let mut sections = super::raw::SECTIONS.iter();
    let elsewhere = sections.find(|other| other.keys.iter().any(|known| known.name == key));
    match elsewhere {
        Some(SectionDoc { path: "", .. }) => {
            "unknown key here; it belongs at the top level".to_owned()
        }
        Some(other) => format!("unknown key here; it belongs under {}", other.path),
        None => format!("unknown key; known here: {}", known.join(", ")),
    }
}

/// The known key that differs least, if it differs little: case, `_`, and a third of its letters.
fn nearest<'a>(known: &[&'a str], key: &str) -> Option<&'a str> {
    let plain = |key: &str| key.replace(['_', '-', '.'], "").to_ascii_lowercase();
    let key = plain(key);
    // The distance takes the product of both lengths, and a key can be as long as the file.
    if key.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|candidate| (distance(&plain(candidate), &key), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).min(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters_and_swaps() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("abc", "abd", 1),
            ("abc", "acb", 1),
            ("capacity", "capcity", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn an_unknown_key_is_answered_with_what_was_meant() {
        let queue = &["capacity", "max_shards", "min_shards"];
        let at = "remote_write[].queue_config";
        for (key, answer) in [
            ("capcity", "unknown key, did you mean capacity?"),
            ("maxShards", "unknown key, did you mean max_shards?"),
            ("url", "unknown key here; it belongs under remote_write[]"),
            (
                "remote_write",
                "unknown key here; it belongs at the top level",
            ),
            (
                "zzz",
                "unknown key; known here: capacity, max_shards, min_shards",
            ),
        ] {
            assert_eq!(unknown(at, queue, key), answer);
        }
        assert!(unknown(at, queue, &"k".repeat(1 << 20)).starts_with("unknown key; known here"));
    }

    #[test]
    fn no_key_is_both_built_and_not_built() {
        for (section, key, _) in NOT_BUILT {
            let section = super::super::raw::SECTIONS
                .iter()
                .find(|s| s.path == *section);
            let section = section.expect("a section of the file");
            assert!(
                !section.keys.iter().any(|known| known.name == *key),
                "{key}"
            );
        }
    }
}
