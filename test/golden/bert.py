"""Hugging Face's BertForMaskedLM restated in plain PyTorch: its arithmetic and its parameter names, without dropout.

Source: transformers 4.44, models/bert/modeling_bert.py, whose padding to a rectangle and additive mask are kept on purpose.
"""

import math

import torch
import torch.nn.functional as F

WORDS = "bert.embeddings.word_embeddings.weight"  # also the decoder's weight: tied


def config(layers, width, heads, inner, vocab, positions, act):
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "hidden_act": act,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "use_cache": True,
        "vocab_size": vocab,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
    }


def shapes(config):
    """Every parameter's name and shape, in the order of Hugging Face's state dict."""
    width, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    norm = lambda name: {f"{name}.LayerNorm.weight": [width], f"{name}.LayerNorm.bias": [width]}
    linear = lambda name, out, into: {f"{name}.weight": [out, into], f"{name}.bias": [out]}
    all = {
        WORDS: [vocab, width],
        "bert.embeddings.position_embeddings.weight": [config["max_position_embeddings"], width],
        "bert.embeddings.token_type_embeddings.weight": [config["type_vocab_size"], width],
        **norm("bert.embeddings"),
    }
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            all |= linear(f"{layer}.attention.self.{name}", width, width)
        all |= linear(f"{layer}.attention.output.dense", width, width) | norm(f"{layer}.attention.output")
        all |= linear(f"{layer}.intermediate.dense", inner, width)
        all |= linear(f"{layer}.output.dense", width, inner) | norm(f"{layer}.output")
    head = "cls.predictions.transform"
    return all | linear(f"{head}.dense", width, width) | norm(head) | {"cls.predictions.bias": [vocab]}


def rectangle(rows, fill):
    """Rows of unequal length as one tensor [B, longest], filled up on the right."""
    return torch.tensor([row + [fill] * (max(map(len, rows)) - len(row)) for row in rows])


def forward(p, config, ids, mask):
    """ids, mask [B, T] -> hidden states (layers + 1 times [B, T, C]), attentions (layers times [B, H, T, T]), logits [B, T, V]."""
    B, T = ids.shape
    H, D = config["num_attention_heads"], config["hidden_size"] // config["num_attention_heads"]
    act = {"relu": F.relu, "gelu": F.gelu}[config["hidden_act"]]
    linear = lambda name, x: F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
    eps = config["layer_norm_eps"]
    norm = lambda name, x: F.layer_norm(x, x.shape[-1:], p[f"{name}.LayerNorm.weight"], p[f"{name}.LayerNorm.bias"], eps)
    split = lambda x: x.view(B, T, H, D).transpose(1, 2)  # [B, H, T, D]

    # padding_idx: row 0 of the table is read but gets no gradient from here, even where <pad> stands inside a cell
    x = F.embedding(ids, p[WORDS], padding_idx=config["pad_token_id"])
    x = x + p["bert.embeddings.token_type_embeddings.weight"][0] + p["bert.embeddings.position_embeddings.weight"][:T]
    x = norm("bert.embeddings", x)
    hidden, attentions = [x], []
    additive = (1 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
    for i in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{i}"
        q, k, v = (split(linear(f"{layer}.attention.self.{name}", x)) for name in ("query", "key", "value"))
        attention = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(D) + additive, -1)
        context = (attention @ v).transpose(1, 2).reshape(B, T, H * D)
        x = norm(f"{layer}.attention.output", linear(f"{layer}.attention.output.dense", context) + x)
        x = norm(f"{layer}.output", linear(f"{layer}.output.dense", act(linear(f"{layer}.intermediate.dense", x))) + x)
        hidden.append(x)
        attentions.append(attention)
    head = "cls.predictions.transform"
    x = norm(head, act(linear(f"{head}.dense", x)))
    return hidden, attentions, F.linear(x, p[WORDS], p["cls.predictions.bias"])


def loss(logits, labels):
    """Mean cross-entropy over the labelled places of the whole batch; -100 is unlabelled."""
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
