"""Makes states/: embeddings of states as the original leaves them, torch's tensors in a plain pickle, and relatives. Run: python3 states.py (tried with torch
2.13). Storages are named by their addresses, so that bytes differ from run to run."""

import copyreg
import io
import json
import pickle
from pathlib import Path

import torch

OUT = Path(__file__).parent / "states"
OUT.mkdir(exist_ok=True)

monocyte = torch.tensor([0.5, -1.25, 3.0, 1e-3])
b_cell = torch.tensor([[2.0, 0.0, -0.5, 7.0]])
wide = torch.arange(24, dtype=torch.float32).reshape(3, 8)
wanted = {}


def keep(name, states, protocol=None):
    (OUT / f"{name}.pkl").write_bytes(pickle.dumps(states, protocol))
    wanted[name] = {state: tensor.float().reshape(-1).tolist() for state, tensor in states.items()}


states = {"monocyte": monocyte, "B cell": b_cell}
keep("states", states)  # what get_state_embs does: pickle.dump(state_embs_dict, fp)
keep("protocol2", states, 2)
keep("dtypes", {str(dtype).split(".")[1]: monocyte.to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64)})
keep("views", {"row": wide[1, :4], "column": wide[:, 3][:3].repeat(2)[:4], "stepped": wide[2, ::2], "strided": wide.t()[:4, 1], "again": wide[1, :4]})

tag = torch.serialization.location_tag
torch.serialization.location_tag = lambda storage: "cuda:0"  # as a machine with a GPU writes it
keep("cuda", states)
torch.serialization.location_tag = tag

(OUT / "integers.pkl").write_bytes(pickle.dumps({"monocyte": torch.tensor([1, 2, 3, 4])}))
(OUT / "nan.pkl").write_bytes(pickle.dumps({"monocyte": torch.tensor([1.0, float("nan"), 3.0, 4.0])}))
(OUT / "matrix.pkl").write_bytes(pickle.dumps({"monocyte": wide}))
torch.save(states, OUT / "states.pt")


def zipped(storage):
    file = io.BytesIO()
    torch.save(storage, file)
    return torch.storage._load_from_bytes, (file.getvalue(),)


file = io.BytesIO()
pickler = pickle.Pickler(file)
pickler.dispatch_table = copyreg.dispatch_table | {torch.storage.TypedStorage: zipped, torch.storage.UntypedStorage: zipped}
pickler.dump(states)
(OUT / "zipped.pkl").write_bytes(file.getvalue())
assert all(torch.equal(pickle.loads(file.getvalue())[name], tensor) for name, tensor in states.items())
wanted["zipped"] = wanted["states"]

(OUT / "expected.json").write_text(json.dumps(wanted, indent=1) + "\n")
