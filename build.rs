//! Sets `cfg(shared)` when the folder of real photos, models and vectors lies beside the checkout, so that the tests
//! which need it are reported as ignored, not as passed, where it is absent; compiles the kernels of the feature `cuda`.
use std::path::PathBuf;
use std::process::Command;

fn main() {
    note_shared();
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(reason) = compile_kernels()
    {
        println!("cargo::error=the kernels of the feature `cuda`: {reason}");
    }
}

const KERNELS: &str = "src/compute/gpu/kernels.cu";
/// The oldest GPU that the kernels are compiled for, without `CUDA_COMPUTE_CAP`, which candle's kernels go by: the driver
/// compiles them for the GPU at hand. Ampere is the first with all of their instructions.
const OLDEST: &str = "80";

fn compile_kernels() -> Result<(), String> {
    for name in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed={KERNELS}");
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let in_toolkit =
        variable("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc")).filter(|path| path.is_file());
    let nvcc = variable("NVCC").map(PathBuf::from).or(in_toolkit).unwrap_or_else(|| "nvcc".into());
    let oldest =
        variable("CUDA_COMPUTE_CAP").map_or_else(|| OLDEST.into(), |cap| cap.to_string_lossy().replace('.', ""));
    let out = PathBuf::from(variable("OUT_DIR").unwrap_or_default()).join("kernels.ptx");
    let mut command = Command::new(&nvcc);
    command.args(["--ptx", "-std=c++17", "-O3", KERNELS, "-o"]).arg(&out).arg(format!("-arch=compute_{oldest}"));
    let output = command.output().map_err(|error| format!("{} does not start: {error}", nvcc.display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).lines().take(8).collect::<Vec<_>>().join("; "))
}

/// See above.
fn note_shared() {
    println!("cargo::rustc-check-cfg=cfg(shared)");
    println!("cargo::rerun-if-env-changed=CLIP_AWARE_SHARED");
    let shared = std::env::var_os("CLIP_AWARE_SHARED").map_or_else(
        || PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../shared"),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", shared.join("README.md").display());
    if shared.join("README.md").is_file() {
        println!("cargo::rustc-cfg=shared");
    }
}
