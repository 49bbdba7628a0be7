"""Which form a layer takes, by a table of times."""

import errno
import json
import os
import re
from itertools import pairwise, product

import pytest
import torch
from torch import nn

from prunecell import native
from prunecell.errors import NothingSparseWarning, OptionError, OptionTypeError, UnknownNameError
from prunecell.sparse import compact_, compact_report, tune
from prunecell.sparse.break_even import (
    DENSITIES,
    DTYPES,
    SHIPPED,
    Measured,
    break_even_table,
    own_table,
    read_table,
    write_table,
)
from prunecell.sparse.checked import checked
from prunecell.sparse.choose import ATTENTION, PLACE_BYTES, Form, Weight, Wish, choose
from prunecell.sparse.formats import FORMATS
from prunecell.sparse.layers import SparseLinear
from prunecell.sparse.packed import forms_of
from prunecell.sparse.values import VALUES


def row(n_weights, n_samples=1, kind="linear", dtype="float32", **ratios):
    """A measured layer: the ratios of some formats as given, of the others 9."""
    times = {f"{form} {values}": ratios.get(form, [9.0] * len(DENSITIES)) for form, values in product(FORMATS, VALUES)}
    return Measured(kind=kind, dtype=dtype, n_samples=n_samples, n_weights=n_weights, ratios=times)


def flat(ratio):
    return [ratio] * len(DENSITIES)


def chosen(table, *, n_weights=1000, density=0.1, prefer="speed", values="exact", n_columns=10, dtype=torch.float32):
    weight = Weight(
        kind="linear",
        n_rows=n_weights // n_columns,
        n_columns=n_columns,
        n_kept=round(density * n_weights),
        dtype=dtype,
    )
    form = choose(weight, prefer=prefer, values=values, table=tuple(table))
    return form and form.format.name


def test_speed_takes_the_fastest_and_memory_the_smallest():
    table = [row(100, columns16=flat(0.2), gaps8=flat(0.3), bitmask=flat(0.4))]
    assert chosen(table) == "columns16"
    assert chosen(table, prefer="memory") == "gaps8"
    assert chosen(table, prefer="memory", density=0.3) == "bitmask"


def test_memory_takes_nothing_that_is_slower_than_dense():
    assert chosen([row(100, columns16=flat(0.2), gaps8=flat(1.01))], prefer="memory") == "columns16"


def test_dense_stays_where_nothing_is_faster():
    assert chosen([row(100, columns16=flat(0.91))]) is None


def test_what_is_denser_than_measured_stays_dense():
    table = [row(100, columns16=flat(0.1))]
    assert chosen(table, density=0.7) == "columns16"
    assert chosen(table, density=0.75) is None


def test_the_break_even_is_between_the_densities():
    table = [row(100, columns16=[0.1, 0.2, 0.3, 0.6, 1.2, 2.0, 3.0])]  # 0.9 at 0.25
    assert chosen(table, density=0.245) == "columns16"
    assert chosen(table, density=0.255) is None


def test_for_speed_one_sample_and_many_must_be_faster_for_memory_many():
    fast, slow = {"columns16": flat(0.5)}, {"columns16": flat(1.5)}
    assert chosen([row(100, **fast), row(100, n_samples=32, **fast)]) == "columns16"
    assert chosen([row(100, **fast), row(100, n_samples=32, **slow)]) is None
    assert chosen([row(100, **slow), row(100, n_samples=32, **fast)]) is None
    assert chosen([row(100, **slow), row(100, n_samples=32, **fast)], prefer="memory") == "columns16"
    assert chosen([row(100, **fast), row(100, n_samples=32, **slow)], prefer="memory") is None


def test_what_is_smaller_than_measured_is_made_smaller_but_not_for_speed():
    table = [row(10_000, columns16=flat(0.5))]
    assert chosen(table) is None
    assert chosen(table, prefer="memory") == "columns16"


