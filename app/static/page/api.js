// The public API: requests, the key for what changes state, live events, and whether the service is there.

/** Says "away", "back" and "key". */
export const service = new EventTarget();

const KEY = "minist-key";
const BEAT = 5000; // ms between two looks at a service that nobody asks
const RETRY = 1000;

/** What the service answered instead (application/problem+json). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.title ?? `Status ${status}`);
    Object.assign(this, { title: this.message, ...body, status });
  }
}

/** The service could not be reached. */
export class Away extends Error {
  title = "The service is away";
  detail = "It will be asked again as soon as it is back";
}

export const key = {
  get value() {
    return sessionStorage.getItem(KEY);
  },
  set(text) {
    sessionStorage.setItem(KEY, text);
    service.dispatchEvent(new Event("key"));
  },
  forget() {
    sessionStorage.removeItem(KEY);
    service.dispatchEvent(new Event("key"));
  },
};

/** Set by the page: asks its user for a key, told why; resolves to the key, or null where there is none. */
let askUser = async () => null;
let asking = null;
let declined = false;

export function askForKeyWith(ask) {
  askUser = ask;
}

/** Whether there is a key now. Asked once, however many requests wait for it. */
export async function needKey(problem) {
  asking ??= askUser(problem).finally(() => {
    asking = null;
  });
  const text = await asking;
  declined = !text;
  if (text) key.set(text);
  return Boolean(text);
}

/** fetch; raises Problem or Away. A key is sent where there is one, and asked for where one is needed. */
export async function request(path, { method = "GET", headers = {}, body, signal } = {}) {
  for (;;) {
    const sent = key.value;
    const authorization = sent ? { authorization: `Bearer ${sent}` } : {};
    let response;
    try {
      response = await fetch(path, {
        method,
        body,
        signal,
        cache: "no-store",
        headers: { ...headers, ...authorization },
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      lost();
      throw new Away();
    }
    found();
    if (response.ok) return response;
    const problem = new Problem(response.status, await response.json().catch(() => ({})));
    const lacksKey = response.status === 401 || response.status === 403;
    const mayAsk = method !== "GET" && !path.startsWith("/predict") ? true : !declined;
    if (!lacksKey || !mayAsk) throw problem;
    if (sent !== key.value) continue; // another request has asked meanwhile
    if (sent) key.forget();
    if (!(await needKey(sent ? problem : null))) throw problem;
  }
}

export async function get(path, options) {
  return (await request(path, options)).json();
}

/** POST, PUT or DELETE of a JSON body. */
export async function change(method, path, body) {
  const json =
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await request(path, { method, ...json });
  return response.status === 204 ? null : response.json();
}

/** Server-sent events, from the first; goes on where it was when the service comes back. Ends with the job. */
export async function* follow(path, signal) {
  let last = 0;
  while (!signal.aborted) {
    try {
      const response = await request(path, { signal, headers: last ? { "last-event-id": String(last) } : {} });
      if (response.status === 204) return;
      for await (const event of events(response.body)) {
        last = event.id;
        yield event;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) throw error;
      if (!(error instanceof Away)) lost(); // the stream broke off
    }
    await new Promise((resume) => setTimeout(resume, RETRY));
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(
        block
          .split(/\r?\n/)
          .filter((line) => line && !line.startsWith(":"))
          .map((line) => line.match(/^([^:]*):? ?(.*)$/).slice(1)),
      );
      if (fields.data) yield { kind: fields.event, id: Number(fields.id), data: JSON.parse(fields.data) };
    }
  }
}

let away = false;

async function lost() {
  if (away) return;
  away = true;
  service.dispatchEvent(new Event("away"));
  while (away) {
    await new Promise((resume) => setTimeout(resume, RETRY));
    await look();
  }
}

function found() {
  if (!away) return;
  away = false;
  service.dispatchEvent(new Event("back"));
}

async function look() {
  try {
    if ((await fetch("/livez", { cache: "no-store" })).ok) found();
  } catch {
    lost();
  }
}

/** Looks from time to time, while somebody looks at the page, whether the service is there. */
export function watch() {
  setInterval(() => {
    if (!document.hidden && !away) look();
  }, BEAT);
}
