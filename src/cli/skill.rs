//! `skill install`.

use super::args::{InstallArgs, SkillAction};
use super::{Outcome, render};
use crate::engine::Engine;
use crate::engine::skill::{self, Installed};
use crate::error::{Error, Result};

/// Runs one action.
///
/// # Errors
/// A folder or file cannot be read or written.
pub fn run(engine: &Engine, action: &SkillAction) -> Result<Outcome> {
    match action {
        SkillAction::Install(args) => install(engine, args),
    }
}

/// Ends with 1 when files with another text were in the way.
fn install(engine: &Engine, args: &InstallArgs) -> Result<Outcome> {
    let base = match &args.dir {
        _ if args.for_user => std::env::home_dir()
            .ok_or_else(|| Error::Argument { name: "global", reason: "cannot be used here: HOME is not set".into() })?,
        Some(dir) => std::path::absolute(dir).map_err(Error::io("resolve", dir))?,
        None => std::env::current_dir().map_err(Error::io("find", "."))?,
    };
    if !base.is_dir() && !base.ends_with("skills") {
        return Err(Error::NotFound { path: base });
    }
    let report = skill::install(skill::targets(&base, &args.client, args.for_user), args.force)?;
    if engine.config().json {
        report.iter().for_each(render::json);
    } else {
        report.iter().for_each(render::installed);
    }
    let refused = report.iter().any(|done: &Installed| !done.refused.is_empty());
    if refused {
        render::note("nothing was written; `--force` replaces the files that differ");
    }
    Ok(if refused { Outcome::Nothing } else { Outcome::Done })
}
