"""
Makes the golden files beside it: python3 make.py, or only some, by name: python3 make.py ops random. Needs torch and numpy; tried with torch 1.13,
numpy 1.24, Python 3.11.
"""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np
import torch

import models
import ops
import schedule
import threefry
from store import write_json, write_tensors

HERE = Path(__file__).parent
torch.set_num_threads(1)  # one order of summation


def make_models():
    for name in models.CONFIGS:
        config, weights, cells = models.make(name)
        wanted = models.expected(config, weights, cells, torch.float64)
        for i, logits in enumerate(models.unpadded(config, weights, cells)):
            assert np.allclose(logits, wanted[f"logits.{i}"], rtol=0, atol=1e-12), f"{name}: padding changes cell {i}"
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        write_json(folder / "config.json", config)
        write_json(folder / "cells.json", cells)
        write_tensors(folder / "model.safetensors", weights, {"format": "pt"})
        write_tensors(folder / "expected.safetensors", wanted)
        error = models.difference(wanted, models.expected(config, weights, cells, torch.float32))
        print(f"{name}: f32 differs from f64 by", ", ".join(f"{group} {value:.1e}" for group, value in error.items()))
    write_json(HERE / "training.json", models.TRAINING | {"rates": models.RATES})


def make_ops():
    write_tensors(HERE / "ops.safetensors", ops.tensors)
    write_json(HERE / "ops.json", {"cases": ops.cases, "schedules": list(schedule.goldens())}, depth=2)


def make_random():
    write_json(HERE / "random.json", threefry.vectors())


parts = {"models": make_models, "ops": make_ops, "random": make_random}
for name in sys.argv[1:] or parts:
    parts[name]()
