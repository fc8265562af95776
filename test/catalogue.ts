/** One row per op and way of calling it. Every sweep reads this table. */

import type * as ops from "../autograd/ops.ts";
import { rows as attention } from "./catalogue/attention.ts";
import { rows as dropout } from "./catalogue/dropout.ts";
import { rows as elementwise } from "./catalogue/elementwise.ts";
import { rows as loss } from "./catalogue/loss.ts";
import { rows as matrix } from "./catalogue/matrix.ts";
import { rows as reduce } from "./catalogue/reduce.ts";
import type { Row } from "./catalogue/row.ts";
import { rows as rowwise } from "./catalogue/rows.ts";
import { rows as shape } from "./catalogue/shape.ts";
import { rows as stream } from "./catalogue/stream.ts";

export { edges, type Random, type Row, type Sizes } from "./catalogue/row.ts";

/** Every op. Forgetting one does not compile. */
export const catalogue: Record<keyof typeof ops, readonly Row<unknown>[]> = {
  ...elementwise,
  ...reduce,
  ...rowwise,
  ...matrix,
  ...stream,
  ...attention,
  ...dropout,
  ...loss,
  ...shape,
};
