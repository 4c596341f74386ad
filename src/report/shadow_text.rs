//! The shadow report as text for a terminal. Pure.

use super::shadow::{Shadow, ShadowRow};
use super::words::{NOTHING, bytes, clean, count, percent, rate};

/// All of it, as lines that end.
pub fn text(shadow: &Shadow) -> String {
    let mut out = String::new();
    line(&mut out, "shadow report", &shadow.stage());
    if shadow.rows.is_empty() {
        return out;
    }
    line(&mut out, "came in", &came(shadow));
    out += &format!(
        "    {:<46}{:>9}{:>8}{:>10}{:>11}{:>12}\n",
        "the same sent", "B/sample", "saved", "GB/month", "ns/sample", "samples"
    );
    for row in &shadow.rows {
        out += &format!(
            "    {:<46}{:>9.1}{:>8}{:>10}{:>11}{:>12}\n",
            clean(&way(row)),
            row.bytes_per_sample,
            percent(row.saved_share),
            gigabytes(row.gb_per_month),
            count(row.cpu_ns_per_sample.round() as u64),
            count(row.samples)
        );
    }
    for unknown in &shadow.unknown {
        out += &format!("    {}\n", clean(unknown));
    }
    let hops = [
        ("receiver", "towards receiver"),
        ("senders", "in Prometheus"),
        ("outage", "for 1 h outage"),
    ];
    for (hop, name) in hops {
        let mut name = name;
        for advice in shadow.advice.iter().filter(|advice| advice.hop == hop) {
            line(&mut out, name, &clean(&advice.setting));
            line(&mut out, "", &format!("  {}", clean(&advice.sum)));
            name = "";
        }
    }
    for note in &shadow.notes {
        line(&mut out, "note", &clean(note));
    }
    line(&mut out, "measuring", &cost(shadow));
    out
}

fn line(out: &mut String, name: &str, value: &str) {
    *out += format!("  {name:<17}{value}").trim_end();
    out.push('\n');
}

/// A way of sending, in words.
pub fn way(row: &ShadowRow) -> String {
    let zstd = match row.compression.as_str() {
        "snappy" => String::new(),
        other => format!(" {other}"),
    };
    format!("{}{zstd} {}", row.protocol, row.means)
}

/// What came in, in words.
pub fn came(shadow: &Shadow) -> String {
    let per = |n: Option<f64>| n.map_or_else(|| NOTHING.to_owned(), |n| format!("{n:.1}"));
    let requests = shadow.came.requests.max(1);
    format!(
        "{} B a sample, {} samples/s in {} requests/s of {}: {} GB a month",
        per(shadow.bytes_per_sample),
        rate(shadow.samples_per_second),
        rate(shadow.requests_per_second),
        count(shadow.came.samples / requests),
        gigabytes(shadow.gb_per_month)
    )
}

/// Gigabytes: two digits that count.
pub fn gigabytes(gigabytes: Option<f64>) -> String {
    match gigabytes {
        None => NOTHING.to_owned(),
        Some(n) if n >= 99.5 => count(n.round() as u64),
        Some(n) if n >= 9.95 => format!("{n:.0}"),
        Some(n) if n >= 0.995 => format!("{n:.1}"),
        Some(n) => format!("{n:.2}"),
    }
}

fn stretches(n: u64) -> String {
    match n {
        1 => "one stretch".to_owned(),
        n => format!("{} stretches", count(n)),
    }
}

/// What the measuring cost, in words.
pub fn cost(shadow: &Shadow) -> String {
    let cost = &shadow.cost;
    let share = cost.cpu_share.map_or_else(String::new, |share| {
        format!(
            ", {} of a core (it rests to stay at {})",
            percent(share),
            percent(cost.cpu_share_most)
        )
    });
    let measured = shadow.rows.first().map_or(0, |row| row.samples);
    format!(
        "{} samples in {}; {:.1} s CPU{share}, {} of memory at the most",
        count(measured),
        stretches(shadow.stretches),
        cost.cpu_seconds,
        bytes(cost.memory_peak_bytes as f64)
    )
}
