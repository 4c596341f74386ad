//! A file or flags in, a configuration or a list of problems out.

mod defaults;
mod endpoints;
mod files;
mod flags;
mod limits;
mod passthrough;

use std::io::Write;

use clap::Parser;

use super::{Config, ConfigErrors, HttpEndpoint, Loaded, QueueConfig, load_on};
use crate::cli::{Cli, Command, RunArgs};

/// Memory of the machine that tests run on.
const AVAILABLE: Option<u64> = Some(1 << 30);

fn args(flags: &[&str]) -> RunArgs {
    let line = ["sluicegate", "run"].iter().chain(flags);
    match Cli::try_parse_from(line)
        .expect("flags that can be read")
        .command
    {
        Command::Run(args) => *args,
        _ => panic!("not run"),
    }
}

fn load_with(yaml: &str, flags: &[&str]) -> Result<Loaded, ConfigErrors> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let mut args = args(flags);
    args.config_file = Some(file.path().to_owned());
    load_on(&args, AVAILABLE).map_err(|mut errors| {
        for problem in &mut errors.0 {
            problem.file = problem.file.as_ref().map(|file| file.replace(&path, "f"));
        }
        errors
    })
}

fn load_flags(flags: &[&str]) -> Result<Loaded, ConfigErrors> {
    load_on(&args(flags), AVAILABLE)
}

fn config(yaml: &str) -> Config {
    load_with(yaml, &[])
        .unwrap_or_else(|errors| panic!("{yaml}\n{errors}"))
        .config
}

fn warnings(yaml: &str) -> Vec<String> {
    load_with(yaml, &[])
        .unwrap_or_else(|errors| panic!("{yaml}\n{errors}"))
        .warnings
}

/// The only queue.
fn queue(yaml: &str) -> QueueConfig {
    let mut queues = config(yaml).queues;
    assert_eq!(queues.len(), 1);
    queues.remove(0)
}

fn http(queue: &QueueConfig) -> &HttpEndpoint {
    match &queue.endpoint {
        super::EndpointConfig::Http(endpoint) => endpoint,
        super::EndpointConfig::Discard => panic!("not http"),
    }
}

/// Every problem as it is printed; the file is called `f`.
fn problems(result: Result<Loaded, ConfigErrors>) -> Vec<String> {
    match result {
        Ok(loaded) => panic!("accepted: {loaded:?}"),
        Err(errors) => {
            let printed: Vec<String> = errors.to_string().lines().map(str::to_owned).collect();
            assert_eq!(
                printed.len(),
                errors.0.len(),
                "one problem a line: {printed:?}"
            );
            printed
        }
    }
}

/// Problems of a file with one good entry and `lines` beside it, at the top.
fn top(lines: &str) -> Vec<String> {
    problems(load_with(
        &format!("{lines}\nremote_write: [{{url: 'http://r/'}}]\n"),
        &[],
    ))
}

/// Problems of a file with one entry that has these keys beside a good URL. They begin in line 3.
fn entry(keys: &[&str]) -> Vec<String> {
    problems(load_with(&entry_file(keys), &[]))
}

fn entry_file(keys: &[&str]) -> String {
    let lines = repeat(keys.len(), |index| format!("  {}\n", keys[index]));
    format!("remote_write:\n- url: http://r/\n{lines}")
}

/// One text after the other.
fn repeat(count: usize, text: impl FnMut(usize) -> String) -> String {
    (0..count).map(text).collect()
}
