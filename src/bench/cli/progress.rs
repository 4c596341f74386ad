//! How a run is going, on a terminal: one line, drawn over itself.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(500);
/// Draws over which a rate is taken: two seconds.
const RATE_OVER: usize = 4;
/// Places of the bar.
const BAR: usize = 20;
/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;

/// What there is to tell.
pub(super) struct Told {
    /// How much of the run is over, 0 to 1; `None` where it has no end.
    pub(super) share: Option<f64>,
    /// What is counted, as far as it is.
    pub(super) samples: u64,
    /// What else is worth to be seen.
    pub(super) rest: String,
}

/// Draws on stderr while it is a terminal; never ends. The line goes when this is dropped.
pub(super) async fn show(mut tell: impl FnMut() -> Told) {
    if !io::stderr().is_terminal() {
        std::future::pending::<()>().await;
    }
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started = Instant::now();
    let mut rate = Rate::default();
    let _drawn = Drawn;
    loop {
        ticks.tick().await;
        let (since, told) = (started.elapsed(), tell());
        let now = rate.now(since, told.samples);
        draw(&line(since, now, &told));
    }
}

fn draw(line: &str) {
    let columns = rustix::termios::tcgetwinsize(io::stderr())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS);
    // A line that wraps could not be drawn over.
    let line: String = line.chars().take(columns - 1).collect();
    // What cannot be shown is no reason to stop.
    write!(io::stderr(), "\r{line}\x1b[K").ok();
}

/// There is a line on the terminal.
struct Drawn;

impl Drop for Drawn {
    fn drop(&mut self) {
        write!(io::stderr(), "\r\x1b[K").ok();
    }
}

/// How fast a count has grown lately.
#[derive(Default)]
struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    /// A second, over the last few calls; 0 at first.
    fn now(&mut self, since: Duration, count: u64) -> f64 {
        let (then, before) = self.0.front().copied().unwrap_or((since, count));
        self.0.push_back((since, count));
        if self.0.len() > RATE_OVER {
            self.0.pop_front();
        }
        let seconds = since.saturating_sub(then).as_secs_f64();
        if seconds > 0.0 {
            count.saturating_sub(before) as f64 / seconds
        } else {
            0.0
        }
    }
}

/// `[######--------------]  31 %  0:12  1234567 samples, 41234/s  …`
fn line(since: Duration, rate: f64, told: &Told) -> String {
    let mut line = String::new();
    if let Some(share) = told.share {
        let share = share.clamp(0.0, 1.0);
        let full = (share * BAR as f64) as usize;
        let (full, rest) = ("#".repeat(full), "-".repeat(BAR - full));
        let percent = (share * 100.0) as u32;
        write!(line, "[{full}{rest}] {percent:3} %  ").ok();
    }
    let seconds = since.as_secs();
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (samples, rest) = (told.samples, &told.rest);
    write!(
        line,
        "{minutes}:{seconds:02}  {samples} samples, {rate:.0}/s  {rest}"
    )
    .ok();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(share: Option<f64>) -> Told {
        Told {
            share,
            samples: 1_200,
            rest: "p99 3.0 ms".to_owned(),
        }
    }

    #[test]
    fn a_run_with_an_end_has_a_bar_and_one_without_has_none() {
        let since = Duration::from_secs(75);
        assert_eq!(
            line(since, 40.0, &told(Some(0.31))),
            "[######--------------]  31 %  1:15  1200 samples, 40/s  p99 3.0 ms"
        );
        assert_eq!(
            line(since, 40.0, &told(None)),
            "1:15  1200 samples, 40/s  p99 3.0 ms"
        );
        for (share, percent) in [(0.0, "  0 %"), (1.0, "100 %"), (1.7, "100 %")] {
            let line = line(since, 0.0, &told(Some(share)));
            assert!(line.contains(percent), "{line}");
            assert_eq!(line.find(']'), Some(BAR + 1), "{line}");
        }
    }

    #[test]
    fn a_rate_is_that_of_the_last_moments() {
        let mut rate = Rate::default();
        let at = |half_seconds| EVERY * half_seconds;
        assert!(rate.now(at(0), 0) < 0.1);
        assert!((rate.now(at(1), 100) - 200.0).abs() < 0.1);
        for tick in 2..8 {
            rate.now(at(tick), 100);
        }
        // It stood still for two seconds, whatever it did before.
        assert!(rate.now(at(8), 100) < 0.1);
        assert!((rate.now(at(9), 1_100) - 500.0).abs() < 0.1);
    }
}
