// A Bitting for the tests: the real binary, run as a person would run it, in front of its sandbox.
//
// Nothing here is known in advance but the words of the documentation: addresses and secrets are read off what
// `quickstart` prints, everything else goes through the admin API.

import { spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const START_MS_MAX = 60_000;
const SUBKEY = /bk_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}/;
const OPERATOR_TOKEN = /bo_[0-9A-Za-z_]+/;
const ORIGIN = /https?:\/\/[0-9A-Za-z.[\]:-]+:\d+/g;
const CURL_LINE = /^curl .*$/m;

export class Bitting {
  #folder = mkdtempSync(join(tmpdir(), "bitting-node-"));
  #names = 0;

  // Starts one; `proxy`, `admin` and `sandbox` are origins then, without a path.
  static async start(binary) {
    const bitting = new Bitting();
    bitting.#spawn(binary);
    try {
      await bitting.#read();
    } catch (error) {
      bitting.process.kill("SIGKILL");
      throw error;
    }
    return bitting;
  }

  #spawn(binary) {
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("BITTING_"));
    const listens = ["PROXY", "ADMIN", "SANDBOX"].map((plane) => [`BITTING_${plane}_LISTEN`, "127.0.0.1:0"]);
    const output = openSync(join(this.#folder, "output.txt"), "w");
    const asked = ["quickstart", "--sandbox", "--no-import", "--data", join(this.#folder, "data")];
    this.process = spawn(binary, asked, {
      stdio: ["ignore", output, output],
      cwd: this.#folder,
      env: Object.fromEntries([...inherited, ...listens]),
    });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
  }

  async #read() {
    const printed = await this.#wait("a curl line, a sub-key and an operator token", () => {
      const text = this.output();
      const [curl, subkey, token] = [CURL_LINE, SUBKEY, OPERATOR_TOKEN].map((pattern) => text.match(pattern)?.[0]);
      return curl && subkey && token && { curl, token, origins: [...new Set(text.match(ORIGIN))] };
    });
    this.proxy = printed.curl.match(ORIGIN)[0];
    this.token = printed.token;
    await this.#wait("a ready proxy", async () => (await fetch(`${this.proxy}/readyz`)).ok);
    this.admin = await this.#wait("an admin plane", async () => {
      for (const origin of printed.origins.filter((origin) => origin !== this.proxy)) {
        if ((await this.#ask(origin, "GET", "/api/v1/subkeys")).ok) return origin;
      }
      return undefined;
    });
    const dialect = (await this.answer("GET", "/api/v1/providers/sandbox")).dialects.openai;
    this.sandbox = new URL(dialect.base_url ?? dialect).origin;
  }

  async #wait(wanted, attempt) {
    const deadline = Date.now() + START_MS_MAX;
    while (Date.now() < deadline && this.process.exitCode === null) {
      const found = await Promise.resolve(attempt()).catch(() => undefined);
      if (found) return found;
      await pause(50);
    }
    throw new Error(`no sign of ${wanted}; bitting printed:\n${this.output()}`);
  }

  #ask(origin, method, path, body) {
    const headers = { authorization: `Bearer ${this.token}`, "content-type": "application/json" };
    return fetch(origin + path, { method, headers, body: body && JSON.stringify(body) });
  }

  // What it has printed so far.
  output() {
    return readFileSync(join(this.#folder, "output.txt"), "utf8");
  }

  // Asks the admin API.
  async answer(method, path, body) {
    const response = await this.#ask(this.admin, method, path, body);
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  // Mints a sub-key with a name of its own; by default it may use everything the sandbox has.
  async mint(fields = {}) {
    this.#names += 1;
    const asked = { name: `node-${this.#names}`, models: ["sandbox/*"], ...fields };
    return (await this.answer("POST", "/api/v1/subkeys", asked)).secret;
  }

  // Does something; returns what it returned, and the requests that reached the sandbox meanwhile.
  async recorded(act) {
    await fetch(`${this.sandbox}/sandbox/reset`, { method: "POST" });
    const returned = await act();
    return [returned, await (await fetch(`${this.sandbox}/sandbox/requests`)).json()];
  }

  // Ends it as a service manager would; returns its exit status and leaves nothing behind.
  async stop() {
    this.process.kill("SIGTERM");
    const status = await this.ended;
    rmSync(this.#folder, { recursive: true });
    return status;
  }
}
