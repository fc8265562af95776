/** What a command says while it works: lines and progress, all on stderr, so that stdout is for results alone. */

import cliProgress from "cli-progress";

/** Where lines go; process.stderr is one. */
export interface Stream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Progress of one long piece of work. */
export interface Progress {
  /** `done` of the total so far; `note` stands behind the rate, as "loss 6.21"; `total` if it has become known, or another. */
  update(done: number, note?: string, total?: number): void;
  /** Ends it with a last line of how much was done in what time. */
  stop(): void;
}

/** Between two plain lines where there is no terminal: seldom enough for the log of a batch job. */
const PLAIN_MS = 5000;
/** Between two drawings on a terminal. */
const DRAW_MS = 100;
/** To the start of the line, and clear it. */
export const ERASE = "\r\x1b[K";

/**
 * A bar with rate and time left on a terminal; elsewhere, one plain line every few seconds. Work that is done by batches tells of all of a batch in one go: it is
 * said once all have been counted, as the first alone would make a rate of nothing.
 *
 * @param total How many `unit` there are, or undefined if nobody knows yet.
 * @param start How many were done before, as in a run resumed: they do not count for the rate.
 */
export function progress(stream: Stream, label: string, total: number | undefined, unit: string, start = 0): Progress {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  let bar: cliProgress.SingleBar | undefined;
  let done = start;
  let said = began;
  let note = "";
  let waiting: ReturnType<typeof setTimeout> | undefined;
  const status = () => {
    const rate = (done - start) / seconds();
    const left = total !== undefined && done > start ? `, ${duration(Math.max(0, total - done) / rate)} left` : "";
    const most = total !== undefined ? ` of ${count(total)}` : "";
    return `${count(done)}${most} ${unit}, ${figure(rate)} ${unit}/s${left}${note && `, ${note}`}`;
  };
  const say = () => {
    waiting = undefined;
    said = performance.now();
    if (!stream.isTTY) stream.write(`${label}: ${status()}\n`);
    else if (total === undefined) stream.write(`${ERASE}${label}: ${status()}`);
    else {
      bar ??= drawBar(stream, label);
      bar.setTotal(total);
      bar.update(Math.min(done, total), { status: status() });
    }
  };
  return {
    update(now, more = "", most = total) {
      [done, note, total] = [now, more, most];
      if (performance.now() - said >= (stream.isTTY ? DRAW_MS : PLAIN_MS)) waiting ??= setTimeout(say);
    },
    stop() {
      clearTimeout(waiting);
      bar?.stop();
      const line = `${label}: ${count(done - start)} ${unit} in ${duration(seconds())}, ${figure((done - start) / seconds())} ${unit}/s\n`;
      stream.write(stream.isTTY ? `${ERASE}${line}` : line);
    },
  };
}

/** A bar of 24 places that draws itself until it is stopped, and then clears its line. */
function drawBar(stream: Stream, label: string): cliProgress.SingleBar {
  const bar = new cliProgress.SingleBar(
    {
      format: `${label} |{bar}| {percentage}% {status}`,
      stream: stream as NodeJS.WritableStream,
      barsize: 24,
      clearOnComplete: true,
      linewrap: true,
    },
    cliProgress.Presets.shades_classic,
  );
  bar.start(1, 0, { status: "" });
  return bar;
}

/** 12345 as "12,345". */
export const count = (n: number): string => Math.round(n).toLocaleString("en-US");

/** Three significant figures and no exponent: "0.0123", "4.57", "1,234". */
export function figure(x: number): string {
  if (!Number.isFinite(x)) return "-";
  return Math.abs(x) >= 100 ? count(x) : x === 0 ? "0" : x.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** A correlation as "0.987"; "-" where there is none, as of one thing. */
export const correlation = (r: number): string => (Number.isNaN(r) ? "-" : r.toFixed(3));

/** Seconds as "0.42 s", "12 s", "3 min 05 s" or "2 h 07 min". */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "-";
  if (seconds < 10) return `${figure(seconds)} s`;
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

/** Bytes as "812 MB". */
export const megabytes = (bytes: number): string => `${count(bytes / 1e6)} MB`;
