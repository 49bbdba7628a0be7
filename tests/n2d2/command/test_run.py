"""The command n2d2 at work: what it prints, what it writes, and what a run that was stopped comes to."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import prunecell.archive
from n2d2.cli import main
from n2d2.experiment.experiment import read
from n2d2.experiment.run import run as run_job
from n2d2.files import read_masks, read_weights
from n2d2.provider import DataProvider

LEARN = ["net.ini", "-learn-epoch", "4", "-log", "160"]


def run(capsys, *words):
    capsys.readouterr()
    main([*words])
    return capsys.readouterr().out


def fail(capsys, *words, status=1):
    with pytest.raises(SystemExit) as exit_:
        main([*words])
    assert exit_.value.code == status
    return capsys.readouterr().err


def success(out, when="at the end"):
    line = next(line for line in out.splitlines() if line.endswith(f"stimuli, {when}"))
    return float(line.partition("test success ")[2].partition("%")[0])


def contents(*folders):
    return {
        path: path.read_bytes() for folder in folders for path in sorted(Path(folder).rglob("*.*")) if path.is_file()
    }


def interrupt_at(monkeypatch, step, number=signal.SIGINT):
    """Let the process be interrupted while a batch is read, by a SIGINT that is not ignored."""
    seen = 0
    true_epoch = DataProvider.epoch

    def epoch(self, *arguments):
        nonlocal seen
        for batch in true_epoch(self, *arguments):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), number)
            yield batch

    monkeypatch.setattr(DataProvider, "epoch", epoch)


@pytest.mark.usefixtures("workplace_with_pictures")
def test_it_learns_prunes_and_tests(capsys):
    out = run(capsys, *LEARN, "-test", "-seed", "3")
    assert "net.ini on cpu, seed 3" in out
    assert "conv1 (Conv)       4, 6, 6       40" in out
    assert "bn1 (BatchNorm2d)" in out
    assert "conv1    Gradual  IterNonStruct  0.6        0.3    0.1    320             0.001" in out
    assert "learning: 1,280 samples, 4 epochs (stimuli: Learn 320, Validation 80, Test 100)" in out
    rows = [line.split() for line in out.splitlines() if line.strip().endswith(("0.300", "0.400", "0.500", "0.600"))]
    assert [row[0] for row in rows] == ["160", "320", "480", "640", "800", "960", "1,120", "1,280"]
    assert float(rows[-1][3][:-1]) > 80 < float(rows[-1][4][:-1])  # learning, validation
    assert "1,280 samples in" in out
    assert success(out) > 80
    assert "net.pcell:" in out
    assert "x smaller" in out
    table = np.loadtxt("softmax.Target/Success_validation.dat")
    assert table[:, 0].tolist() == [160 * n for n in range(1, 9)]
    assert np.loadtxt("softmax.Target/ConfusionMatrix_test.dat").sum() == 100
    for name in ("Success_validation", "ConfusionMatrix_validation", "ConfusionMatrix_test"):
        assert Path(f"softmax.Target/{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("workplace")
def test_all_files_hold_the_same_pruned_network(capsys):
    run(capsys, *LEARN)
    state = prunecell.archive.load("net.pcell")
    for cell, shape in (("conv1", (4, 1, 3, 3)), ("fc1", (10, 144))):
        weights = read_weights(Path(f"weights/{cell}_weights.syntxt"), shape)
        mask = read_masks(Path(f"weights/{cell}_masks.syntxt"), shape)
        assert torch.equal(weights, state[f"{cell}.layer.weight"])
        assert not weights[~mask].any()
        assert (~mask).float().mean() >= 0.6


@pytest.mark.usefixtures("workplace")
def test_the_best_weights_are_pruned_to_the_end(capsys):
    run(capsys, *LEARN)
    assert (~read_masks(Path("weights_validation/fc1_masks.syntxt"), (10, 144))).float().mean() >= 0.6


@pytest.mark.usefixtures("workplace")
def test_weights_are_read_back(capsys):
    learned = success(run(capsys, *LEARN, "-test"))
    assert success(run(capsys, "net.ini", "-test", "-w", "weights")) == learned
    out = run(capsys, "net.ini", "-test")
    assert "read: weights_validation/" in out
    shutil.rmtree("weights_validation")
    out = run(capsys, "net.ini", "-test")
    assert "read: weights/" in out
    assert success(out) == learned


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("words", [("-test",), ("-export", "pcell"), ("-resume", "-test"), ("-test", "-w", "weights")])
def test_the_table_counts_the_weights_that_were_read(capsys, words):
    run(capsys, *LEARN)
    out = run(capsys, "net.ini", *words)
    state = prunecell.archive.load("net.pcell")
    pruned = sum(int((state[f"{cell}.layer.weight"] == 0).sum()) for cell in ("conv1", "fc1"))
    assert pruned > 800
    assert f"Total parameters: 1,498\nTotal kept: {1498 - pruned:,}\n" in out


@pytest.mark.usefixtures("workplace")
def test_read_weights_are_pruned_on_their_own_values(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "4")
    static = Path("net.ini").read_text().replace("Gradual", "Static").replace("IterNonStruct", "Random")
    Path("static.ini").write_text(static)
    out = run(capsys, "static.ini", "-test", "-w", "weights", "-export", "pcell")
    assert success(out, "as read from weights") > 90
    assert success(out) < success(out, "as read from weights")
    assert (
        f"softmax.Target: {success(out, 'as read from weights'):.2f}% as read from weights, {success(out):.2f}%" in out
    )
    dense = read_weights(Path("weights/fc1_weights.syntxt"), (10, 144))
    pruned = prunecell.archive.load("export_pcell/static.pcell")["fc1.layer.weight"]
    assert (pruned == 0).float().mean() == pytest.approx(0.6, abs=1e-3)
    assert torch.equal(pruned[pruned != 0], dense[pruned != 0])


@pytest.mark.usefixtures("workplace")
def test_masks_in_a_folder_are_kept_whatever_the_filler_draws(capsys):
    random = Path("net.ini").read_text().replace("IterNonStruct", "Random")
    Path("random.ini").write_text(random)
    run(capsys, "random.ini", "-learn-epoch", "4")
    before = contents("weights")
    run(capsys, "random.ini", "-learn", "32", "-w", "weights", "-seed", "5")
    for name in ("conv1_masks", "fc1_masks"):
        assert Path(f"weights/{name}.syntxt").read_bytes() == before[Path(f"weights/{name}.syntxt")]
    Path("weights/conv1_masks.syntxt").unlink()
    told = fail(capsys, "random.ini", "-learn", "32", "-w", "weights", "-seed", "6")
    assert "conv1_masks.syntxt: there is no such file, and cell 'conv1' is pruned" in told
    run(capsys, "random.ini", "-learn", "32", "-w", "weights.old", "-w-ignore", "-seed", "6")
    assert Path("weights/fc1_masks.syntxt").read_bytes() == before[Path("weights/fc1_masks.syntxt")]


@pytest.mark.usefixtures("workplace")
def test_gradual_goes_on_from_the_masks_that_are_read_and_can_be_resumed(capsys):
    run(capsys, "net.ini", "-learn-epoch", "1")  # Gradual from 0.3 by 0.1: 0.4
    masks = read_masks(Path("weights/fc1_masks.syntxt"), (10, 144))
    Path("weights").rename("first")
    run(capsys, "net.ini", "-learn-epoch", "1", "-w", "first")
    after = [read_masks(Path("weights/fc1_masks.syntxt"), (10, 144))]
    run(capsys, "net.ini", "-learn-epoch", "2", "-resume")
    after.append(read_masks(Path("weights/fc1_masks.syntxt"), (10, 144)))
    first, second, third = ((~mask).float().mean().item() for mask in (masks, *after))
    assert first + 0.1 - 1e-6 <= second < third == pytest.approx(0.6, abs=0.05)


@pytest.mark.usefixtures("workplace")
def test_a_dense_run_leaves_no_masks_of_the_run_before(capsys):
    run(capsys, *LEARN)
    out = run(capsys, "dense.ini", "-learn-epoch", "1", "-w", "weights")
    assert not list(Path("weights").glob("*_masks.syntxt"))
    assert "sparsity" in out
    assert "threshold yet" not in out


@pytest.mark.usefixtures("workplace")
def test_samples_are_rounded_up_to_batches(capsys):
    assert "learning: 352 samples" in run(capsys, "dense.ini", "-learn", "325")
    assert "learning: 640 samples" in run(capsys, "dense.ini", "-learn", "640")
    out = run(capsys, "dense.ini", "-learn", "1", "-log-epoch", "2")
    assert "learning: 32 samples" in out
    assert np.loadtxt("softmax.Target/Success_validation.dat", ndmin=2).shape == (1, 6)


@pytest.mark.usefixtures("workplace")
def test_it_says_what_was_too_short(capsys):
    out = run(capsys, "net.ini", "-learn-epoch", "1")
    assert "not at their Threshold yet: conv1 0.4 of 0.6, fc1 0.4 of 0.6" in out
    out = run(capsys, "net.ini", "-learn-epoch", "4", "-resume")
    assert "going on after 320 samples" in out
    assert "not at their Threshold" not in out


@pytest.mark.usefixtures("workplace")
def test_without_validation_stimuli_nothing_is_best(capsys):
    for name in ("net.ini", "dense.ini"):
        Path(name).write_text(Path(name).read_text().replace("Validation=0.2", ""))
    out = run(capsys, "net.ini", "-learn-epoch", "1", "-test")
    assert "Learn 400, Validation 0" in out
    assert " - " in out
    assert not Path("weights_validation").exists()
    assert success(run(capsys, "net.ini", "-test")) == success(out)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("filler", ["Random", "Iter"])
def test_pruning_afterwards_has_effect_until_the_end(capsys, filler):
    words = ["-pruning", filler, "-pruning-threshold", "0.7", "-finetuning", "2", "-test"]
    out = run(capsys, "dense.ini", "-learn-epoch", "3", *words)
    assert success(out, "before pruning") > 90
    assert success(out, "pruned") < success(out)
    assert "finetuning: 640 samples" in out
    mask = read_masks(Path("weights_pruned/fc1_masks.syntxt"), (10, 144))
    weights = read_weights(Path("weights_pruned/fc1_weights.syntxt"), (10, 144))
    assert (~mask).float().mean() >= 0.7
    assert not weights[~mask].any()
    assert torch.equal(prunecell.archive.load("dense.pcell")["fc1.layer.weight"], weights)
    assert not Path("weights/fc1_masks.syntxt").exists()
    assert success(run(capsys, "dense.ini", "-test", "-w", "weights_pruned")) == success(out)


@pytest.mark.usefixtures("workplace")
def test_weights_that_are_there_can_be_pruned(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "3")
    out = run(capsys, "dense.ini", "-pruning", "Iter", "-pruning-threshold", "0.5")
    assert "read: weights_validation/" in out
    assert "pruned: 50." in out
    assert Path("weights_pruned/conv1_masks.syntxt").exists()


@pytest.mark.usefixtures("workplace", "ctrl_c")
@pytest.mark.parametrize("step", [1, 10, 11, 25])
def test_ctrl_c_leaves_a_state_that_goes_on_to_the_same_end(capsys, monkeypatch, step):
    with monkeypatch.context() as context:
        interrupt_at(context, step)
        err = fail(capsys, *LEARN, status=130)
    assert "interrupted; to go on: n2d2 net.ini -learn-epoch 4 -log 160 -resume" in err
    assert "Traceback" not in err
    assert f"going on after {32 * step:,} samples" in run(capsys, *LEARN, "-resume")
    resumed = contents("weights", "weights_validation", "softmax.Target")
    run(capsys, *LEARN)
    assert contents("weights", "weights_validation", "softmax.Target") == resumed
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("workplace", "ctrl_c")
def test_ctrl_c_while_fine_tuning(capsys, monkeypatch):
    words = ["dense.ini", "-learn-epoch", "2", "-pruning", "Random", "-pruning-threshold", "0.7", "-finetuning", "2"]
    with monkeypatch.context() as context:
        interrupt_at(context, 33)
        fail(capsys, *words, status=130)
    run(capsys, *words, "-resume")
    resumed = contents("weights", "weights_pruned", "softmax.Target")
    run(capsys, *words)
    assert contents("weights", "weights_pruned", "softmax.Target") == resumed


@pytest.mark.usefixtures("workplace")
def test_a_state_is_taken_from_another_folder(capsys):
    learned = success(run(capsys, *LEARN, "-test"))
    Path("elsewhere").mkdir()
    for path in ("net.ini", "data"):
        shutil.move(path, f"elsewhere/{path}")
    os.chdir("elsewhere")
    assert success(run(capsys, "net.ini", "-test", "-l", "..")) == learned
    assert "-l ../data is illegal: there is no net.checkpoint in it" in fail(capsys, "net.ini", "-l", "../data")


@pytest.mark.usefixtures("workplace")
def test_a_state_of_another_network_is_refused(capsys):
    run(capsys, *LEARN)
    Path("net.ini").write_text(Path("net.ini").read_text().replace("NbOutputs=4", "NbOutputs=5"))
    err = fail(capsys, *LEARN, "-resume")
    assert "net.checkpoint is of another run: model does not fit" in err
    shutil.copy("net.checkpoint", "dense.checkpoint")
    err = fail(capsys, "dense.ini", "-learn-epoch", "5", "-resume")
    assert "dense.checkpoint is of another run" in err


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
def test_resuming_without_a_state_begins_with_a_warning_but_not_where_a_run_was_put_aside(capsys):
    main([*LEARN, "-resume"])
    warned = "warning: -resume: there is no net.checkpoint here to go on with; the run begins anew"
    assert warned in capsys.readouterr().err
    shutil.move("net.checkpoint", "net.checkpoint.old")
    before = contents("weights", "net.checkpoint.old")
    assert "net.checkpoint.old is of the run before it: rename it" in fail(capsys, *LEARN, "-resume")
    assert contents("weights", "net.checkpoint.old") == before


@pytest.mark.usefixtures("workplace")
def test_a_state_is_not_lost_by_forgetting_resume(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "2")
    before = Path("dense.checkpoint").read_bytes()
    assert "the old file dense.checkpoint is now dense.checkpoint.old" in run(capsys, "dense.ini", "-learn-epoch", "1")
    assert Path("dense.checkpoint.old").read_bytes() == before
    run(capsys, "dense.ini", "-pruning", "Iter", "-pruning-threshold", "0.5", "-finetuning", "1")
    assert Path("dense.checkpoint").exists()


@pytest.mark.usefixtures("workplace")
def test_what_an_earlier_run_wrote_is_put_aside_and_told(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "1", "-export", "pcell")
    written = contents("weights", "weights_validation", "softmax.Target", "export_pcell")
    written[Path("dense.pcell")] = Path("dense.pcell").read_bytes()
    out = run(capsys, "dense.ini", "-learn-epoch", "1", "-seed", "5", "-export", "pcell", "-nbbits", "4")
    for name in ("weights", "weights_validation", "softmax.Target", "dense.pcell", "export_pcell/dense.pcell"):
        assert f"the old {'file' if name.endswith('.pcell') else 'folder'} {name} is now {name}.old" in out
    for path, data in written.items():
        old = Path(f"{path}.old") if path.suffix == ".pcell" else Path(f"{path.parent}.old", path.name)
        assert old.read_bytes() == data
    before = contents("weights", "weights.old")
    out = run(capsys, "dense.ini", "-learn-epoch", "2", "-resume")
    assert "is now" not in out
    assert contents("weights.old") == {path: data for path, data in before.items() if path.parts[0] == "weights.old"}


@pytest.mark.usefixtures("workplace")
def test_the_loss_is_that_of_prunecell_run_where_the_last_batch_is_short_too(capsys):
    Path("net.ini").write_text(Path("net.ini").read_text().replace("BatchSize=32", "BatchSize=48"))
    run(capsys, "net.ini", "-learn-epoch", "2", "-seed", "3")
    losses = np.loadtxt("softmax.Target/Success_validation.dat")[:, 1]
    job = run_job(read("net.ini", seed=3), Path("job"), epochs=2, reference=False)
    assert losses == pytest.approx([epoch.loss for epoch in job.epochs], rel=1e-6)


PRUNE = ("-pruning", "Iter", "-pruning-threshold", "0.5")


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    "words", [("-learn-epoch", "1"), PRUNE, ("-learn-epoch", "1", *PRUNE), (*PRUNE, "-finetuning", "1")]
)
def test_a_run_says_that_it_wrote_what_it_wrote_and_puts_aside_what_is_of_older_weights(capsys, words):
    run(capsys, "dense.ini", "-learn-epoch", "1", *PRUNE, "-finetuning", "1")
    there = {path for path in Path().iterdir() if path.suffix != ".ini" and path.name != "data"}
    for path in there:
        os.utime(path, (0, 0))
        for file in path.rglob("*"):
            os.utime(file, (0, 0))
    out = run(capsys, "dense.ini", *words, "-seed", "5")
    told = next(line for line in out.splitlines() if line.startswith("written: ") and ".pcell" in line)
    new = {path for path in there if path.exists() and max(p.stat().st_mtime for p in (path, *path.rglob("*")))}
    assert {Path(path) for path in told.removeprefix("written: ").split(", ")} == new
    if "-learn-epoch" in words:
        assert {path for path in there if path.exists()} == new


@pytest.mark.usefixtures("workplace")
def test_pruned_weights_that_a_learning_begins_with_stay(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "1", *PRUNE)
    before = contents("weights_pruned")
    assert "weights_pruned.old" not in run(capsys, "dense.ini", "-learn-epoch", "1", "-w", "weights_pruned")
    assert contents("weights_pruned") == before


@pytest.mark.usefixtures("workplace")
def test_weights_that_are_still_to_be_read_are_copied_aside(capsys):
    run(capsys, "dense.ini", "-learn-epoch", "1")
    before = contents("weights")
    out = run(capsys, "dense.ini", "-learn-epoch", "1", "-w", "weights")
    assert "read: weights/" in out
    assert {Path("weights", path.name): data for path, data in contents("weights.old").items()} == before
    best = contents("weights_validation")
    words = ["-pruning", "Iter", "-pruning-threshold", "0.5", "-finetuning", "1"]
    assert "read: weights_validation/" in run(capsys, "dense.ini", *words)
    assert {Path("weights_validation", path.name): d for path, d in contents("weights_validation.old").items()} == best


@pytest.mark.usefixtures("workplace_with_pictures")
@pytest.mark.filterwarnings("default")
def test_without_matplotlib_the_tables_are_written_all_the_same(capsys, monkeypatch):
    monkeypatch.setattr("prunecell.report.picture.find_spec", lambda _: None)
    main(["net.ini", "-learn-epoch", "1", "-test"])
    out, err = capsys.readouterr()
    assert "no picture is drawn, because matplotlib is not installed: pip install matplotlib" in err
    assert "written: softmax.Target/ConfusionMatrix_test.dat\n" in out
    assert {path.suffix for path in Path("softmax.Target").iterdir()} == {".dat"}


@pytest.mark.usefixtures("workplace")
def test_weights_are_called_as_in_the_archive(capsys):
    out = run(capsys, *LEARN)
    for row in prunecell.archive.inspect("net.pcell"):
        if row.name.endswith(".weight") and len(row.shape) > 1:
            assert re.search(rf"^{re.escape(row.name)}  .* {row.bytes_stored:,}$", out, re.MULTILINE)


@pytest.mark.usefixtures("workplace")
def test_every_target_has_its_folder_and_its_success(capsys):
    Path("net.ini").write_text(Path("net.ini").read_text() + "[softmax.Target-top3]\nTopN=3\n")
    out = run(capsys, "net.ini", "-learn-epoch", "2", "-test")
    first, second = (line for line in out.splitlines() if line.endswith("at the end"))
    assert first.startswith("softmax.Target: test success ")
    assert second.startswith("softmax.Target-top3: test success ")
    assert float(first.split()[3][:-1]) < float(second.split()[3][:-1])
    assert Path("softmax.Target-top3/ConfusionMatrix_test.dat").exists()


@pytest.mark.usefixtures("workplace")
def test_without_an_action_it_shows_the_network(capsys):
    shutil.rmtree("data")
    out = run(capsys, "net.ini")
    assert "Total parameters: 1,498" in out
    assert "nothing else to do" in out
    assert not list(Path().glob("weights*"))


@pytest.mark.usefixtures("workplace")
def test_w_reads_no_weights_from_dev_null(capsys):
    out = run(capsys, "dense.ini", "-test", "-w", "/dev/null")
    assert "read:" not in out
    assert success(out) < 50


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")
def test_weights_that_are_not_there(capsys):
    assert "there is no weights_validation or weights here: learn first" in fail(capsys, "net.ini", "-test")
    run(capsys, *LEARN)
    Path("weights/fc1_weights.syntxt").unlink()
    Path("weights/fc1_biases.syntxt").unlink()
    assert "weights/fc1_biases.syntxt: there is no such file" in fail(capsys, "net.ini", "-test", "-w", "weights")
    main(["net.ini", "-test", "-w", "weights", "-w-ignore"])
    assert "cell 'fc1' keeps its weights" in capsys.readouterr().err.replace("\n", "")


@pytest.mark.usefixtures("workplace")
def test_data_that_is_not_there_is_missed_at_the_beginning(capsys):
    for name in ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        Path(f"data/{name}").unlink()
    assert "t10k-images-idx3-ubyte" in fail(capsys, *LEARN)
    assert not Path("weights").exists()


@pytest.mark.usefixtures("workplace")
def test_a_target_cannot_write_outside_of_the_working_folder(capsys):
    text = Path("net.ini").read_text().replace("[softmax]", "[../out]").replace("[softmax.Target]", "[../out.Target]")
    Path("net.ini").write_text(text)
    assert "[../out.Target] is illegal: its folder would lie outside" in fail(capsys, *LEARN)
    assert not Path("../out.Target").exists()


def test_runs_that_are_killed_inside_their_training_come_to_the_same_bytes():
    script = Path(__file__).parents[3] / "benchmarks" / "kills.py"
    done = subprocess.run([sys.executable, str(script), "1", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall("(.*): 1 kills, 1 runs that ended", done.stdout) == ["prunecell run", "n2d2 -learn-epoch"]


INTEGERS = "\n[prunecell.Rate]\nLambda=1e-4\nEpochs=3\n"


every_rate_file = pytest.mark.parametrize("ini", ["net.ini", "dense.ini"], ids=["pruned", "dense"])


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("rate", ["", INTEGERS], ids=["no integers", "integers"])
@every_rate_file
def test_a_run_has_the_trainings_that_its_file_asks_for(capsys, ini, rate):
    Path("rate.ini").write_text(Path(ini).read_text() + rate)
    out = run(capsys, "rate.ini", *LEARN[1:], "-test")
    assert ("integers: 960 samples" in out) == ("before it became integers" in out) == bool(rate)
    assert ("Gradual" in out) == (ini == "net.ini")
    assert bool(list(Path("weights").glob("*_masks.syntxt"))) == (ini == "net.ini")
    assert Path("weights_integers").exists() == Path("rate.integers.checkpoint").exists() == bool(rate)
    assert success(out) > 80


@pytest.mark.usefixtures("workplace")
@every_rate_file
def test_a_network_that_was_learned_becomes_integers(capsys, ini):
    Path("rate.ini").write_text(Path(ini).read_text() + INTEGERS)
    run(capsys, ini, *LEARN[1:])
    out = run(capsys, "rate.ini", *LEARN[1:], "-test")
    assert success(out) > 80
    assert Path("rate.pcell").stat().st_size * 4 < Path(ini).with_suffix(".pcell").stat().st_size
    for name, tensor in prunecell.archive.load("rate.pcell").items():
        if tensor.is_floating_point() and "bn" not in name:
            assert len(tensor.abs().unique()) < 60
    assert success(run(capsys, "rate.ini", "-test", "-w", "weights_integers")) == success(out)
    assert not list(Path("weights_integers").glob("*_masks.syntxt"))


@pytest.mark.parametrize("step", [3, 45, 62], ids=["while it learns", "among integers", "near the end"])
@every_rate_file
@pytest.mark.usefixtures("workplace", "ctrl_c")
def test_integers_that_were_interrupted_come_to_the_same_bytes(capsys, monkeypatch, ini, step):
    Path("net.ini").write_text(Path(ini).read_text() + INTEGERS)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        fail(capsys, *LEARN, status=130)
    run(capsys, *LEARN, "-resume")
    resumed = contents("weights", "weights_integers"), Path("net.pcell").read_bytes()
    run(capsys, *LEARN)
    assert (contents("weights", "weights_integers"), Path("net.pcell").read_bytes()) == resumed


@pytest.mark.usefixtures("workplace")
@every_rate_file
def test_integers_begin_anew_where_the_learning_goes_on(capsys, ini):
    Path("net.ini").write_text(Path(ini).read_text() + INTEGERS)
    run(capsys, "net.ini", "-learn-epoch", "2")
    run(capsys, "net.ini", "-learn-epoch", "3", "-resume")
    went_on = contents("weights_integers")
    run(capsys, "net.ini", "-learn-epoch", "3")
    assert contents("weights_integers") == went_on
