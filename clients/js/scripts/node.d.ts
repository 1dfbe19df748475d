// What src/node.js uses of Node; @types/node would be 2 MB for these two lines.
declare module 'node:module' { export function createRequire(from: string): (name: string) => any; }
declare const process: { versions: { node: string } };