def test_sizes_are_between_those_measured():
    table = [row(100, columns16=flat(2.0)), row(10_000, columns16=flat(0.5))]
    assert chosen(table, n_weights=90) is None
    assert chosen(table, n_weights=1000) is None  # 1.25
    assert chosen(table, n_weights=3000) == "columns16"  # 0.89
    assert chosen(table, n_weights=10**6) == "columns16"


def test_a_layer_is_judged_by_those_of_its_dtype():
    table = [row(100, columns16=flat(0.5)), row(100, dtype="bfloat16", columns16=flat(1.5), gaps8=flat(0.5))]
    assert chosen(table) == "columns16"
    assert chosen(table, dtype=torch.bfloat16) == "gaps8"
    assert chosen(table, dtype=torch.float16) is None


@pytest.mark.parametrize(
    ("wish", "dtype", "values"),
    [
        ("exact", torch.float32, "fp32"),
        ("exact", torch.bfloat16, "bf16"),
        ("exact", torch.float16, "fp16"),
        *((wish, dtype, wish) for wish in VALUES for dtype in DTYPES.values()),
    ],
)
def test_values_are_those_of_the_weight_or_as_wished(wish, dtype, values):
    table = [row(100, dtype=name, columns16=flat(0.5)) for name in DTYPES]
    weight = Weight(kind="linear", n_rows=10, n_columns=10, n_kept=10, dtype=dtype)
    assert choose(weight, prefer="speed", values=wish, table=tuple(table)).values.name == values


def test_for_memory_a_form_must_be_smaller_than_the_dense_layer_of_its_dtype():
    table = [row(100, dtype=name, bitmask=flat(0.5)) for name in DTYPES]
    kept = {"density": 0.7, "values": "fp32", "prefer": "memory"}  # 1 / 8 + 0.7 x 4 bytes for each weight
    assert chosen(table, **kept) == "bitmask"
    assert chosen(table, **kept, dtype=torch.bfloat16) is None


def test_a_kind_that_nobody_measured_stays_dense():
    assert chosen([row(1, kind="convolution", columns16=flat(0.1))]) is None


def test_a_format_that_cannot_write_the_columns_is_left_out():
    table = [row(100, columns16=flat(0.1), gaps8=flat(0.2))]
    assert chosen(table, n_weights=1 << 20, n_columns=1 << 16) == "columns16"
    assert chosen(table, n_weights=1 << 20, n_columns=1 << 17) == "gaps8"


@pytest.mark.skipif(native.library() is None, reason="there are no kernels")
def test_bytes_are_those_of_the_formats_and_of_the_copies():
    weight = torch.randn(256, 1024) * (torch.rand(256, 1024) < 0.1)
    for form, values in product(FORMATS, VALUES):
        from_table = Form(format=FORMATS[form], values=VALUES[values]).n_bytes(0.1) * weight.numel()
        matrix = tune.compress(weight, format=form, values=values)
        of, _ = checked(*matrix.parts)
        copies = forms_of(of, matrix.parts[:4], native.library())
        if copies is not None:
            copies.blocked(of, 256)
        taken = matrix.n_bytes + (0 if copies is None else copies.n_bytes)
        assert taken == pytest.approx(from_table, rel=0.06)
        if copies is not None:
            of_few = copies.sliced(of).n_bytes
            assert of_few == pytest.approx(len(matrix.values) * (PLACE_BYTES + matrix.values.itemsize), rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefer": "sped"}, "prefer='sped' is illegal; did you mean 'speed'"),
        ({"values": "fp8"}, "values='fp8' is illegal; legal: bf16, exact, fp16, fp32, int8"),
    ],
)
def test_unknown_wishes_are_refused(options, message):
    with pytest.raises(UnknownNameError, match=message):
        chosen([], **options)


