"""PyTorch as a contender: speaks as child.ts does, a line of JSON in and a line out. Hugging Face's BERT where transformers is installed, else the same restated."""

import json
import math
import os
import struct
import sys
import time

replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print does not belong among the replies

import torch
import torch.nn.functional as F

try:
    import transformers
    from transformers import BertConfig, BertForMaskedLM

    transformers.logging.set_verbosity_error()
except ImportError:
    transformers = None

COMPARED_STEPS, RATE, DECAY = 3, 1e-4, 0.01  # as in task.ts
IGNORED = -100
BATCH = 50  # copies of a cell that run together: the fastest of 1 to 100 here (the original takes 100)


def read(path):
    """A safetensors file, name to tensor (huggingface/safetensors: a length, a JSON header, the data)."""
    with open(path, "rb") as file:
        data = file.read()
    if not data:
        return {}
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    dtypes = {"F32": torch.float32, "I32": torch.int32}
    tensors = {}
    for name, info in header.items():
        begin, end = (8 + length + at for at in info["data_offsets"])
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=dtypes[info["dtype"]]).reshape(info["shape"])
    return tensors


def write(path, tensors):
    header, parts, at = {}, [], 0
    for name, tensor in tensors.items():
        part = struct.pack(f"<{tensor.numel()}f", *tensor.flatten().tolist())
        header[name] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


class Restated(torch.nn.Module):
    """BertForMaskedLM for those who have no transformers: the same names, the same arithmetic."""

    def __init__(self, config, weights):
        super().__init__()
        self.config = config
        self.names = {name: name.replace(".", "/") for name in weights}
        for name, key in self.names.items():
            self.register_parameter(key, torch.nn.Parameter(weights[name].clone()))

    def weight(self, name):
        return getattr(self, self.names[name])

    def linear(self, x, name):
        return F.linear(x, self.weight(name + ".weight"), self.weight(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.weight(name + ".weight"), self.weight(name + ".bias"), self.config["eps"])

    def attend(self, q, k, v, mask):
        if hasattr(F, "scaled_dot_product_attention"):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1) @ v

    def encode(self, tokens, attention, states=None):
        B, T = tokens.shape
        C, H = self.config["width"], self.config["heads"]
        mask = None if attention is None else attention.bool()[:, None, None, :]
        embeddings = "bert.embeddings."
        x = self.weight(embeddings + "word_embeddings.weight")[tokens]
        x = x + self.weight(embeddings + "position_embeddings.weight")[:T] + self.weight(embeddings + "token_type_embeddings.weight")[0]
        x = self.norm(x, embeddings + "LayerNorm")
        for i in range(self.config["layers"]):
            if states is not None:
                states.append(x)
            layer = f"bert.encoder.layer.{i}."
            q, k, v = (
                self.linear(x, layer + "attention.self." + part).view(B, T, H, C // H).transpose(1, 2) for part in ("query", "key", "value")
            )
            mixed = self.attend(q, k, v, mask).transpose(1, 2).reshape(B, T, C)
            x = self.norm(self.linear(mixed, layer + "attention.output.dense") + x, layer + "attention.output.LayerNorm")
            wide = F.relu(self.linear(x, layer + "intermediate.dense"))
            x = self.norm(self.linear(wide, layer + "output.dense") + x, layer + "output.LayerNorm")
        return x

    def logits(self, x):
        head = "cls.predictions."
        x = self.norm(F.relu(self.linear(x, head + "transform.dense")), head + "transform.LayerNorm")
        return F.linear(x, self.weight("bert.embeddings.word_embeddings.weight"), self.weight(head + "bias"))

    def hidden(self, tokens, attention, layer):
        states = []
        self.logits(self.encode(tokens, attention, states))
        return states[layer]

    def loss(self, tokens, attention, labels):
        logits = self.logits(self.encode(tokens, attention))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1), ignore_index=IGNORED)

    def parameters_by_name(self):
        return {name: self.weight(name) for name in self.names}


