// The official `openai` library for Node through Bitting: what it does straight at the provider, it does here.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import OpenAI, { toFile } from "openai";
import { Bitting } from "./bitting.js";
import { asSentOn, essence, isSentOn, plain } from "./plain.js";

const MINI = "sandbox-mini";
const HELLO = [{ role: "user", content: "Say hello." }];
const USE_THE_TOOL = [{ role: "user", content: "How warm is it? Use the tool." }];
const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER = { name: "weather", description: "Tells the weather.", parameters: CITY };
const RED_POINT =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WEATHER_TOOL = { type: "function", function: WEATHER };

let bitting;
let subkey;

before(async () => {
  assert(process.env.BITTING_BIN, "BITTING_BIN names no binary: run these tests by `bash tests/run --node`");
  bitting = await Bitting.start(process.env.BITTING_BIN);
  subkey = await bitting.mint();
});

after(async () => assert.equal(await bitting.stop(), 0));

// A client that never retries: each test sees the first answer.
const client = (origin, apiKey) => new OpenAI({ baseURL: `${origin}/v1`, apiKey, maxRetries: 0 });
const through = (key = subkey) => client(bitting.proxy, key);

// Does something with a client of Bitting, then with one of the sandbox. Asserts that both saw the same, and that the
// sandbox received the same.
async function same(act) {
  const [seen, arrived] = await bitting.recorded(() => act(through()));
  const [expected, sent] = await bitting.recorded(() => act(client(bitting.sandbox, "straight-at-the-sandbox")));
  assert.deepEqual(plain(seen), plain(expected));
  assert.deepEqual(arrived.map(essence), sent.filter(isSentOn).map(asSentOn).map(essence));
  assert(!JSON.stringify(arrived).includes("bk_"), "the provider has seen the sub-key");
  return seen;
}

async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

async function refused(promise) {
  return promise.then(() => assert.fail("nothing was refused"), (error) => error);
}

test("a chat completion is the provider's, whole and streamed", async () => {
  const [whole, chunks] = await same(async (client) => [
    await client.chat.completions.create({ model: MINI, messages: HELLO, temperature: 0.5 }),
    await all(client.chat.completions.create({ model: MINI, messages: HELLO, stream: true })),
  ]);
  assert.match(whole.choices[0].message.content, /Say hello\./);
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), whole.choices[0].message.content);
  assert(chunks.every((chunk) => !("usage" in chunk)), "usage that nobody asked for");
});

test("a stream has usage when the client asks", async () => {
  const ask = { model: MINI, messages: HELLO, stream: true, stream_options: { include_usage: true } };
  const chunks = await same((client) => all(client.chat.completions.create(ask)));
  assert(chunks.at(-1).usage.total_tokens > 0 && chunks.at(-1).choices.length === 0);
});

test("a tool is called, whole and streamed, and its result is taken", async () => {
  const ask = { model: "sandbox-large", tools: [WEATHER_TOOL] };
  const [called, told, chunks] = await same(async (client) => {
    const called = await client.chat.completions.create({ ...ask, messages: USE_THE_TOOL });
    const message = called.choices[0].message;
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "21 degrees" };
    const told = await client.chat.completions.create({ ...ask, messages: [...USE_THE_TOOL, message, result] });
    const stream = client.chat.completions.create({ ...ask, messages: USE_THE_TOOL, stream: true });
    return [called, told, await all(stream)];
  });
  const call = called.choices[0].message.tool_calls[0].function;
  assert.equal(call.name, "weather");
  assert.equal(typeof JSON.parse(call.arguments).city, "string");
  const pieces = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.equal(pieces.map((piece) => piece.function.arguments ?? "").join(""), call.arguments);
  assert(told.choices[0].message.content);
});

