"""Steps of PyTorch's optimisers, in f64, and Hugging Face's schedules that schedule.py has not: python3 optimizers.py writes optimizers.json."""

import math
import re
import sys
from fnmatch import fnmatchcase
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch

from store import write_json

# ---- optimisers ----------------------------------------------------------------------------------

SHAPES = {"embeddings.weight": [2, 3], "layer.weight": [3, 2], "layer.bias": [3], "norm.weight": [2]}
RATES = [0.0, 0.1, 0.05, 0.2, 0.01]  # the first as in a warm-up

draw = np.random.RandomState(0)
normal = lambda scale: {name: np.float32(scale * draw.standard_normal(shape)).flatten().tolist() for name, shape in SHAPES.items()}
START = normal(1.0)
GRADIENTS = [normal(scale) for scale in (1.0, 0.5, 2.0, 0.01, 1.0)]

WORDS = {"decay": "weight_decay", "eps": "eps", "momentum": "momentum", "dampening": "dampening", "nesterov": "nesterov"}
CLASSES = {"AdamW": torch.optim.AdamW, "Adam": torch.optim.Adam, "SGD": torch.optim.SGD}
DEFAULTS = {"AdamW": {"decay": 0.01}, "Adam": {}, "SGD": {}}


def settings(optimizer, options, name):
    """What holds for one parameter, in PyTorch's words, and the factor of its rate."""
    mine = DEFAULTS[optimizer] | {key: value for key, value in options.items() if key not in ("groups", "clip")}
    for group in options.get("groups", []):
        if fnmatchcase(name, group["match"]):
            mine |= {key: value for key, value in group.items() if key != "match"}
    if optimizer == "AdamW" and re.search(r"(^|\.)bias$|norm", name):
        mine["decay"] = 0.0
    theirs = {WORDS[key]: value for key, value in mine.items() if key in WORDS}
    if optimizer != "SGD":
        theirs["betas"] = (mine.get("beta1", 0.9), mine.get("beta2", 0.999))
    return theirs, mine.get("rate", 1.0)


def steps(name, optimizer, **options):
    """Five steps. `final`: the parameters after them; `norms`: of the gradients, before clipping."""
    parameters = {key: torch.tensor(START[key], dtype=torch.float64).reshape(shape) for key, shape in SHAPES.items()}
    told = {key: settings(optimizer, options, key) for key in parameters}
    groups = [{"params": [p], "lr": 0.0, **told[key][0]} for key, p in parameters.items()]
    made = CLASSES[optimizer](groups, lr=0.0)
    norms = []
    for rate, gradients in zip(RATES, GRADIENTS):
        for group, (key, p) in zip(made.param_groups, parameters.items()):
            group["lr"] = rate * told[key][1]
            p.grad = torch.tensor(gradients[key], dtype=torch.float64).reshape(p.shape)
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters.values(), options.get("clip", math.inf))))
        made.step()
    return {
        "name": name,
        "optimizer": optimizer,
        "options": options,
        "final": {key: p.flatten().tolist() for key, p in parameters.items()},
        "norms": norms,
    }


groups = [{"match": "*.weight", "rate": 0.5}, {"match": "embeddings.*", "rate": 0.1, "decay": 0.0}]
cases = [
    steps("AdamW", "AdamW"),
    steps("AdamW, strong decay", "AdamW", decay=0.5, beta1=0.5, beta2=0.9, eps=1e-3),
    steps("AdamW, clipped, in groups", "AdamW", decay=0.1, clip=1.0, groups=[*groups, {"match": "layer.*", "beta1": 0.5, "eps": 1e-4}]),
    steps("Adam", "Adam"),
    steps("Adam, L2", "Adam", decay=0.1),
    steps("Adam, L2, clipped, in groups", "Adam", decay=0.3, clip=0.7, groups=[*groups, {"match": "norm.*", "beta2": 0.9}]),
    steps("SGD", "SGD"),
    steps("SGD, decay", "SGD", decay=0.1),
    steps("SGD, momentum", "SGD", momentum=0.9),
    steps("SGD, momentum and dampening", "SGD", momentum=0.9, dampening=0.3, decay=0.1),
    steps("SGD, Nesterov", "SGD", momentum=0.9, nesterov=True),
    steps("SGD, Nesterov, decay, clipped", "SGD", momentum=0.8, nesterov=True, decay=0.1, clip=1.0),
    steps("SGD, in groups", "SGD", momentum=0.9, decay=0.2, groups=[*groups, {"match": "layer.bias", "momentum": 0.0}]),
]

# ---- schedules (transformers 4.44, optimization.py), as factors of the base rate -------------------


def cosine_with_restarts(step, warmup, total, cycles=1):
    """get_cosine_with_hard_restarts_schedule_with_warmup"""
    if step < warmup:
        return step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return 0.0 if progress >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * progress) % 1.0))))


def polynomial(step, warmup, total, end=0.0, power=1.0):
    """get_polynomial_decay_schedule_with_warmup, its lr_init being 1"""
    if step < warmup:
        return step / max(1, warmup)
    if step > total:
        return end
    return (1 - end) * (1 - (step - warmup) / (total - warmup)) ** power + end


def inverse_sqrt(step, warmup, total):
    """get_inverse_sqrt_schedule"""
    if step < warmup:
        return step / max(1, warmup)
    timescale = warmup or 10_000
    return 1.0 / math.sqrt((step + timescale - warmup) / timescale)


schedules = [
    {
        "name": f.__name__,
        "options": options,
        "warmup": warmup,
        "total": total,
        "factors": [f(step, warmup, total, **options) for step in range(total + 3)],
    }
    for f, options in (
        (cosine_with_restarts, {}),
        (cosine_with_restarts, {"cycles": 3}),
        (polynomial, {}),
        (polynomial, {"power": 2}),
        (polynomial, {"power": 0.5, "end": 0.1}),
        (inverse_sqrt, {}),
    )
    for warmup, total in ((0, 10), (4, 19))
]

path = Path(__file__).parent / "optimizers.json"
write_json(path, {"shapes": SHAPES, "rates": RATES, "start": START, "gradients": GRADIENTS, "cases": cases, "schedules": schedules}, depth=2)
