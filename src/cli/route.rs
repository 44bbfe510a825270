//! `route`: the router from the shell.

use std::io::BufRead;

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::{Outcome, render};
use crate::error::{Error, Result};
use crate::wire;

/// Arguments of `route`.
#[derive(Debug, Args)]
pub struct RouteArgs {
    /// The request, in plain words, any language.
    #[arg(required_unless_present = "jsonl", conflicts_with = "jsonl")]
    pub query: Option<String>,
    /// Read one `{"query": …}` per line from stdin, print one answer per line.
    #[arg(long)]
    pub jsonl: bool,
    /// Show every label's score and its evidence.
    #[arg(long)]
    pub check_all: bool,
}

/// A line of `route --jsonl`; other fields are let pass, so that labelled sets can be piped in.
#[derive(Deserialize)]
struct Line {
    query: String,
}

/// `route`: ends with 1 when CLIP does not suit.
///
/// # Errors
/// An empty request; stdin cannot be read.
pub fn run(args: &RouteArgs, as_json: bool) -> Result<Outcome> {
    if args.jsonl {
        return stream(args.check_all);
    }
    let query = args.query.clone().unwrap_or_default();
    let response = wire::route(&wire::RouteArgs { query }, args.check_all)?;
    if as_json {
        render::json(&response);
    } else {
        render::route(&response);
    }
    Ok(if response.clip_suitable { Outcome::Done } else { Outcome::Nothing })
}

/// One answer per line. A line that cannot be read is answered with its error, and the rest goes on.
fn stream(check_all: bool) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    for (number, line) in (1..).zip(std::io::stdin().lock().split(b'\n')) {
        let line = line.map_err(Error::io("read", "stdin"))?;
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        let answer = serde_json::from_str::<Line>(&line).map_err(|error| error.to_string()).and_then(|line| {
            wire::route(&wire::RouteArgs { query: line.query }, check_all).map_err(|error| error.to_string())
        });
        match answer {
            Ok(response) => render::json(&response),
            Err(error) => {
                outcome = Outcome::Failed;
                render::note(&format!("error: line {number}: {error}"));
                render::json(&json!({ "error": error, "line": number }));
            }
        }
    }
    Ok(outcome)
}
