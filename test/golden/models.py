"""Golden values of two small BERTs: hidden states, attention, logits, loss, gradients and five steps of training."""

import numpy as np
import torch

import bert
from schedule import linear

CONFIGS = {
    "model-relu": bert.config(layers=3, width=32, heads=4, inner=64, vocab=97, positions=48, act="relu"),
    "model-gelu": bert.config(layers=2, width=24, heads=3, inner=40, vocab=61, positions=40, act="gelu"),
}
LENGTHS = {"model-relu": [17, 48, 1, 30], "model-gelu": [9, 1, 40, 23]}
UNLABELLED = {"model-relu": 0, "model-gelu": 1}  # the cell without a label

# Seeds with which no gradient lies so near zero (a relu unit that almost never fires) that Adam makes a whole step of its rounding in f32
SEEDS = {"model-relu": 23, "model-gelu": 5}

# Trainer's optimiser and schedule: the rate is 0 in the first step
TRAINING = {"learningRate": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weightDecay": 0.1, "maxNorm": 1.0, "warmup": 2, "steps": 5}
RATES = [TRAINING["learningRate"] * linear(step, TRAINING["warmup"], TRAINING["steps"]) for step in range(TRAINING["steps"])]

ACTIVATED = ("intermediate.dense.bias", "transform.dense.bias")


def weights(config, draw):
    """Larger than a fresh model's 0.02, biases and norms too, so that every path matters; f32, as the file will hold them.

    Small queries meet large keys: attention is as peaked as with both alike, but the gradient of a key bias, a sum that cancels to zero
    and leaves rounding in proportion to the queries, stays well below the bound of the tests in f32. Biases before an activation lie
    above zero, so that few units almost never fire.
    """
    std = lambda name: 0.2 if "LayerNorm" in name else 0.03 if ".query." in name else 1.0 if ".key." in name else 0.15
    mean = lambda name: 1.0 if name.endswith("LayerNorm.weight") else 0.5 if name.endswith(ACTIVATED) else 0.0
    return {n: np.float32(mean(n) + std(n) * draw.standard_normal(shape)) for n, shape in bert.shapes(config).items()}


def masked(length, labelled, vocab, draw):
    """Genes (2 to vocab - 1, with repeats), a quarter of them labelled: of these 60 % <mask>, 15 % <pad>, 15 % another gene, 10 % kept."""
    genes = [int(g) for g in draw.randint(2, vocab, length)]
    chosen = [labelled and (length == 1 or bool(u < 0.25)) for u in draw.random_sample(length)]
    replace = lambda gene, u: 1 if u < 0.6 else 0 if u < 0.75 else int(draw.randint(2, vocab)) if u < 0.9 else gene
    ids = [replace(gene, u) if c else gene for gene, c, u in zip(genes, chosen, draw.random_sample(length))]
    return {"input_ids": ids, "labels": [gene if c else -100 for gene, c in zip(genes, chosen)]}


def make(name):
    """The model `name`: its config, its weights and its cells."""
    draw = np.random.RandomState(SEEDS[name])  # a frozen stream: the same numbers in every version of numpy
    config = CONFIGS[name]
    p = weights(config, draw)
    return config, p, [masked(n, i != UNLABELLED[name], config["vocab_size"], draw) for i, n in enumerate(LENGTHS[name])]


def expected(config, weights, cells, dtype):
    """Everything a faithful model must give, computed in `dtype`: name -> array."""
    p = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in weights.items()}
    lengths = [len(cell["input_ids"]) for cell in cells]
    ids = bert.rectangle([cell["input_ids"] for cell in cells], 0)
    mask = bert.rectangle([[1] * n for n in lengths], 0)
    labels = bert.rectangle([cell["labels"] for cell in cells], -100)
    out = {}

    hidden, attentions, logits = bert.forward(p, config, ids, mask)
    loss = bert.loss(logits, labels)
    loss.backward()
    for i, n in enumerate(lengths):
        out |= {f"hidden.{layer}.{i}": x[i, :n] for layer, x in enumerate(hidden)}
        out |= {f"attention.{layer}.{i}": a[i, :, :n, :n] for layer, a in enumerate(attentions, 1)}
        out[f"logits.{i}"] = logits[i, :n]
    out["loss"] = loss.reshape(1)
    out |= {f"gradient.{name}": value.grad.clone() for name, value in p.items()}

    # Trainer.create_optimizer: no decay for biases and layer norms
    kept = [value for name, value in p.items() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [value for name, value in p.items() if not (name.endswith("bias") or "LayerNorm" in name)]
    groups = [{"params": decayed, "weight_decay": TRAINING["weightDecay"]}, {"params": kept, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=tuple(TRAINING["betas"]), eps=TRAINING["eps"])
    for step in range(TRAINING["steps"] + 1):
        optimizer.zero_grad()
        logits = bert.forward(p, config, ids, mask)[2]
        loss = bert.loss(logits, labels)
        out[f"step.{step}.loss"] = loss.reshape(1)
        if step == TRAINING["steps"]:
            break
        loss.backward()
        out[f"step.{step}.norm"] = torch.nn.utils.clip_grad_norm_(list(p.values()), TRAINING["maxNorm"]).reshape(1)
        for group in optimizer.param_groups:
            group["lr"] = RATES[step]
        optimizer.step()
    out |= {f"final.{name}": value for name, value in p.items()}
    out |= {f"final.logits.{i}": logits[i, :n] for i, n in enumerate(lengths)}
    return {name: value.detach().numpy() for name, value in out.items()}


def unpadded(config, weights, cells):
    """The logits of each cell alone, in f64: what padding and its mask must not change."""
    p = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    for cell in cells:
        ids = torch.tensor([cell["input_ids"]])
        yield bert.forward(p, config, ids, torch.ones_like(ids))[2][0].numpy()


def difference(wanted, got):
    """Largest error of each group of tensors, on the scale of the tests: of a tensor's largest value, and for gradients of at least a
    thousandth of the root mean square over all of them. Key biases stand apart: Adam makes a step of their rounding."""
    gradients = np.concatenate([value.ravel() for name, value in wanted.items() if name.startswith("gradient.")])
    floor = 1e-3 * np.sqrt(np.mean(gradients**2))
    worst = {}
    for name, value in wanted.items():
        group = "final.logits" if name.startswith("final.logits") else name.split(".")[0]
        scale = max(np.abs(value).max(), floor if group == "gradient" else 0)
        group += ".key.bias" if name.endswith("key.bias") else ""
        worst[group] = max(worst.get(group, 0.0), float(np.abs(value - got[name]).max() / scale))
    return worst
