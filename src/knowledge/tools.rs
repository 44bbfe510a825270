//! What this program can do today, as far as advice depends on it: advice never names a tool that is not there.
//!
//! The server's own list is in `mcp::tools`; a test there fails when this one differs.

/// The MCP tools of this build, by name.
pub const PRESENT: &[&str] = &[
    "route_query",
    "clip_search",
    "classify_image",
    "detect_count",
    "spatial_relation",
    "match_captions",
    "identify_image",
    "explain_limitation",
    "index_folder",
];

/// The architectures whose weights this build can load from files that the caller downloads, as ids of
/// [`super::systems`].
pub const LOADABLE: &[&str] =
    &["larger_clip", "detr", "dinov2", "resnet50", "arcface", "cosface", "dcsm", "pc_clip", "negclip"];

/// Whether a tool is in this build.
pub fn is_present(tool: &str) -> bool {
    PRESENT.contains(&tool)
}
