//! A sender and a receiver that are never faulted, and the program between them, which is.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluicegate::bench::Protocol;
use sluicegate::bench::compare::Blame;
use sluicegate::bench::data::DataOptions;
use sluicegate::bench::load::{Load, LoadOptions, LoadReport, LoadSummary, Progress, Speed};
use sluicegate::bench::sink::{
    Behaviour, Decoder, Down, Repeat, Sink, SinkHandle, SinkOptions, SinkStats,
};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::scrape::{Scrape, Watch};
use crate::subject::{Life, Subject, ports};
use crate::verdict::{Epoch, Verdict};

/// Requests in flight between program and receiver.
pub(crate) const SHARDS: u64 = 4;
/// Elements in each.
pub(crate) const MAX_SAMPLES_PER_SEND: u64 = 500;
/// Longest pause of the sender between two attempts.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// Time for the end: the sender gets its last answers, the program delivers what it has.
const DRAIN_LIMIT: Duration = Duration::from_secs(240);
/// A stop with nothing pending takes no longer, whatever the log.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Data's seconds in one of the clock: with 820 series each 15 s this makes 30,000 samples a second.
const SPEED: f64 = 550.0;

/// What a 2xx of the program under test promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    Fsync,
    Upstream,
    Memory,
}

/// Everything about a run that does not come from its plan.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Who is tested, for the report.
    pub(crate) name: String,
    pub(crate) ack: Ack,
    pub(crate) seed: u64,
    pub(crate) data: DataOptions,
    pub(crate) protocol: Protocol,
    /// What the receiver always does.
    pub(crate) receiver: Behaviour,
    pub(crate) senders: usize,
    /// Data's seconds in one of the clock.
    pub(crate) speed: Speed,
    /// The sender comes back this soon, whatever Retry-After says: how fast the program recovers shows.
    pub(crate) impatient: bool,
    /// It sends a request again until it is answered, as Prometheus does. Without that, whatever comes twice
    /// was repeated by the program.
    pub(crate) sender_repeats: bool,
    /// Folder of the log on disk, and of what the program prints. Made if missing.
    pub(crate) folder: PathBuf,
    /// Folder of the log, if not in `folder`.
    pub(crate) storage: Option<PathBuf>,
    /// Its ends are power losses: the last entries of the books may go with them, and more comes again.
    pub(crate) power_loss: bool,
    /// Put before the program, for example strace with its arguments.
    pub(crate) wrapper: Vec<OsString>,
    /// Further flags.
    pub(crate) flags: Vec<String>,
}

