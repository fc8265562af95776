"""Golden values of every op and its derivative, of AdamW and of clipping: a second opinion on the spine, computed in f64."""

import math
import zlib

import numpy as np
import torch
import torch.nn.functional as F

SEGMENTS = [0, 5, 6, 13]
IGNORED = 0xFFFFFFFF  # a label that does not count
NAN, INF = math.nan, math.inf

tensors, cases = {}, []  # what ops.safetensors and ops.json will hold

# ---- inputs: functions of the case's own stream, so that a new case changes no other -----------

normal = lambda *shape, scale=1.0, mean=0.0: lambda draw: mean + scale * draw.standard_normal(shape)
between = lambda low, high, *shape: lambda draw: draw.uniform(low, high, shape)
given = lambda values: lambda _: np.array(values, np.float64)
index = lambda values: lambda _: np.array(values, np.uint32)
empty = lambda *shape: lambda _: np.zeros(shape)


def apart(*shape):
    """Magnitudes from 0.5 to 2 with random signs: a divisor."""
    return lambda draw: draw.uniform(0.5, 2, shape) * np.where(draw.random_sample(shape) < 0.5, -1, 1)


def case(name, f, *inputs, wrt=None, **options):
    """
    Records `name` (`op` or `op.variant`): inputs rounded to f32, then f in f64, with one result or several, a random dy of the first, and gradients
    by the inputs `wrt` (default: all floats).
    """
    draw = np.random.RandomState(zlib.crc32(name.encode()))
    arrays = [value if value.dtype == np.uint32 else np.float32(value) for value in (make(draw) for make in inputs)]
    wrt = [i for i, value in enumerate(arrays) if value.dtype == np.float32] if wrt is None else wrt
    args = [torch.tensor(value.astype(np.int64 if value.dtype == np.uint32 else np.float64)) for value in arrays]
    for i in wrt:
        args[i].requires_grad_()
    result = f(*args)
    outputs = result if isinstance(result, tuple) else (result,)
    values = [y.detach().numpy() for y in outputs]
    if not wrt:
        return record(name, options, arrays, values)
    dy = np.float32(draw.standard_normal(values[0].shape))
    gradients = torch.autograd.grad(outputs[0], [args[i] for i in wrt], torch.tensor(dy, dtype=torch.float64))
    record(name, options, arrays, values, dy, {i: g.numpy() for i, g in zip(wrt, gradients)})


def record(name, options, inputs, outputs, dy=None, gradients={}):
    assert all(case["name"] != name for case in cases), f"{name}: the name is taken"
    counts = {"inputs": len(inputs), "outputs": len(outputs), "gradients": list(gradients)}
    cases.append({"name": name, "op": name.split(".")[0], "options": options, **counts})
    tensors.update({f"{name}/inputs/{i}": value for i, value in enumerate(inputs)})
    tensors.update({f"{name}/outputs/{i}": value for i, value in enumerate(outputs)})
    if dy is not None:
        tensors[f"{name}/dy"] = dy
    tensors.update({f"{name}/gradients/{i}": value for i, value in gradients.items()})


# ---- elementwise; `left` and `right` are numbers for the first or the last argument ---------------

number = lambda value: torch.tensor(value, dtype=torch.float64)

for op, f in {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}.items():
    case(op, f, normal(3, 4), apart(3, 4))
    case(f"{op}.row", f, normal(3, 4), apart(4))
    case(f"{op}.column", f, normal(3, 4), apart(3, 1))
    case(f"{op}.scalar", f, normal(3, 4), apart())
    case(f"{op}.left", f, normal(4), apart(2, 3, 4))
    case(f"{op}.both", f, normal(2, 1, 4), apart(3, 1))
    case(f"{op}.number", lambda x: f(x, number(0.75)), normal(3, 4), right=0.75)
    case(f"{op}.of", lambda x: f(number(-0.5), x), apart(3, 4), left=-0.5)
    # ties, zeros, infinities, and NaN on either side
    some = given([2, 1, -1, 0, INF, INF, INF, -INF, 0, 0, NAN, 1, NAN])
    case(f"{op}.edges", f, some, given([2, 0, 0, 0, 2, INF, -INF, 2, INF, 3, 1, NAN, NAN]))

