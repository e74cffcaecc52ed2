#!/usr/bin/env node
/** The `claviger` command. */
import { runCommandLine } from './command-line.ts'

process.exitCode = await runCommandLine(process.argv)
