//! From a command line to a process that runs: which configuration it runs with, and what if none works.
//!
//! With `--config.on-error exit` a configuration with problems ends the process. With `stay` nothing but an
//! address that cannot be bound does: the process runs with the last good configuration, or stands by, and
//! looks at the file until it works. So a pod with Prometheus in it stays ready (design: "In a sidecar nothing
//! of ours may keep Prometheus from starting or being ready"; decision 0015).

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use crate::app::App;
use crate::cli::{OnError, RunArgs, exit, say};
use crate::clock::Instant;
use crate::config::{self, AckMode, Config, ConfigErrors, Loaded, Secret, last_good};
use crate::report::text;
use crate::status::{Configured, Problems};

/// A shadow report is printed at a stop once this part of it is measured: one minute of ten.
const SHADOW_TOLD: f64 = 0.1;
/// How long what is still under way on other threads may take at the end.
pub const LAST_WORDS: Duration = Duration::from_millis(200);
/// How often a file with problems is looked at. What Kubernetes mounts takes a minute to change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long a second start waits for a folder.
const LOCK_WAIT_AGAIN: Duration = Duration::from_secs(1);
/// What had no problems and could not be started is tried again after this: a folder or an address may be in
/// use for a while, a certificate be mounted late.
const START_AGAIN: Duration = Duration::from_secs(30);

/// `sluicegate run`.
pub fn run(args: &RunArgs) -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("SLUICEGATE_MUTANT") {
        use crate::log::disk;
        use crate::queue;
        let known =
            queue::mutants::put_in_everywhere(&name) || disk::mutants::put_in_everywhere(&name);
        assert!(known, "no mutant is called {name}");
    }
    let stays = args.config_on_error == Some(OnError::Stay);
    let loaded = config::load(args);
    match &loaded {
        Ok(loaded) => crate::logging::start(&loaded.config.log),
        Err(_) if stays => crate::logging::start(&config::standby(args).config.log),
        Err(problems) => {
            say(&mut io::stderr(), &problems.to_string());
            return ExitCode::from(exit::CONFIG);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            let ended = runtime.block_on(async {
                // Signals first: one that comes while we start must not kill us without a drain.
                let mut signals = Signals::listen().map_err(|error| error.to_string())?;
                match loaded {
                    Ok(loaded) if !stays => as_asked(&loaded, false, &mut signals).await,
                    loaded => stay(args, loaded, &mut signals).await,
                }
            });
            // A disk or a receiver that hangs does not keep the process.
            runtime.shutdown_timeout(LAST_WORDS);
            ended
        });
    ended.unwrap_or_else(|error| {
        tracing::error!(%error, "cannot start");
        ExitCode::from(exit::FAILED)
    })
}

/// Runs with what was asked for, until a signal. `keep`: as the last good one, too.
async fn as_asked(loaded: &Loaded, keep: bool, signals: &mut Signals) -> Result<ExitCode, String> {
    warn_of(loaded);
    let serving = Serving {
        config: &loaded.config,
        configured: Configured::AsAsked,
        keep: loaded.file.as_ref().filter(|_| keep),
    };
    match serving.until(signals, std::future::pending()).await? {
        Ended::Exit(code) => Ok(code),
        Ended::Again => Ok(ExitCode::from(exit::OK)),
    }
}

/// Runs with whatever works, and with what was asked for once that works.
async fn stay(
    args: &RunArgs,
    mut loaded: Result<Loaded, ConfigErrors>,
    signals: &mut Signals,
) -> Result<ExitCode, String> {
    loop {
        let broken = match loaded {
            Ok(asked) => match as_asked(&asked, true, signals).await {
                Ok(code) => return Ok(code),
                Err(why) => Broken::at_its_start(asked, why),
            },
            Err(problems) => Broken::by_itself(args, &problems),
        };
        tell(&broken.why);
        match broken.instead(args, signals).await? {
            Ended::Exit(code) => return Ok(code),
            Ended::Again => tracing::info!("trying to start with the configuration as it is now"),
        }
        loaded = config::load(args).map(|loaded| Loaded {
            config: impatient(loaded.config),
            ..loaded
        });
    }
}

