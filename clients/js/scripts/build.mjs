// dist/: the modules of static/, which the server serves to pages as they are, src/node.js, and
// their types, made by tsc from the JSDoc. Nothing of it is in git.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const here = new URL('..', import.meta.url);
const sources = new URL('../../static/', here);
const dist = new URL('dist/', here);

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
for (const name of readdirSync(sources).filter((file) => /^usher(-\w+)?\.js$/.test(file))) {
  cpSync(new URL(name, sources), new URL(name, dist));
}
cpSync(new URL('src/node.js', here), new URL('node.js', dist));
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
execFileSync(process.execPath, [tsc, '--project', fileURLToPath(here)], { stdio: 'inherit' });
