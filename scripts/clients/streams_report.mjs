// Prints what a run of the conformance suite came to, from vitest's JSON report: REPORT SKIPPED
// (the pattern of names that were not to be run). Fails if a test failed.
import { readFileSync } from "node:fs"

const [report, skipped] = process.argv.slice(2)
const tests = JSON.parse(readFileSync(report, "utf8")).testResults.flatMap((file) => file.assertionResults)
const groups = new Map()
for (const { ancestorTitles, status } of tests) {
    const name = ancestorTitles[0] ?? "others"
    const group = groups.get(name) ?? { passed: 0, failed: 0, skipped: 0 }
    group[status === "passed" || status === "failed" ? status : "skipped"] += 1
    groups.set(name, group)
}
const sum = { passed: 0, failed: 0, skipped: 0 }
for (const [name, group] of groups) {
    for (const status of Object.keys(sum)) sum[status] += group[status]
    if (group.skipped) console.log(`not run: ${name} (${group.skipped})`)
    if (group.failed) console.log(`FAILED: ${name} (${group.failed} of ${group.failed + group.passed})`)
}
for (const { fullName, status, failureMessages } of tests) {
    if (status === "failed") console.log(`  ${fullName}: ${failureMessages[0]?.split("\n")[0]}`)
}
console.log(`passed ${sum.passed}, failed ${sum.failed}, not run ${sum.skipped} of ${tests.length} (left out by name: ${skipped})`)
process.exit(sum.failed || !sum.passed ? 1 : 0)