fn tell(problems: &str) {
    for problem in problems.lines() {
        tracing::error!("configuration: {problem}");
    }
}

/// At the first start a folder may still be in use for a while; later it is tried again and again, and nobody
/// listens meanwhile.
fn impatient(mut config: Config) -> Config {
    if let Some(storage) = &mut config.storage {
        storage.lock_wait = storage.lock_wait.min(LOCK_WAIT_AGAIN);
    }
    config
}

/// A configuration that does not work.
struct Broken {
    /// One problem a line.
    why: String,
    /// Its text, where nothing is wrong with that by itself.
    file: Option<Secret>,
    /// The same again will not do.
    exhausted: bool,
    /// The folder where the last good one may be.
    folder: Option<PathBuf>,
    /// It may work without having changed.
    again: Option<Duration>,
}

impl Broken {
    fn by_itself(args: &RunArgs, problems: &ConfigErrors) -> Self {
        Self {
            why: problems.to_string(),
            file: None,
            exhausted: false,
            folder: config::standby(args).folder,
            again: None,
        }
    }

    fn at_its_start(loaded: Loaded, why: String) -> Self {
        Self {
            why,
            file: loaded.file,
            // A certificate that is mended makes the same file work.
            exhausted: App::check(&loaded.config).is_ok(),
            folder: loaded.config.storage.map(|storage| storage.path),
            again: Some(START_AGAIN),
        }
    }

    /// Runs with the last good one, or stands by.
    async fn instead(&self, args: &RunArgs, signals: &mut Signals) -> Result<Ended, String> {
        let problems = Problems::new(self.why.clone());
        let mut again = self.again;
        if let Some(good) = self.last_good(args) {
            tracing::error!("trying the last good configuration, until the file works again");
            let serving = Serving {
                config: &good.config,
                configured: Configured::LastGood(problems.clone()),
                keep: None,
            };
            let ended = if good.config.ack == AckMode::Memory {
                // A stop may cost what is acknowledged: not without being asked for.
                serving.until(signals, std::future::pending()).await
            } else {
                // What works is not stopped to try again what did not.
                let mended = self.mended(args, None, &problems);
                serving.until(signals, mended).await
            };
            match ended {
                Ok(ended) => return Ok(ended),
                Err(error) => {
                    tracing::error!(%error, "nor does the last good configuration work");
                    let why = &self.why;
                    problems.change(&format!("{why}\nthe last good configuration: {error}"));
                    again = Some(START_AGAIN);
                }
            }
        }
        tracing::error!(
            "standing by: senders get 503 and keep what they have, until the configuration works"
        );
        let standby = config::standby(args);
        let serving = Serving {
            config: &Config {
                // There is nothing to deliver.
                shutdown_deadline: Duration::ZERO,
                ..standby.config
            },
            configured: Configured::Standby(problems.clone()),
            keep: None,
        };
        let mended = self.mended(args, again, &problems);
        serving.until(signals, mended).await
    }

