import pytest
import torch

from n2d2 import global_variables
from n2d2.cells import Fc
from n2d2.error_handler import ImplementationError, UndefinedParameterError, WrongInputType, WrongValue


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for name in ("default_model", "default_datatype", "verbosity", "seed", "cuda_device", "model_cache"):
        monkeypatch.setattr(global_variables, name, getattr(global_variables, name))


def n_gpus(monkeypatch, n):
    monkeypatch.setitem(vars(global_variables), "cuda_available", n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)


def test_the_settings_of_n2d2s_scripts(monkeypatch):
    n_gpus(monkeypatch, 3)
    global_variables.default_model = "Frame_CUDA"
    global_variables.default_datatype = "double"
    global_variables.verbosity = global_variables.Verbosity.graph_only
    global_variables.model_cache = "models"
    global_variables.cuda_device = 1
    global_variables.set_cuda_device = 2  # N2D2's examples assign to the method
    assert global_variables.cuda_device == 2
    global_variables.set_cuda_device(0)
    assert global_variables.cuda_device == 0
    assert global_variables.dtype() == torch.float64
    assert global_variables.device() == torch.device("cuda", 0)
    assert "- default_datatype: double\n" in str(global_variables)


def test_a_gpu_that_is_not_there_is_told_and_the_script_runs(monkeypatch):
    n_gpus(monkeypatch, 0)
    with pytest.warns(
        UserWarning, match="default_model='Frame_CUDA', but torch finds no GPU: cells are made on the CPU"
    ):
        global_variables.default_model = "Frame_CUDA"
    global_variables.cuda_device = 4
    assert Fc(2, 2).weight.device == global_variables.device() == torch.device("cpu")


def test_a_gpu_of_too_high_a_number_is_refused(monkeypatch):
    n_gpus(monkeypatch, 2)
    with pytest.raises(WrongValue, match="cuda_device=2 is illegal: torch finds 2, so it must be < 2"):
        global_variables.cuda_device = 2


@pytest.mark.parametrize(
    "name", ["cuda_available", "json_compiled", "onnx_compiled", "n2d2_ip_compiled", "default_net"]
)
def test_what_there_is_can_be_read_but_not_set(name):
    before = getattr(global_variables, name)
    with pytest.raises(ImplementationError, match=f"{name} tells what there is, and cannot be set"):
        setattr(global_variables, name, True)
    assert getattr(global_variables, name) is before


def test_what_there_is():
    assert global_variables.cuda_available is torch.cuda.is_available()
    assert global_variables.json_compiled
    assert not global_variables.n2d2_ip_compiled
    with pytest.raises(ImplementationError, match=r"default_net\.run is refused: there is no C\+\+ network"):
        global_variables.default_net.run()


def test_a_seed_seeds_torch():
    global_variables.seed = 7
    first = torch.rand(3)
    global_variables.set_random_seed(7)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("default_model", "Frame_Cuda", WrongValue, "did you mean 'Frame_CUDA'"),
        ("default_datatype", "flot", WrongValue, "did you mean 'float'"),
        ("verbosity", 2, WrongInputType, "verbosity=2 is illegal"),
        ("seed", -1, WrongValue, "seed=-1"),
        ("seed", 1 << 32, WrongValue, r"seed=4294967296 is illegal: it must be a whole number in \[0, 4294967295\]"),
        ("set_random_seed", 10**30, WrongValue, "seed=10+ is illegal"),
        ("seed", "1", WrongInputType, "seed='1' is illegal"),
        ("cuda_device", -1, WrongValue, "cuda_device=-1 is illegal: it must be a whole number >= 0"),
        ("set_cuda_device", "0", WrongInputType, "cuda_device='0' is illegal"),
        ("cuda_device", (0, 1), ImplementationError, "a script trains on one GPU"),
        ("model_cache", 3, WrongInputType, "model_cache=3 is illegal: it must be a path"),
        ("cuda_devise", 1, UndefinedParameterError, "no parameter 'cuda_devise'; did you mean 'cuda_device'"),
    ],
)
def test_mistakes_are_refused_by_name(name, value, error, message):
    with pytest.raises(error, match=message):
        setattr(global_variables, name, value)


def test_a_setting_that_does_not_exist_is_told_when_it_is_read():
    with pytest.raises(UndefinedParameterError, match="no parameter 'sed'; did you mean 'seed'"):
        global_variables.sed  # noqa: B018 - reading it is the test
