//! What a demo says. Pure: values in, lines out.

use std::time::Duration;

use super::script::{NEAR, RETRY_AFTER_SECONDS, SLOW, Scene, limit};
use super::view::{Most, View};
use crate::report::words::{bytes, clean, count, plural, rate, time};
use crate::units::Span;

/// Columns of a sentence.
const WIDTH: usize = 100;
/// Where the text of a sentence begins, behind its moment.
const INDENT: usize = 8;

/// Everything that the first lines say.
pub(super) struct Intro<'a> {
    pub(super) nodes: u32,
    pub(super) targets: usize,
    pub(super) series: u64,
    pub(super) interval: Duration,
    /// Samples a second.
    pub(super) flow: u64,
    pub(super) data: &'a str,
    pub(super) page: &'a str,
    pub(super) receiver: &'a str,
    pub(super) folder: &'a str,
    pub(super) length: Duration,
    pub(super) keep: bool,
}

/// The first lines: what runs, where, and how it ends.
pub(super) fn intro(intro: &Intro<'_>) -> String {
    let Intro {
        data,
        page,
        receiver,
        folder,
        ..
    } = intro;
    let load = format!(
        "as of a Prometheus: {} targets on {}, each every {}: {} series, {} samples/s",
        count(intro.targets as u64),
        plural(u64::from(intro.nodes), "node"),
        Span(intro.interval),
        count(intro.series),
        count(intro.flow),
    );
    let length = Span(intro.length);
    let ends = if intro.keep {
        format!(
            "The script takes {length}, then all goes on calmly. Ctrl-C ends it, with a summary."
        )
    } else {
        format!(
            "It takes {length} and ends with a summary. Ctrl-C ends it sooner, with the same summary."
        )
    };
    format!(
        "A load generator, Sluicegate with its log on disk, and a receiver that misbehaves, in one process.\n\
         \n  page      {page}   <- open this in a browser\
         \n  load      {load}\
         \n  data      {data}   that is where the load goes\
         \n  receiver  {receiver}   {} ms away; it counts, and checks every bit\
         \n  folder    {folder}   the log; removed at the end\
         \n\n{ends}\n\
         pending: samples that are not delivered; lag: age of the oldest; shards: requests permitted at a time,\n\
         and how many the load asks for; log: bytes on disk; answers: what the receiver said in that second.\n\n",
        NEAR.base.as_millis()
    )
}

/// What stands above the lines.
pub(super) fn header() -> String {
    format!(
        "{:>6} {:>9} {:>9} {:>10} {:>8} {:>9} {:>9}  answers\n",
        "time", "in/s", "out/s", "pending", "lag", "shards", "log"
    )
}

/// One moment in one line.
pub(super) fn line(view: &View) -> String {
    let answers = view.answers.iter().map(|(code, n)| match code.as_str() {
        "connect" => format!("{} × no connection", count(*n)),
        "closed" => format!("{} × connection closed", count(*n)),
        code => format!("{} × {}", count(*n), clean(code)),
    });
    let answers: Vec<_> = answers.collect();
    let answers = match answers.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let shards = format!("{}/{:.1}", view.shards, view.desired);
    format!(
        "{:>6} {:>9} {:>9} {:>10} {:>8} {:>9} {:>9}  {answers}\n",
        clock(view.at),
        rate(Some(view.in_per_second)),
        rate(Some(view.out_per_second)),
        count(view.pending),
        time(view.lag_seconds),
        shards,
        bytes(view.log_bytes as f64),
    )
}

/// A sentence with its moment, wrapped.
pub(super) fn sentence(at: Duration, text: &str) -> String {
    let mut out = format!("{:>6}  ", clock(at));
    let mut column = INDENT;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > INDENT && column + 1 + width > WIDTH {
            out += &format!("\n{:INDENT$}", "");
            column = INDENT;
        }
        if column > INDENT {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += width;
    }
    out.push('\n');
    out
}

/// What begins with a scene, and what the one before it came to.
pub(super) fn scene(scene: Scene, before: &Most, now: &View, flow: u64) -> String {
    let (near, slow) = (NEAR.base.as_millis(), SLOW.base.as_millis());
    let waited = format!(
        "At most {} samples were pending, the oldest for {}",
        count(before.pending),
        time(before.lag_seconds)
    );
    match scene {
        Scene::First => format!("All is well at first: the receiver answers after {near} ms."),
        Scene::Down => "The receiver goes down: connections are refused. The sender notices nothing, as what it \
            sends is acknowledged once it is on disk."
            .to_owned(),
        Scene::Back => format!(
            "The receiver is back. {} samples waited for it on disk, the oldest for {}; they go out in order.",
            count(now.pending),
            time(now.lag_seconds)
        ),
        Scene::Slow => format!(
            "The receiver becomes slow: every answer takes {slow} ms instead of {near}. More requests at a time \
             make up for that; how many is reckoned every 10 s."
        ),
        Scene::Quick => format!(
            "Answers take {near} ms again. {waited}; {} permitted at a time.",
            permitted(before.shards)
        ),
        Scene::Limited => format!(
            "The receiver limits the rate: above {} samples/s it answers 429 with Retry-After: \
             {RETRY_AFTER_SECONDS}. It is left alone as long as it asks, and nothing is dropped.",
            count(limit(flow))
        ),
        Scene::Last if before.limited == 0 => {
            format!("The limit is gone; the load stayed within the burst that it allows. {waited}.")
        }
        Scene::Last => format!(
            "The limit is gone. 429 was answered {}. {waited}.",
            times(before.limited)
        ),
    }
}