    /// Waits until it is worth trying again: the file has no problems, is not the one that did not work, and
    /// has said the same twice (it may be being written); or a while is over. Tells of other problems meanwhile.
    async fn mended(&self, args: &RunArgs, again: Option<Duration>, problems: &Problems) {
        let began = Instant::now();
        let mut before = None;
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if again.is_some_and(|after| began.elapsed() >= after) {
                return;
            }
            let args = args.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let loaded = config::load(&args).map_err(|problems| problems.to_string())?;
                App::check(&loaded.config).map(|()| loaded.file)
            });
            match looked.await {
                Ok(Ok(file)) => {
                    if (!self.exhausted || file != self.file) && before.as_ref() == Some(&file) {
                        return;
                    }
                    before = Some(file);
                }
                Ok(Err(others)) => {
                    before = None;
                    if again.is_none() && problems.change(&others) {
                        tell(&others);
                    }
                }
                Err(error) => tracing::warn!(%error, "the configuration could not be looked at"),
            }
        }
    }

    /// The last good configuration, if it is another one and works with these flags.
    fn last_good(&self, args: &RunArgs) -> Option<Loaded> {
        let folder = self
            .folder
            .as_deref()
            .filter(|_| args.config_file.is_some())?;
        let file = match last_good::find(folder) {
            Ok(file) => file?,
            Err(error) => {
                tracing::warn!(%error, "the last good configuration cannot be read");
                return None;
            }
        };
        if self.file.as_ref() == Some(&file) {
            return None;
        }
        match config::load_text(args, file.expose().to_owned()) {
            // While the folder is in use it is better to stand by, and to answer, than to wait.
            Ok(loaded) => Some(Loaded {
                config: impatient(loaded.config),
                ..loaded
            }),
            Err(problems) => {
                for problem in problems.0 {
                    tracing::warn!("the last good configuration, with these flags: {problem}");
                }
                None
            }
        }
    }
}

fn warn_of(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// One of them.
    async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}

/// How it ended.
enum Ended {
    /// By a signal.
    Exit(ExitCode),
    /// For another try with the configuration that was asked for.
    Again,
}

/// What to serve.
struct Serving<'s> {
    config: &'s Config,
    configured: Configured,
    /// The file it was read from, to be kept once it is seen to work.
    keep: Option<&'s Secret>,
}

impl Serving<'_> {
    /// Serves until a signal, or until there is another configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    async fn until(
        self,
        signals: &mut Signals,
        mended: impl Future<Output = ()>,
    ) -> Result<Ended, String> {
        let word = match self.configured {
            Configured::Standby(_) => "standby",
            Configured::AsAsked | Configured::LastGood(_) => "ready",
        };
        let app = tokio::select! {
            app = App::build_as(self.config, self.configured) => app?,
            // Nothing has begun yet: there is nothing to finish.
            () = signals.next() => return Ok(Ended::Exit(ExitCode::from(exit::OK))),
        };
        let status = app.status();
        if let (Some(file), Some(storage)) = (self.keep, &self.config.storage)
            && status.disk.is_some()
        {
            keep(&storage.path, file).await;
        }
        let address = |addr: io::Result<std::net::SocketAddr>| addr.map_err(|e| e.to_string());
        let (data, admin) = (address(app.data_addr())?, address(app.admin_addr())?);
        say(
            &mut io::stdout(),
            &format!("sluicegate {word} data={data} admin={admin}"),
        );
        let stop = Notify::new();
        let mut running = std::pin::pin!(app.run(stop.notified()));
        let mut mended = std::pin::pin!(mended);
        let (mut signalled, mut again) = (false, false);
        loop {
            tokio::select! {
                _ = &mut running => break,
                () = signals.next() => {
                    // A second signal means: now.
                    if signalled {
                        tracing::warn!("second signal: stopping at once");
                        return Ok(Ended::Exit(ExitCode::from(exit::FAILED)));
                    }
                    (signalled, again) = (true, false);
                    status.switching.store(false, Ordering::Relaxed);
                    stop.notify_one();
                }
                () = &mut mended, if !signalled && !again => {
                    again = true;
                    // Probes go on as if nothing had been.
                    status.switching.store(true, Ordering::Relaxed);
                    stop.notify_one();
                }
            }
        }
        // Whoever looked at their own data for a minute, and stops, wants to know.
        if let Some(told) = text::shadows(&status.report(), SHADOW_TOLD) {
            say(&mut io::stdout(), &told);
        }
        Ok(if again {
            Ended::Again
        } else {
            Ended::Exit(ExitCode::from(exit::OK))
        })
    }
}

/// Keeps what is seen to work. Where that fails there is the one before, or none.
async fn keep(folder: &Path, file: &Secret) {
    let (folder, file) = (folder.to_owned(), file.clone());
    let kept = tokio::task::spawn_blocking(move || last_good::keep(&folder, &file)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(%error, "the configuration could not be kept as the last good one");
    }
}
