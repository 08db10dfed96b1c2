// Compiles Token.sol with the packages of a folder into `token.json` there: `node compile.js FOLDER`.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const folder = resolve(process.argv[2]);
const solc = createRequire(join(folder, "index.js"))("solc");
const input = {
  language: "Solidity",
  sources: { "Token.sol": { content: readFileSync(new URL("Token.sol", import.meta.url), "utf8") } },
  settings: {
    evmVersion: "cancun",
    optimizer: { enabled: true, runs: 200 },
    outputSelection: { "Token.sol": { Token: ["abi", "evm.bytecode.object"] } },
  },
};
const read = (path) => ({ contents: readFileSync(join(folder, "node_modules", path), "utf8") });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
const errors = (output.errors ?? []).filter((error) => error.severity === "error");
if (errors.length > 0) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
const { abi, evm } = output.contracts["Token.sol"].Token;
writeFileSync(join(folder, "token.json"), JSON.stringify({ abi, code: `0x${evm.bytecode.object}` }));
