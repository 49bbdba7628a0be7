import pytest
import torch

from n2d2 import global_variables
from n2d2.error_handler import UndefinedParameterError, WrongInputType, WrongValue


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    for name in ("default_model", "default_datatype", "verbosity", "seed", "cuda_device"):
        monkeypatch.setattr(global_variables, name, getattr(global_variables, name))


def test_the_settings_of_n2d2s_scripts():
    global_variables.default_model = "Frame_CUDA"
    global_variables.default_datatype = "double"
    global_variables.verbosity = global_variables.Verbosity.graph_only
    global_variables.cuda_device = 1
    global_variables.set_cuda_device = 2
    assert global_variables.cuda_device == 2
    assert global_variables.dtype() == torch.float64
    if not torch.cuda.is_available():
        assert global_variables.device() == torch.device("cpu")


def test_whether_there_is_a_gpu_can_be_read_but_not_set():
    assert global_variables.cuda_available is torch.cuda.is_available()
    with pytest.raises(UndefinedParameterError, match="cuda_available"):
        global_variables.cuda_available = True


def test_a_seed_seeds_torch():
    global_variables.seed = 7
    first = torch.rand(3)
    global_variables.seed = 7
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("default_model", "Frame_Cuda", WrongValue, "did you mean 'Frame_CUDA'"),
        ("default_datatype", "flot", WrongValue, "did you mean 'float'"),
        ("verbosity", 2, WrongInputType, "verbosity=2 is illegal"),
        ("seed", -1, WrongValue, "seed=-1"),
        ("cuda_devise", 1, UndefinedParameterError, "no parameter 'cuda_devise'; did you mean 'cuda_device'"),
    ],
)
def test_mistakes_are_refused_by_name(name, value, error, message):
    with pytest.raises(error, match=message):
        setattr(global_variables, name, value)
