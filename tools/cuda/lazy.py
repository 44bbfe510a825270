"""Static libraries that stand for shared ones and open them when the first function is called.

Each function is a jump through a slot. The first call finds the library (the usual search, $CUDA_HOME, /usr/local/cuda, the
wheels of an active Python environment) and fills the slot; where there is no library or no such function, the slot gets one
that returns the library's error for "not here", which candle reports as it does any other. x86-64 Linux.
"""

import pathlib
import subprocess
import tempfile

# What a function returns where its library is not: CUDA_ERROR_NO_DEVICE, CUBLAS_STATUS_NOT_INITIALIZED,
# CURAND_STATUS_INITIALIZATION_FAILED, NVRTC_ERROR_INTERNAL_ERROR.
ABSENT = {"cuda": 100, "cublas": 1, "cublasLt": 1, "curand": 203, "nvrtc": 11}

FINDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY "@LIBRARY@"
#define SONAME "@SONAME@"

static void *handle;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void *open_matching(const char *root, const char *below) {
    char pattern[4096];
    if (!root || snprintf(pattern, sizeof pattern, "%s%s/%s", root, below, SONAME) >= (int)sizeof pattern) return NULL;
    glob_t found;
    void *opened = NULL;
    if (glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0) opened = dlopen(found.gl_pathv[0], RTLD_NOW | RTLD_GLOBAL);
    globfree(&found);
    return opened;
}

static void open_library(void) {
    const char *wheels = "/lib/python3*/site-packages/nvidia/cu*/lib";
    handle = dlopen(SONAME, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) handle = open_matching(getenv("CUDA_HOME"), "/lib64");
    if (!handle) handle = open_matching(getenv("CUDA_PATH"), "/lib64");
    if (!handle) handle = open_matching("/usr/local/cuda", "/lib64");
    if (!handle) handle = open_matching(getenv("VIRTUAL_ENV"), wheels);
}

static int absent(void) { return @ABSENT@; }
static const char *absent_text(void) { return SONAME " is not on this machine"; }
/* cuGetErrorName and cuGetErrorString. */
static int absent_reason(int error, const char **text) {
    (void)error;
    *text = SONAME " (the NVIDIA driver) is not on this machine";
    return 0;
}

__attribute__((visibility("hidden"))) void *clip_aware_find_@LIBRARY@(const char *name) {
    pthread_once(&once, open_library);
    void *function = handle ? dlsym(handle, name) : NULL;
    if (function) return function;
    if (strcmp(LIBRARY, "cuda") == 0) return strncmp(name, "cuGetError", 10) == 0 ? (void *)absent_reason : (void *)absent;
    int text = strstr(name, "GetErrorString") || strstr(name, "GetStatusString") || strstr(name, "GetStatusName");
    return text ? (void *)absent_text : (void *)absent;
}
"""

# The first call of a function: its name in r11, its slot in r10; all that may hold arguments is kept.
RESOLVER = """
    .text
    .hidden clip_aware_find_@LIBRARY@
    .hidden clip_aware_resolve_@LIBRARY@
    .globl clip_aware_resolve_@LIBRARY@
    .type clip_aware_resolve_@LIBRARY@, @function
clip_aware_resolve_@LIBRARY@:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    subq $208, %rsp
    andq $-16, %rsp
    movq %rdi, 0(%rsp)
    movq %rsi, 8(%rsp)
    movq %rdx, 16(%rsp)
    movq %rcx, 24(%rsp)
    movq %r8, 32(%rsp)
    movq %r9, 40(%rsp)
    movq %rax, 48(%rsp)
    movq %r10, 56(%rsp)
    movups %xmm0, 64(%rsp)
    movups %xmm1, 80(%rsp)
    movups %xmm2, 96(%rsp)
    movups %xmm3, 112(%rsp)
    movups %xmm4, 128(%rsp)
    movups %xmm5, 144(%rsp)
    movups %xmm6, 160(%rsp)
    movups %xmm7, 176(%rsp)
    movq %r11, %rdi
    call clip_aware_find_@LIBRARY@
    movq %rax, %r11
    movq 56(%rsp), %r10
    movq %r11, (%r10)
    movq 0(%rsp), %rdi
    movq 8(%rsp), %rsi
    movq 16(%rsp), %rdx
    movq 24(%rsp), %rcx
    movq 32(%rsp), %r8
    movq 40(%rsp), %r9
    movq 48(%rsp), %rax
    movups 64(%rsp), %xmm0
    movups 80(%rsp), %xmm1
    movups 96(%rsp), %xmm2
    movups 112(%rsp), %xmm3
    movups 128(%rsp), %xmm4
    movups 144(%rsp), %xmm5
    movups 160(%rsp), %xmm6
    movups 176(%rsp), %xmm7
    leave
    .cfi_def_cfa %rsp, 8
    jmpq *%r11
    .cfi_endproc
    .section .note.GNU-stack, "", @progbits
"""

# In sections of its own, so that the linker drops what nobody calls.
FUNCTION = """
    .section .text.@NAME@, "ax", @progbits
    .globl @NAME@
    .type @NAME@, @function
@NAME@:
    movq .Lslot_@NAME@(%rip), %r11
    testq %r11, %r11
    je 1f
    jmpq *%r11
1:  leaq .Lname_@NAME@(%rip), %r11
    leaq .Lslot_@NAME@(%rip), %r10
    jmp clip_aware_resolve_@LIBRARY@
    .section .bss.@NAME@, "aw", @nobits
    .balign 8
.Lslot_@NAME@:
    .zero 8
    .section .rodata.@NAME@, "a", @progbits
.Lname_@NAME@:
    .asciz "@NAME@"
"""


def exported(library: pathlib.Path) -> list[str]:
    """The functions that a shared library has."""
    lines = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True).stdout
    names = {line.split()[2].split("@")[0] for line in lines.splitlines() if line.split()[1:2] in (["T"], ["W"], ["i"])}
    return sorted(name for name in names if name.startswith(("cu", "nvrtc")))


def archive(library: str, soname: str, functions: list[str], folder: pathlib.Path) -> None:
    """Writes `lib<library>.a`."""
    def fill(text: str) -> str:
        absent = str(ABSENT[library])
        return text.replace("@LIBRARY@", library).replace("@SONAME@", soname).replace("@ABSENT@", absent)

    assembly = "".join(fill(FUNCTION).replace("@NAME@", name) for name in functions) + fill(RESOLVER)
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for name, language, text in [("find", "c", fill(FINDER)), ("jump", "assembler", assembly)]:
            object_file = f"{scratch}/{library}_{name}.o"
            subprocess.run(
                ["cc", "-c", "-O2", "-fPIC", "-fvisibility=hidden", "-x", language, "-", "-o", object_file],
                input=text.encode(), check=True,
            )
            objects.append(object_file)
        place = folder / f"lib{library}.a"
        place.unlink(missing_ok=True)
        subprocess.run(["ar", "rcs", str(place), *objects], check=True)
