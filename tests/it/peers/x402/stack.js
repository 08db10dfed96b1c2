// The x402 stack on a chain that runs: a facilitator, a resource server, and agents that pay it.
//
// `node stack.js PACKAGES CHAIN_URL HOOK_URL HOOK_SECRET`: says {"ready": true}, then answers each command, a JSON line of
// standard input, with a JSON line that repeats its `id`. What happens is posted to HOOK_URL as the packages' hooks tell it.
// It ends when its input ends.

import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const [packages, chainUrl, hookUrl, hookSecret] = process.argv.slice(2);
const require = createRequire(join(resolve(packages), "index.js"));
const { createWalletClient, encodeFunctionData, http, multicall3Abi, parseSignature, publicActions, toHex } =
  require("viem");
const { mnemonicToAccount } = require("viem/accounts");
const { baseSepolia } = require("viem/chains");
const { multicall3Bytecode } = require(join(resolve(packages), "node_modules/viem/_cjs/constants/contracts.js"));
const { x402Facilitator } = require("@x402/core/facilitator");
const { HTTPFacilitatorClient } = require("@x402/core/server");
const { toFacilitatorEvmSigner } = require("@x402/evm");
const facilitatorScheme = require("@x402/evm/exact/facilitator");
const serverScheme = require("@x402/evm/exact/server");
const clientScheme = require("@x402/evm/exact/client");
const { paymentMiddleware, x402ResourceServer } = require("@x402/express");
const { wrapFetchWithPayment, x402Client } = require("@x402/fetch");
const express = require("express");

const NETWORK = "eip155:84532";
const USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
const MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11";
const MNEMONIC = "test test test test test test test test test test test junk";
const PRICES = { "/weather": "$0.01", "/report": "$0.50", "/archive": "$5.00" };

const account = (addressIndex) => mnemonicToAccount(MNEMONIC, { addressIndex });
const wallet = (index) =>
  createWalletClient({
    account: account(index),
    chain: baseSepolia,
    transport: http(chainUrl, { timeout: 8_000 }),
    pollingInterval: 50,
  }).extend(publicActions);
const facilitatorWallet = wallet(0);
const shop = account(9).address;
const token = JSON.parse(readFileSync(join(packages, "token.json"), "utf8"));

const say = (value) => process.stdout.write(`${JSON.stringify(value, big)}\n`);
const big = (_, value) => (typeof value === "bigint" ? value.toString() : value);
const mined = async (hash) => facilitatorWallet.waitForTransactionReceipt({ hash });

// Posts what a hook was told, signed as Standard Webhooks are. Who watches must not disturb who pays.
async function post(hook, { transportContext, ...context }) {
  const body = JSON.stringify({ hook, context }, big);
  const [id, at] = [`msg_${randomUUID()}`, String(Math.floor(Date.now() / 1000))];
  const key = Buffer.from(hookSecret.replace("whsec_", ""), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${at}.${body}`).digest("base64");
  const headers = { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": `v1,${signature}` };
  await fetch(hookUrl, { method: "POST", headers, body }).catch(() => {});
}

// Puts USDC and Multicall3 where they are on the real chain, and money into the wallets of the agents 1 to 3.
async function deploy() {
  const place = async (code, address) => {
    const { contractAddress } = await mined(await facilitatorWallet.sendTransaction({ data: code }));
    const deployed = await facilitatorWallet.getCode({ address: contractAddress });
    await facilitatorWallet.request({ method: "anvil_setCode", params: [address, deployed] });
  };
  await place(token.code, USDC);
  await place(multicall3Bytecode, MULTICALL);
  for (const index of [1, 2, 3]) await write("mint", [account(index).address, 100_000_000n], facilitatorWallet);
}

async function write(functionName, args, from) {
  return mined(await from.writeContract({ address: USDC, abi: token.abi, functionName, args }));
}

async function listen(app) {
  const server = await new Promise((ready) => {
    const listening = app.listen(0, "127.0.0.1", () => ready(listening));
  });
  return `http://127.0.0.1:${server.address().port}`;
}

async function serveFacilitator() {
  const signer = toFacilitatorEvmSigner(
    { ...facilitatorWallet, address: facilitatorWallet.account.address },
    { confirmationTimeoutMs: 2_000 },
  );
  const facilitator = new x402Facilitator().register(NETWORK, new facilitatorScheme.ExactEvmScheme(signer));
  facilitator.onVerifyFailure((context) => post("facilitator.onVerifyFailure", context));
  facilitator.onAfterSettle((context) => post("facilitator.onAfterSettle", context));
  const app = express().use(express.json());
  const serve = (step) => async (request, response) => {
    const { paymentPayload, paymentRequirements } = request.body;
    try {
      const result = await facilitator[step](paymentPayload, paymentRequirements);
      response.type("json").send(JSON.stringify(result, big));
    } catch (error) {
      response.status(500).json({ error: String(error).slice(0, 500) });
    }
  };
  app.get("/supported", (_, response) => response.json(facilitator.getSupported()));
  app.post("/verify", serve("verify"));
  app.post("/settle", serve("settle"));
  return listen(app);
}

async function serveResources(facilitatorUrl) {
  const server = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitatorUrl }));
  server.register(NETWORK, new serverScheme.ExactEvmScheme());
  server.onAfterSettle((context) => post("resourceServer.onAfterSettle", context));
  const accepts = (price) => ({ scheme: "exact", price, network: NETWORK, payTo: shop, maxTimeoutSeconds: 3_600 });
  const routes = Object.entries(PRICES).map(([path, price]) => [
    `GET ${path}`,
    { accepts: accepts(price), description: "a test", mimeType: "application/json" },
  ]);
  const app = express().use(paymentMiddleware(Object.fromEntries(routes), server));
  for (const path of Object.keys(PRICES)) app.get(path, (_, response) => response.json({ sold: path }));
  return listen(app);
}

