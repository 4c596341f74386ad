//! The `sluicegate` binary: command line in, exit code out.

use std::io::{IsTerminal as _, Write};
use std::process::ExitCode;

use sluicegate::app::App;
use sluicegate::bench::{self, cli::BenchArgs};
use sluicegate::cli::demo::DemoArgs;
use sluicegate::cli::{Cli, Command, RunArgs, exit};
use sluicegate::config;
use sluicegate::report::text;
use sluicegate::storage::cli::{Ended, StorageArgs};
use sluicegate::verify::cli::{self as verify_cli, VerifyArgs};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(args) => run(&args),
        Command::Demo(args) => demo(&args),
        Command::Check(args) => match args.run(&mut std::io::stdout()) {
            Ok(code) => ExitCode::from(code),
            Err(_) => ExitCode::from(exit::FAILED),
        },
        Command::Status(args) => {
            let (out, errors) = (&mut std::io::stdout(), &mut std::io::stderr());
            ExitCode::from(args.run(out, errors).unwrap_or(exit::FAILED))
        }
        Command::Bench(args) => bench(*args),
        Command::Storage(args) => storage(&args),
        Command::Verify(args) => verify(&args),
    }
}

fn storage(args: &StorageArgs) -> ExitCode {
    let ended = sluicegate::storage::cli::run(args, &mut std::io::stdout(), &mut std::io::stderr());
    ExitCode::from(match ended {
        Ok(Ended::Whole) => exit::OK,
        Ok(Ended::Damaged) => exit::FAILED,
        Ok(Ended::Usage) => exit::USAGE,
        Ok(Ended::Unreadable) => exit::UNREADABLE,
        // Nobody reads what is printed.
        Err(_) => exit::FAILED,
    })
}

fn demo(args: &DemoArgs) -> ExitCode {
    let mut out = std::io::stdout();
    let terminal = out.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    match sluicegate::demo::run(args, &mut out, terminal) {
        Ok(true) => ExitCode::from(exit::OK),
        Ok(false) => ExitCode::from(exit::FAILED),
        Err(error) => {
            say(&mut std::io::stderr(), &format!("sluicegate demo: {error}"));
            ExitCode::from(exit::FAILED)
        }
    }
}

fn verify(args: &VerifyArgs) -> ExitCode {
    use verify_cli::Ended;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let stop = async {
        // Without a handler the signal ends the process by itself.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let ended = runtime.and_then(|runtime| {
        let (out, errors) = (&mut std::io::stdout(), &mut std::io::stderr());
        let ended = runtime.block_on(args.run(out, errors, stop));
        // A name that does not resolve keeps a thread busy.
        runtime.shutdown_timeout(LAST_WORDS);
        ended
    });
    ExitCode::from(match ended {
        Ok(Ended::Same) => exit::OK,
        Ok(Ended::Different) => exit::FAILED,
        Ok(Ended::Usage) => exit::USAGE,
        Ok(Ended::Unreachable) => exit::UNREACHABLE,
        // Nobody reads what is printed.
        Err(_) => exit::FAILED,
    })
}

fn bench(args: BenchArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(bench::cli::run(args)));
    ended.unwrap_or_else(|error| {
        say(
            &mut std::io::stderr(),
            &format!("sluicegate bench: {error}"),
        );
        ExitCode::from(exit::FAILED)
    })
}

fn run(args: &RunArgs) -> ExitCode {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("SLUICEGATE_MUTANT") {
        use sluicegate::{log::disk, queue};
        let known =
            queue::mutants::put_in_everywhere(&name) || disk::mutants::put_in_everywhere(&name);
        assert!(known, "no mutant is called {name}");
    }
    let loaded = match config::load(args) {
        Ok(loaded) => loaded,
        Err(problems) => {
            say(&mut std::io::stderr(), &problems.to_string());
            return ExitCode::from(exit::CONFIG);
        }
    };
    sluicegate::logging::start(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return ExitCode::from(exit::FAILED);
        }
    };
    let served = runtime.block_on(serve(&loaded.config));
    // A disk or a receiver that hangs does not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    match served {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::from(exit::FAILED)
        }
    }
}

/// A shadow report is printed at a stop once this part of it is measured: one minute of ten.
const SHADOW_TOLD: f64 = 0.1;
/// How long what is still under way on other threads may take at the end.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

async fn serve(config: &config::Config) -> Result<ExitCode, String> {
    // Signals first: one that comes while we start must not kill us without a drain.
    let listen = |kind| signal(kind).map_err(|error| error.to_string());
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let app = tokio::select! {
        app = App::build(config) => app?,
        // Nothing has begun yet: there is nothing to finish.
        _ = terminate.recv() => return Ok(ExitCode::from(exit::OK)),
        _ = interrupt.recv() => return Ok(ExitCode::from(exit::OK)),
    };
    let address = |addr: std::io::Result<std::net::SocketAddr>| addr.map_err(|e| e.to_string());
    let (data, admin) = (address(app.data_addr())?, address(app.admin_addr())?);
    say(
        &mut std::io::stdout(),
        &format!("sluicegate ready data={data} admin={admin}"),
    );
    let status = app.status();
    let (first, stopped) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let running = async {
        let done = app.run(first.notified()).await;
        stopped.notify_one();
        done
    };
    let signals = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        first.notify_one();
        // A second signal means: now.
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    tokio::select! {
        _ = running => {
            // Whoever looked at their own data for a minute, and stops, wants to know.
            if let Some(told) = text::shadows(&status.report(), SHADOW_TOLD) {
                say(&mut std::io::stdout(), &told);
            }
            Ok(ExitCode::from(exit::OK))
        }
        () = signals => {
            tracing::warn!("second signal: stopping at once");
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

/// Prints a line; a closed pipe is no reason to stop.
fn say(to: &mut dyn Write, line: &str) {
    if writeln!(to, "{}", line.trim_end())
        .and_then(|()| to.flush())
        .is_err()
    {
        tracing::debug!("nobody reads what is printed");
    }
}
