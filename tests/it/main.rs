//! The one integration binary: it drives the built program and compares the ports with their references.

mod architecture;
mod checkpoints;
mod classifiers;
mod cli;
mod compose;
mod dcsm;
mod detect;
mod detr;
mod dinov2;
mod docs;
mod explain;
mod faster_rcnn;
mod hub;
mod hub_answers;
mod identify;
mod iresnet;
mod loopback_hub;
mod mcp_client;
mod mcp_stdio;
mod model_card;
mod openclip;
mod owl;
mod parity;
mod ranking;
mod references;
mod relate;
mod route;
mod rtdetr;
mod schemas;
mod skill;
mod starter;
mod tokens;
mod verified;
mod world;

use std::path::PathBuf;

/// The folder of real photos, models and vectors. Tests that call this are ignored where it is absent:
/// `#[cfg_attr(not(shared), ignore = "needs ../shared")]`.
pub fn shared() -> PathBuf {
    std::env::var_os("CLIP_AWARE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}
