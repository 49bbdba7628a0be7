"""The command line of n2d2: N2D2's options; the others are refused, each with what to use instead."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from n2d2.cli import ALIASES, IDLE, OPTIONS, REFUSED, main, parse
from n2d2.command.export import REFUSED_EXPORTS
from n2d2.command.options import Options
from prunecell.errors import OptionError, UnknownNameError


def test_all_options_are_read():
    line = (
        "net.ini -seed 3 -learn-epoch 10 -log 500 -test -nb-test 40 -w weights -w-ignore -l old -resume -lenient"
        " -pruning Iter -pruning-threshold 0.9 -finetuning 2 -export pcell -nbbits -16 -dev 1"
    )
    assert parse(line.split()) == Options(
        net=Path("net.ini"),
        seed=3,
        learn_epoch=10,
        log=500,
        test=True,
        nb_test=40,
        w=Path("weights"),
        w_ignore=True,
        l=Path("old"),
        resume=True,
        lenient=True,
        pruning="Iter",
        pruning_threshold=0.9,
        finetuning=2,
        export="pcell",
        nbbits=-16,
        dev=1,
    )
    assert parse(["-learn", "600000", "net.ini", "-log-epoch=2"]) == Options(
        net=Path("net.ini"), learn=600000, log_epoch=2
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_use(name):
    with pytest.raises(OptionError, match=re.escape(f"{name} is refused: {REFUSED[name]}")):
        parse(["net.ini", name, "5"])


@pytest.mark.parametrize("name", IDLE)
def test_what_has_no_effect_is_told(name):
    with pytest.warns(UserWarning, match=f"{name} has no effect here"):
        assert parse(["net.ini", name, *["5"] * IDLE[name], "-test"]) == Options(net=Path("net.ini"), test=True)


OF_N2D2 = """
    -act-clipping-mode -act-quantile-value -act-rescale-per-output -act-rescaling-mode -b-round-mode -bench
    -c-round-mode -calib -calib-reload -calibOnly -cfg -check -db-export -dev -dynamic-allocation -export
    -export-parameters -find-lr -finetuning -fuse -h -l -learn -learn-epoch -learn-stdp -log -log-db-stats
    -log-epoch -log-json -log-kernels -log-outputs -multidev -nb-test -nbbits -no-cle -no-unsigned -pre-samples
    -present-time -pruning -pruning-threshold -qat-sat -report -save-test-set -seed -stop-valid -test -test-id
    -test-index -testAdv -testQAT -ts -v -valid-metric -verbose -w -w-ignore -ws -wt-clipping-mode -wt-round-mode