fn permitted(shards: u64) -> String {
    match shards {
        1 => "one request was".to_owned(),
        n => format!("up to {} requests were", count(n)),
    }
}

fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        n => format!("{} times", count(n)),
    }
}

/// It has caught up, so long after the receiver was well again.
pub(super) fn caught_up(after: Duration) -> String {
    let seconds = after.as_secs_f64().ceil().max(1.0) as u64;
    format!(
        "Caught up within {}: nothing waits longer than usual.",
        plural(seconds, "second")
    )
}

/// What the page says, when it says something new.
pub(super) fn verdict(text: &str) -> String {
    format!("The page says: {}", clean(text))
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The script is over.
    Over,
    /// A signal.
    Asked,
}

/// The load ends; what waits is delivered.
pub(super) fn ending(why: Why, pending: u64) -> String {
    let why = match why {
        Why::Over => "The script is over",
        Why::Asked => "Ending, as asked",
    };
    match pending {
        0 => format!("{why}: the load stops; nothing is pending."),
        n => format!(
            "{why}: the load stops, the receiver answers, and what is pending is delivered: {}. Another \
             Ctrl-C leaves it.",
            plural(n, "sample")
        ),
    }
}

/// Minutes and seconds.
pub(super) fn clock(at: Duration) -> String {
    let seconds = at.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            at: Duration::from_secs(83),
            in_per_second: 13_666.7,
            out_per_second: 0.0,
            pending: 204_981,
            lag_seconds: 14.96,
            shards: 3,
            desired: 4.23,
            log_bytes: 9 << 20,
            answers: vec![("204".to_owned(), 12), ("connect".to_owned(), 2)],
        }
    }

    #[test]
    fn a_line_has_its_numbers_below_their_names() {
        let (header, line) = (header(), line(&view()));
        let expected = "  1:23    13,667         0    204,981     15 s     3/4.2   9.0 MiB  12 × 204, 2 × no connection\n";
        assert_eq!(line, expected);
        for (name, value) in [("pending", "204,981"), ("lag", "15 s"), ("log", "9.0 MiB")] {
            let end = |text: &str, part: &str| text.find(part).unwrap() + part.len();
            assert_eq!(end(&header, name), end(&line, value), "{name}");
        }
        let silent = View::default();
        assert!(super::line(&silent).ends_with("  none\n"));
    }

    #[test]
    fn what_a_receiver_says_moves_no_cursor() {
        let mut odd = view();
        odd.answers = vec![("\u{1b}[2J".to_owned(), 1)];
        assert!(!line(&odd).contains('\u{1b}'));
        assert!(!verdict("a\u{1b}[2Jb").contains('\u{1b}'));
    }

    #[test]
    fn sentences_are_wrapped_and_indented() {
        let told = sentence(Duration::from_secs(5), &"word ".repeat(60));
        let lines: Vec<_> = told.lines().collect();
        assert!(lines.len() > 2, "{told}");
        assert!(
            lines.iter().all(|line| line.chars().count() <= WIDTH),
            "{told}"
        );
        assert!(lines[0].starts_with("  0:05  word"), "{told}");
        assert!(lines[1].starts_with("        word"), "{told}");
        assert_eq!(told.matches("word").count(), 60);
    }

    #[test]
    fn a_scene_tells_what_the_one_before_came_to() {
        let most = Most {
            pending: 61_234,
            lag_seconds: 4.5,
            shards: 6,
            limited: 7,
        };
        let told = |which| scene(which, &most, &view(), 13_666);
        assert!(
            told(Scene::Back)
                .contains("204,981 samples waited for it on disk, the oldest for 15 s")
        );
        assert!(
            told(Scene::Quick)
                .contains("61,234 samples were pending, the oldest for 4.5 s; up to 6 requests")
        );
        assert!(
            told(Scene::Limited)
                .contains("above 6,800 samples/s it answers 429 with Retry-After: 2")
        );
        assert!(told(Scene::Last).contains("429 was answered 7 times"));
        assert_eq!(times(1), "once");
    }

    #[test]
    fn the_clock_counts_hours_when_there_are_some() {
        let told = |seconds| clock(Duration::from_secs(seconds));
        assert_eq!(
            [told(0), told(75), told(3_725)],
            ["0:00", "1:15", "1:02:05"]
        );
    }
}