case("pow", torch.pow, between(0.3, 3, 3, 4), normal(3, 4))
case("pow.row", torch.pow, between(0.3, 3, 3, 4), normal(4))
case("pow.both", torch.pow, between(0.3, 3, 2, 1, 4), normal(3, 1))
for name, exponent in {"squared": 2.0, "cubed": 3.0, "inverse": -1.0, "nothing": 0.0}.items():
    case(f"pow.{name}", lambda x: torch.pow(x, number(exponent)), apart(3, 4), right=exponent)
case("pow.root", lambda x: torch.pow(x, number(0.5)), between(0.1, 4, 3, 4), right=0.5)
case("pow.of", lambda x: torch.pow(number(2.5), x), normal(3, 4), left=2.5)
case("pow.zero", torch.pow, given([0] * 5), given([0, 1, 2, 0.5, -1]))
case("pow.negative", torch.pow, given([-2] * 4), given([3, 2, -3, 0.5]))
# but not 1 to the power of NaN or infinity, which is NaN in JavaScript and 1 in torch
case("pow.edges", torch.pow, given([INF, INF, -INF, NAN, NAN, 2, 2, 0.5]), given([2, -1, 3, 0, 1, NAN, INF, INF]))

for op, f in {
    "equal": torch.eq,
    "notEqual": torch.ne,
    "less": torch.lt,
    "lessEqual": torch.le,
    "greater": torch.gt,
    "greaterEqual": torch.ge,
}.items():
    holds = lambda x, y: f(x, y).double()
    some = given([1, 2, 3, 0, NAN, NAN, 1, INF, INF, -INF])
    case(op, holds, some, given([2, 2, 2, -0.0, NAN, 1, NAN, INF, -INF, 5]), wrt=[])
    case(f"{op}.both", holds, given([[1], [2], [3]]), given([1, 2, 3, NAN]), wrt=[])
    case(f"{op}.number", lambda x: holds(x, number(2.0)), some, wrt=[], right=2.0)
    case(f"{op}.of", lambda x: holds(number(2.0), x), some, wrt=[], left=2.0)

where = lambda condition, a, b: torch.where(condition != 0, a, b)
conditions = given([[1, 0, -0.0, 0.5], [NAN, INF, 0, -1], [0, 0, 1, 1]])
case("where", where, conditions, normal(3, 4), normal(3, 4), wrt=[1, 2])
case("where.row", where, given([1, 0, 0, 2]), normal(3, 1), normal(3, 4), wrt=[1, 2])
case("where.outer", where, given([[[1]], [[0]]]), normal(3, 1), normal(4), wrt=[1, 2])
case("where.number", lambda condition, a: where(condition, a, number(2.0)), conditions, normal(3, 4), wrt=[1], right=2.0)
case("where.edges", where, given([1, 0, 1, 0]), given([NAN, NAN, INF, INF]), given([1, 2, 3, 4]), wrt=[1, 2])

geluTanh = lambda x: F.gelu(x, approximate="tanh")
case("neg", torch.neg, normal(3, 4))
case("abs", torch.abs, normal(3, 4))
case("exp", torch.exp, between(-5, 5, 3, 4))
case("log", torch.log, between(0.01, 5, 3, 4))
case("sqrt", torch.sqrt, between(0.01, 5, 3, 4))
case("rsqrt", torch.rsqrt, between(0.1, 5, 3, 4))
case("square", torch.square, normal(3, 4))
case("tanh", torch.tanh, between(-4, 4, 3, 4))
case("tanh.flat", torch.tanh, given([-90, -20, -1e-4, 0, 1e-4, 20, 90]))
for op, f in {"sigmoid": torch.sigmoid, "softplus": F.softplus, "silu": F.silu}.items():
    case(op, f, between(-4, 4, 3, 4))
    case(f"{op}.flat", f, given([-90, -20, -1e-4, 0, 1e-4, 20, 90]))
    case(f"{op}.tail", f, given([-12, -11, -10, -9]))  # small: measured by themselves
