// What two answers, and two requests, have in common: all but the ids and times that a provider makes up, and
// what a proxy must change.

const MADE_UP_ID = /\b(resp|chatcmpl|msg|call|fc|rs|file|modr)([-_])[0-9a-f]{16,}/g;
const RECENT_SECONDS = 3600;
// The client's business with the server that it talks to. Everything else that it sends must arrive.
const NOT_SENT_ON = new Set(["accept-encoding", "accept-language", "connection", "cookie", "sec-fetch-mode"]);
const CREDENTIALS = new Set(["authorization", "x-api-key", "x-goog-api-key", "api-key"]);
// Without it a stream reports no usage, so Bitting asks for it, in front, where the client does not.
const USAGE_ASKED = '"stream_options":{"include_usage":true},';

// What separates the parts of a form, which a client makes up for each.
const BOUNDARY = /boundary=([^;]+)/;
// Lists that Bitting answers from its own record.
const ANSWERED_HERE = new Set(["GET /v1/files"]);

// Whether a request straight from a client is one that Bitting sends on.
export const isSentOn = (request) => !ANSWERED_HERE.has(`${request.method} ${request.path}`);

// A value as plain data, with made-up ids and the present time blotted out.
export function plain(value) {
  return JSON.parse(JSON.stringify(value ?? null), (_, inner) => {
    if (typeof inner === "string") return inner.replace(MADE_UP_ID, "$1$2id");
    const isNow = typeof inner === "number" && Math.abs(inner - Date.now() / 1000) < RECENT_SECONDS;
    return isNow ? "now" : inner;
  });
}

// A request that the sandbox recorded, as it is compared.
export function essence(given) {
  const request = withPlainBoundary(given);
  const headers = request.headers.filter(([name]) => !NOT_SENT_ON.has(name) && !CREDENTIALS.has(name));
  const keys = request.headers.filter(([name]) => CREDENTIALS.has(name)).length;
  return plain({ ...request, headers: headers.sort(), keys });
}

function withPlainBoundary(request) {
  const kind = request.headers.find(([name]) => name === "content-type")?.[1] ?? "";
  const boundary = BOUNDARY.exec(kind)?.[1];
  if (!boundary) return request;
  const body = Buffer.from(request.body_base64 ?? request.body, request.body_base64 ? "base64" : "utf8");
  const headers = request.headers.map(([name, value]) => [name, value.replace(boundary, "boundary")]);
  return { ...request, headers, body: body.toString("latin1").replaceAll(boundary, "boundary"), body_base64: null };
}

// A request straight from a client, as Bitting has to write it.
export function asSentOn(request) {
  const streamsChat = request.path.endsWith("/completions") && request.body.includes('"stream":true');
  if (!streamsChat || request.body.includes('"stream_options"')) return request;
  const body_bytes = request.body_bytes + USAGE_ASKED.length;
  const longer = ([name, value]) => [name, name === "content-length" ? String(body_bytes) : value];
  const body = `{${USAGE_ASKED}${request.body.slice(1)}`;
  return { ...request, body, body_bytes, headers: request.headers.map(longer) };
}
