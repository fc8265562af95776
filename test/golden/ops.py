"""Golden values of every op and its derivative, of AdamW and of clipping: a second opinion on the spine, computed in f64."""

import math
import zlib

import numpy as np
import torch
import torch.nn.functional as F

SEGMENTS = [0, 5, 6, 13]

tensors, cases = {}, []  # what ops.safetensors and ops.json will hold

# ---- inputs: functions of the case's own stream, so that a new case changes no other -----------

normal = lambda *shape, scale=1.0, mean=0.0: lambda draw: mean + scale * draw.standard_normal(shape)
between = lambda low, high, *shape: lambda draw: draw.uniform(low, high, shape)
given = lambda values: lambda _: np.array(values, np.float64)
index = lambda values: lambda _: np.array(values, np.uint32)


def apart(*shape):
    """Magnitudes from 0.5 to 2 with random signs: a divisor."""
    return lambda draw: draw.uniform(0.5, 2, shape) * np.where(draw.random_sample(shape) < 0.5, -1, 1)


def case(name, f, *inputs, **options):
    """Records `name` (`op` or `op.variant`): inputs rounded to f32, then f in f64, a random dy and the gradient of every float input."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    arrays = [value if value.dtype == np.uint32 else np.float32(value) for value in (make(draw) for make in inputs)]
    floats = [i for i, value in enumerate(arrays) if value.dtype == np.float32]
    args = [torch.tensor(value.astype(np.int64 if value.dtype == np.uint32 else np.float64)) for value in arrays]
    for i in floats:
        args[i].requires_grad_()
    y = f(*args)
    dy = np.float32(draw.standard_normal(tuple(y.shape)))
    gradients = torch.autograd.grad(y, [args[i] for i in floats], torch.tensor(dy, dtype=torch.float64))
    record(name, options, arrays, [y.detach().numpy()], dy, {i: g.numpy() for i, g in zip(floats, gradients)})


def record(name, options, inputs, outputs, dy=None, gradients={}):
    counts = {"inputs": len(inputs), "outputs": len(outputs), "gradients": list(gradients)}
    cases.append({"name": name, "op": name.split(".")[0], "options": options, **counts})
    tensors.update({f"{name}/inputs/{i}": value for i, value in enumerate(inputs)})
    tensors.update({f"{name}/outputs/{i}": value for i, value in enumerate(outputs)})
    if dy is not None:
        tensors[f"{name}/dy"] = dy
    tensors.update({f"{name}/gradients/{i}": value for i, value in gradients.items()})


# ---- elementwise -------------------------------------------------------------------------------

for op, f in {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div}.items():
    case(op, f, normal(3, 4), apart(3, 4))
    case(f"{op}.row", f, normal(3, 4), apart(4))
    case(f"{op}.column", f, normal(3, 4), apart(3, 1))
    case(f"{op}.scalar", f, normal(3, 4), apart())
    case(f"{op}.left", f, normal(4), apart(2, 3, 4))
    case(f"{op}.both", f, normal(2, 1, 4), apart(3, 1))

case("neg", torch.neg, normal(3, 4))
case("exp", torch.exp, between(-5, 5, 3, 4))
case("log", torch.log, between(0.01, 5, 3, 4))
case("sqrt", torch.sqrt, between(0.01, 5, 3, 4))
case("square", torch.square, normal(3, 4))
case("tanh", torch.tanh, between(-4, 4, 3, 4))
case("tanh.flat", torch.tanh, given([-90, -20, -1e-4, 0, 1e-4, 20, 90]))
case("relu", F.relu, normal(3, 4))
case("relu.kink", F.relu, given([-1, -1e-30, 0, 1e-30, 1]))  # the derivative at 0 is 0
case("gelu", F.gelu, between(-4, 4, 3, 4))
case("gelu.flat", F.gelu, given([-90, -10, -1e-4, 0, 1e-4, 10, 90]))

# ---- reductions ----------------------------------------------------------------------------------

for op, f in {"sum": torch.sum, "mean": torch.mean}.items():
    case(f"{op}.last", lambda x: f(x, 2), normal(2, 3, 4), axes=[2], keep=False)
    case(f"{op}.first", lambda x: f(x, 0), normal(2, 3, 4), axes=[0], keep=False)
    case(f"{op}.middle", lambda x: f(x, 1, keepdim=True), normal(2, 3, 4), axes=[1], keep=True)
    case(f"{op}.two", lambda x: f(x, (0, 2)), normal(2, 3, 4), axes=[0, 2], keep=False)
    case(f"{op}.all", lambda x: f(x), normal(2, 3, 4), axes=[0, 1, 2], keep=False)
case("max.last", lambda x: torch.amax(x, 2), normal(2, 3, 4), axes=[2], keep=False)
case("max.first", lambda x: torch.amax(x, 0, keepdim=True), normal(2, 3, 4), axes=[0], keep=True)
case("max.negative", lambda x: torch.amax(x, 1), between(-9, -1, 3, 5), axes=[1], keep=False)

# ---- matrices ------------------------------------------------------------------------------------


def matmul(name, batch, m, k, n, ta=False, tb=False, batch_b=None):
    a = [*batch, *((k, m) if ta else (m, k))]
    b = [*(batch if batch_b is None else batch_b), *((n, k) if tb else (k, n))]
    turn = lambda x, t: x.transpose(-1, -2) if t else x
    case(name, lambda x, y: turn(x, ta) @ turn(y, tb), normal(*a), normal(*b), transposeA=ta, transposeB=tb)


for ta, tb in ((False, False), (False, True), (True, False), (True, True)):
    suffix = ("t" if ta else "n") + ("t" if tb else "n")
    matmul(f"matmul.{suffix}", [], 3, 4, 5, ta, tb)
    matmul(f"matmul.batch-{suffix}", [2], 3, 5, 4, ta, tb)
matmul("matmul.batches", [2, 2], 2, 3, 2)
matmul("matmul.shared", [3], 2, 4, 3, batch_b=[])  # one b for all
matmul("matmul.row", [], 1, 7, 5)
matmul("matmul.outer", [], 4, 1, 5)
matmul("matmul.inner", [], 1, 17, 1)

activations = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}
for name, bias, activation, residual in (
    ("plain", False, "none", False),
    ("bias", True, "none", False),
    ("relu", True, "relu", False),
    ("gelu", True, "gelu", False),
    ("residual", True, "none", True),
    ("all", True, "relu", True),
):

    def linear(x, weight, *rest, bias=bias, activation=activation, residual=residual):
        y = activations[activation](F.linear(x, weight, rest[0] if bias else None))
        return y + rest[-1] if residual else y

    inputs = [normal(5, 6), normal(4, 6)] + [normal(4)] * bias + [normal(5, 4)] * residual
    case(f"linear.{name}", linear, *inputs, bias=bias, activation=activation, residual=residual)

# ---- rows ----------------------------------------------------------------------------------------

softmax = lambda x: torch.softmax(x, -1)
case("softmax", softmax, normal(2, 3, 5, scale=2.0))
case("softmax.steep", softmax, given([[100, 99, -100, 0, 98.5], [-300, -301, -302, -299.5, -310], [88, 89, 90, 91, 92]]))
case("softmax.one", softmax, normal(4, 1))
case("softmax.wide", softmax, normal(1, 65))


def norm(eps):
    return lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, eps)


case("layerNorm", norm(1e-12), normal(4, 8), normal(8, scale=0.3, mean=1.0), normal(8), eps=1e-12)
case("layerNorm.eps", norm(1e-2), normal(2, 3, 6, scale=0.2), normal(6, scale=0.3, mean=1.0), normal(6), eps=1e-2)
case("layerNorm.offset", norm(1e-12), normal(4, 8, mean=50.0), normal(8, scale=0.3, mean=1.0), normal(8), eps=1e-12)


def attention(heads, starts):
    """softmax(q kT / sqrt(D)) v inside each segment and head; q, k, v [N, C] with C = heads times D."""

    def segment(q, k, v):
        q, k, v = (x.reshape(len(x), heads, -1).transpose(0, 1) for x in (q, k, v))  # [H, T, D]
        y = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1) @ v
        return y.transpose(0, 1).reshape(y.shape[1], -1)

    return lambda q, k, v, _: torch.cat([segment(q[a:b], k[a:b], v[a:b]) for a, b in zip(starts, starts[1:])])


def attend(name, heads, width, starts, scale=1.0):
    case(name, attention(heads, starts), *[normal(starts[-1], width, scale=scale)] * 3, index(starts), heads=heads)


attend("attention", 2, 8, SEGMENTS)
attend("attention.steep", 2, 8, SEGMENTS, scale=5.0)
attend("attention.single", 1, 3, [0, 1, 2, 3])
attend("attention.whole", 3, 6, [0, 9])

cosine = lambda a, b: F.cosine_similarity(a, b, dim=-1, eps=1e-8)
case("cosine", cosine, normal(5, 8), normal(5, 8), eps=1e-8)
rows, step = (np.random.RandomState(seed).standard_normal((5, 64)) for seed in (0, 1))
near = [np.float32(rows), np.float32(rows + 0.01 * step)]  # as a cell with one gene deleted; forward only, its gradient is rounding in f32
record("cosine.near", {"eps": 1e-8}, near, [cosine(*(torch.tensor(value, dtype=torch.float64) for value in near)).numpy()])
record("cosine.zero", {"eps": 1e-8}, [np.zeros((2, 4)), np.ones((2, 4))], [np.zeros(2)])  # a row of zeros is like nothing: 0, not NaN

# ---- indices and segments ------------------------------------------------------------------------

ROWS = [0, 2, 2, 6, 0, 5]
case("gather", lambda table, i: F.embedding(i, table), normal(7, 3), index(ROWS))
case("gather.padding", lambda table, i: F.embedding(i, table, padding_idx=0), normal(7, 3), index(ROWS), padding=0)
case("scatterAdd", lambda x, i: torch.zeros(7, 3, dtype=x.dtype).index_add(0, i, x), normal(6, 3), index(ROWS), rows=7)
means = lambda x, starts: torch.stack([x[a:b].mean(0) for a, b in zip(starts, starts[1:])])
case("segmentMean", means, normal(13, 4), index(SEGMENTS))
case("crossEntropy", F.cross_entropy, normal(6, 9, scale=2.0), index([0, 8, 3, 3, 1, 7]))
case("crossEntropy.steep", F.cross_entropy, normal(4, 5, scale=60.0), index([0, 1, 2, 4]))

# ---- shapes --------------------------------------------------------------------------------------

case("reshape", lambda x: x.reshape(4, 6), normal(2, 3, 4), shape=[4, 6])
case("permute.swap", lambda x: x.permute(1, 0), normal(3, 5), axes=[1, 0])
case("permute.turn", lambda x: x.permute(2, 0, 1), normal(2, 3, 4), axes=[2, 0, 1])
case("permute.heads", lambda x: x.permute(0, 2, 1, 3), normal(2, 3, 2, 4), axes=[0, 2, 1, 3])
case("slice.rows", lambda x: x[1:4], normal(6, 3), starts=[1, 0], ends=[4, 3])
case("slice.columns", lambda x: x[:, 2:5], normal(3, 7), starts=[0, 2], ends=[3, 5])
case("slice.block", lambda x: x[1:2, 0:2, 1:4], normal(2, 3, 4), starts=[1, 0, 1], ends=[2, 2, 4])

# ---- training ------------------------------------------------------------------------------------


def adamw(name, step, lr, decay, parameter, gradient, m, v):
    """One step of torch.optim.AdamW, the step-th, from the moments m and v: inputs p, g, m, v; outputs p, m, v."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    inputs = [np.float32(make(draw)) for make in (parameter, gradient, m, v)]
    p, g, m, v = (torch.tensor(value, dtype=torch.float64) for value in inputs)
    p.grad = g
    optimizer = torch.optim.AdamW([p], lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay)
    optimizer.state[p] = {"step": torch.tensor(float(step - 1)), "exp_avg": m, "exp_avg_sq": v}
    optimizer.step()
    options = {"step": step, "learningRate": lr, "betas": [0.9, 0.999], "eps": 1e-8, "weightDecay": decay}
    record(name, options, inputs, [p.numpy(), m.numpy(), v.numpy()])