case("relu", F.relu, normal(3, 4))
case("relu.kink", F.relu, given([-1, -1e-30, 0, 1e-30, 1]))  # the derivative at 0 is 0
case("relu.edges", F.relu, given([NAN, INF, -INF]), wrt=[])  # at NaN torch's derivative is 1, ours 0
for op, f in {"gelu": F.gelu, "geluTanh": geluTanh}.items():
    case(op, f, between(-4, 4, 3, 4))
    case(f"{op}.flat", f, given([-90, -10, -1e-4, 0, 1e-4, 10, 90]))
for op, f in {
    "neg": torch.neg,
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "silu": F.silu,
    "gelu": F.gelu,
    "geluTanh": geluTanh,
}.items():
    case(f"{op}.edges", f, given([NAN, INF, -INF, 0, -0.0, 1]))

for name, low, high in (("both", -1.0, 1.5), ("low", -1.0, None), ("high", None, 1.5), ("crossed", 1.5, -1.0)):
    case(f"clamp.{name}", lambda x: torch.clamp(x, low, high), given([-2, -1, -0.5, 0, 1.5, 2, NAN, INF, -INF]), low=low, high=high)

case("cast.f32", lambda x: x.float().double(), normal(3, 4), dtype="f32")
# what f16 holds: WebGPU may round the rest up or down
case("cast.f16", lambda x: x.half().double(), given([0, 1, -2.5, 1365 / 4096, 2**-14, INF, -INF, NAN]), wrt=[], dtype="f16")
case("cast.f16-large", lambda x: x.half().double(), given([65504, -65504, 1025 * 16]), wrt=[], dtype="f16")
case("cast.i32", lambda x: x.int().double(), given([0, 2.75, -2.75, 0.5, -0.5, -7]), wrt=[], dtype="i32")
case("cast.i32-large", lambda x: x.int().double(), given([1000000.5, -(2**24), 2**30]), wrt=[], dtype="i32")
case("cast.u32", lambda x: x.long().double(), given([0, 2.75, 0.5, 7]), wrt=[], dtype="u32")
case("cast.u32-large", lambda x: x.long().double(), given([1000000.5, 2**24, 2**32 - 256]), wrt=[], dtype="u32")

# ---- reductions; `axes` null: all ----------------------------------------------------------------

variance = lambda correction: lambda x, axes, keepdim=False: torch.var(x, axes, correction=correction, keepdim=keepdim)
reductions = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax, "min": torch.amin, "variance": variance(0), "logSumExp": torch.logsumexp}
for op, f in reductions.items():
    for name, axes, keep in (
        ("last", [2], False),
        ("first", [0], False),
        ("middle", [1], True),
        ("two", [0, 2], False),
        ("all", [0, 1, 2], False),
        ("negative", [-1, 0], True),
        ("whole", None, False),
        ("kept", None, True),
    ):
        case(f"{op}.{name}", lambda x: f(x, [0, 1, 2] if axes is None else axes, keepdim=keep), normal(2, 3, 4), axes=axes, keep=keep)
    if op not in ("max", "min"):  # which nothing has
        case(f"{op}.empty", lambda x: f(x, [1]), empty(2, 0, 3), axes=[1], keep=False)
    case(f"{op}.none", lambda x: f(x, [1]), empty(0, 2, 3), axes=[1], keep=False)

rows = given([[1, NAN, 2], [3, 1, 3], [INF, 1, INF], [INF, -INF, -INF], [-INF, -INF, -INF], [0, -0.0, 0], [-5, -4, -4]])  # NaN, ties, infinities
for op in ("max", "min"):
    case(f"{op}.edges", lambda x: reductions[op](x, [1]), rows, axes=[1], keep=False)
    case(f"{op}.ties", lambda x: reductions[op](x, [0, 1]), given([[2, 7, 1], [7, 1, 7]]), axes=None, keep=False)