test("the helper runs a tool", async () => {
  const run = { ...WEATHER, function: () => "21 degrees", parse: JSON.parse };
  const said = await same((client) => {
    const ask = { model: "sandbox-large", messages: USE_THE_TOOL, tools: [{ type: "function", function: run }] };
    return client.chat.completions.runTools({ ...ask, stream: true }).finalContent();
  });
  assert(said);
});

test("a response is the provider's, whole and streamed, and is kept", async () => {
  const [whole, events, read, items] = await same(async (client) => {
    const ask = { model: MINI, input: "Say hello.", instructions: "Be brief." };
    const whole = await client.responses.create(ask);
    const events = await all(client.responses.create({ ...ask, stream: true, previous_response_id: whole.id }));
    const read = await client.responses.retrieve(whole.id);
    const items = await all(client.responses.inputItems.list(whole.id));
    await client.responses.delete(whole.id);
    return [whole, events, read, items];
  });
  assert.match(whole.output_text, /Say hello\./);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(read.output_text, whole.output_text);
  assert.equal(items[0].content[0].text, "Say hello.");
});

test("the helper reads a response with a tool's arguments", async () => {
  const final = await same((client) => {
    const ask = { model: "sandbox-large", input: "Say hello.", tools: [{ type: "function", strict: false, ...WEATHER }] };
    return client.responses.stream({ ...ask, tool_choice: "required" }).finalResponse();
  });
  assert.equal(final.output.at(-1).name, "weather");
});

test("embeddings are decoded", async () => {
  const ask = { model: "sandbox-embedding", input: ["one text", "another text"] };
  const [decoded, floats] = await same(async (client) => [
    await client.embeddings.create(ask),
    await client.embeddings.create({ ...ask, encoding_format: "float" }),
  ]);
  assert.equal(decoded.data.length, 2);
  decoded.data[0].embedding.forEach((value, index) => {
    assert(Math.abs(value - floats.data[0].embedding[index]) < 1e-6);
  });
});

test("files are kept, listed, given back and deleted", async () => {
  const bytes = Buffer.from([0, 255, 13, 10, 45, 45, 254]);
  const [made, listed, contents, left] = await same(async ({ files }) => {
    const expires_after = { anchor: "created_at", seconds: 3600 };
    const made = [
      await files.create({ file: await toFile(bytes, "data.bin"), purpose: "user_data" }),
      await files.create({ file: await toFile(bytes, "a.png", { type: "image/png" }), purpose: "vision", expires_after }),
      await files.create({ file: new File(["text"], "\u00e4.txt"), purpose: "user_data" }),
    ];
    const listed = [await all(files.list({ limit: 2 })), await all(files.list({ purpose: "vision", order: "asc" }))];
    const contents = [];
    for (const { id } of made) {
      assert.equal((await files.retrieve(id)).id, id);
      contents.push(Buffer.from(await (await files.content(id)).arrayBuffer()).toString("latin1"));
      assert((await files.delete(id)).deleted);
    }
    return [made, listed, contents, await all(files.list())];
  });
  assert.deepEqual(listed.map((some) => some.map(({ id }) => id)), [made.map(({ id }) => id).reverse(), [made[1].id]]);
  assert.deepEqual(contents, [bytes.toString("latin1"), bytes.toString("latin1"), "text"]);
  assert.deepEqual(left, []);
});

test("moderations have a model or take the provider's", async () => {
  const [named, unnamed] = await same(async ({ moderations }) => [
    await moderations.create({ model: "sandbox-moderation", input: "some violence" }),
    await moderations.create({ input: ["a word", "another"] }),
  ]);
  assert(named.results[0].flagged && unnamed.results.length === 2);
  assert.equal(named.model, unnamed.model);
});

