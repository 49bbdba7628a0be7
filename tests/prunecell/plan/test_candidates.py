"""What is pruned of users' models: transformers' families and peft's adapters, from tiny configurations."""

import re

import pytest
import torch
from torch import nn

from prunecell import Pruner, PruneSpec, Static
from prunecell.plan.candidates import candidates

HALF = PruneSpec(schedule=Static(sparsity=0.5))
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 30,
    "max_position_embeddings": 32,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
IMAGES = {**SMALL, "image_size": 16, "patch_size": 8}
AUDIO = {"conv_dim": (8, 8), "conv_kernel": (3, 3), "conv_stride": (2, 2), "num_feat_extract_layers": 2}

FAMILIES = {
    "GPT2LMHeadModel": {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 30, "n_positions": 32},
    "BertForMaskedLM": SMALL,
    "LlamaForCausalLM": SMALL,
    "MixtralForCausalLM": {**SMALL, "num_local_experts": 4},
    "Qwen3MoeForCausalLM": {**SMALL, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12},
    "GptOssForCausalLM": {**SMALL, "num_local_experts": 4},
    "DeepseekV3ForCausalLM": {
        **SMALL, "num_hidden_layers": 2, "moe_intermediate_size": 12, "n_routed_experts": 4, "n_group": 2,
        "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8,
        "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
    },
    "JetMoeForCausalLM": {**SMALL, "kv_channels": 8, "num_local_experts": 4},
    "T5ForConditionalGeneration": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2,
                                   "vocab_size": 30},
    "XLNetModel": {"vocab_size": 30, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24},
    "MambaForCausalLM": {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 30, "state_size": 4},
    "RecurrentGemmaForCausalLM": {**SMALL, "num_hidden_layers": 3, "lru_width": 16},
    "ViTForImageClassification": IMAGES,
    "Dinov2WithRegistersModel": IMAGES,
    "SwinForImageClassification": {
        "image_size": 16, "patch_size": 4, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2,
        "use_absolute_embeddings": True,
    },
    "ConvNextV2ForImageClassification": {"hidden_sizes": [8], "depths": [1], "num_stages": 1, "image_size": 16},
    "WhisperForConditionalGeneration": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "num_mel_bins": 8,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "vocab_size": 60,
        "max_source_positions": 16, "max_target_positions": 16, "pad_token_id": 0, "decoder_start_token_id": 1,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "Wav2Vec2ForPreTraining": {
        **SMALL, **AUDIO, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "codevector_dim": 8,
        "num_codevectors_per_group": 4, "proj_codevector_dim": 8,
    },
    "CLIPModel": {"text_config": SMALL, "vision_config": IMAGES, "projection_dim": 8},
    "SamVisionModel": {**IMAGES, "output_channels": 8, "window_size": 2, "global_attn_indexes": [0]},
    "PerceiverModel": {
        "num_latents": 4, "d_latents": 16, "d_model": 16, "num_blocks": 1, "num_self_attends_per_block": 1,
        "num_self_attention_heads": 2, "num_cross_attention_heads": 2,
    },
    "EncodecModel": {
        "hidden_size": 8, "num_filters": 4, "upsampling_ratios": [2], "num_lstm_layers": 1, "codebook_size": 8,
        "codebook_dim": 8,
    },
}  # fmt: skip

RAW = {
    # class of the owner, name -> why it is not pruned by default, or "" where it is
    "Conv1D weight": "",
    "MixtralTopKRouter weight": "",
    "MixtralExperts gate_up_proj": "",
    "MixtralExperts down_proj": "",
    "Qwen3MoeTopKRouter weight": "",
    "Qwen3MoeExperts gate_up_proj": "",
    "Qwen3MoeExperts down_proj": "",
    "GptOssTopKRouter weight": "",
    "GptOssExperts gate_up_proj": "",
    "GptOssExperts gate_up_proj_bias": "a bias",
    "GptOssExperts down_proj": "",
    "GptOssExperts down_proj_bias": "a bias",
    "DeepseekV3TopkRouter weight": "",
    "DeepseekV3Experts gate_up_proj": "",
    "DeepseekV3Experts down_proj": "",
    "JetMoeParallelExperts weight": "",
    "XLNetModel mask_emb": "a vector of shape (1, 1, 16)",
    **dict.fromkeys([f"XLNetRelativeAttention {name}" for name in "qkvor"], ""),
    **dict.fromkeys([f"XLNetRelativeAttention r_{name}_bias" for name in "rsw"], "a bias"),
    "XLNetRelativeAttention seg_embed": "an embedding",
    "MambaMixer A_log": "a rate or a spread, in which a zero takes no connection away",
    "RecurrentGemmaRglru input_gate_weight": "",
    "RecurrentGemmaRglru input_gate_bias": "a bias",
    "RecurrentGemmaRglru recurrent_gate_weight": "",
    "RecurrentGemmaRglru recurrent_gate_bias": "a bias",
    "ViTEmbeddings cls_token": "a vector of shape (1, 1, 16)",
    "ViTEmbeddings position_embeddings": "an embedding",
    "Dinov2WithRegistersEmbeddings cls_token": "a vector of shape (1, 1, 16)",
    "Dinov2WithRegistersEmbeddings mask_token": "a vector of shape (1, 16)",
    "Dinov2WithRegistersEmbeddings register_tokens": "an embedding",
    "Dinov2WithRegistersEmbeddings position_embeddings": "an embedding",
    "SwinEmbeddings position_embeddings": "an embedding",
    "SwinRelativePositionBias relative_position_bias_table": "a bias",
    "ConvNextV2GRN weight": "a norm's",
    "ConvNextV2GRN bias": "a norm's",
    "ParametrizedConv1d weight": "a magnitude of weight norm",
    "ParametrizedConv1d weight (the direction)": "",
    "ParametrizedConvTranspose1d weight": "a magnitude of weight norm",
    "ParametrizedConvTranspose1d weight (the direction)": "",
    "Wav2Vec2GumbelVectorQuantizer codevectors": "an embedding",
    "SamVisionEncoder pos_embed": "an embedding",
    "SamVisionSdpaAttention rel_pos_h": "an embedding",
    "SamVisionSdpaAttention rel_pos_w": "an embedding",
    "PerceiverEmbeddings latents": "an embedding",
    "LSTM weight_ih_l0": "",
    "LSTM weight_hh_l0": "",
}
"""All of these families with two dimensions or more that are not of Linear, a convolution or an Embedding."""