"""


def test_every_option_of_n2d2_works_has_no_effect_or_is_refused():
    assert {*OF_N2D2.split()} <= {*OPTIONS, *REFUSED, *IDLE}


def test_no_name_is_in_two_tables():
    assert len({*OPTIONS, *REFUSED, *IDLE, *ALIASES}) == len(OPTIONS) + len(REFUSED) + len(IDLE) + len(ALIASES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("net.ini -lear 5", "-lear is no option; did you mean '-learn'? Legal: -dev, -export"),
        ("net.ini --learn 5", "--learn is no option; did you mean '-learn'?"),
        ("net.ini -vv", "-vv is no option"),
        ("net.ini -learn 5 -learn-epoch 1", "-learn and -learn-epoch are illegal together"),
        ("net.ini -log 5 -log-epoch 1", "-log and -log-epoch are illegal together"),
        (
            "net.ini -seed 4294967296",
            "argument -seed: '4294967296' is illegal: it must be a whole number in [0, 4294967295]",
        ),
        ("net.ini -learn -5", "argument -learn: '-5' is illegal: it must be a whole number >= 0"),
        ("net.ini -seed 99999999999999999999", "argument -seed: '99999999999999999999' is illegal"),
        ("net.ini -learn 5.5", "argument -learn: '5.5' is illegal"),
        ("net.ini -learn", "argument -learn: expected one argument"),
        ("net.ini -pruning iter", "argument -pruning: invalid choice: 'iter'"),
        ("net.ini -pruning Iter", "-pruning Iter needs -pruning-threshold T"),
        ("net.ini -pruning Iter -pruning-threshold 1.5", "'1.5' is illegal: it must be a number in [0, 1]"),
        ("net.ini -pruning-threshold 0.5", "-pruning-threshold is illegal without -pruning"),
        ("net.ini -finetuning 3 -pruning None", "-finetuning is illegal without -pruning"),
        ("net.ini -nb-test 5", "-nb-test is illegal without -test"),
        ("net.ini -test -nb-test 0", "'0' is illegal: it must be a whole number >= 1, or -1"),
        ("net.ini -w-ignore", "-w-ignore is illegal without -w DIR"),
        ("net.ini -nbbits 8", "-nbbits is illegal without -export"),
        ("net.ini -export onnx", "-export onnx is unknown; did you mean 'ONNX'? Legal: ONNX, pcell"),
        ("net.ini -export ONNX -nbbits 8", "-nbbits 8 is illegal with -export ONNX; legal: -32"),
        ("net.ini -export pcell -nbbits 16", "-nbbits 16 is illegal with -export pcell; legal: -32, -16, 8"),
        ("net.ini other.ini", "unrecognized arguments: other.ini"),
        ("-test", "the following arguments are required: net.ini; n2d2 -h tells more"),
    ],
)
def test_illegal_lines(line, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        parse(line.split())


@pytest.mark.parametrize("name", REFUSED_EXPORTS)
def test_exports_that_are_not_here(name):
    with pytest.raises(OptionError, match=f"-export {name} is refused: "):
        parse(["net.ini", "-export", name])


def test_an_unknown_option_is_an_unknown_name():
    with pytest.raises(UnknownNameError):
        parse(["net.ini", "-bugs"])


@pytest.mark.parametrize(("words", "told"), [("-h", "usage: n2d2"), ("--help", "-learn-epoch N"), ("-v", "prunecell")])
def test_help_and_version_end_well(capsys, words, told):
    with pytest.raises(SystemExit) as exit_:
        main([words])
    assert exit_.value.code == 0
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("word", ["-h", "-v"])
def test_help_loads_no_library_that_it_does_not_need(word):
    code = f"""
import sys
from n2d2.cli import main
try:
    main(["{word}"])
except SystemExit as end:
    assert not end.code
print("loaded:", *[name for name in ("torch", "numpy", "matplotlib", "PIL", "jinja2") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("loaded:\n")


def test_a_percentage_is_recognised():
    with pytest.raises(OptionError, match=r"'90' is illegal: it must be a number in \[0, 1\]; 90 % is 0\.9"):
        parse(["net.ini", "-pruning", "Iter", "-pruning-threshold", "90"])


def errors(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        main([*words])
    assert exit_.value.code == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


@pytest.mark.usefixtures("workplace")
def test_errors_say_where_and_end_with_status_1(capsys):
    assert errors(capsys, "nosuch.ini") == "error: nosuch.ini: there is no such file\n"
    assert errors(capsys, "net.ini", "-calib", "3").startswith("error: -calib is refused: ")
    text = Path("net.ini").read_text()
    Path("net.ini").write_text(text.replace("ActivationFunction", "ActivationFuncton"))
    line = text.splitlines().index("ActivationFunction=Rectifier") + 1
    expected = f"error: net.ini:{line}: [conv1] ActivationFuncton: nothing reads this key; did you mean 'ActivationFun"
    assert errors(capsys, "net.ini", "-learn-epoch", "1").startswith(expected)


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("flag", ["-lenient", "--lenient"])
def test_lenient_makes_unknown_keys_warnings(capsys, flag):
    Path("net.ini").write_text(Path("net.ini").read_text().replace("ActivationFunction", "ActivationFuncton"))
    main(["net.ini", flag])
    assert capsys.readouterr().err.startswith("warning: net.ini:")


@pytest.mark.usefixtures("workplace")
def test_two_ways_of_pruning_are_refused(capsys):
    words = ["net.ini", "-pruning", "Iter", "-pruning-threshold", "0.5"]
    assert "-pruning Iter is illegal here: net.ini has QWeight=Prune" in errors(capsys, *words)


@pytest.mark.usefixtures("workplace")
def test_a_device_that_is_not_there(capsys):
    n = torch.cuda.device_count()
    assert f"-dev {n} is illegal: torch finds {n} CUDA device" in errors(capsys, "net.ini", "-dev", str(n))
