"""What a matrix of an unknown module is by its name: laws over many names, and over many classes of owners."""

import pytest
import torch
from torch import nn

from prunecell.plan.candidates import candidates

TOKENS = (
    *("query", "queries", "latent_query", "learned_queries", "latents", "cls_token", "register_tokens", "prompt"),
    *("pos", "position", "slots", "memory", "mem_kv", "sinks", "attention_sink", "prototypes", "ape"),
    *("freqs", "inv_freq", "means", "mu", "transitions", "planes"),
    *("mus", "centers", "centre", "angles", "init_state", "states", "mask_logits", "adj", "adjacency", "rotation"),
    *("quats", "node_vec", "const", "ctx", "router", "prefix_keys", "prefixes"),
)
TABLES = ("embedding", "pos_embed", "index_pool_embed", "codebook", "codewords", "pos_encoding", "table", "wte", "emb")
SCALES = (
    *("scale", "layer_scale", "gamma", "beta", "alpha", "lambda1", "shift", "temperature", "step_size", "zero_point"),
    *("numerator", "denominator", "threshold", "sigma", "std", "logvar", "decay", "logs"),
    *("alphas", "betas", "absmax", "qzeros", "mask", "mask_scores", "loga", "logsigma", "bandwidths", "lr", "taus"),
)
NORMS = ("norm", "q_norm", "layer_norm", "ln", "layernorm")
PROJECTIONS = ("proj", "projection", "kernel", "mixing")
LEFT = (
    # where recurrent layers begin; search over architectures (DARTS); centers and prototypes; quantum circuits
    *("h0", "c0", "h_0", "hx", "cx", "h_init", "initial_hidden", "init_val"),
    *("alphas_normal", "alphas_reduce", "alpha_cumprod", "arch_logits", "feature_logits"),
    *("cluster_centers", "centers", "mus", "label_prototypes", "euler_angles", "rotation_angles", "rot_params"),
    # graphs (Graph WaveNet, ST-GCN); splats in space; learned inputs (StyleGAN2, CoOp, Crossformer, prefixes, memories)
    *("adj", "nodevec1", "node_embeddings", "edge_importance"),
    *("_xyz", "_rotation", "_scaling", "_features_dc", "_features_rest", "_opacity"),
    *("const", "const_input", "ctx", "router", "prefix_key", "prefix_value", "memory_keys", "pool_query"),
    # positions (BoTNet, VITS); masks and scores that prune; quantizers; rates of Bayesian layers and of MAML
    *("rel_height", "rel_width", "emb_rel_k", "pos_encoding", "temporal_encodings"),
    *("weight_mask", "mask_logits", "weight_scores", "qz_loga"),
    *("absmax", "gate_up_absmax", "weight_absmax", "qzeros", "weight_scales", "spline_scaler"),
    *("weight_logsigma", "log_sigmas", "task_lr", "init_log_cov", "bandwidths"),
    # biases
    *("bias_pool", "biases", "attn_bias_table", "bias_mu", "gate_up_proj_bias", "bias_weight"),
)
PRUNED = (
    *("bias_proj", "pos_bias_proj", "to_logits", "to_queries", "vector_mix", "mix_L", "state_proj", "center_w"),
    *("w_gate", "W_gate", "w_noise", "weights_pool", "router_proj", "router_weight", "w_router", "mask_weight"),
    *("init_weight", "w_init", "adj_weight", "w_logits", "state_matrix", "transition_matrix", "time_maa_w1"),
    *("Theta", "theta", "coef", "spline_weight", "keys", "W_dec", "W_query", "basis", "C0", "H", "hs", "B_re"),
)


def left_alone(owner="Own", /, **shapes):
    """Names to reasons of what a module of a class, with parameters of these shapes, keeps out of pruning."""
    module = type(owner, (nn.Module,), {})()
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.ones(shape)))
    return {candidate.name: candidate.reason for candidate in candidates(module) if candidate.reason}


@pytest.mark.parametrize("name", [*TOKENS, *TABLES, *SCALES, *NORMS])
def test_a_name_without_a_word_for_weights_is_believed(name):
    for called in (name, name.title(), f"my_{name}", f"{name}_2", f"{name}1"):
        assert left_alone(**{called: (6, 8)}), called


@pytest.mark.parametrize("name", LEFT)
def test_what_real_models_call_otherwise_than_weights_is_left_alone(name):
    assert list(left_alone(**{name: (6, 8)})) == [name]


@pytest.mark.parametrize("name", PRUNED)
def test_what_real_models_call_a_weight_is_one(name):
    assert not left_alone(**{name: (6, 8)})


@pytest.mark.parametrize("name", [*TOKENS, *TABLES, *SCALES, *NORMS])
def test_what_projects_is_a_weight_whatever_it_projects(name):
    for projection in PROJECTIONS:
        assert not left_alone(**{f"{name}_{projection}": (6, 8)}), projection


@pytest.mark.parametrize("name", [*TOKENS, *SCALES])
def test_the_weight_of_something_is_a_weight(name):
    for called in (f"{name}_weight", f"{name}_weights", f"{name}_w", f"{name}_W", f"{name}_matrix", f"{name}Weight"):
        assert not left_alone(**{called: (6, 8)}), called
        assert not left_alone(**{called: (1, 6, 8)}), called


