/** The threads that a device starts, for tests in which one dies. */

/** Run f with the workers of Node that are started meanwhile. */
export async function withWorkers(f: (started: readonly { terminate(): Promise<number> }[]) => Promise<void>): Promise<void> {
  const threads = process.getBuiltinModule("node:worker_threads");
  const { Worker } = threads;
  const started: InstanceType<typeof Worker>[] = [];
  threads.Worker = class extends Worker {
    constructor(...args: ConstructorParameters<typeof Worker>) {
      super(...args);
      started.push(this);
    }
  };
  try {
    await f(started);
  } finally {
    threads.Worker = Worker;
  }
}
