// Files on their way to the service: made into one, sent, and how far that is.

import { Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { modelPath } from "./paths.js";
import { bytes, count } from "./text.js";
import { Told } from "./words.js";
import { zip } from "./zip.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Entry } from "./zip.js" */

const QUIET = 2000; // ms between two announcements
/** How to send less, by the limit that is exceeded. */
const SMALLER = {
  max_dataset_bytes: "bring smaller pictures or fewer of them; they are scaled to 224 pixels at most",
  max_weights_bytes: "save the state_dict of the model alone, without the optimizer",
};

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
    return this.#send(`datasets?name=${encodeURIComponent(name)}`, "max_dataset_bytes", what, (blob) => blob);
  }

  /**
   * The job that reads a file with weights; null where it was cancelled. Raises Problem, Away or Told.
   * @param {string} model
   * @param {File} file
   * @param {Record<string, string>} said fields of the form beside the file
   * @returns {Promise<Wire.UploadBody | null>}
   */
  async sendWeights(model, file, said) {
    const query = new URLSearchParams({ wait: "0", promote: said.promote ?? "if_better" });
    const path = modelPath(model, `/versions?${query}`);
    return this.#send(path, "max_weights_bytes", file, (blob) => {
      const form = new FormData();
      for (const [name, text] of Object.entries(said)) form.append(name, text);
      form.append("weights", blob);
      return form;
    });
  }

  /**
   * @param {string} path
   * @param {keyof typeof SMALLER} limit
   * @param {File | Entry[]} what
   * @param {(blob: Blob) => Blob | FormData} pack
   */
  async #send(path, limit, what, pack) {
    this.abort = new AbortController();
    await this.#mayBring(path);
    /** @type {Wire.Info} */
    const info = await this.api.get("info");
    const most = info[limit];
    this.going.hidden = false;
    try {
      checkSize(sizeOf(what), most, SMALLER[limit]);
      const blob = what instanceof File ? what : await this.#zipped(what);
      checkSize(blob.size, most, SMALLER[limit]);
      this.#show(`Sending ${bytes(blob.size)}`, 0, blob.size);
      const response = await this.api.request(path, {
        method: "POST",
        ...packed(pack(blob), what instanceof File),
        signal: this.abort.signal,
        onSent: (sent) => this.#sent(Math.min(sent, blob.size), blob.size),
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

  /** @param {Entry[]} entries */
  async #zipped(entries) {
    const { signal } = this.abort;
    return await zip(entries, (done) => {
      signal.throwIfAborted();
      this.#show(`Reading file ${count(done)} of ${count(entries.length)}`, done, entries.length);
    });
  }

  /**
   * @param {number} sent
   * @param {number} of
   */
  #sent(sent, of) {
    this.#show(`Sent ${bytes(sent)} of ${bytes(of)}`, sent, of);
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
 * @param {Blob | FormData} body whose content type is the browser's, where it is a form
 * @param {boolean} asIs
 */
function packed(body, asIs) {
  if (body instanceof FormData) return { body };
  return { body, headers: { "content-type": asIs ? "application/octet-stream" : "application/zip" } };
}

/**
 * @param {number} size
 * @param {number} limit
 * @param {string} smaller
 */
function checkSize(size, limit, smaller) {
  if (size <= limit) return;
  throw new Told(`This is ${bytes(size)}, and the service takes at most ${bytes(limit)}: ${smaller}`);
}
