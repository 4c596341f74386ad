//! The script at work: scenes, a line a second, and the end.

use std::future::pending;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use super::outcome::Outcome;
use super::script::{Scene, Script};
use super::stage::Stage;
use super::told::{self, Intro, Why};
use super::view::{Most, Sums, View};
use crate::cli::demo::DemoArgs;
use crate::clock::Instant;

const TICK: Duration = Duration::from_secs(1);
/// A lag that batches have while nothing is wrong: their deadline, a few round trips, and some slack.
const USUAL_LAG_SECONDS: f64 = 2.0;
/// Time at the end to deliver what is pending.
const DELIVER: Duration = Duration::from_secs(60);

/// Signals that end it; a terminal that is closed is one of them.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not kill this process.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Plays the whole script. Says whether everything held.
///
/// # Errors
/// It cannot start; in words.
pub(super) async fn play(
    args: &DemoArgs,
    folder: &Path,
    mut signals: Signals,
    out: Out<'_>,
) -> Result<bool, String> {
    let stage = tokio::select! {
        stage = Stage::start(args, folder) => stage?,
        // Nothing has begun: there is nothing to tell.
        () = signals.next() => return Ok(true),
    };
    let mut play = Play {
        stage,
        script: Script::new(args.duration.0),
        started: Instant::now(),
        seconds: seconds(),
        out,
        at: 0,
        sums: Sums::default(),
        scene: Most::default(),
        all: Most::default(),
        recovering: None,
        says: String::new(),
    };
    play.introduce(args, folder);
    let why = play.scenes(args.keep, &mut signals).await;
    play.deliver(why, &mut signals).await;
    play.finish(why).await
}

fn seconds() -> Interval {
    let mut seconds = interval(TICK);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first one is at once.
    seconds.reset();
    seconds
}

/// Where lines go, until nobody reads them any more.
pub(super) struct Out<'o> {
    out: &'o mut dyn Write,
    terminal: bool,
    closed: bool,
}

impl<'o> Out<'o> {
    /// On a terminal, sentences stand out from the numbers.
    pub(super) fn new(out: &'o mut dyn Write, terminal: bool) -> Self {
        Self {
            out,
            terminal,
            closed: false,
        }
    }

    fn say(&mut self, text: &str) {
        let said = self.out.write_all(text.as_bytes());
        self.closed |= said.and_then(|()| self.out.flush()).is_err();
    }
}

struct Play<'o> {
    stage: Stage,
    script: Script,
    started: Instant,
    seconds: Interval,
    out: Out<'o>,
    /// Index of the scene.
    at: usize,
    sums: Sums,
    /// The most of this scene, and of all.
    scene: Most,
    all: Most,
    /// Since when the receiver is well again, while that is not caught up with.
    recovering: Option<Instant>,
    /// The last verdict that was told.
    says: String,
}

impl Play<'_> {
    fn introduce(&mut self, args: &DemoArgs, folder: &Path) {
        let stage = &self.stage;
        let intro = told::intro(&Intro {
            nodes: args.nodes,
            targets: stage.targets,
            series: stage.series,
            interval: args.interval.0,
            flow: stage.flow,
            data: &format!("http://{}/api/v1/write", stage.data),
            page: &format!("http://{}/", stage.admin),
            receiver: &stage.sink.url(),
            folder: &folder.display().to_string(),
            length: args.duration.0,
            keep: args.keep,
        });
        self.out.say(&intro);
        self.begin(0);
    }

    /// Scene by scene, until the script is over or somebody ends it.
    async fn scenes(&mut self, keep: bool, signals: &mut Signals) -> Why {
        loop {
            let over = self.at + 1 == self.script.scenes.len();
            let next = self.started + self.script.end_of(self.at);
            let next = async {
                if over && keep {
                    pending::<()>().await;
                } else {
                    sleep_until(next).await;
                }
            };
            tokio::select! {
                biased;
                () = signals.next() => return Why::Asked,
                () = next => {
                    if over {
                        return Why::Over;
                    }
                    self.begin(self.at + 1);
                }
                _ = self.seconds.tick() => self.look(),
            }
            if self.out.closed {
                return Why::Asked;
            }
        }
    }

    /// The scene changes.
    fn begin(&mut self, at: usize) {
        let scene = self.script.scenes[at].1;
        self.at = at;
        self.stage.set(scene);
        // Rates are told by whole seconds: this look is for the sentence only.
        let now = Sums::default().view(&self.stage.status.report(), self.started.elapsed());
        let before = std::mem::take(&mut self.scene);
        let text = told::scene(scene, &before, &now, self.stage.flow);
        self.recovering = scene.is_recovery().then(Instant::now);
        self.tell(&text);
        self.out.say(&told::header());
    }

    fn tell(&mut self, text: &str) {
        let told = told::sentence(self.started.elapsed(), text);
        if self.out.terminal {
            self.out.say(&format!("\x1b[1m{told}\x1b[0m"));
        } else {
            self.out.say(&told);
        }
    }

    /// A second is over.
    fn look(&mut self) {
        let report = self.stage.status.report();
        let view = self.sums.view(&report, self.started.elapsed());
        self.scene.see(&view);
        self.all.see(&view);
        self.out.say(&told::line(&view));
        if report.verdict.id != self.says {
            self.tell(&told::verdict(&report.verdict.text));
            self.says = report.verdict.id;
        }
        self.look_whether_caught_up(&view);
    }

    fn look_whether_caught_up(&mut self, view: &View) {
        if let Some(since) = self.recovering
            && view.lag_seconds <= USUAL_LAG_SECONDS
        {
            self.recovering = None;
            self.tell(&told::caught_up(since.elapsed()));
        }
    }

    /// Stops the load, and gives what is pending the time it needs.
    async fn deliver(&mut self, why: Why, signals: &mut Signals) {
        self.stage.set(Scene::Last);
        self.stage.end_load();
        let now = Sums::default().view(&self.stage.status.report(), self.started.elapsed());
        self.tell(&told::ending(why, now.pending));
        let until = Instant::now() + DELIVER;
        let mut often = interval(Duration::from_millis(50));
        while !self.stage.is_done() && Instant::now() < until {
            tokio::select! {
                biased;
                () = signals.next() => return,
                _ = self.seconds.tick() => self.look(),
                _ = often.tick() => {}
            }
        }
    }

    async fn finish(self, why: Why) -> Result<bool, String> {
        let Self {
            stage,
            started,
            mut out,
            all,
            ..
        } = self;
        let left = stage.take_apart().await?;
        let outcome = Outcome {
            most: all,
            took: started.elapsed(),
            cut_short: why == Why::Asked,
            ..Outcome::new(&left.load, left.compared, &left.report, left.pending)
        };
        out.say(&format!("\n{outcome}\n"));
        Ok(outcome.faults().is_empty())
    }
}
