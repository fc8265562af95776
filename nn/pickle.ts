/** A reader of Python pickles that can make data and nothing else: it runs no code, so a file from a stranger is safe to open. */

/** What a pickle may hold here: tuples and lists are arrays, dicts are Maps (also `defaultdict`, `OrderedDict`), wide integers are bigints. */
export type Pickled<X extends External = never> =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | X
  | readonly Pickled<X>[]
  | ReadonlyMap<Pickled<X>, Pickled<X>>
  | ReadonlySet<Pickled<X>>;

/** What a caller's own names, calls and persistent ids make: data that the reader passes on and does not look into. */
export abstract class External {
  /** How errors call it. */
  abstract readonly what: string;
}

/** What else, beyond plain data and numpy scalars, a caller lets a pickle say. */
export interface Allowed {
  /** Names that stand for data, such as "torch.FloatStorage". */
  readonly names?: Readonly<Record<string, External>>;
  /** Names that may be called. They must make data of their arguments and do nothing else; an argument may be anything at all. */
  readonly calls?: Readonly<Record<string, (args: readonly unknown[]) => External>>;
  /** What a persistent id (opcode BINPERSID) stands for. */
  readonly persistent?: (id: unknown) => External;
  /** Attributes that a dict may be given; they are left out. */
  readonly attributes?: readonly string[];
}

type Value = null | boolean | number | bigint | string | Uint8Array | Value[] | Map<Value, Value> | Set<Value> | External | Global | Dtype;
type Call = (args: Value[]) => Value;

/** A name the pickle may call, standing on the stack until it is called. */
class Global {
  readonly call: Call;
  constructor(call: Call) {
    this.call = call;
  }
}

/** A numpy dtype such as "f8"; byte order "<" unless BUILD says otherwise. */
class Dtype {
  readonly code: string;
  little = true;
  constructor(code: string) {
    this.code = code;
  }
}

/** The only callables, by the names that Python 2 and 3 and numpy 1 and 2 write. Each makes data from its arguments. */
const CALLS: Record<string, Call> = {
  "numpy.dtype": ([code]) => new Dtype(text(code)),
  "numpy.core.multiarray.scalar": scalar,
  "numpy._core.multiarray.scalar": scalar,
  "_codecs.encode": ([string, encoding]) => latin1(text(string), text(encoding ?? "utf-8")),
  "collections.defaultdict": () => new Map(),
  "collections.OrderedDict": () => new Map(),
  "builtins.list": () => [],
  "__builtin__.list": () => [],
  "builtins.set": ([items]) => new Set(Array.isArray(items) ? items : []),
  "__builtin__.set": ([items]) => new Set(Array.isArray(items) ? items : []),
};

const NUMBER: Record<string, (view: DataView, little: boolean) => Value> = {
  b1: (view) => view.getUint8(0) !== 0,
  i1: (view) => view.getInt8(0),
  u1: (view) => view.getUint8(0),
  i2: (view, little) => view.getInt16(0, little),
  u2: (view, little) => view.getUint16(0, little),
  i4: (view, little) => view.getInt32(0, little),
  u4: (view, little) => view.getUint32(0, little),
  i8: (view, little) => narrow(view.getBigInt64(0, little)),
  u8: (view, little) => narrow(view.getBigUint64(0, little)),
  f4: (view, little) => view.getFloat32(0, little),
  f8: (view, little) => view.getFloat64(0, little),
};

function fail(what: string): never {
  throw new Error(`pickle: ${what}`);
}

function text(value: Value | undefined): string {
  return typeof value === "string" ? value : fail("a string was expected and something else found; the file is damaged");
}

/** A bigint as a number where that loses nothing. */
function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** numpy writes scalars of protocol 2 as text: each char code is a byte. */
function latin1(string: string, encoding: string): Uint8Array {
  if (encoding !== "latin1" && encoding !== "latin-1") return fail(`refuses _codecs.encode with "${encoding}"; only latin1 carries bytes`);
  return Uint8Array.from(string, (c) => (c.charCodeAt(0) < 256 ? c.charCodeAt(0) : fail("a latin1 string with a wide character")));
}

function scalar([dtype, bytes]: Value[]): Value {
  if (!(dtype instanceof Dtype) || !(bytes instanceof Uint8Array)) return fail("a numpy scalar without its dtype and bytes");
  const read = NUMBER[dtype.code.replace(/^[<>|=]/, "")];
  if (!read) return fail(`refuses a numpy scalar of dtype "${dtype.code}"; known are ${Object.keys(NUMBER).join(", ")}`);
  if (bytes.length !== Number(dtype.code.at(-1))) return fail(`a numpy scalar "${dtype.code}" of ${bytes.length} bytes`);
  return read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), dtype.code[0] === ">" ? false : dtype.little);
}

