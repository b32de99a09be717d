// The very request that the page sends, to be used from elsewhere: curl, Python, JavaScript.

import { fill, h } from "./dom.js";
import { filled, templates } from "./snippets.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Kind } from "./snippets.js" */

const INLINE = 32 * 1024; // bytes of a picture that is written out; a larger one is a file beside it
const TYPE = /^[\w.+-]+\/[\w.+-]+$/;
const ANY = "application/octet-stream"; // the service looks at the first bytes
let language = "curl"; // the same everywhere on the page

export class Command {
  #file = "";
  /** @type {Kind} */
  #kind = "picture";
  /** @type {Record<string, unknown>} */
  #values = {};
  /** @type {boolean | null} */
  #open = null; // whether predictions need no key
  #wanted = false; // hidden meanwhile, it is not shown when a file has been read

  /**
   * @param {Api} api
   * @param {HTMLElement} host
   */
  constructor(api, host) {
    this.api = api;
    this.host = host;
    this.languages = h("div.choice", { role: "group", "aria-label": "Language" });
    this.code = h("code");
    this.copy = h("button", { type: "button", onclick: () => this.#copy() }, "Copy");
    this.download = h("a");
    fill(
      host,
      h("summary", "Use it from curl, Python, JavaScript"),
      this.languages,
      h("pre", { tabindex: "0", "aria-label": "Code" }, this.code),
      h("p.actions", this.copy, " ", this.download),
    );
    host.addEventListener("toggle", () => this.host.hidden || this.#write()); // another may have changed the language
  }

  hide() {
    this.#wanted = false;
    this.host.hidden = true;
  }

  /**
   * A picture or a row, as it is sent to this path.
   * @param {{ blob: Blob, name: string }} what
   * @param {string} path
   */
  async show({ blob, name }, path) {
    this.#wanted = true;
    URL.revokeObjectURL(this.#file);
    this.#file = URL.createObjectURL(blob);
    this.download.href = this.#file;
    const [file, type] = [name.replaceAll(/[^\w.-]/g, "_"), TYPE.test(blob.type) ? blob.type : ANY];
    this.download.download = file;
    this.download.textContent = `Download ${file}`;
    const model = new URLSearchParams(path.split("?")[1]).get("model") ?? "";
    if (blob.type === "application/json")
      await this.#prepare("row", { model, row: JSON.parse(await blob.text()) });
    else if (blob.size > INLINE) await this.#prepare("file", { model, type, name: file });
    else await this.#prepare("picture", { model, type, image: base64(await blob.arrayBuffer()) });
  }

  /**
   * @param {Kind} kind
   * @param {Record<string, unknown>} values
   */
  write(kind, values) {
    this.#wanted = true;
    return this.#prepare(kind, values);
  }

  /**
   * @param {Kind} kind
   * @param {Record<string, unknown>} values
   */
  async #prepare(kind, values) {
    this.#kind = kind;
    this.#values = { url: new URL(".", document.baseURI).href.replace(/\/$/, ""), ...values };
    try {
      this.#open ??= /** @type {Wire.Info} */ (await this.api.get("info")).open_predict;
      await this.#write();
      this.host.hidden = !this.#wanted;
    } catch {
      this.hide(); // the service is away; the next picture tries again
    }
  }

  async #write() {
    const { languages, snippets } = await templates();
    if (!this.languages.childElementCount) {
      fill(
        this.languages,
        Object.entries(languages).map(([name, label]) => this.#offer(name, label)),
      );
    }
    for (const button of this.languages.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button.value === language));
    }
    const values = { key: this.#open === false, ...this.#values };
    this.code.textContent = filled(snippets[this.#kind][language] ?? [], values);
  }

  /**
   * Made once: a button that is replaced while it is pressed is never clicked.
   * @param {string} name
   * @param {string} label
   */
  #offer(name, label) {
    const choose = () => {
      language = name;
      this.#write();
    };
    return h("button", { type: "button", value: name, onclick: choose }, label);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.code.textContent ?? "");
    } catch {
      // only https and localhost have a clipboard
      getSelection()?.selectAllChildren(this.code);
      document.execCommand("copy");
    }
    this.copy.textContent = "Copied";
    setTimeout(() => {
      this.copy.textContent = "Copy";
    }, 1500);
  }
}

/** @param {ArrayBuffer} buffer */
function base64(buffer) {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}
