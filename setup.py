"""The compiled kernels, where there is a C++ compiler; everything else is in pyproject.toml."""

import platform
import runpy

from setuptools import Extension, setup

NATIVE = "src/prunecell/native"
SOURCES = runpy.run_path(f"{NATIVE}/sources.py")  # not imported, because that would import torch
BASELINE = {"v1": ""}
X86_LEVELS = {"v1": "", "v3": "-march=x86-64-v3", "v4": "-march=x86-64-v4"}


def kernels(level: str, march: str) -> Extension:
    """The shared library of one instruction-set level; an install without a compiler goes on without it.

    The library carries the checksum of all C++ files, by which the loader knows a stale one.
    """
    flags = ["-std=c++17", "-O3", "-g0", "-ffp-contract=fast", "-fno-math-errno", "-fno-exceptions", "-fno-rtti"]
    flags += ["-fno-tree-loop-distribute-patterns"]  # short copies stay loops, instead of calls of memcpy
    return Extension(
        f"prunecell.native._kernels_{level}",
        [f"{NATIVE}/kernels.cpp"],
        depends=[f"{NATIVE}/{path.relative_to(SOURCES['FOLDER']).as_posix()}" for path in SOURCES["files"]()],
        define_macros=[("SOURCE_CHECKSUM", f"{SOURCES['checksum']()}u")],
        extra_compile_args=[*flags, "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", *march.split()],
        extra_link_args=["-pthread"],
        py_limited_api=True,
        optional=True,
    )


x86 = platform.machine().lower() in {"x86_64", "amd64"}
setup(
    ext_modules=[kernels(level, march) for level, march in (X86_LEVELS if x86 else BASELINE).items()],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
