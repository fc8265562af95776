/** The process of a contender of `bench:peers`. */

import { inNode } from "./openers.ts";
import { serve } from "./serve.ts";

await serve(inNode);