for op in ("sum", "mean", "variance"):
    case(f"{op}.edges", lambda x: reductions[op](x, [1]), given([[1, NAN, 2], [INF, 1, INF], [INF, -INF, 3], [0, 0, 0]]), axes=[1], keep=False)
for op, f in {"argmax": torch.argmax, "argmin": torch.argmin}.items():
    for name, axis, keep in (("last", 2, False), ("first", 0, False), ("negative", -2, True), ("whole", None, False)):
        case(f"{op}.{name}", lambda x: f(x, axis, keepdim=keep), normal(2, 3, 4), wrt=[], axis=axis, keep=keep)
    case(f"{op}.edges", lambda x: f(x, 1), rows, wrt=[], axis=1, keep=False)
    case(f"{op}.ties", lambda x: f(x), given([[2, 7, 1], [7, 1, 7]]), wrt=[], axis=None, keep=False)
for name, correction, shape in (("bessel", 1, [3, 4]), ("further", 2, [3, 4]), ("one", 0, [3, 1]), ("lost", 1, [3, 1])):  # lost: 0 / 0
    case(f"variance.{name}", lambda x: variance(correction)(x, [1]), normal(*shape), axes=[1], keep=False, correction=correction)
case("variance.offset", lambda x: variance(1)(x, [1]), normal(3, 7, mean=100.0), axes=[1], keep=False, correction=1)
steep = given([[100, 99, -100, 0, 98.5], [-300, -301, -302, -299.5, -310], [88, 89, 90, 91, 92]])
case("logSumExp.steep", lambda x: torch.logsumexp(x, 1), steep, axes=[1], keep=False)
case("logSumExp.masked", lambda x: torch.logsumexp(x, 1), given([[-INF, 1, 2], [0.5, -INF, -INF]]), axes=[1], keep=False)
case("logSumExp.edges", lambda x: torch.logsumexp(x, 1), given([[NAN, 1, 2], [INF, 1, -INF], [-INF] * 3]), wrt=[], axes=[1], keep=False)

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
matmul("matmul.one", [], 2, 4, 3, batch_b=[3])  # one a
matmul("matmul.stretch", [3, 1], 2, 4, 3, batch_b=[1, 2])
matmul("matmul.stretch-nt", [2], 2, 4, 3, tb=True, batch_b=[3, 1])
matmul("matmul.stretch-tn", [3, 2], 2, 4, 3, ta=True, batch_b=[2])
matmul("matmul.nothing", [], 3, 0, 2)
matmul("matmul.row", [], 1, 7, 5)
matmul("matmul.outer", [], 4, 1, 5)
matmul("matmul.inner", [], 1, 17, 1)

activations = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}
for name, lead, bias, activation, residual in (
    ("plain", [5], False, "none", False),
    ("bias", [5], True, "none", False),
    ("relu", [5], True, "relu", False),
    ("gelu", [5], True, "gelu", False),
    ("residual", [5], True, "none", True),
    ("all", [5], True, "relu", True),
    ("bare", [5], False, "none", True),
    ("vector", [], True, "none", True),
    ("lead", [2, 3], True, "relu", False),
    ("lead-residual", [2, 3], True, "none", True),
):

    def linear(x, weight, *rest, bias=bias, activation=activation, residual=residual):
        y = activations[activation](F.linear(x, weight, rest[0] if bias else None))
        return y + rest[-1] if residual else y

    inputs = [normal(*lead, 6), normal(4, 6)] + [normal(4)] * bias + [normal(*lead, 4)] * residual
    case(f"linear.{name}", linear, *inputs, bias=bias, activation=activation, residual=residual)

# ---- along an axis -------------------------------------------------------------------------------

