//! The command line: one function per command; [`render`] is the only file that prints.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::Result;

mod args;
mod bench;
mod commands;
mod compose;
mod demo;
mod detect;
mod explain;
mod identify;
mod models;
mod relate;
mod render;
mod report;
mod route;
mod search;
mod skill;

pub use args::{Cli, Command};

/// How a run ended; the process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or found.
    Done,
    /// Nothing found, or the request was refused.
    Nothing,
    /// An error, already shown.
    Failed,
}

impl Outcome {
    /// 0, 1 or 2.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Nothing => 1,
            Self::Failed => 2,
        }
    }
}

/// Parses the arguments; on a usage error or `--help`, clap prints and exits.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Cli {
    Cli::parse_from(arguments)
}

/// Runs one command. `cancel` is set by the signal handler of `main`.
pub fn run(cli: Cli, cancel: &'static AtomicBool) -> Outcome {
    let mut json = cli.global.json;
    match dispatch(cli, &mut json, cancel) {
        Ok(outcome) => outcome,
        Err(error) => {
            render::error(&error, json);
            Outcome::Failed
        }
    }
}

fn dispatch(cli: Cli, json: &mut bool, cancel: &'static AtomicBool) -> Result<Outcome> {
    let mut requested = cli.global.into_requested();
    if !matches!(cli.command, Command::Serve) {
        requested.working_dir = std::env::current_dir().ok();
    }
    let config = Config::resolve(requested)?;
    *json = config.json;
    let config_json = config.json;
    let engine = Arc::new(Engine::new(config));
    match cli.command {
        Command::Index(args) => commands::index(&engine, &args, cancel),
        Command::Search(args) => search::run(&engine, &args, cancel),
        Command::Classify(args) => commands::classify(&engine, &args, cancel),
        Command::Route(args) => route::run(&args, config_json),
        Command::Explain(args) => explain::explain(&engine, &args, cancel),
        Command::Diagnose(args) => explain::diagnose(&engine, &args, cancel),
        Command::Detect(args) => detect::run(&engine, &args, cancel),
        Command::Relate(args) => relate::run(&engine, &args, cancel),
        Command::Match(args) => compose::run(&engine, &args, cancel),
        Command::Identify(args) => identify::run(&engine, &args, cancel),
        Command::Embed(args) => commands::embed(&engine, &args, cancel),
        Command::Duplicates(args) => commands::duplicates(&engine, &args, cancel),
        Command::Status => commands::status(&engine),
        Command::Forget(args) => commands::forget(&engine, &args),
        Command::Models(args) => models::run(&engine, &args.action, cancel),
        Command::Skill(args) => skill::run(&engine, &args.action),
        Command::Serve => crate::mcp::serve_stdio(engine).map(|()| Outcome::Done),
        Command::Demo(args) => demo::run(&engine, &args, cancel),
        Command::Scenes(args) => demo::scenes(&args),
        Command::Bench(args) => bench::run(&engine, &args.what, cancel),
        Command::Doctor => Ok(commands::doctor(&engine)),
    }
}
