// Pictures on their way to the service: made into one file, sent, and how far that is.

import { Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { bytes, count } from "./text.js";
import { Told } from "./words.js";
import { zip } from "./zip.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Entry } from "./zip.js" */

const QUIET = 2000; // ms between two announcements

export class Sending {
  #said = 0;

  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.bar = h("progress", { "aria-label": "Sent" });
    this.line = h("p.fine");
    this.live = h("p.visually-hidden", { role: "status" });
    this.abort = new AbortController();
    this.cancel = h("button", { type: "button", onclick: () => this.abort.abort() }, "Cancel");
    this.going = h("div.sending", { hidden: true }, this.line, this.bar, h("p.actions", this.cancel));
    this.element = h("div", this.going, this.live);
  }

  /**
   * A new data set, or a new version of it; null where it was cancelled. Raises Problem, Away or Told.
   * @param {string} name
   * @param {File | Entry[]} what an archive, or files to make one of
   * @returns {Promise<Wire.DatasetBody | null>}
   */
  async send(name, what) {
    this.abort = new AbortController();
    const path = `datasets?name=${encodeURIComponent(name)}`;
    await this.#mayBring(path);
    const limit = await this.#limit();
    this.going.hidden = false;
    try {
      checkSize(sizeOf(what), limit);
      const blob = what instanceof File ? what : await this.#zipped(what);
      checkSize(blob.size, limit);
      this.#show(`Sending ${bytes(blob.size)}`, 0, blob.size);
      const response = await this.api.request(path, {
        method: "POST",
        headers: { "content-type": what instanceof File ? "application/octet-stream" : "application/zip" },
        body: blob,
        signal: this.abort.signal,
        onSent: (sent) => this.#show(`Sent ${bytes(sent)} of ${bytes(blob.size)}`, sent, blob.size),
      });
      this.live.textContent = "It has arrived.";
      return await response.json();
    } catch (error) {
      if (!this.abort.signal.aborted) throw error;
      this.live.textContent = "Cancelled.";
      return null;
    } finally {
      this.going.hidden = true;
    }
  }

  /**
   * Asks with an empty body first: a missing key, a name that is taken or a full disk are told before gigabytes go out.
   * @param {string} path
   */
  async #mayBring(path) {
    try {
      await this.api.change("POST", path);
    } catch (error) {
      if (!(error instanceof Problem && error.type.endsWith(":empty-body"))) throw error;
    }
  }

  async #limit() {
    /** @type {Wire.Info} */
    const info = await this.api.get("info");
    return info.max_dataset_bytes;
  }

  /** @param {Entry[]} entries */
  async #zipped(entries) {
    const { signal } = this.abort;
    return await zip(entries, (done) => {
      signal.throwIfAborted();
      this.#show(`Reading file ${count(done)} of ${count(entries.length)}`, done, entries.length);
    });
  }

  /**
   * @param {string} text
   * @param {number} done
   * @param {number} of
   */
  #show(text, done, of) {
    this.bar.max = of;
    this.bar.value = done;
    fill(this.line, text);
    if (performance.now() - this.#said < QUIET) return;
    this.#said = performance.now();
    this.live.textContent = text;
  }
}

/** @param {File | Entry[]} what */
const sizeOf = (what) =>
  what instanceof File ? what.size : what.reduce((sum, { blob }) => sum + blob.size, 0);

/**
 * @param {number} size
 * @param {number} limit
 */
function checkSize(size, limit) {
  if (size <= limit) return;
  throw new Told(
    `This is ${bytes(size)}, and the service takes at most ${bytes(limit)}: bring smaller pictures or fewer of ` +
      "them; they are scaled to 224 pixels at most",
  );
}
