/** `npm test [-- file… | -t name]`: runs the tests; the last line is `N passed, N failed`. */
import { runTests, summary } from './run-tests.js'

const counts = await runTests(process.argv.slice(2))
console.log(summary(counts))
process.exitCode = counts.failed === 0 ? 0 : 1