for op, f in {"softmax": torch.softmax, "logSoftmax": torch.log_softmax}.items():
    last = lambda x: f(x, -1)
    case(op, last, normal(2, 3, 5, scale=2.0))
    case(f"{op}.steep", last, steep)
    case(f"{op}.one", last, normal(4, 1))
    case(f"{op}.wide", last, normal(1, 65))
    for name, axis in (("first", 0), ("middle", 1), ("negative", -2), ("last", 2)):
        case(f"{op}.{name}", lambda x: f(x, axis), normal(2, 3, 4), axis=axis)
    case(f"{op}.masked", last, given([[-INF, 1, 2, -INF], [0.5, -INF, -INF, -INF], [-1, 0, 1, -INF]]))
    case(f"{op}.edges", last, given([[-INF, -INF, -INF], [NAN, 1, 2], [INF, 1, 2], [INF, INF, -INF], [0, 1, 2]]))  # NaN but for the last row
    case(f"{op}.none", last, empty(0, 3))

case("cumsum", lambda x: torch.cumsum(x, -1), normal(3, 7))
for name, axis in (("first", 0), ("middle", 1), ("negative", -2)):
    case(f"cumsum.{name}", lambda x: torch.cumsum(x, axis), normal(2, 3, 4), axis=axis)
case("cumsum.edges", lambda x: torch.cumsum(x, -1), given([[1, NAN, 2], [1, INF, -INF], [1, -INF, 2]]))


def norm(eps):
    return lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, eps)


case("layerNorm", norm(1e-12), normal(4, 8), normal(8, scale=0.3, mean=1.0), normal(8), eps=1e-12)
case("layerNorm.eps", norm(1e-2), normal(2, 3, 6, scale=0.2), normal(6, scale=0.3, mean=1.0), normal(6), eps=1e-2)
case("layerNorm.offset", norm(1e-12), normal(4, 8, mean=50.0), normal(8, scale=0.3, mean=1.0), normal(8), eps=1e-12)


def add_norm(eps):
    return lambda x, r, weight, bias: F.layer_norm(x + r, x.shape[-1:], weight, bias, eps)


case("addNorm", add_norm(1e-12), normal(2, 3, 8), normal(2, 3, 8), normal(8, scale=0.3, mean=1.0), normal(8), eps=1e-12)


def rms(eps):
    """torch.nn.RMSNorm's formula, which torch has from 2.4 on."""
    return lambda x, weight: x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * weight


case("rmsNorm", rms(1e-6), normal(4, 8), normal(8, scale=0.3, mean=1.0), eps=1e-6)
case("rmsNorm.eps", rms(1e-2), normal(2, 3, 6, scale=0.2), normal(6, scale=0.3, mean=1.0), eps=1e-2)
case("rmsNorm.offset", rms(1e-12), normal(4, 8, mean=50.0), normal(8, scale=0.3, mean=1.0), eps=1e-12)
case("rmsNorm.zero", rms(1e-6), empty(2, 3), normal(3), eps=1e-6)


def attention(heads, starts, keys, causal):
    """softmax(q kT / sqrt(D)) v inside each segment and head; q [N, C], k, v [M, C] with C = heads times D. Rows beyond the segments get zeros."""

    def segment(q, k, v):
        q, k, v = (x.reshape(len(x), heads, x.shape[1] // heads).transpose(0, 1) for x in (q, k, v))  # [H, T, D]
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[1:]).triu(1) == 1, -INF)
        y = torch.softmax(scores, -1) @ v
        return y.transpose(0, 1).reshape(y.shape[1], y.shape[0] * y.shape[2])

    def stream(q, k, v, *_):
        spans = zip(zip(starts, starts[1:]), zip(keys, keys[1:]))
        return torch.cat([*(segment(q[a:b], k[c:d], v[c:d]) for (a, b), (c, d) in spans), torch.zeros_like(q[starts[-1] :])])

    return stream


def attend(name, heads, width, starts, keys=None, scale=1.0, dead=0, causal=False):
    """`dead` rows follow the last segment, in both streams."""
    streams = [starts] + [keys] * (keys is not None)
    q, kv = (normal(starts[-1] + dead, width, scale=scale) for starts in (streams[0], streams[-1]))
    case(name, attention(heads, starts, streams[-1], causal), q, kv, kv, *(index(starts) for starts in streams), heads=heads, causal=causal)


