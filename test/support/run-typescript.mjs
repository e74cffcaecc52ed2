/**
 * Runs a TypeScript module of this repository in a Node process of its own, on any supported Node, without a build:
 * `node run-typescript.mjs <module> [argument]…` calls the module’s `main(arguments)`.
 */
import { createViteServer } from 'vitest/node'

const [path, ...rest] = process.argv.slice(2)
const vite = await createViteServer({
  configFile: false,
  logLevel: 'error',
  server: { middlewareMode: true, watch: null, ws: false },
  appType: 'custom',
})
const { main } = await vite.ssrLoadModule(path)
await main(rest)
await vite.close()