test("pictures are made, edited and varied", async () => {
  const small = { model: "sandbox-image", prompt: "A red point.", quality: "low", size: "1024x1024" };
  const [made, events, edited, behind, varied] = await same(async (client) => {
    const point = () => toFile(Buffer.from(RED_POINT, "base64"), "point.png", { type: "image/png" });
    return [
      await client.images.generate({ ...small, n: 2 }),
      await all(client.images.generate({ ...small, stream: true, partial_images: 1 })),
      await client.images.edit({ ...small, image: await point() }),
      await client.images.edit({ ...small, image: [await point(), await point()], mask: await point() }),
      await client.images.createVariation({ model: "sandbox-image-each", image: await point(), n: 2 }),
    ];
  });
  assert.deepEqual([made, edited, behind, varied].map((answer) => answer.data.length), [2, 1, 1, 2]);
  assert.deepEqual(events.map((event) => event.type.split(".")[1]), ["partial_image", "completed"]);
});

test("a text is read aloud and a sound is written down", async () => {
  const [spoken, heard, words, text, events] = await same(async (client) => {
    const sound = () => toFile(Buffer.alloc(20_000, 7), "sound.mp3", { type: "audio/mpeg" });
    const speech = await client.audio.speech.create({ model: "sandbox-tts", voice: "alloy", input: "Hello." });
    const hear = async (model, more) =>
      client.audio.transcriptions.create({ model, file: await sound(), ...more });
    return [
      Buffer.from(await speech.arrayBuffer()).toString("base64"),
      await hear("sandbox-whisper"),
      await hear("sandbox-whisper", { response_format: "verbose_json", timestamp_granularities: ["word", "segment"] }),
      await client.audio.translations.create({ model: "sandbox-whisper", file: await sound(), response_format: "text" }),
      await all(hear("sandbox-transcribe", { stream: true })),
    ];
  });
  assert(spoken.startsWith(Buffer.from("ID3").toString("base64")));
  assert.deepEqual(heard.usage, { type: "duration", seconds: 2 });
  assert.equal(words.duration, 2);
  assert.equal(typeof text, "string");
  assert.equal(events.at(-1).type, "transcript.text.done");
});

test("an abort ends a stream and a request that waits", async () => {
  const seen = await same(async (client) => {
    const long = { model: `${MINI}+tokens=5000,gap=20`, messages: HELLO };
    const stream = await client.chat.completions.create({ ...long, stream: true });
    let chunks = 0;
    for await (const _ of stream) {
      chunks += 1;
      if (chunks === 3) stream.controller.abort();
    }
    const slow = { model: `${MINI}+delay=30000`, messages: HELLO };
    const signal = AbortSignal.timeout(300);
    const error = await refused(client.chat.completions.create(slow, { signal }));
    return [chunks, error.constructor.name];
  });
  assert.deepEqual(seen, [3, "APIUserAbortError"]);
});

test("the provider's failure is its own", async () => {
  const seen = await same(async (client) => {
    const error = await refused(client.chat.completions.create({ model: `${MINI}+status=500`, messages: HELLO }));
    return [error.constructor.name, error.status, error.error];
  });
  assert.deepEqual(seen.slice(0, 2), ["InternalServerError", 500]);
});

test("a refusal is of the class that its users catch, with Bitting's code in it", async () => {
  const ask = { model: MINI, messages: HELLO };
  const spent = await bitting.mint({ rate_limits: [{ metric: "requests", limit: 1, per: "day" }] });
  await through(spent).chat.completions.create(ask);
  for (const [key, kind, code] of [
    [await bitting.mint({ models: ["sandbox/sandbox-large"] }), OpenAI.PermissionDeniedError, "model_not_allowed"],
    ["bk_short", OpenAI.AuthenticationError, "invalid_api_key"],
    [spent, OpenAI.RateLimitError, "rate_limit_exceeded"],
  ]) {
    const [errors, requests] = await bitting.recorded(async () => [
      await refused(through(key).chat.completions.create(ask)),
      await refused(through(key).chat.completions.create({ ...ask, stream: true })),
    ]);
    for (const error of errors) {
      assert(error instanceof kind, `${error}`);
      assert.equal(error.code, code);
    }
    assert.deepEqual(requests, [], "the provider has seen it");
  }
});
