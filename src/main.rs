//! The `sluicegate` binary: command line in, exit code out.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use sluicegate::app::App;
use sluicegate::bench::{self, cli::BenchArgs};
use sluicegate::cli::demo::DemoArgs;
use sluicegate::cli::{Cli, Command, exit, say};
use sluicegate::storage::cli::{Ended, StorageArgs};
use sluicegate::verify::cli::{self as verify_cli, VerifyArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(args) => sluicegate::run::run(&args),
        Command::Demo(args) => demo(&args),
        Command::Check(args) => match args.run(&mut std::io::stdout(), App::check) {
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
        runtime.shutdown_timeout(sluicegate::run::LAST_WORDS);
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