/**
 * Reads one pickle, protocols 0 to 5 (format: CPython `Lib/pickletools.py`).
 * Makes dicts, lists, tuples, sets, strings, bytes, numbers, booleans, None and numpy scalars.
 * @param allowed what else the pickle may say, for formats that have names of their own.
 * @throws Error that names the global, the opcode or the byte where the file asks for anything else, or ends early.
 */
export function readPickle(bytes: Uint8Array): Pickled;
export function readPickle(bytes: Uint8Array, allowed: Allowed): Pickled<External>;
export function readPickle(bytes: Uint8Array, allowed: Allowed = {}): Pickled<External> {
  const { persistent } = allowed;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const utf8 = new TextDecoder();
  const memo: Value[] = [];
  const marks: number[] = [];
  const stack: Value[] = [];
  let at = 0;

  const advance = (count: number): number => {
    if (!(count >= 0 && count <= bytes.length - at))
      fail(`byte ${at} asks for ${count} more but the file ends at ${bytes.length}; truncated`);
    at += count;
    return at - count;
  };
  const u8 = () => view.getUint8(advance(1));
  const u32 = () => view.getUint32(advance(4), true);
  const u64 = () => Number(view.getBigUint64(advance(8), true));
  const blob = (count: number) => bytes.slice(advance(count), at);
  const string = (count: number) => utf8.decode(bytes.subarray(advance(count), at));
  const ascii = (count: number) => String.fromCharCode(...bytes.subarray(advance(count), at));
  const line = () => {
    const end = bytes.indexOf(10, at);
    return end < 0 ? fail(`a line from byte ${at} never ends; truncated`) : string(end + 1 - at).slice(0, -1);
  };
  const pop = (): Value => (stack.length > (marks.at(-1) ?? 0) ? (stack.pop() as Value) : fail(`byte ${at - 1} takes from an empty stack`));
  const popMark = (): Value[] => stack.splice(marks.pop() ?? fail(`byte ${at - 1} has no mark`));
  const top = (): Value => (stack.length > (marks.at(-1) ?? 0) ? (stack.at(-1) as Value) : fail(`byte ${at - 1} needs a value`));
  const push = (value: Value) => void stack.push(value);
  const recall = (index: number) => push(index in memo ? (memo[index] as Value) : fail(`byte ${at - 1} recalls ${index}, never stored`));
  const long = (count: number): number | bigint => {
    let value = 0n;
    const part = bytes.subarray(advance(count), at);
    // sixteen bytes hold any number of our files; a longer one could cost quadratic time
    if (count > 16) fail(`refuses an integer of ${count} bytes`);
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(part[i]!);
    return narrow(BigInt.asIntN(8 * count, value));
  };
  const decimal = (digits: string): number | bigint => {
    if (!/^[+-]?\d{1,40}L?$/.test(digits)) fail(`"${digits.slice(0, 40)}" is not an integer`);
    return narrow(BigInt(digits.replace("L", "").replace("+", "")));
  };
  const callable: Readonly<Record<string, Call>> = { ...CALLS, ...allowed.calls };
  const names = allowed.names ?? {};
  const global = (name: string) => {
    if (Object.hasOwn(names, name)) push(names[name]!);
    else push(Object.hasOwn(callable, name) ? new Global(callable[name]!) : fail(`refuses ${name.slice(0, 200)}; only data is read`));
  };
  const extend = (items: Value[]) => {
    const list = top();
    if (!Array.isArray(list)) fail(`byte ${at - 1} appends to what is no list`);
    for (const item of items) (list as Value[]).push(item);
  };
  const assign = (items: Value[]) => {
    const map = top();
    if (!(map instanceof Map) || items.length % 2) fail(`byte ${at - 1} sets items of what is no dict`);
    for (let i = 0; i < items.length; i += 2) (map as Map<Value, Value>).set(key(items[i]!), items[i + 1]!);
  };
  const unite = (items: Value[]) => {
    const set = top();
    if (!(set instanceof Set)) fail(`byte ${at - 1} adds to what is no set`);
    for (const item of items) (set as Set<Value>).add(key(item));
  };
  const reduce = () => {
    const args = pop();
    const name = pop();
    if (!(name instanceof Global) || !Array.isArray(args)) return fail(`byte ${at - 1} calls what is no name`);
    push(name.call(args));
  };
  const build = () => {
    const state = pop();
    const target = top();
    const known = (key: Value) => allowed.attributes?.includes(key as string);
    if (target instanceof Map && state instanceof Map && state.size > 0 && [...state.keys()].every(known)) return;
    if (!(target instanceof Dtype) || !Array.isArray(state)) return fail(`byte ${at - 1} sets the state of an object; only data is read`);
    target.little = state[1] !== ">"; // (version, byte order, ...)
  };

  const run: Record<string, () => unknown> = {
    "\x80": () => (u8() > 5 ? fail("protocol above 5; re-save with protocol 4") : 0),
    "\x95": () => u64(), // a frame only groups bytes
    "(": () => marks.push(stack.length),
    "0": () => pop(),
    "1": () => popMark(),
    "2": () => push(top()),
    N: () => push(null),
    "\x88": () => push(true),
    "\x89": () => push(false),
    I: () => {
      const digits = line();
      push(digits === "00" ? false : digits === "01" ? true : decimal(digits));
    },
    L: () => push(decimal(line())),
    J: () => push(view.getInt32(advance(4), true)),
    K: () => push(u8()),
    M: () => push(view.getUint16(advance(2), true)),
    "\x8a": () => push(long(u8())),
    "\x8b": () => push(long(u32())),
    F: () => push(pythonFloat(line())),
    G: () => push(view.getFloat64(advance(8))),
    S: () => push(unquote(line())),
    V: () => push(line().replace(/\\u([0-9a-f]{4})|\\U([0-9a-f]{8})/gi, (_, a, b) => character(parseInt(a ?? b, 16)))),
    T: () => push(string(u32())),
    U: () => push(ascii(u8())),
    X: () => push(string(u32())),
    "\x8c": () => push(string(u8())),
    "\x8d": () => push(string(u64())),
    B: () => push(blob(u32())),
    C: () => push(blob(u8())),
    "\x8e": () => push(blob(u64())),
    "\x96": () => push(blob(u64())),
    "]": () => push([]),
    l: () => push(popMark()),
    a: () => {
      const item = pop();
      extend([item]);
    },
    e: () => extend(popMark()),
    ")": () => push([]),
    t: () => push(popMark()),
    "\x85": () => push([pop()]),
    "\x86": () => push([pop(), pop()].reverse()),
    "\x87": () => push([pop(), pop(), pop()].reverse()),
    "}": () => push(new Map()),
    d: () => {
      const items = popMark();
      push(new Map());
      assign(items);
    },
    s: () => assign([pop(), pop()].reverse()),
    u: () => assign(popMark()),
    "\x8f": () => push(new Set()),
    "\x90": () => unite(popMark()),
    "\x91": () => {
      const items = popMark();
      push(new Set());
      unite(items);
    },
    g: () => recall(Number(line())),
    h: () => recall(u8()),
    j: () => recall(u32()),
    p: () => store(Number(line())),
    q: () => store(u8()),
    r: () => store(u32()),
    "\x94": () => memo.push(top()),
    c: () => global(`${line()}.${line()}`),
    "\x93": () => {
      const name = text(pop());
      global(`${text(pop())}.${name}`);
    },
    R: reduce,
    b: build,
    ...(persistent && { Q: () => push(persistent(pop())) }),
  };
  const store = (index: number) => {
    // an honest file numbers its memo without large gaps: a huge index would be a huge array
    if (!(Number.isInteger(index) && index >= 0 && index <= bytes.length)) fail(`memo index ${index} in a file of ${bytes.length} bytes`);
    memo[index] = top();
  };

  for (;;) {
    const opcode = String.fromCharCode(u8());
    if (opcode === ".") break;
    const act = Object.hasOwn(run, opcode) ? run[opcode] : undefined;
    if (!act) fail(`refuses opcode 0x${opcode.charCodeAt(0).toString(16)} at byte ${at - 1}; only data is read`);
    act!();
  }
  const result = pop();
  if (result instanceof Global || result instanceof Dtype) fail("holds a name and no data");
  return result as Pickled<External>;
}

