// Bring weights that were trained elsewhere: a file becomes a version, and what was told from it is said.

import { nameInput } from "./bring.js";
import { fill, h } from "./dom.js";
import { nameOf } from "./folder.js";
import { PROMOTE } from "./form.js";
import { Sending } from "./sending.js";
import { allValid, field, mark, markWrong, select } from "./setting.js";
import { bytes, sentences } from "./text.js";
import { plain, Told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const KINDS = ".pth,.pt,.safetensors,.onnx";
const MOST_CARD = 64 * 1024; // bytes; the service takes no longer text

export class BringWeights {
  /** @type {File | null} */
  #file = null;
  /** @type {File | null} */
  #card = null;
  #suggested = ""; // the name that was made of the file's

  /**
   * @param {Api} api
   * @param {(model: string, version: number) => void} onMade
   */
  constructor(api, onMade) {
    this.api = api;
    this.onMade = onMade;
    this.sending = new Sending(api);
    this.name = nameInput("weights-model");
    this.dataset = select("weights-dataset", "dataset", []);
    this.promote = select("weights-promote", "promote", Object.keys(PROMOTE));
    for (const option of this.promote.options) option.text = PROMOTE[option.value] ?? option.value;
    this.what = h("p", { role: "status" });
    this.said = h("p.problem", { role: "alert" });
    this.notes = h("ul.notes", { role: "list", "aria-label": "What was told from the file" });
    this.state = h("p", { role: "status" });
    this.submit = h("button.strong", { type: "submit", disabled: true }, "Upload");
    this.element = h("details.weights", h("summary", "Bring weights from elsewhere"), this.#form());
    this.element.ontoggle = () => this.element.open && this.#offerSets();
  }

  /** @param {string} model that gets a version; "" for any */
  of(model) {
    if (model) this.name.value = model;
    else if (!this.#file) this.name.value = "";
    return this.element;
  }

  #form() {
    const form = h(
      "form.sheet.bring",
      { "aria-label": "Bring weights", novalidate: true },
      h(
        "p.fine",
        "A .pth, .pt or safetensors file with a state_dict, or an ONNX file. The layers are told from the names " +
          "and shapes in it; nothing in it is executed.",
      ),
      this.#zone(),
      field("weights-model", "Model", this.name, "It gets a new version; a new name makes a new model."),
      field(
        "weights-dataset",
        "Data set",
        this.dataset,
        "It is measured on the test pictures of this, and what weights do not tell is tried on the others.",
      ),
      field("weights-promote", "Serve it", this.promote, "Whether the new version answers from then on."),
      this.said,
      h("p.actions", this.submit),
      this.sending.element,
      this.state,
      this.notes,
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    return form;
  }

  #zone() {
    const zone = h(
      "div.drop",
      h("p.drop-hint", "Drop a file here"),
      h(
        "p.actions",
        chooser("Choose weights", KINDS, (file) => this.#take(file)),
        chooser("Choose a card (JSON), if there is one", ".json,application/json", (file) => this.#take(file)),
      ),
      this.what,
    );
    zone.ondragover = (event) => {
      event.preventDefault();
      zone.classList.add("over");
    };
    zone.ondragleave = () => zone.classList.remove("over");
    zone.ondrop = (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      for (const file of event.dataTransfer?.files ?? []) this.#take(file);
    };
    return zone;
  }

  /** @param {File} file weights, or the card that belongs to them */
  #take(file) {
    this.said.textContent = "";
    if (/\.json$/i.test(file.name)) this.#card = file;
    else this.#file = file;
    const shown = [this.#file, this.#card].filter((one) => one !== null);
    this.what.textContent = shown.map(({ name, size }) => `${name}, ${bytes(size)}`).join(" · ");
    this.submit.disabled = !this.#file;
    if (!this.#file || (this.name.value && this.name.value !== this.#suggested)) return;
    this.name.value = this.#suggested = nameOf(this.#file.name.replace(/\.\w+$/, ""));
    if (this.name.isConnected) mark(this.name, "");
  }

  async #offerSets() {
    /** @type {Wire.DatasetLine[]} */
    const sets = await this.api.get("datasets").catch(() => []);
    const chosen = this.dataset.value;
    const ready = sets.filter(({ status, kind }) => status === "ready" && kind === "images");
    fill(
      this.dataset,
      h("option", { value: "" }, "none: it is not tested"),
      ready.map(({ name }) => h("option", { value: name }, name)),
    );
    this.dataset.value = ready.some(({ name }) => name === chosen) ? chosen : "";
  }

  async #send() {
    this.said.textContent = this.state.textContent = "";
    this.notes.replaceChildren();
    if (!this.#file || !allValid([this.name])) return;
    this.submit.disabled = true;
    try {
      const made = await this.sending.sendWeights(this.name.value, this.#file, await this.#beside());
      if (made) await this.#follow(made.job);
    } catch (error) {
      this.said.textContent = markWrong([this.name], error);
    } finally {
      this.submit.disabled = !this.#file;
    }
  }

  /** What is said of the file. Raises Told. */
  async #beside() {
    /** @type {Record<string, string>} */
    const said = { promote: this.promote.value };
    if (this.dataset.value) said.dataset = this.dataset.value;
    if (!this.#card) return said;
    if (this.#card.size > MOST_CARD) {
      throw new Told(`${this.#card.name} is ${bytes(this.#card.size)}; a card has at most ${bytes(MOST_CARD)}`);
    }
    return { ...said, card: await this.#card.text() };
  }

  /**
   * The job that reads the file, until it has ended.
   * @param {Wire.JobBody} job
   */
  async #follow({ id, warning }) {
    const path = `train/${encodeURIComponent(id)}`;
    const link = h("a", { href: `#/train/${id}` }, "See the job");
    fill(this.state, warning ? sentences(warning) : "The file is being read …", " ", link);
    for await (const { kind, data } of this.api.follow(`${path}/events`, new AbortController().signal)) {
      if (kind === "note") this.notes.append(h("li", sentences(data.text)));
    }
    this.#ended(await this.api.get(path));
  }

  /** @param {Wire.JobBody} job */
  #ended({ status, model, version, error, decision }) {
    this.state.textContent = "";
    if (status !== "succeeded" || version === null) {
      this.said.textContent = sentences(error ?? `It was ${status}`);
      return;
    }
    this.state.textContent = sentences(`It is version ${version} of ${model}`, plain(decision?.reason));
    this.#file = this.#card = null;
    this.what.textContent = "";
    this.onMade(model, version);
  }
}

/**
 * @param {string} label
 * @param {string} accept
 * @param {(file: File) => void} take
 */
function chooser(label, accept, take) {
  const input = h("input", { type: "file", accept });
  input.onchange = () => {
    for (const file of input.files ?? []) take(file);
    input.value = "";
  };
  return h("label.file", input, h("span", label));
}
