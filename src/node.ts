/** Node's process, where there is one; null in a page. Its modules are asked of it (getBuiltinModule), so that no bundler looks for them. */

export const node = globalThis.process?.versions?.node ? globalThis.process : null;