impl Setup {
    pub(crate) fn new(ack: Ack, seed: u64, folder: &Path) -> Self {
        Self {
            name: format!("{ack:?}").to_lowercase(),
            ack,
            seed,
            data: DataOptions {
                seed,
                nodes: 1,
                weird: true,
                histograms: true,
                ..DataOptions::default()
            },
            // Of both protocols, and with them 2.0's Written headers; the seed says which.
            protocol: if seed.is_multiple_of(2) {
                Protocol::V1
            } else {
                Protocol::V2
            },
            receiver: Behaviour::default(),
            senders: 8,
            speed: Speed::Times(SPEED),
            impatient: false,
            sender_repeats: true,
            folder: folder.to_owned(),
            storage: None,
            power_loss: false,
            wrapper: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Where the log on disk is.
    pub(crate) fn storage(&self) -> PathBuf {
        self.storage
            .clone()
            .unwrap_or_else(|| self.folder.join("log"))
    }

    /// The program, in front of this receiver.
    pub(crate) fn subject(&self, upstream: &str) -> Subject {
        let [data, admin] = ports();
        let mut command = self.wrapper.clone();
        command.push(crate::program().into());
        let mut add = |args: &[&str]| command.extend(args.iter().map(OsString::from));
        add(&["run", "--upstream", upstream]);
        add(&[
            "--listen",
            &data.to_string(),
            "--web.listen-address",
            &admin.to_string(),
        ]);
        let shards = SHARDS.to_string();
        add(&[
            "--min-shards",
            &shards,
            "--max-shards",
            &shards,
            "--capacity",
            "2500",
        ]);
        add(&["--max-samples-per-send", &MAX_SAMPLES_PER_SEND.to_string()]);
        add(&["--batch-send-deadline", "50ms", "--max-backoff", "200ms"]);
        match self.ack {
            Ack::Upstream => add(&["--ack", "upstream"]),
            Ack::Memory => add(&["--ack", "memory"]),
            Ack::Fsync => add(&[
                "--ack",
                "fsync",
                "--storage.path",
                &self.storage().to_string_lossy(),
            ]),
        }
        command.extend(self.flags.iter().map(OsString::from));
        let log = self.folder.join("program.log");
        Subject {
            command,
            data,
            admin: Some(admin),
            path: "/api/v1/write",
            log,
        }
    }
}

/// A run: receiver, sender, and one life of the program after the other.
pub(crate) struct Rig {
    pub(crate) setup: Setup,
    pub(crate) subject: Subject,
    pub(crate) sink: SinkHandle,
    pub(crate) watch: Option<Watch>,
    pub(crate) life: Option<Life>,
    load: JoinHandle<LoadReport>,
    progress: Progress,
    enough: CancellationToken,
    cancel: CancellationToken,
    epochs: Vec<Epoch>,
    outages: u64,
    recoveries: Vec<Duration>,
    peak_rss_kib: u64,
    began: Instant,
}

impl Rig {
    /// Starts receiver and sender; the program has no life yet.
    pub(crate) fn new(setup: Setup) -> Self {
        std::fs::create_dir_all(&setup.folder).expect("the folder can be made");
        let sink = Self::sink(&setup);
        let subject = setup.subject(&sink.url());
        Self::of_subject(setup, sink, subject)
    }

    /// A receiver as the setup wants it.
    pub(crate) fn sink(setup: &Setup) -> SinkHandle {
        let options = SinkOptions {
            decoder: Decoder::Scan,
            verify: Some(setup.data.clone()),
            list_repeats: true,
            behaviour: setup.receiver.clone(),
            ..SinkOptions::default()
        };
        Sink::start(options).expect("the sink listens")
    }

    /// The same with any program that takes and sends remote write.
    pub(crate) fn of_subject(setup: Setup, sink: SinkHandle, subject: Subject) -> Self {
        let options = LoadOptions {
            url: subject.url(),
            data: setup.data.clone(),
            protocol: setup.protocol,
            senders: setup.senders,
            max_samples_per_send: MAX_SAMPLES_PER_SEND as usize,
            capacity: 5 * MAX_SAMPLES_PER_SEND as usize,
            batch_send_deadline: Duration::from_millis(50),
            attempts_max: (!setup.sender_repeats).then_some(1),
            backoff_max: BACKOFF_MAX,
            retry_after_max: setup.impatient.then_some(BACKOFF_MAX),
            speed: setup.speed,
            flush_deadline: DRAIN_LIMIT,
            ..LoadOptions::default()
        };
        let load = Load::new(options).expect("the URL is one");
        let (enough, progress) = (load.enough(), load.progress());
        let cancel = CancellationToken::new();
        let watch = subject
            .admin
            .map(|admin| Watch::start(admin, setup.ack == Ack::Fsync && !setup.power_loss));
        let load = tokio::spawn(load.run(cancel.clone()));
        Self {
            setup,
            subject,
            sink,
            watch,
            life: None,
            load,
            progress,
            enough,
            cancel,
            epochs: Vec::new(),
            outages: 0,
            recoveries: Vec::new(),
            peak_rss_kib: 0,
            began: Instant::now(),
        }
    }

    /// Starts the program, and does not wait for it.
    pub(crate) fn start(&mut self) {
        self.life = Some(self.subject.spawn().expect("the program can be started"));
    }

    /// Waits until it accepts.
    pub(crate) async fn accepting(&mut self) {
        let life = self.life.as_mut().expect("it was started");
        let took = life.accepting(self.subject.data).await;
        let took = took.unwrap_or_else(|error| {
            panic!("{}: {error}\n{}", self.name(), self.subject.last_words())
        });
        self.recoveries.push(took);
    }

    /// Whatever happens to it, it runs until somebody kills it.
    pub(crate) fn assert_running(&mut self) {
        let ended = self.life.as_mut().expect("it was started").ended();
        assert!(
            ended.is_none(),
            "{}: it ended by itself, {}\n{}",
            self.name(),
            ended.expect("it ended"),
            self.subject.last_words()
        );
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.assert_running();
        let life = self.life.take().expect("it was started");
        self.peak_rss_kib = self.peak_rss_kib.max(life.peak_rss_kib());
        life.kill();
        self.end_epoch();
    }

    /// Waits until it dies of a SIGKILL that somebody else sends, and kills it if nobody did: whether somebody
    /// did. Before it accepts it may die too.
    pub(crate) async fn dies_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let life = self.life.as_mut().expect("it was started");
            if let Some(status) = life.ended() {
                let by_kill = status.signal() == Some(9);
                assert!(
                    by_kill,
                    "{}: {status}\n{}",
                    self.name(),
                    self.subject.last_words()
                );
                self.life = None;
                self.end_epoch();
                return true;
            }
            if Instant::now() >= deadline {
                self.kill();
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// What has come twice by now belongs to the deaths before.
    pub(crate) fn end_epoch(&mut self) {
        let repeats: Vec<Repeat> = self.sink.take_repeats();
        let interruptions = self.epochs.len() as u64 + self.outages;
        self.epochs.push(Epoch {
            repeats,
            interruptions,
        });
    }

    /// Changes the receiver. Closing its connections is an interruption: what it stored and did not answer
    /// comes again.
    pub(crate) fn set_receiver(&mut self, behaviour: Behaviour) {
        self.outages += u64::from(behaviour.down == Some(Down::Refused));
        self.sink.set_behaviour(behaviour);
    }

    /// The receiver as it always is.
    pub(crate) fn heal_receiver(&mut self) {
        self.set_receiver(self.setup.receiver.clone());
    }

    /// What the sender has done so far.
    pub(crate) fn sent(&self) -> LoadSummary {
        self.progress.summary()
    }

    /// What the receiver has so far.
    pub(crate) fn stored(&self) -> SinkStats {
        self.sink.stats()
    }

    /// Waits until `reached`; everything that is asked for here comes with time, or the run has failed.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut reached: impl AsyncFnMut(&Self) -> bool,
    ) {
        let deadline = Instant::now() + limit;
        while !reached(self).await {
            if Instant::now() >= deadline {
                let admin = self.subject.admin;
                let scrape = match admin {
                    Some(admin) => Scrape::of(admin).await.unwrap_or_default(),
                    None => Scrape::default(),
                };
                panic!(
                    "{}: not within {limit:?}: {what}\n{}\n{}\n{}\n{}",
                    self.name(),
                    self.sent(),
                    self.stored(),
                    scrape.books(),
                    self.subject.last_words()
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the sender has so many more samples acknowledged.
    pub(crate) async fn acknowledged(&mut self, more: u64, limit: Duration) {
        let goal = self.sent().samples.acknowledged + more;
        let reached = async |rig: &Self| rig.sent().samples.acknowledged >= goal;
        self.until("samples are acknowledged", limit, reached).await;
    }

    /// The end of a run: the sender stops scraping and gets its last answers, the program delivers what it
    /// has and stops, and the ledgers are compared.
    pub(crate) async fn finish(mut self) -> Verdict {
        self.heal_receiver();
        if self.life.is_none() {
            self.start();
            self.accepting().await;
        }
        self.end_of_load().await;
        let last = self.drained().await;
        self.assert_running();
        let life = self.life.take().expect("it was started");
        self.peak_rss_kib = self.peak_rss_kib.max(life.peak_rss_kib());
        let stopped = life.terminate(STOP_LIMIT).await;
        let (status, _) = stopped.unwrap_or_else(|error| {
            panic!("{}: {error}\n{}", self.name(), self.subject.last_words())
        });
        assert!(
            status.success(),
            "{}: {status}\n{}",
            self.name(),
            self.subject.last_words()
        );
        self.verdict(last).await
    }

    /// The sender stops scraping, and gets its last answers.
    pub(crate) async fn end_of_load(&mut self) {
        self.enough.cancel();
        let all_sent = async |rig: &Self| rig.load.is_finished();
        self.until("the sender has its answers", DRAIN_LIMIT, all_sent)
            .await;
    }

    /// Waits until nothing is pending: the last scrape.
    pub(crate) async fn drained(&mut self) -> Scrape {
        let admin = self.subject.admin.expect("it has metrics");
        let idle = async |_: &Self| {
            Scrape::of(admin)
                .await
                .is_some_and(|scrape| scrape.pending() == 0.0)
        };
        self.until("nothing is pending", DRAIN_LIMIT, idle).await;
        Scrape::of(admin).await.unwrap_or_default()
    }

    /// Compares the ledgers. `last` is the last scrape, empty if there are no metrics.
    pub(crate) async fn verdict(mut self, last: Scrape) -> Verdict {
        self.cancel.cancel();
        self.end_epoch();
        let report = self.load.await.expect("the sender does not panic");
        let blame = Blame::new(&report);
        let judged = self
            .epochs
            .iter()
            .map(|epoch| epoch.judge(&blame))
            .collect();
        Verdict {
            seed: self.setup.seed,
            name: self.setup.name.clone(),
            ack: self.setup.ack,
            rules: self.setup.receiver.prometheus_rules,
            power_loss: self.setup.power_loss,
            sender_repeats: self.setup.sender_repeats,
            kills: self.epochs.len() as u64 - 1,
            comparison: self.sink.missing(&report),
            sent: report.summary,
            stored: self.sink.stats(),
            epochs: judged,
            seen: self.watch.as_ref().map(Watch::seen).unwrap_or_default(),
            last,
            recoveries: self.recoveries,
            peak_rss_kib: self.peak_rss_kib,
            took: self.began.elapsed(),
        }
    }

    /// For messages.
    fn name(&self) -> String {
        format!("seed {}, {}", self.setup.seed, self.setup.name)
    }
}
