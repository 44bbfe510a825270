#!/usr/bin/env python3
"""Builds the feature `cuda` on a machine without a CUDA toolkit, without a driver and without a GPU, in one command.

    python3 tools/cuda/build.py                      # cargo build --release --features cuda
    python3 tools/cuda/build.py -- clippy --features cuda -- -D warnings
    python3 tools/cuda/build.py --env                # only prepares, and prints the environment for a shell

The compiler comes as Python wheels (about 1.2 GB) into target/cuda. CUDA's libraries are not linked but opened when the
program first calls them (lazy.py), so the binary starts everywhere: `--device auto` takes the CPU where no driver is,
`--device cuda` says so. `--link shared` links them as usual instead; so does a plain `cargo build --features cuda` on a
machine with a toolkit.

nvcc 13.0 goes with drivers of the 580 series and later. `--compute-cap 80` (the default) is code for Ampere and what came
after, which the driver compiles for the GPU at hand.
"""

import argparse
import os
import pathlib
import platform
import re
import subprocess
import sys

import lazy

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
WHEELS = [
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cublas==13.0.*",
    "nvidia-cuda-nvrtc==13.0.*",
    "nvidia-curand",
]
# What candle links; `cuda` is the driver's own library, which no wheel has.
LIBRARIES = ["cuda", "cublas", "cublasLt", "curand", "nvrtc"]


def toolkit(venv: pathlib.Path) -> pathlib.Path:
    """The toolkit's folder, installed when it is not there."""
    found = sorted(venv.glob("lib/python3*/site-packages/nvidia/cu13"))
    if not found or not (found[0] / "bin/nvcc").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "--quiet", *WHEELS], check=True)
        found = sorted(venv.glob("lib/python3*/site-packages/nvidia/cu13"))
    if not found:
        sys.exit(f"the wheels left no toolkit under {venv}")
    return found[0]


def link(target: str, place: pathlib.Path) -> None:
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def driver_functions(root: pathlib.Path) -> list[str]:
    """Every name of the driver's header that a function may have, those that macros give to one included."""
    return sorted(set(re.findall(r"\bcu[A-Z]\w*", (root / "include/cuda.h").read_text(errors="replace"))))


def versioned(root: pathlib.Path, library: str) -> pathlib.Path:
    """`libcublas.so.13`, say."""
    return sorted((root / "lib").glob(f"lib{library}.so.*"))[0]


def prepare(root: pathlib.Path, shared: bool) -> None:
    """Lays out what linkers look for in `lib64/`."""
    lib64, stubs = root / "lib64", root / "lib64/stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    for file in (root / "lib").iterdir():
        if file.is_file():
            link(f"../lib/{file.name}", lib64 / file.name)
    # Whatever another way of linking left.
    for old in [*lib64.glob("lib*.so"), *stubs.iterdir(), lib64 / "libcudart.a"]:
        old.unlink(missing_ok=True)
    if shared:
        for library in [*LIBRARIES[1:], "cudart"]:
            link(f"../lib/{versioned(root, library).name}", lib64 / f"lib{library}.so")
        source = "\n".join(f"void {name}(void) {{}}" for name in driver_functions(root))
        # It satisfies the linker only: the soname is the driver's.
        command = ["cc", "-shared", "-w", "-fno-builtin", "-Wl,-soname,libcuda.so.1", "-x", "c", "-"]
        subprocess.run([*command, "-o", str(stubs / "libcuda.so")], input=source.encode(), check=True)
        return
    link("../lib/libcudart_static.a", lib64 / "libcudart.a")
    for library in LIBRARIES:
        if library == "cuda":
            soname, functions = "libcuda.so.1", driver_functions(root)
        else:
            file = versioned(root, library)
            soname, functions = file.name, lazy.exported(file)
        lazy.archive(library, soname, functions, stubs)


def environment(root: pathlib.Path, compute_cap: str) -> dict[str, str]:
    return {
        "CUDA_HOME": str(root),
        "CUDA_COMPUTE_CAP": compute_cap,
        "PATH": f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = REPOSITORY / "target/cuda"
    parser.add_argument("--venv", type=pathlib.Path, default=folder / "toolkit", help="where the wheels are or go")
    parser.add_argument("--compute-cap", default="80", help="the oldest GPU, as 80 for Ampere, 90 for Hopper")
    parser.add_argument("--link", choices=["lazy", "shared"], default="lazy")
    parser.add_argument("--env", action="store_true", help="print the environment and build nothing")
    parser.add_argument("cargo", nargs="*", help="cargo's arguments, after --")
    arguments = parser.parse_args()
    shared = arguments.link == "shared"
    if not shared and (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("libraries are opened lazily on x86-64 Linux only: linking them", file=sys.stderr)
        shared = True
    root = toolkit(arguments.venv.resolve())
    prepare(root, shared)
    variables = environment(root, arguments.compute_cap)
    if arguments.env:
        print("\n".join(f"export {name}={value!r}" for name, value in variables.items()))
        return 0
    # A folder of its own: with and without the feature, cargo would rebuild candle at every turn.
    variables.setdefault("CARGO_TARGET_DIR", os.environ.get("CARGO_TARGET_DIR", str(folder)))
    command = ["cargo", *(arguments.cargo or ["build", "--locked", "--release", "--features", "cuda"])]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, **variables}).returncode


if __name__ == "__main__":
    sys.exit(main())
