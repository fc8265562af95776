/** A page that trains a small network: what a product's page would import, and nothing else. `?device=webgpu` chooses another device. */

import { type DeviceName, Key, mean, mul, open, sigmoid, sub, tanh, tensor, valueAndGrad } from "geneformer-ts";
import { AdamW, Linear, parameters } from "geneformer-ts/nn";

const place = (id: string): Element => document.getElementById(id) ?? document.body;

const name = (new URLSearchParams(location.search).get("device") ?? "auto") as "auto" | DeviceName;
const device = await open(name);
place("device").textContent = `${device.name}: ${device.description}`;

const x = tensor([0, 0, 0, 1, 1, 0, 1, 1], [4, 2]);
const y = tensor([0, 1, 1, 0], [4, 1]);

const key = Key.from(1);
const model = { hidden: new Linear(2, 8, key.fold(0), 1), output: new Linear(8, 1, key.fold(1), 1) };
const predict = () => sigmoid(model.output.forward(tanh(model.hidden.forward(x))));

const weights = [...parameters(model)];
const optimizer = new AdamW(weights, { decay: 0 });
const losses: number[] = [];
for (let step = 0; step < 300; step++) {
  const { value, grads } = valueAndGrad(
    () => {
      const error = sub(predict(), y);
      return mean(mul(error, error));
    },
    weights.map(([, t]) => t),
  );
  optimizer.step(grads, 0.05).free();
  losses.push(await value.item());
  for (const t of [value, ...grads]) t.free();
}

const points = losses.map((loss, i) => `${i},${100 - 300 * loss}`).join(" ");
place("curve").innerHTML = `<polyline points="${points}" fill="none" stroke="#0a6" stroke-width="1.5" />`;
const learned = predict();
const values = [...(await learned.data())].map((value) => value.toFixed(2));
learned.free();
place("result").textContent =
  `XOR of 00, 01, 10, 11: ${values.join(", ")}; loss ${losses.at(-1)?.toExponential(1)}; ${device.memory.live} bytes held`;
document.title = "done";