# ---- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", SHIPPED)
def test_the_shipped_tables_have_every_kind_and_their_layers_win_when_they_are_sparse(level):
    table = read_table(SHIPPED[level])
    assert {measured.kind for measured in table} == {"linear", "pointwise", "strided pointwise", "convolution"}
    kinds = (("linear", 1024), ("pointwise", 256), ("strided pointwise", 256), ("convolution", 2304))
    for (kind, columns), dtype in product(kinds, DTYPES.values()):
        weight = Weight(kind=kind, n_rows=1024, n_columns=columns, n_kept=1024 * columns // 20, dtype=dtype)
        for prefer in ("speed", "memory"):
            assert choose(weight, prefer=prefer, values="exact", table=table) is not None


def test_a_gain_with_many_samples_outweighs_no_loss_with_one_and_in_attention_one_is_not_judged():
    def found(alone, kind="linear"):
        table = (row(1000, columns16=flat(alone)), row(1000, n_samples=32, columns16=flat(0.5)))
        wish = Wish(prefer="speed", values="exact", table=table)
        weight = Weight(kind=kind, n_rows=100, n_columns=10, n_kept=100)
        return wish.form(weight), wish.why_dense(weight)

    assert found(1.0)[0] is not None
    assert found(1.01) == (None, "with 1 or 32 samples at once dense is faster at 90 % zeros")
    assert found(1.01, ATTENTION)[0] is not None
    assert found(1.01, ATTENTION)[1].startswith("with 32 samples at once")


def test_the_matrices_of_attention_and_strided_convolutions_are_kinds_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = nn.ModuleList([nn.MultiheadAttention(8, 2), *(nn.Conv2d(8, 8, 1, stride) for stride in (1, 2))])
    for weight in filter(lambda p: p.ndim > 1, model.parameters()):
        nn.init.sparse_(weight.data.view(weight.shape[0], -1), sparsity=0.75)
    table = (row(64, columns16=flat(9.0)), row(64, n_samples=32, columns16=flat(0.5)))
    table += (row(64, kind="pointwise", columns16=flat(0.5)), row(64, kind="strided pointwise", columns16=flat(9.0)))
    write_table(own_table(), table)
    report = compact_report(compact_(model))
    assert [layer.form is not None for layer in report.layers] == [True, True, True, False]
    assert report.layers[-1].reason.startswith("with 1 sample at once")


@pytest.mark.parametrize(("cpu", "level"), [(1, 3), (3, 3), (4, 4)])
def test_every_cpu_has_a_table(monkeypatch, tmp_path, cpu, level):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native, "cpu_level", lambda: cpu)
    assert break_even_table() == read_table(SHIPPED[level])


def test_a_table_comes_back_as_it_was_written(tmp_path):
    table = (row(100, columns16=flat(0.25)), row(200, kind="pointwise", n_samples=32))
    write_table(tmp_path / "deep" / "table.json", table)
    assert read_table(tmp_path / "deep" / "table.json") == table


@pytest.mark.parametrize("text", ["", "{", "7", "[1]", '[{"kind": "linear"}]', "{}{}"])
def test_what_is_no_table_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"table\.json cannot be read as a table of times.* tune again"):
        read_table(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ratios", "gaps8 fp32", 0), "0.5"),
        (("ratios", "gaps8 fp32", 0), -1),
        (("ratios", "gaps8 fp32", 0), None),
        (("dtype",), "float64"),
        (("n_weights",), 0),
        (("n_weights",), "100"),
        (("n_samples",), None),
    ],
)
def test_a_table_with_other_things_than_times_is_refused_before_a_layer_is_judged(tmp_path, path, value):
    rows = json.loads(SHIPPED[3].read_text())
    where = rows[0]
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    (tmp_path / "table.json").write_text(json.dumps(rows))
    with pytest.raises(OptionError, match="is damaged or of another version; remove it or tune again"):
        read_table(tmp_path / "table.json")


def test_a_table_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    write_table(tmp_path / "table.json", (row(100),))
    before = (tmp_path / "table.json").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_table(tmp_path / "table.json", (row(200),))
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]
    assert (tmp_path / "table.json").read_bytes() == before


def test_a_table_of_another_version_is_refused(tmp_path):
    path = tmp_path / "table.json"
    rows = json.loads(SHIPPED[3].read_text())
    del rows[0]["ratios"]["gaps8 fp32"]
    path.write_text(json.dumps(rows))
    with pytest.raises(OptionError, match="of another version; remove it or tune again"):
        read_table(path)


