"""Writes tensors as a .safetensors file (format: https://github.com/huggingface/safetensors#format) and text as JSON."""

import json
import struct

import numpy as np

DTYPES = {np.dtype("float32"): "F32", np.dtype("uint32"): "U32"}


def write_tensors(path, tensors, metadata=None):
    """tensors: name -> array; floats are rounded to f32 here and nowhere else."""
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, value in tensors.items():
        value = np.asarray(value)
        value = np.asarray(value, np.float32 if value.dtype.kind == "f" else np.uint32, order="C")
        header[name] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [len(body), len(body) + value.nbytes]}
        body += value.tobytes()
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def write_json(path, value, depth=1):
    """The outermost `depth` levels one element a line, what lies in them on that line, so that a difference reads well."""

    def text(value, indent):
        if indent == depth or not isinstance(value, (dict, list)):
            return json.dumps(value)
        pad = "\n" + "  " * (indent + 1)
        if isinstance(value, dict):
            items = (f"{json.dumps(key)}: {text(item, indent + 1)}" for key, item in value.items())
            return "{" + pad + f",{pad}".join(items) + pad[:-2] + "}"
        return "[" + pad + f",{pad}".join(text(item, indent + 1) for item in value) + pad[:-2] + "]"

    path.write_text(text(value, 0) + "\n")
