// The public API: requests, the key for what changes something, live events, and whether the service is there.

import { events } from "./events.js";

/** @import * as Wire from "./wire.d.ts" */
/**
 * @typedef {object} Options
 * @property {string} [method]
 * @property {Record<string, string>} [headers]
 * @property {BodyInit} [body]
 * @property {AbortSignal} [signal]
 * @property {(sent: number) => void} [onSent] called with the bytes of the body that have gone out
 */

const KEY = "minist-key";
const BEAT = 5000; // ms between two looks at a service that nobody asks
const RETRY = 1000; // ms between two looks at a service that is away
const SLOW = 300; // ms after which the page shows that it waits
const LONGEST = 60_000; // ms that a request waits where the service says to come again later

/** What the service answered instead (application/problem+json). */
export class Problem extends Error {
  /**
   * @param {Response} response
   * @param {Partial<Wire.Problem>} body
   */
  constructor(response, body) {
    super(body.title ?? `The service answered ${response.status}`);
    this.status = response.status;
    this.type = body.type ?? "";
    this.detail = body.detail ?? "";
    this.hint = body.hint ?? "";
    this.errors = body.errors ?? [];
    const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
    this.retryAfter = Number.isNaN(seconds) ? null : seconds;
  }
}

/** The service could not be reached. */
export class Away extends Error {
  constructor() {
    super("The service cannot be reached");
  }
}

/** @param {number} milliseconds */
const pause = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

/** Says "away", "back", "key" (it was given or forgotten), "slow" and "wait" (`slow` or `waits` has changed). */
export class Api extends EventTarget {
  #away = false;
  #declined = false; // its user had no key
  /** @type {Promise<string | null> | null} */
  #asking = null;
  /** @type {{ until: number, problem: Problem } | null} */
  #refused = null;
  slow = 0; // requests that take long

