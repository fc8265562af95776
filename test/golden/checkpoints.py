"""Makes torch/: checkpoints that torch.save writes and what is in them, and how torch and numpy round to 16 bits. Run: python3 checkpoints.py,
after make.py, whose model-relu it saves once more. The bytes of legacy.pt differ from run to run (torch puts addresses into it)."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True

import hashlib
import json
import os
import struct
from collections import OrderedDict

import numpy as np
import torch

from store import write_json

HERE = Path(__file__).parent
OUT = HERE / "torch"
OUT.mkdir(exist_ok=True)

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64",
}  # fmt: skip


def expected(tensor):
    """Dtype, shape and the bytes, row-major and little-endian, in hexadecimal."""
    flat = tensor.detach().contiguous().reshape(-1)
    raw = flat.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else flat.numpy()
    return {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "bytes": raw.tobytes().hex()}


def save(name, value, tensors=None):
    torch.save(value, OUT / f"{name}.pt")
    return {key: expected(tensor) for key, tensor in (tensors or value).items()}


torch.manual_seed(0)
wanted = {}

reals = torch.tensor([[0.0, -0.0, 1.5], [float("inf"), float("nan"), -3.25e-3]])
wanted["dtypes"] = save(
    "dtypes",
    {DTYPES[dtype]: reals.to(dtype) for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64)}
    | {DTYPES[dtype]: torch.tensor([torch.iinfo(dtype).min, 0, 7, torch.iinfo(dtype).max], dtype=dtype)
       for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)}
    | {"BOOL": torch.tensor([True, False, True])},
)  # fmt: skip

base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
wide = torch.arange(12, dtype=torch.int64).reshape(3, 4)
wanted["views"] = save(
    "views",
    {
        "base": base,
        "same": base,
        "row": base[1, 2],
        "transposed": base.transpose(0, 2),
        "stepped": base[:, ::2, 1::2],
        "flat": base.reshape(24)[5:9],
        "repeated": torch.tensor([1.5, 2.5]).expand(3, 2),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "element": base[1, 1, 1],
        "empty": torch.zeros(2, 0, 3),
        "wide": wide.t(),
        "half": base.half().permute(2, 0, 1),
        "parameter": torch.nn.Parameter(base[0].t()),
    },
)

layer = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
state = layer.state_dict()  # an OrderedDict with an attribute, _metadata
wanted["nested"] = save("nested", {"epoch": 3, "note": "é", "best": None, "loss": [0.5, 0.25], "model": OrderedDict(state=1, state_dict=state)}, state)

torch.save({"x": base}, OUT / "legacy.pt", _use_new_zipfile_serialization=False)


class Evil:
    def __reduce__(self):
        return os.system, ("echo owned",)


torch.save({"x": base, "y": Evil()}, OUT / "evil.pt")

# A BERT as older checkpoints hold it: pytorch_model.bin with the tied decoder and the position ids. The values are model-relu's.
file = (HERE / "model-relu" / "model.safetensors").read_bytes()
length = struct.unpack("<Q", file[:8])[0]
bert = OrderedDict()
for name, entry in json.loads(file[8 : 8 + length]).items():
    if name != "__metadata__":
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        bert[name] = torch.from_numpy(np.frombuffer(file[start:end], np.float32).copy()).reshape(entry["shape"])
bert["cls.predictions.decoder.weight"] = bert["bert.embeddings.word_embeddings.weight"]
bert["cls.predictions.decoder.bias"] = bert["cls.predictions.bias"]
positions = bert["bert.embeddings.position_embeddings.weight"].shape[0]
bert["bert.embeddings.position_ids"] = torch.arange(positions).expand((1, -1))
torch.save(bert, OUT / "pytorch_model.bin")

write_json(OUT / "expected.json", wanted, depth=2)


# ---- rounding ------------------------------------------------------------------------------

def digest(array):
    """NaNs made one: which of them a conversion gives is left open."""
    array = np.array(array)
    if array.dtype == np.float32:
        array[np.isnan(array)] = np.nan
    return hashlib.sha256(array.tobytes()).hexdigest()


def narrow(values, dtype):
    bits = torch.from_numpy(values).to(dtype).view(torch.int16).numpy().view(np.uint16)
    if dtype == torch.float16:
        with np.errstate(over="ignore"):
            assert np.array_equal(bits, values.astype(np.float16).view(np.uint16)), "torch and numpy disagree"
    return bits


codes = np.arange(65536, dtype=np.uint16)
halves = {}
for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
    values = torch.from_numpy(codes.view(np.int16)).view(dtype).float().numpy()
    # between each two neighbours of one sign: the middle, which is a tie, and the f32 on either side of it; then beyond the largest
    finite = np.unique(values[np.isfinite(values)])
    with np.errstate(over="ignore"):
        middle = ((finite[:-1].astype(np.float64) + finite[1:]) / 2).astype(np.float32)
        edge = np.float32(65520) if dtype == torch.float16 else np.array(0x7F7F8000, np.uint32).view(np.float32)
        edges = np.array([edge, np.nextafter(edge, np.float32(0)), -edge, np.float32(3.4e38), np.inf, -np.inf, 1e-45, -1e-45], np.float32)
        inputs = np.concatenate([middle, np.nextafter(middle, np.float32(-np.inf)), np.nextafter(middle, np.float32(np.inf)), edges])
    halves[name] = {
        "values": digest(values),
        "inputs": digest(inputs),
        "count": len(inputs),
        "rounded": digest(narrow(inputs, dtype)),
    }
write_json(OUT / "half.json", halves, depth=2)