class HuggingFace:
    def __init__(self, config, weights):
        settings = BertConfig(
            vocab_size=config["vocabulary"],
            hidden_size=config["width"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            intermediate_size=config["inner"],
            max_position_embeddings=config["length"],
            hidden_act=config["activation"],
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            layer_norm_eps=config["eps"],
        )
        self.model = BertForMaskedLM._from_config(settings, attn_implementation="sdpa")
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        wrong = [name for name in missing if not name.startswith("cls.predictions.decoder") and "position_ids" not in name]
        if wrong or unexpected:
            raise ValueError(f"weights: missing {wrong}, unexpected {unexpected}")
        self.model.train()

    def to(self, device):
        self.model.to(device)

    def encode(self, tokens, attention):
        return self.model.bert(input_ids=tokens, attention_mask=attention).last_hidden_state

    def hidden(self, tokens, attention, layer):
        return self.model(input_ids=tokens, attention_mask=attention, output_hidden_states=True).hidden_states[layer]

    def loss(self, tokens, attention, labels):
        return self.model(input_ids=tokens, attention_mask=attention, labels=labels).loss

    def parameters_by_name(self):
        return dict(self.model.named_parameters())


def padded(stream, lengths, fill):
    """Cells of a stream as rows of a rectangle, as Hugging Face's collator makes it."""
    cells = stream.split(lengths)
    out = torch.full((len(lengths), max(lengths)), fill, dtype=torch.long)
    for row, cell in enumerate(cells):
        out[row, : len(cell)] = cell
    return out


class Place:
    """Where the work is done, and in what precision: fp32, tf32 or bf16 (autocast) of a card's."""

    def __init__(self, opener):
        _, *card = opener.split("-")
        self.device = torch.device("cuda" if card else "cpu")
        self.bf16 = card == ["bf16"]
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = card == ["tf32"]

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def __str__(self):
        return torch.cuda.get_device_name() if self.device.type == "cuda" else f"{torch.get_num_threads()} thread(s)"


class Matmul:
    def __init__(self, task, inputs, weights, place):
        self.a = inputs["a"].view(task["m"], task["k"]).to(place.device)
        self.b = inputs["b"].view(task["k"], task["n"]).to(place.device)
        self.place = place

    @torch.no_grad()
    def run(self):
        with self.place.autocast():
            y = self.a @ self.b
        self.place.wait()
        return y

    def result(self):
        return {"y": self.run()}


class Model:
    def __init__(self, task, inputs, weights, place):
        self.model = (HuggingFace if transformers else Restated)(task["config"], weights)
        self.model.to(place.device)
        lengths = task["lengths"]
        self.tokens = padded(inputs["tokens"].long(), lengths, 0).to(place.device)
        self.attention = padded(torch.ones(sum(lengths), dtype=torch.long), lengths, 0).to(place.device)
        self.place = place


class Encode(Model):
    @torch.inference_mode()
    def run(self):
        even = bool(self.attention.all())  # no mask where nothing is padded
        with self.place.autocast():
            y = self.model.encode(self.tokens, None if even else self.attention)
        self.place.wait()
        return y

    def result(self):
        return {"y": self.run()[self.attention.bool()]}


class Train(Model):
    def __init__(self, task, inputs, weights, place):
        super().__init__(task, inputs, weights, place)
        labels = torch.full((sum(task["lengths"]),), IGNORED, dtype=torch.long)
        labels[inputs["places"].long()] = inputs["labels"].long()
        self.labels = padded(labels, task["lengths"], IGNORED).to(place.device)
        self.parameters = self.model.parameters_by_name()
        decays = lambda name: not name.endswith("bias") and "LayerNorm" not in name  # as transformers' Trainer has it
        groups = [
            {"params": [w for name, w in self.parameters.items() if decays(name)], "weight_decay": DECAY},
            {"params": [w for name, w in self.parameters.items() if not decays(name)], "weight_decay": 0.0},
        ]
        try:
            self.optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)  # what transformers' Trainer takes
        except (TypeError, RuntimeError):
            self.optimizer = torch.optim.AdamW(groups, lr=RATE)

    def run(self):
        self.optimizer.zero_grad()
        with self.place.autocast():
            loss = self.model.loss(self.tokens, self.attention, self.labels)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def result(self):
        losses = [self.run()]
        # The step leaves the gradients. Of six million numbers f32 would add up the squares to three digits only.
        norms = [self.parameters[name].grad.double().norm() for name in sorted(self.parameters)]
        while len(losses) < COMPARED_STEPS:
            losses.append(self.run())
        return {"losses": torch.tensor(losses), "norms": torch.stack(norms).cpu()}