const character = (code: number): string =>
  code <= 0x10ffff ? String.fromCodePoint(code) : fail(`U+${code.toString(16)} is no character`);

/** What Python could hash; a Map finds strings and numbers by value, tuples only by walking its entries. */
function key(value: Value): Value {
  if (value instanceof Map || value instanceof Set || value instanceof External || value instanceof Global || value instanceof Dtype)
    fail("a dict key that Python could not hash");
  return value;
}

function pythonFloat(digits: string): number {
  const named: Record<string, number> = { inf: Infinity, "-inf": -Infinity, nan: NaN };
  const value = Object.hasOwn(named, digits) ? named[digits]! : Number(digits);
  return digits.trim() === "" || (Number.isNaN(value) && digits !== "nan") ? fail(`"${digits.slice(0, 40)}" is not a number`) : value;
}

/** A quoted string of protocol 0: 'text' with Python's simple escapes. */
function unquote(quoted: string): string {
  const body = /^(['"])(.*)\1$/s.exec(quoted)?.[2] ?? fail("a string without quotes");
  const plain: Record<string, string> = { n: "\n", r: "\r", t: "\t" };
  return body.replace(/\\(?:x([0-9a-f]{2})|(.))/gis, (_, hex, char) =>
    hex ? String.fromCharCode(parseInt(hex, 16)) : (plain[char as string] ?? (char as string)),
  );
}