@pytest.mark.parametrize("name", [*TABLES, *NORMS])
def test_the_weight_of_an_embedding_or_a_norm_is_none(name):
    assert left_alone(**{f"{name}_weight": (6, 8)})


@pytest.mark.parametrize("name", TOKENS)
def test_a_w_before_what_is_read_is_a_weight(name):
    for called in (f"w_{name}", f"W_{name}", f"weight_{name}"):
        assert not left_alone(**{called: (6, 8)}), called


@pytest.mark.parametrize("name", SCALES)
def test_what_a_weight_is_scaled_or_spread_by_is_none(name):
    for called in (f"weight_{name}", f"w_{name}", f"w1_{name}", f"kernel_{name}"):
        assert list(left_alone(weight=(6, 8), **{called: (6, 2)})) == [called]


@pytest.mark.parametrize("name", [*TOKENS, *TABLES, *SCALES, *NORMS, "weight", "mixing", "anything"])
def test_no_name_makes_a_weight_of_a_vector(name):
    for shape in ((), (8,), (1, 8), (8, 1, 1), (1, 1, 8, 1)):
        for called in (name, f"{name}_weight", f"w_{name}"):
            assert left_alone(**{called: shape}), called


@pytest.mark.parametrize("name", ["b", "b1", "bq", "bqkv", "b_1", "b_Q", "B", "b_gates", "bo"])
def test_a_b_is_the_bias_of_the_w_beside_it(name):
    weight = ("W" if name[0] == "B" else "w") + name[1:]
    assert left_alone(**{name: (4, 6), weight: (4, 8, 6)}) == {name: "a bias"}
    assert left_alone(**{name: (4, 1, 6), weight: (4, 8, 6)}) == {name: "a bias"}


@pytest.mark.parametrize("shapes", [{"fc_b": (4, 6), "fc_w": (4, 8, 6)}, {"fc1_b": (4, 6), "fc1_weight": (4, 8, 6)}])
def test_a_b_at_the_end_is_the_bias_of_the_w_beside_it(shapes):
    assert left_alone(**shapes) == {next(iter(shapes)): "a bias"}


@pytest.mark.parametrize(
    "shapes",
    [
        {"A": (2, 8), "B": (6, 2), "W": (6, 8)},
        {"a": (8, 2), "b": (2, 6)},
        {"B_re": (8, 4), "C_re": (4, 8)},
        {"a_down": (2, 8), "b_down": (6, 2)},
        {"b_proj": (6, 8)},
        {"b_weight": (6, 8)},
        {"basis": (4, 8, 6)},
    ],
)
def test_a_b_that_is_a_factor_is_no_bias(shapes):
    assert not left_alone(**shapes)


def test_a_query_beside_its_key_makes_queries_and_tokens_beside_tokens_are_tokens():
    for query, key in {"query": "key", "queries": "keys", "Query_1": "Key_1", "self_query": "self_key"}.items():
        assert not left_alone(**{query: (6, 8), key: (6, 8)})
    assert list(left_alone(query_tokens=(5, 8), key_tokens=(5, 8))) == ["query_tokens", "key_tokens"]
    assert list(left_alone(query_embed=(5, 8), key_embed=(5, 8))) == ["query_embed", "key_embed"]


def test_a_w_beside_an_h_is_a_width():
    assert list(left_alone(rel_pos_h=(7, 8), rel_pos_w=(7, 8))) == ["rel_pos_h", "rel_pos_w"]
    assert not left_alone(conv_h=(7, 8), conv_w=(7, 8))


@pytest.mark.parametrize(
    "owner",
    [
        *("LayerNorm", "LlamaRMSNorm", "LayerNorm2d", "BatchNorm2d", "BatchNormAct2d", "RMSNormGated", "RmsNorm"),
        *("LayerNormalization", "NormLayer", "LayerNormNoBias", "LayerNormFp32", "LayerNormChannelsFirst", "ActNorm"),
        *("FrozenBatchNorm2d", "GroupNorm1", "InstanceNormPlus", "GRN", "ScaleNorm", "LayerNormWithoutBias"),
        *("VocabParallelEmbedding", "PosEmbed", "WordEmbeddings", "LearnedPositionalEncoding", "EmbeddingLayer"),
        *("PositionEmbeddingLearned", "PositionEncoding1D", "TokenEmbedder", "RelativePosition"),
    ],
)
def test_norms_and_embeddings_have_no_weights(owner):
    assert left_alone(owner, weight=(6, 8))


@pytest.mark.parametrize(
    "owner",
    [
        *("LayerNormLSTMCell", "LayerNormLSTM", "LayerNormGRU", "BatchNormRNN", "NormFreeBlock", "BatchNormMixer"),
        *("NormMLP", "NormedLinear", "NormalizedLinear", "WeightNorm", "SpectralNorm", "PreNorm", "NormAttention"),
        *("LayerNormBlock", "NormGate", "NormalizingFlow", "NormRouter", "NormalInverseWishart"),
        *("PositionWiseFeedForward", "PositionwiseFFN", "EmbeddingMixer", "PatchEmbed", "Unembed", "PositionAttention"),
    ],
)
@pytest.mark.parametrize("name", ["weight", "weight_ih", "w1", "mixing"])
def test_what_only_has_a_norm_or_an_embedding_in_its_name_has_weights(owner, name):
    assert not left_alone(owner, **{name: (6, 8)})