attend("attention", 2, 8, SEGMENTS)
attend("attention.steep", 2, 8, SEGMENTS, scale=5.0)
attend("attention.single", 1, 3, [0, 1, 2, 3])
attend("attention.whole", 3, 6, [0, 9])
attend("attention.empty", 2, 4, [0, 0, 3, 3, 8])
attend("attention.dead", 2, 4, [0, 4, 6], dead=3)
attend("attention.tiles", 1, 4, [0, 3, 40])  # a segment of several tiles
attend("attention.cross", 2, 8, SEGMENTS, [0, 3, 10, 12])
attend("attention.cross-empty", 2, 4, [0, 3, 3, 5], [0, 0, 4, 6])  # queries with no keys, and keys with no queries
attend("attention.cross-dead", 1, 4, [0, 2, 5], [0, 4, 7], dead=2)
attend("attention.causal", 2, 8, SEGMENTS, causal=True)
attend("attention.causal-dead", 2, 4, [0, 4, 4, 6], dead=3, causal=True)
attend("attention.causal-tiles", 1, 4, [0, 3, 40], causal=True)
attend("attention.causal-cross", 2, 4, [0, 5, 8], [0, 3, 10], causal=True)  # more queries than keys, and fewer

cosine = lambda a, b: F.cosine_similarity(a, b, dim=-1, eps=1e-8)
case("cosine", cosine, normal(5, 8), normal(5, 8), eps=1e-8)
case("cosine.lead", cosine, normal(2, 3, 4), normal(2, 3, 4), eps=1e-8)
case("cosine.same", cosine, given([[3, 4], [1, 0], [1, 0]]), given([[3, 4], [-2, 0], [0, 5]]), eps=1e-8)  # 1, -1, 0
rows, step = (np.random.RandomState(seed).standard_normal((5, 64)) for seed in (0, 1))
near = [np.float32(rows), np.float32(rows + 0.01 * step)]  # as a cell with one gene deleted; forward only, its gradient is rounding in f32
record("cosine.near", {"eps": 1e-8}, near, [cosine(*(torch.tensor(value, dtype=torch.float64) for value in near)).numpy()])
record("cosine.zero", {"eps": 1e-8}, [np.zeros((2, 4)), np.ones((2, 4))], [np.zeros(2)])  # a row of zeros is like nothing: 0, not NaN

# ---- indices and segments ------------------------------------------------------------------------



def top(k):
    """torch.topk, which leaves open how equal numbers are ordered: here a stable sort."""

    def f(x):
        values, places = torch.sort(x, dim=-1, descending=True, stable=True)
        return values[..., :k], places[..., :k]

    return f


for name, k in (("", 2), (".one", 1), (".all", 5), (".nothing", 0)):
    case(f"topK{name}", top(k), normal(2, 3, 5), k=k)