class Perturb(Model):
    """In silico deletion as the original does it: copies of a cell in padded batches through the whole BertForMaskedLM, its head too."""

    def __init__(self, task, inputs, weights, place):
        super().__init__(task, inputs, weights, place)
        self.states = inputs["states"].view(2, -1).to(place.device)
        self.cells = [row[:length] for row, length in zip(self.tokens, task["lengths"])]
        self.layer, self.deletions = task["config"]["layers"] - 1, task["deletions"]
        self.first = 1 if task["mode"] == "cls" else 0  # <cls> stands for the cell, and is not deleted

    def vectors(self, tokens):
        with self.place.autocast():
            x = self.model.hidden(tokens, torch.ones_like(tokens), self.layer)
            return x[:, 0] if self.first else x.mean(1)

    @torch.no_grad()
    def run(self):
        cosines = lambda x: F.cosine_similarity(x[:, None].float(), self.states[None], dim=-1)
        shifts = []
        for cell in self.cells:
            whole = cosines(self.vectors(cell[None]))
            places = torch.arange(len(cell))
            copies = torch.stack([cell[places != i] for i in range(self.first, min(len(cell), self.first + self.deletions))])
            for batch in copies.split(BATCH):
                shifts.append(cosines(self.vectors(batch)) - whole)
        self.place.wait()
        return torch.cat(shifts).cpu()

    def result(self):
        return {"shifts": self.run()}


WORKS = {"matmul": Matmul, "encode": Encode, "train": Train, "perturb": Perturb}


def probe():
    """How fast this build is at what is measured here: seconds of a small layer, there and back."""
    torch.set_num_threads(2)
    layer = torch.nn.TransformerEncoderLayer(256, 4, 512, 0.0, batch_first=True)
    x = torch.randn(4, 256, 256)
    best = float("inf")
    for _ in range(5):
        before = time.perf_counter()
        layer(x).sum().backward()
        best = min(best, time.perf_counter() - before)
    mkl = "MKL" if torch.backends.mkl.is_available() else "no MKL"
    hf = f", transformers {transformers.__version__}" if transformers else ", without transformers"
    return {"description": f"PyTorch {torch.__version__} ({mkl}){hf}", "seconds": best}


def answer(request):
    global work
    if request["do"] == "open":
        with open(request["folder"] + "/task.json") as file:
            task = json.load(file)
        if task["kind"] not in WORKS:
            raise ValueError(f"PyTorch: has no program for {task['kind']} here")
        torch.set_num_threads(request["threads"])
        inputs, weights = (read(f"{request['folder']}/{name}.safetensors") for name in ("inputs", "model"))
        place = Place(request["opener"])
        work = WORKS[task["kind"]](task, inputs, weights, place)
        return {"description": f"{probed['description']}, {place}"}
    if request["do"] == "result":
        write(request["to"], work.result())
        return {}
    if request["warm"]:
        work.run()
    times = []
    for _ in range(request["runs"]):
        before = time.perf_counter()
        work.run()
        times.append((time.perf_counter() - before) * 1e3)
    return {"times": times}


def say(reply):
    print(json.dumps(reply), file=replies, flush=True)


probed = probe()
work = None
if "--probe" in sys.argv:
    say(probed)
else:
    for line in sys.stdin:
        try:
            say(answer(json.loads(line)))
        except Exception as error:  # a contender that fails is a line of the table
            say({"error": f"{type(error).__name__}: {error}"})
