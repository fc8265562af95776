"""PyTorch's layers of the transformer, in f64: python3 transformer.py writes transformer.json and transformer.safetensors.

Sequences of unequal lengths lie padded in a rectangle there, behind masks; here, and in the files, one after the other. Weights are named as in
nn/transformer.ts; the same ones serve all cases.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import torch
from torch.nn.utils.rnn import pad_sequence

from store import write_json, write_tensors

WIDTH, HEADS, INNER = 16, 2, 24
SOURCE, TARGET = [5, 1, 9], [3, 7, 4]  # lengths

torch.set_num_threads(1)  # one order of summation
torch.manual_seed(0)
rounded = lambda t: t.to(torch.float32).to(torch.float64)


def noise(*shape, scale=1.0):
    return rounded(scale * torch.randn(*shape, dtype=torch.float64))


def attention(name):
    weights = {f"{name}.{part}.weight": noise(WIDTH, WIDTH, scale=0.4) for part in ("query", "key", "value", "output")}
    return weights | {f"{name}.{part}.bias": noise(WIDTH, scale=0.1) for part in ("query", "key", "value", "output")}


def norm(name):
    return {f"{name}.weight": 1 + noise(WIDTH, scale=0.1), f"{name}.bias": noise(WIDTH, scale=0.1)}


def feed():
    weights = {"feed.up.weight": noise(INNER, WIDTH, scale=0.4), "feed.up.bias": noise(INNER, scale=0.1)}
    return weights | {"feed.down.weight": noise(WIDTH, INNER, scale=0.4), "feed.down.bias": noise(WIDTH, scale=0.1)}


def torch_names(weights):
    """The same weights under PyTorch's names."""
    found = {}
    for ours, theirs in (("self", "self_attn"), ("cross", "multihead_attn")):
        if f"{ours}.query.weight" not in weights:
            continue
        for kind in ("weight", "bias"):
            found[f"{theirs}.in_proj_{kind}"] = torch.cat([weights[f"{ours}.{part}.{kind}"] for part in ("query", "key", "value")])
            found[f"{theirs}.out_proj.{kind}"] = weights[f"{ours}.output.{kind}"]
    for kind in ("weight", "bias"):
        found |= {f"linear1.{kind}": weights[f"feed.up.{kind}"], f"linear2.{kind}": weights[f"feed.down.{kind}"]}
    return found | {name: value for name, value in weights.items() if name.startswith("norm")}


padded = lambda x, lengths: pad_sequence(list(x.split(lengths)), batch_first=True)
packed = lambda x, lengths: torch.cat([row[:length] for row, length in zip(x, lengths)])
hidden = lambda lengths: torch.arange(max(lengths))[None, :] >= torch.tensor(lengths)[:, None]  # what a padding mask hides

WEIGHTS = {
    "encoder": attention("self") | norm("norm1") | feed() | norm("norm2"),
    "decoder": attention("self") | norm("norm1") | attention("cross") | norm("norm2") | feed() | norm("norm3"),
}
X = {"source": noise(sum(SOURCE), WIDTH), "target": noise(sum(TARGET), WIDTH)}
DY = {"source": noise(sum(SOURCE), WIDTH), "target": noise(sum(TARGET), WIDTH)}

tensors = {f"{kind}/{name}": value for kind, weights in WEIGHTS.items() for name, value in weights.items()}
tensors |= X | {f"dy.{stream}": value for stream, value in DY.items()}
cases = []
for norm_first in (False, True):
    for activation in ("relu", "gelu"):
        name = f"{'norm first' if norm_first else 'norm last'}, {activation}"
        cases.append({"name": name, "normFirst": norm_first, "activation": activation})
        layers = {"encoder": torch.nn.TransformerEncoderLayer, "decoder": torch.nn.TransformerDecoderLayer}
        for kind, layer in layers.items():
            layer = layer(WIDTH, HEADS, INNER, activation=activation, batch_first=True, norm_first=norm_first, dtype=torch.float64).eval()
            layer.load_state_dict(torch_names(WEIGHTS[kind]))
            source, target = (X[stream].clone().requires_grad_() for stream in ("source", "target"))
            memory = padded(source, SOURCE)
            if kind == "encoder":
                y = packed(layer(memory, src_key_padding_mask=hidden(SOURCE)), SOURCE)
                inputs, dy = {"source": source}, DY["source"]
            else:
                causal = torch.nn.Transformer.generate_square_subsequent_mask(max(TARGET)).to(torch.float64)
                masks = {"tgt_mask": causal, "tgt_key_padding_mask": hidden(TARGET), "memory_key_padding_mask": hidden(SOURCE)}
                y = packed(layer(padded(target, TARGET), memory, **masks), TARGET)
                inputs, dy = {"source": source, "target": target}, DY["target"]
            (y * dy).sum().backward()
            tensors[f"{name}/{kind}"] = y.detach()
            tensors |= {f"{name}/{kind}/gradient.{stream}": x.grad for stream, x in inputs.items()}
            tensors[f"{name}/{kind}/gradient.up"] = layer.linear1.weight.grad

here = Path(__file__).parent
write_tensors(here / "transformer.safetensors", tensors)
sizes = {"width": WIDTH, "heads": HEADS, "inner": INNER, "source": SOURCE, "target": TARGET}
write_json(here / "transformer.json", sizes | {"cases": cases}, depth=2)