OF_VECTORS = re.compile("a (vector|bias|norm's)")


def built(transformers, family):
    torch.manual_seed(0)
    model = getattr(transformers, family)
    return model(model.config_class(**FAMILIES[family]))


def expected(candidate):
    """By hand: the table above, and torch.nn's layers."""
    place = candidate.places[0]
    if len(candidate.places) > 1 and candidate.parameter.ndim > 1:
        return f"an embedding, shared by {', '.join(candidate.names)}"
    if isinstance(place.owner, nn.Embedding):
        return "an embedding"
    if candidate.parameter.ndim < 2:
        return None
    if not place.origin and isinstance(place.owner, nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d):
        return ""
    direction = " (the direction)" if candidate.name.endswith("original1") else ""
    return RAW[f"{type(place.owner).__name__} {place.name}{direction}"]


def test_what_is_pruned_of_the_families_of_transformers():
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    wrong, seen = {}, set()
    for family in FAMILIES:
        for candidate in candidates(built(transformers, family)):
            place = candidate.places[0]
            seen.add(f"{type(place.owner).__name__} {place.name}")
            reason = expected(candidate)
            if (
                not re.match("a (vector|bias|norm's)", candidate.reason)
                if reason is None
                else candidate.reason != reason
            ):
                wrong[f"{family}: {candidate.name}"] = candidate.reason
    assert not wrong
    assert not {name.removesuffix(" (the direction)") for name in RAW} - seen


@pytest.mark.parametrize("family", ["MixtralForCausalLM", "GptOssForCausalLM"])
def test_experts_are_pruned_and_the_whole_model_is_counted(family):
    transformers = pytest.importorskip("transformers")
    model = built(transformers, family)
    report = Pruner(model, PruneSpec(schedule=Static(sparsity=0.9))).report()
    zeros = sum(int((c.parameter == 0).sum()) for c in candidates(model) if not c.reason)
    n = sum(parameter.numel() for parameter in model.parameters())
    assert report.model_sparsity == zeros / n
    assert report.model_sparsity > 0.5
    assert "mlp.experts.down_proj" in str(report)
    masks = Pruner(built(transformers, family), {"*experts*": HALF, "*": None}).masks
    assert [name.rpartition(".")[2] for name in masks] == ["gate_up_proj", "down_proj"]
    masks = Pruner(built(transformers, family), {"re:.*(gate|router)\\.weight": None, "*": HALF}).masks
    assert not [name for name in masks if "gate.weight" in name or "router" in name]


ADAPTERS = {
    "LoraConfig": {"r": 4, "target_modules": ["fc", "embed", "conv"], "modules_to_save": ["head"]},
    "IA3Config": {"target_modules": ["fc"], "feedforward_modules": ["fc"]},
    "LoHaConfig": {"target_modules": ["fc", "conv"]},
    "LoKrConfig": {"target_modules": ["fc"]},
    "OFTConfig": {"target_modules": ["fc"], "oft_block_size": 4},
    "BOFTConfig": {"target_modules": ["fc"], "boft_block_size": 4},
    "VeraConfig": {"target_modules": ["fc"]},
    "HRAConfig": {"target_modules": ["fc"]},
    "VBLoRAConfig": {"target_modules": ["fc"], "vector_length": 8, "num_vectors": 6, "topk": 2},
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.fc, self.conv = nn.Embedding(10, 16), nn.Linear(16, 16), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(16, 4)


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.filterwarnings("ignore")  # peft's
def test_adapters_are_pruned_only_if_they_are_named(kind):
    peft = pytest.importorskip("peft")
    net = Net()
    before = {id(p): name for name, p in net.named_parameters()}
    model = peft.get_peft_model(net, getattr(peft, kind)(**ADAPTERS[kind]))
    found = [c for c in candidates(model) if id(c.parameter) not in before and "modules_to_save" not in c.name]
    assert found
    assert {c.reason.partition(",")[0] for c in found} == {"an adapter's"}
    by_default = {id(c.parameter) for c in candidates(model) if not c.reason}
    assert {before[i] for i in by_default if i in before} == {"fc.weight", "conv.weight", "head.weight"}
    named = Pruner(model, {found[0].name: HALF}).masks
    assert list(named) == [found[0].name]


@pytest.mark.filterwarnings("ignore")  # peft's
def test_a_pattern_reaches_adapters_and_a_type_does_not_where_it_fits_weights():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(Net(), peft.LoraConfig(r=4, target_modules=["fc"]))
    assert [name.rpartition("fc.")[2] for name in Pruner(model, {"*lora_A*": HALF}).masks] == ["lora_A.default.weight"]
    masks = Pruner(peft.get_peft_model(Net(), peft.LoraConfig(r=4, target_modules=["fc"])), {nn.Linear: HALF}).masks
    assert [name.removeprefix("base_model.model.") for name in masks] == ["fc.base_layer.weight", "head.weight"]