case("topK.edges", top(3), given([[2, 7, 7, 1, 7], [NAN, 1, INF, NAN, 2], [-INF, -INF, 0, -1, -INF], [0, -0.0, 0, -0.0, 1]]), k=3)
pick = lambda x, places: torch.gather(x, -1, places)
case("take", pick, normal(3, 5), index([[0, 4, 2], [1, 1, 1], [4, 0, 4]]))  # what is taken twice gets both gradients
case("take.more", pick, normal(2, 2, 3), index([[[0, 1, 2, 0], [2, 2, 2, 1]], [[1, 0, 1, 0], [0, 0, 0, 0]]]))
case("take.none", pick, normal(2, 3), index(np.zeros((2, 0))))
case("oneHot", lambda labels: F.one_hot(labels, 5).double(), index([0, 4, 2, 2]), n=5)
case("oneHot.lead", lambda labels: F.one_hot(labels, 3).double(), index([[0, 1], [2, 1]]), n=3)
ROWS = [0, 2, 2, 6, 0, 5]
case("gather", lambda table, i: F.embedding(i, table), normal(7, 3), index(ROWS))
case("gather.padding", lambda table, i: F.embedding(i, table, padding_idx=0), normal(7, 3), index(ROWS), padding=0)
case("gather.wide", lambda table, i: table[i], normal(7, 2, 3), index(ROWS))
case("gather.device", lambda table, i: F.embedding(i, table), normal(7, 3), index(ROWS), device=True)
case("gather.device-wide", lambda table, i: table[i], normal(4, 2, 3), index([[0, 3, 3], [1, 0, 3]]), device=True)
scatter = lambda x, i: torch.zeros(7, *x.shape[i.dim() :], dtype=x.dtype).index_add(0, i.flatten(), x.reshape(-1, *x.shape[i.dim() :]))
case("scatterAdd", scatter, normal(6, 3), index(ROWS), rows=7)
case("scatterAdd.wide", scatter, normal(6, 2, 3), index(ROWS), rows=7)
case("scatterAdd.device", scatter, normal(6, 3), index(ROWS), rows=7, device=True)
case("scatterAdd.device-wide", scatter, normal(2, 3, 2), index([[0, 3, 3], [1, 0, 3]]), rows=7, device=True)
for op, f in {"segmentSum": torch.sum, "segmentMean": torch.mean, "segmentMax": torch.amax}.items():
    fold = lambda x, starts: torch.stack([f(x[a:b], 0) for a, b in zip(starts, starts[1:])])
    case(op, fold, normal(13, 4), index(SEGMENTS))
    case(f"{op}.dead", fold, normal(9, 3), index([0, 2, 6]))
    case(f"{op}.edges", fold, given([[2, 1], [2, -INF], [1, 3], [INF, 0], [INF, -0.0], [0, 7]]), index([0, 3, 5, 6]))  # ties, infinities
    case(f"{op}.nan", fold, given([[2, 1], [NAN, 3], [1, 3], [INF, 0], [-INF, 1]]), index([0, 3, 5]))
# of nothing the sum is 0 in torch; the mean, NaN there, and the largest, an error, are 0 here too
case("segmentSum.empty", lambda x, _: torch.stack([x[0:0].sum(0), x.sum(0), x[0:0].sum(0)]), normal(4, 3), index([0, 0, 4, 4]))

# ---- losses --------------------------------------------------------------------------------------


def entropy(name, logits, labels, weights=None, smoothing=0.0, count=None):
    """torch.nn.functional.cross_entropy; divided by `count` where that is given."""

    def f(x, y, weight=None):
        total = "mean" if count is None else "sum"
        return F.cross_entropy(x, y, weight, ignore_index=IGNORED, label_smoothing=smoothing, reduction=total) / (count or 1)

    inputs = [logits, index(labels)] + ([] if weights is None else [given(weights)])
    case(name, f, *inputs, wrt=[0], smoothing=smoothing, count=count)


LABELS, WEIGHTS = [0, 8, IGNORED, 3, 1, IGNORED, 8], [1, 0.5, 2, 0.25, 1, 1, 0, 3, 1.5]
entropy("crossEntropy", normal(6, 9, scale=2.0), [0, 8, 3, 3, 1, 7])
entropy("crossEntropy.steep", normal(4, 5, scale=60.0), [0, 1, 2, 4])
entropy("crossEntropy.ignored", normal(7, 9), LABELS)
entropy("crossEntropy.count", normal(7, 9), LABELS, count=11)
entropy("crossEntropy.smooth", normal(7, 9), LABELS, smoothing=0.1)
entropy("crossEntropy.spread", normal(7, 9), LABELS, smoothing=1.0)
entropy("crossEntropy.weighted", normal(7, 9), LABELS, WEIGHTS)
entropy("crossEntropy.weightless", normal(3, 9), [6, 6, 0], WEIGHTS)  # class 6 weighs nothing
entropy("crossEntropy.all", normal(7, 9), LABELS, WEIGHTS, smoothing=0.25)
entropy("crossEntropy.all-count", normal(7, 9), LABELS, WEIGHTS, smoothing=0.25, count=11)
entropy("crossEntropy.all-steep", normal(4, 5, scale=60.0), [0, 1, 2, 4], [1, 2, 0.5, 1, 3], smoothing=0.1)
entropy("crossEntropy.masked", given([[1, -INF, 2], [-INF, 0.5, -INF], [0, 1, -1]]), [0, 1, IGNORED])  # classes that cannot be
entropy("crossEntropy.impossible", given([[1, -INF, 2], [0, 1, -1]]), [1, 2])  # the label's own: infinite
entropy("crossEntropy.nan", given([[1, NAN, 2], [0, 1, -1]]), [0, 2])
case("mse", F.mse_loss, normal(3, 4), normal(3, 4))
case("mse.scalar", F.mse_loss, normal(), normal())
case("mse.same", F.mse_loss, given([1, 2, 3]), given([1, 2, 3]))
case("mse.edges", F.mse_loss, given([1, INF, 3]), given([1, 2, NAN]))