  /**
   * @param {(problem: Problem | null) => Promise<string | null>} askForKey asks the user for a key, and says
   *   what was wrong with the one before; null where the user has none
   */
  constructor(askForKey) {
    super();
    this.askForKey = askForKey;
    setInterval(() => {
      if (!document.hidden && !this.#away) this.#look();
    }, BEAT);
  }

  get key() {
    return sessionStorage.getItem(KEY);
  }

  /** @param {string | null} text */
  set key(text) {
    if (text) sessionStorage.setItem(KEY, text);
    else sessionStorage.removeItem(KEY);
    this.#say("key");
  }

  /** Milliseconds until the service wants to be asked again. */
  get waits() {
    return this.#refused ? Math.max(0, this.#refused.until - performance.now()) : 0;
  }

  /**
   * Whether there is a key now. The user is asked once, however many requests wait for it.
   * @param {Problem | null} problem
   */
  async needKey(problem = null) {
    this.#asking ??= this.askForKey(problem).finally(() => {
      this.#asking = null;
    });
    const text = await this.#asking;
    this.#declined = !text;
    if (text) this.key = text;
    return Boolean(text);
  }

  /**
   * A response that is ok. Raises Problem or Away. A key is sent where there is one, and asked for where one is
   * needed; what only reads, and what one asked too often for, waits as long as the service wants it to.
   * @param {string} path relative to the page, which may stand behind a prefix
   * @param {Options} options
   * @returns {Promise<Response>}
   */
  async request(path, options = {}) {
    for (;;) {
      await this.turn();
      const sent = this.key;
      const response = await this.#send(path, options, sent);
      if (response.ok) return response;
      const problem = new Problem(response, await response.json().catch(() => ({})));
      if (await this.#mayRepeat(path, options, problem, sent)) continue;
      throw problem;
    }
  }

  /**
   * @template T
   * @param {string} path
   * @param {Options} [options]
   * @returns {Promise<T>}
   */
  async get(path, options) {
    return (await this.request(path, options)).json();
  }

  /**
   * POST, PUT or DELETE of a JSON body; null where nothing is answered.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {Record<string, string>} [headers]
   */
  async change(method, path, body, headers = {}) {
    const json =
      body === undefined
        ? { method, headers }
        : { method, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) };
    const response = await this.request(path, json);
    return response.status === 204 ? null : response.json();
  }

  /**
   * Server-sent events from the first; goes on where it was when the service comes back. Ends with the job.
   * @param {string} path
   * @param {AbortSignal} signal
   */
  async *follow(path, signal) {
    for (let last = 0; !signal.aborted; await pause(RETRY)) {
      try {
        const headers = last ? { "last-event-id": String(last) } : undefined;
        const response = await this.request(path, { signal, ...(headers && { headers }) });
        if (response.status === 204 || !response.body) return;
        for await (const event of events(response.body)) {
          last = event.id;
          yield event;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem) throw error;
        if (!(error instanceof Away)) this.#lost(); // the stream broke off
      }
    }
  }

  /** Resolves when the service may be asked; raises the Problem where that is too far away. */
  async turn() {
    while (this.#refused && this.waits > 0) {
      if (this.waits > LONGEST) throw this.#refused.problem;
      await pause(this.waits);
    }
  }

  /** Resolves when the service is there again. */
  async back() {
    if (this.#away) await new Promise((done) => this.addEventListener("back", done, { once: true }));
  }

  /**
   * @param {string} path
   * @param {Options} options
   * @param {string | null} key
   */
  async #send(path, options, key) {
    const headers = { ...options.headers, ...(key && { authorization: `Bearer ${key}` }) };
    const ended = this.#watchTime();
    try {
      const response = await (options.onSent
        ? upload(path, options, headers)
        : fetch(path, { ...options, headers, cache: "no-store" }));
      this.#found();
      return response;
    } catch (error) {
      if (options.signal?.aborted) throw error;
      this.#lost();
      throw new Away();
    } finally {
      ended();
    }
  }

  /**
   * @param {string} path
   * @param {Options} options
   * @param {Problem} problem
   * @param {string | null} sent the key that was not enough
   */
  async #mayRepeat(path, { method = "GET" }, problem, sent) {
    const predicts = path.startsWith("predict");
    const reads = method === "GET" || predicts;
    const limited = problem.type.endsWith(":too-many-requests"); // refused before anything was done
    if ((reads || limited) && problem.retryAfter !== null) {
      this.#refused = { until: performance.now() + 1000 * problem.retryAfter, problem };
      this.#say("wait");
      return !predicts; // of pictures the newest is sent then
    }
    if (problem.status !== 401 && problem.status !== 403) return false;
    if (reads && this.#declined) return false;
    if (sent !== this.key) return true; // another request has asked for a key meanwhile
    if (sent) this.key = null;
    return this.needKey(sent ? problem : null);
  }

  /** @param {string} event */
  #say(event) {
    this.dispatchEvent(new Event(event));
  }

  /** Counts a request as slow from a certain time on until it has ended. */
  #watchTime() {
    let counted = 0;
    const add = (/** @type {number} */ change) => {
      counted += change;
      this.slow += change;
      this.#say("slow");
    };
    const timer = setTimeout(add, SLOW, 1);
    return () => {
      clearTimeout(timer);
      if (counted) add(-1);
    };
  }

  async #lost() {
    if (this.#away) return;
    this.#away = true;
    this.#say("away");
    while (this.#away) {
      await pause(RETRY);
      await this.#look();
    }
  }

  #found() {
    if (!this.#away) return;
    this.#away = false;
    this.#say("back");
  }

  async #look() {
    try {
      if ((await fetch("livez", { cache: "no-store" })).ok) this.#found();
    } catch {
      this.#lost();
    }
  }
}

/**
 * As fetch does it, which does not say how much has gone out.
 * @param {string} path
 * @param {Options} options
 * @param {Record<string, string>} headers
 * @returns {Promise<Response>}
 */
function upload(path, { method = "POST", body, signal, onSent }, headers) {
  const request = new XMLHttpRequest();
  request.open(method, path);
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  request.upload.onprogress = ({ loaded }) => onSent?.(loaded);
  signal?.addEventListener("abort", () => request.abort());
  return new Promise((answered, failed) => {
    const lines = () => request.getAllResponseHeaders().split("\r\n").filter(Boolean);
    const pairs = () => lines().map((line) => /** @type {[string, string]} */ (line.split(/: (.*)/s, 2)));
    request.onload = () =>
      answered(new Response(request.responseText, { status: request.status, headers: pairs() }));
    request.onerror = request.onabort = () => failed(new TypeError("the upload broke off"));
    request.send(/** @type {XMLHttpRequestBodyInit} */ (body));
  });
}