def test_tuning_measures_a_table_that_is_used_from_then_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert break_even_table() in [read_table(path) for path in SHIPPED.values()]
    cases = tuple(tune.Case("linear", lambda: nn.Linear(32, 32), (1, 32), dtype) for dtype in DTYPES)
    monkeypatch.setattr(tune, "CASES", cases)
    monkeypatch.setattr(tune, "SECONDS", 0.0)
    told = []
    assert tune.tune_runtime(repeats=1, watch=told.append) == own_table()
    assert len(told) == 3
    found = r"(sparse is faster from \d+% zeros on|dense is)"
    assert re.match(rf"2 of 3: linear, bfloat16, 1,024 weights, 1 sample: {found}", told[1])
    for measured, dtype in zip(break_even_table(), DTYPES, strict=True):
        assert (measured.kind, measured.dtype) == ("linear", dtype)
        assert (measured.n_samples, measured.n_weights) == (1, 1024)
        assert all(a <= b for ratios in measured.ratios.values() for a, b in pairwise(ratios))


def test_compact_goes_by_the_table_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    layer = nn.Linear(8, 8)
    write_table(own_table(), (row(100, bitmask=flat(0.5)),))
    with pytest.warns(NothingSparseWarning, match="linear layers of less than 100 weights gain no time"):
        assert compact_(layer) is layer
    write_table(own_table(), (row(10, bitmask=flat(0.5)),))
    nn.init.sparse_(layer.weight, 0.5)
    small = compact_(layer)
    assert isinstance(small, SparseLinear)
    assert small.matrix.format.name == "bitmask"


def test_repeats_is_a_count():
    with pytest.raises(OptionError, match="repeats=0 is illegal"):
        tune.tune_runtime(repeats=0)
    with pytest.raises(OptionTypeError, match="repeats='2' is illegal"):
        tune.tune_runtime(repeats="2")


@pytest.mark.parametrize(
    ("kind", "called"),
    [
        ("linear", "linear layers"),
        ("pointwise", "convolutions of kernel size 1"),
        ("convolution", "convolutions"),
    ],
)
def test_a_layer_too_small_is_told_of_its_kind(kind, called):
    wish = Wish(prefer="speed", values="exact", table=break_even_table())
    weight = Weight(kind=kind, n_rows=2, n_columns=2, n_kept=1)
    assert re.fullmatch(rf"{called} of less than [\d,]+ weights gain no time", wish.why_dense(weight))


# ---- int8 activations ------------------------------------------------------------------------------------------------


def wished(n_kept, n_quads, *, table=None, vnni=True, monkeypatch):
    monkeypatch.setattr(native, "has_vnni", lambda _: vnni)
    weight = Weight(kind="linear", n_rows=100, n_columns=100, n_kept=n_kept, n_quads=n_quads)
    table = table or [row(100, columns16=[0.1, 0.1, 0.2, 0.4, 0.6, 1.0, 1.4])]
    form = Wish(prefer="speed", values="int8", activations="int8", table=tuple(table)).form(weight)
    return form and str(form)


def test_quads_count_as_entries_with_vnni(monkeypatch):
    assert wished(6000, 1500, monkeypatch=monkeypatch) == "columns16 int8, int8 activations"
    assert wished(6000, 5900, monkeypatch=monkeypatch) is None
    assert wished(1000, 1000, monkeypatch=monkeypatch) == "columns16 int8, int8 activations"
    assert wished(1000, None, monkeypatch=monkeypatch) == "columns16 int8"


def test_without_vnni_quads_must_be_full_to_pay(monkeypatch):
    assert wished(4000, 1000, vnni=False, monkeypatch=monkeypatch) == "columns16 int8, int8 activations"
    assert wished(1000, 800, vnni=False, monkeypatch=monkeypatch) == "columns16 int8"


def test_activations_stay_floats_where_another_format_is_faster(monkeypatch):
    table = [row(100, columns16=flat(0.5), gaps8=flat(0.1))]
    assert wished(1000, 300, table=table, monkeypatch=monkeypatch) == "gaps8 int8"
