"""The C++ source: one unit that includes everything, one list of functions, CPU code in one place, no warnings."""

import ctypes
import platform
import re
import shutil
import subprocess

import pytest

from prunecell.native import SOURCE, sources, structs

FILES = {path.relative_to(sources.FOLDER).as_posix(): path.read_text() for path in sources.files()}
STRICT = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-DSOURCE_CHECKSUM=0u"]


def exported():
    """Every exported function of the source -> its parameters."""
    found = re.findall(r"^EXPORT \w+ (pc_\w+)\(([^)]*)\)", "\n".join(FILES.values()), re.MULTILINE)
    return {name: [p for p in parameters.split(",") if p.strip()] for name, parameters in found}


def test_the_signatures_name_the_exported_functions_and_no_other():
    assert exported().keys() == structs.SIGNATURES.keys() | {"pc_source_checksum"}


@pytest.mark.parametrize("name", list(structs.SIGNATURES))
def test_a_signature_has_the_parameters_of_its_function(name):
    def size(parameter):
        return 8 if "*" in parameter or "int64_t" in parameter else 4

    declared = [ctypes.sizeof(argument) for argument in structs.SIGNATURES[name]]
    assert declared == [size(parameter) for parameter in exported()[name]]


def test_the_unit_includes_every_header():
    included, todo = set(), [SOURCE]
    while todo:
        path = todo.pop().resolve()
        if path not in included:
            included.add(path)
            todo += [path.parent / name for name in re.findall(r'#include "(.+)"', path.read_text())]
    assert included == {path.resolve() for path in sources.files()}


def test_only_one_header_knows_the_instruction_set():
    assert [name for name, text in FILES.items() if re.search(r"__AVX|\b_mm|__F16C__|intrin\.h", text)] == [
        "instructions.h"
    ]


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".h")])
def test_a_header_includes_what_it_needs(name):
    if not shutil.which("c++"):
        pytest.skip("no compiler")
    command = ["c++", *STRICT, "-Wno-unused-function", f"-I{sources.FOLDER}", "-x", "c++", "-"]
    done = subprocess.run(command, input=f'#include "{name}"\n', capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("march", ["", "-march=x86-64-v3", "-march=x86-64-v4"])
def test_the_unit_compiles_without_a_warning(compiler, march):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    if march and platform.machine().lower() not in {"x86_64", "amd64"}:
        pytest.skip("not x86-64")
    done = subprocess.run([compiler, *STRICT, *march.split(), SOURCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
