"""Modules of N2D2's that are here to refuse by name: they can be imported, and each use says what to use instead."""

import copy
import re
from importlib import import_module

import pytest

from n2d2.error_handler import ImplementationError, UndefinedParameterError

REFUSED = {
    "keras_to_n2d2.wrap": "DeepNetCell.load_from_ONNX",
    "keras_to_n2d2.CustomSequential": "DeepNetCell.load_from_ONNX",
    "n2d2.application.Classifier": "n2d2.target.Score",
    "n2d2.export.export_c": "prunecell.save",
    "n2d2.export.export_cpp": "prunecell.save",
    "n2d2.export.export_cpp_stm32": "prunecell.save",
    "n2d2.export.export_tensor_rt": "prunecell.save",
    "n2d2.export.list_exportable_cell": "prunecell.save",
    "n2d2.n2d2_interface.ConventionConverter": "parameters are attributes",
    "n2d2.n2d2_interface.N2D2_Interface": "parameters are attributes",
    "n2d2.n2d2_interface.Options": "parameters are attributes",
    "n2d2.scaling.DoubleShiftScaling": "prunecell.save",
    "n2d2.scaling.FixedPointScaling": "prunecell.save",
    "n2d2.scaling.FloatingPointScaling": "prunecell.save",
    "n2d2.scaling.ScalingObject": "prunecell.save",
    "n2d2.scaling.SingleShiftScaling": "prunecell.save",
    "n2d2.typed.Datatyped": "take model= and datatype=",
    "n2d2.typed.ModelDatatyped": "take model= and datatype=",
    "n2d2.typed.Modeltyped": "take model= and datatype=",
    "N2D2.BaseTensor": "n2d2.Tensor",
    "N2D2.ConvCell_Frame_float": "n2d2.cells",
    "N2D2.DeepNet": "load_from_INI",
    "N2D2.DeepNetGenerator": "load_from_INI",
    "N2D2.MNIST_IDX_Database": "n2d2.database",
    "N2D2.PruneQuantizerCell_Frame_float": "n2d2.quantizer.PruneCell",
    "N2D2.RescaleTransformation": "n2d2.transform",
    "N2D2.SGDSolver_Frame_float": "n2d2.solver",
    "N2D2.StimuliProvider": "n2d2.provider",
    "N2D2.TargetScore": "n2d2.target.Score",
    "N2D2.Tensor_float": "n2d2.Tensor",
    "N2D2.XavierFiller_float": "n2d2.filler",
    "N2D2.generateExport": "prunecell.save",
    "N2D2.mtSeed": "the package n2d2",
}


@pytest.mark.parametrize(("name", "instead"), REFUSED.items())
def test_each_name_can_be_imported_and_its_use_is_refused(name, instead):
    module, _, own = name.rpartition(".")
    one = getattr(import_module(module), own)
    with pytest.raises(ImplementationError, match=rf"^{name} is refused: .*{instead}"):
        one(1, a=2)


@pytest.mark.parametrize("name", ["cuda_compiled", "json_compiled", "__path__"])
def test_flags_of_the_binding_are_no_attributes(name):
    module = import_module("N2D2")
    assert not hasattr(module, name)
    with pytest.raises(UndefinedParameterError, match=f"N2D2.{name} is refused"):
        getattr(module, name)


@pytest.mark.parametrize("member", ["Sum", "__members__"])
@pytest.mark.parametrize("name", ["N2D2.ElemWiseCell.Operation", "n2d2.quantizer.SATCell.Mode", "n2d2.export.export_c"])
def test_members_of_what_is_refused_are_refused_by_name_and_are_no_attributes(name, member):
    module, *names = re.match(r"(N2D2|n2d2\.\w+)\.(.*)", name).groups()
    one = import_module(module)
    for own in names[0].split("."):
        one = getattr(one, own)
    assert not hasattr(one, member)
    with pytest.raises(UndefinedParameterError, match=rf"^{name}.{member} is refused: .+"):
        getattr(one, member)
    assert copy.deepcopy(one).instead == one.instead
