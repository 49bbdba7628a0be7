"""compact_ on tiny models of Hugging Face's transformers: sparse outputs are those of the dense models."""

import pytest
import torch
from torch import nn

from prunecell import compact_, compact_report, load, meta_weights, save
from prunecell.errors import StateError
from prunecell.sparse.layers import SparseMatrix

pytestmark = pytest.mark.usefixtures("everything_wins")

SIZES = {"vocab_size": 100, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
FAMILIES = {
    "LlamaForCausalLM": {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4},
    "GPT2LMHeadModel": {"n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 32},
    "BertForMaskedLM": {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
    "MixtralForCausalLM": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 2,
    },
    "T5ForConditionalGeneration": {"d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 4},
}


@pytest.fixture
def make():
    """Makes a model of a family, in evaluation, always the same."""
    transformers = pytest.importorskip("transformers")

    def made(family, *, tied=True):
        kind = getattr(transformers, family)
        torch.manual_seed(0)
        sizes = SIZES | FAMILIES[family] | {"tie_word_embeddings": tied}
        return kind(kind.config_class(**sizes)).eval()

    return made


def pruned(model):
    """Nine tenths of each matrix are zero, but for those of embeddings."""
    embedded = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and id(parameter) not in embedded:
                parameter[parameter.abs() < parameter.abs().flatten().float().quantile(0.9)] = 0
    return model


def filled_anew(model):
    """Other values everywhere, so that what is not loaded shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def logits(model):
    torch.manual_seed(1)
    ids = torch.randint(3, 100, (2, 7))
    more = {"decoder_input_ids": ids[:, :3]} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


def n_sparse(model):
    return sum(isinstance(module, SparseMatrix) for module in model.modules())


def groups_of_names(model):
    """The names of each parameter, more than one where it is tied."""
    groups = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return sorted(groups.values())


@pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning")  # GPT-2 has few layers of torch's
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_those_of_the_dense_model(family, tied, make, tmp_path):
    model, path = pruned(make(family, tied=tied)), tmp_path / "model.pcell"
    expected = logits(model)
    save(model, path)
    with meta_weights():
        empty = make(family, tied=tied)
    assert all(parameter.is_meta for parameter in empty.parameters())
    assert groups_of_names(empty) == groups_of_names(model)
    smalls = [compact_(filled_anew(make(family, tied=tied)), path), compact_(empty, path), compact_(model)]
    for small in smalls:
        torch.testing.assert_close(logits(small), expected, atol=1e-5, rtol=1e-4)
        assert not any(tensor.is_meta for tensor in (*small.parameters(), *small.buffers()))
        assert groups_of_names(small) == groups_of_names(smalls[0])
        assert n_sparse(small) == compact_report(small).n_sparse
        assert n_sparse(small) > 0 or family == "GPT2LMHeadModel"


@pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning")  # bfloat16 stays dense
@pytest.mark.parametrize(
    ("stored", "wanted"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float16")]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_of_another_dtype_is_cast_as_load_state_dict_casts(family, stored, wanted, make, tmp_path):
    path, dtype = tmp_path / "model.pcell", getattr(torch, wanted)
    save(pruned(make(family)).to(getattr(torch, stored)), path)
    dense, fresh = make(family).to(dtype), filled_anew(make(family)).to(dtype)
    dense.load_state_dict(load(path))
    small = compact_(fresh, path)
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    tolerance = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0, "rtol": 0}
    torch.testing.assert_close(logits(small), logits(dense), **tolerance)


@pytest.mark.filterwarnings("ignore::prunecell.errors.NothingSparseWarning")
@pytest.mark.parametrize("family", ["LlamaForCausalLM", "GPT2LMHeadModel", "T5ForConditionalGeneration"])
def test_a_checkpoint_without_the_names_that_are_tied_loads(family, make, tmp_path):
    model = pruned(make(family))
    groups = [names for names in groups_of_names(model) if len(names) > 1]
    assert groups
    for kept in (0, -1):
        left = {name for names in groups for name in names} - {names[kept] for names in groups}
        save(
            {name: tensor for name, tensor in model.state_dict().items() if name not in left}, tmp_path / "model.pcell"
        )
        with meta_weights():
            empty = make(family)
        for fresh in (filled_anew(make(family)), empty):
            small = compact_(fresh, tmp_path / "model.pcell")
            torch.testing.assert_close(logits(small), logits(model), atol=1e-5, rtol=1e-4)


def test_llama_generates_what_the_dense_model_generates(make, tmp_path):
    model = pruned(make("LlamaForCausalLM"))
    save(model, tmp_path / "model.pcell")
    with meta_weights():
        empty = make("LlamaForCausalLM")
    ids = torch.tensor([[5, 6, 7]])
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    expected = model.generate(ids, **options)
    assert expected.shape == (1, 8)
    assert torch.equal(compact_(empty, tmp_path / "model.pcell").generate(ids, **options), expected)
    assert torch.equal(compact_(model).generate(ids, **options), expected)


def test_buffers_that_no_file_holds_are_refused_on_the_meta_device_before_anything_is_changed(make, tmp_path):
    save(make("LlamaForCausalLM"), tmp_path / "model.pcell")
    with torch.device("meta"):
        empty = make("LlamaForCausalLM")
    before = {name: type(module) for name, module in empty.named_modules()}
    with pytest.raises(StateError, match=r"'model\.rotary_emb\.inv_freq'.* on the meta device.*meta_weights\(\)"):
        compact_(empty, tmp_path / "model.pcell")
    assert {name: type(module) for name, module in empty.named_modules()} == before
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