// The signed requests that agents have sent, the newest last.
const signedRequests = [];

function agent(index) {
  const client = new x402Client().register("eip155:*", new clientScheme.ExactEvmScheme(account(index)));
  client.onAfterPaymentCreation((context) => post("client.onAfterPaymentCreation", context));
  client.onPaymentResponse((context) => post("client.onPaymentResponse", context));
  const remember = async (input, init) => {
    const request = new Request(input, init);
    if (request.headers.has("payment-signature")) signedRequests.push(request.clone());
    return fetch(request);
  };
  return wrapFetchWithPayment(remember, client);
}

async function authorization(index, value) {
  const [from, nonce] = [account(index), toHex(crypto.getRandomValues(new Uint8Array(32)))];
  const message = { from: from.address, to: shop, value, validAfter: 0n, validBefore: 2n ** 40n, nonce };
  const field = ([name, type]) => ({ name, type });
  const fields = [["from", "address"], ["to", "address"], ["value", "uint256"]];
  fields.push(["validAfter", "uint256"], ["validBefore", "uint256"], ["nonce", "bytes32"]);
  const signature = await from.signTypedData({
    domain: { name: "USDC", version: "2", chainId: 84532, verifyingContract: USDC },
    types: { TransferWithAuthorization: fields.map(field) },
    primaryType: "TransferWithAuthorization",
    message,
  });
  const { r, s, yParity } = parseSignature(signature);
  const functionName = "transferWithAuthorization";
  const args = [...Object.values(message), 27 + yParity, r, s];
  return encodeFunctionData({ abi: token.abi, functionName, args });
}

const commands = {
  // An agent buys what is at `path`.
  async pay({ agent: index, path }, server) {
    const response = await agent(index)(`${server}${path}`);
    return { status: response.status };
  },
  // The last signed request is sent again.
  async replay() {
    const response = await fetch(signedRequests.at(-1).clone());
    return { status: response.status };
  },
  // Authorizations of these values are settled in one transaction, the last of them twice.
  async batch({ agent: index, values }) {
    const calls = await Promise.all(values.map((value) => authorization(index, BigInt(value))));
    const args = [[...calls, calls.at(-1)].map((callData) => ({ target: USDC, allowFailure: true, callData }))];
    const call = { address: MULTICALL, abi: multicall3Abi, functionName: "aggregate3", args };
    await mined(await facilitatorWallet.writeContract(call));
    return {};
  },
  // A stranger moves nothing out of the agent's wallet, which any token allows.
  async forge({ agent: index }) {
    await write("transferFrom", [account(index).address, account(8).address, 0n], wallet(8));
    return {};
  },
  // The agent's wallet sends money without any x402.
  async transfer({ agent: index, value }) {
    await write("transfer", [account(8).address, BigInt(value)], wallet(index));
    return {};
  },
};

await deploy();
const server = await serveResources(await serveFacilitator());
say({ ready: true, server });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const work = commands[command.do](command, server);
  // Commands may overlap: each answers when it is done.
  work.then(
    (answer) => say({ id: command.id, ...answer }),
    (error) => say({ id: command.id, error: String(error).slice(0, 500) }),
  );
}
process.exit(0);
