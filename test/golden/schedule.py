"""Hugging Face's learning-rate schedules as factors of the base rate (transformers 4.44, optimization.py)."""

import math


def linear(step, warmup, total):
    """get_linear_schedule_with_warmup: the first step of a warm-up has rate 0."""
    return step / max(1, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))


def cosine(step, warmup, total):
    """get_cosine_schedule_with_warmup, half a wave."""
    progress = (step - warmup) / max(1, total - warmup)
    return step / max(1, warmup) if step < warmup else max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))


def goldens(rate=1e-3):
    for name, factor in (("linear", linear), ("cosine", cosine)):
        for warmup, total in ((0, 10), (4, 20), (5, 8), (10_000, 85_000)):
            steps = sorted({0, 1, warmup // 2, max(0, warmup - 1), warmup, warmup + 1, (warmup + total) // 2, total - 1, total})
            rates = [rate * factor(step, warmup, total) for step in steps]
            yield {"name": name, "learningRate": rate, "warmup": warmup, "total": total, "steps": steps, "rates": rates}