# ---- shapes --------------------------------------------------------------------------------------

case("reshape", lambda x: x.reshape(4, 6), normal(2, 3, 4), shape=[4, 6])
case("reshape.rest", lambda x: x.reshape(3, -1), normal(2, 3, 4), shape=[3, -1])
case("reshape.scalar", lambda x: x.reshape(()), normal(1, 1), shape=[])
for name, shape, axes in (
    ("swap", [3, 5], [1, 0]),
    ("turn", [2, 3, 4], [2, 0, 1]),
    ("heads", [2, 3, 2, 4], [0, 2, 1, 3]),
    ("negative", [2, 3, 4], [-1, 0, -2]),
    ("five", [2, 1, 3, 2, 2], [4, 2, 0, 3, 1]),
):
    case(f"permute.{name}", lambda x: x.permute(axes), normal(*shape), axes=axes)
for name, shape, to in (
    ("row", [4], [3, 4]),
    ("column", [3, 1], [3, 4]),
    ("both", [2, 1, 3, 1], [5, 2, 4, 3, 2]),
    ("scalar", [], [2, 3]),
    ("same", [2, 3], [2, 3]),
):
    case(f"broadcastTo.{name}", lambda x: x.expand(to), normal(*shape), shape=to)


def cut(name, shape, *slices):
    """slices: axis, start and stop of one after the other."""

    def f(x):
        for axis, start, stop in slices:
            x = x.narrow(axis, start, stop - start)
        return x

    case(name, f, normal(*shape), slices=slices)


cut("slice.rows", [6, 3], [0, 1, 4])
cut("slice.columns", [3, 7], [1, 2, 5])
cut("slice.block", [2, 3, 4], [0, 1, 2], [1, 0, 2], [2, 1, 4])
cut("slice.negative", [2, 3, 4], [-2, 1, 3])
cut("slice.nothing", [2, 3], [1, 2, 2])
cut("slice.whole", [2, 3], [1, 0, 3])
# torch's pad names the last axis first
case("pad.first", lambda x: F.pad(x, (0, 0, 2, 1)), normal(2, 3), axis=0, before=2, after=1)
case("pad.middle", lambda x: F.pad(x, (0, 0, 0, 2)), normal(2, 3, 2), axis=1, before=0, after=2)
case("pad.negative", lambda x: F.pad(x, (1, 3)), normal(2, 3), axis=-1, before=1, after=3)
case("pad.nothing", lambda x: F.pad(x, (0, 0)), normal(2, 3), axis=1, before=0, after=0)
for name, axis, shapes in (
    ("first", 0, [[2, 3], [1, 3], [4, 3]]),
    ("middle", 1, [[2, 1, 3], [2, 4, 3]]),
    ("negative", -1, [[2, 3], [2, 2]]),
    ("empty", 1, [[2, 3], [2, 0], [2, 1]]),
    ("one", 0, [[2, 3]]),
):
    case(f"concat.{name}", lambda *parts: torch.cat(parts, axis), *(normal(*shape) for shape in shapes), axis=axis)
for name, axis, shape, count in (
    ("first", 0, [2, 3], 3),
    ("middle", 1, [2, 3], 2),
    ("negative", -1, [2, 3], 3),
    ("inside", -2, [2, 3], 2),
    ("scalars", 0, [], 4),
):
    case(f"stack.{name}", lambda *parts: torch.stack(parts, axis), *[normal(*shape)] * count, axis=axis)

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