zeros = given([[0.0] * 4] * 3)
adamw("adamw.first", 1, 1e-3, 0.1, normal(3, 4), normal(3, 4), zeros, zeros)
adamw("adamw.later", 7, 1e-3, 0.1, normal(3, 4), normal(3, 4), normal(3, 4, scale=0.1), between(1e-4, 0.1, 3, 4))
adamw("adamw.bare", 7, 1e-2, 0.0, normal(3, 4), normal(3, 4), normal(3, 4, scale=0.1), between(1e-4, 0.1, 3, 4))
adamw("adamw.still", 3, 1e-3, 0.1, normal(3, 4), zeros, zeros, zeros)  # no gradient: only decay
adamw("adamw.faint", 1, 1e-3, 0.0, normal(3, 4), normal(3, 4, scale=1e-8), zeros, zeros)  # eps decides
adamw("adamw.warmup", 1, 0.0, 0.1, normal(3, 4), normal(3, 4), zeros, zeros)  # rate 0: moments move, the parameter does not


def clip(name, scale, bound):
    """torch.nn.utils.clip_grad_norm_: inputs three gradients; outputs the three clipped, then their norm before."""
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    inputs = [np.float32(scale * draw.standard_normal(shape)) for shape in ((3, 4), (5,), (2, 2))]
    parameters = [torch.zeros(value.shape, dtype=torch.float64) for value in inputs]
    for parameter, value in zip(parameters, inputs):
        parameter.grad = torch.tensor(value, dtype=torch.float64)
    total = torch.nn.utils.clip_grad_norm_(parameters, bound)
    record(name, {"maxNorm": bound}, inputs, [*(p.grad.numpy() for p in parameters), total.numpy()])


clip("clip.active", 2.0, 1.0)
clip("clip.idle", 0.05, 1.0)
