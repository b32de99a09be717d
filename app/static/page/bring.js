// Bring a data set: drop or choose a zip, npz, CSV or parquet file, or a folder of class folders.

import { h } from "./dom.js";
import { chosen, dropped, nameOf } from "./folder.js";
import { pageOfDataset } from "./paths.js";
import { Sending } from "./sending.js";
import { allValid, field, mark, markWrong } from "./setting.js";
import { bytes, plural } from "./text.js";

/** @import { Api } from "./api.js" */
/** @import { Brought } from "./folder.js" */

const TABLES_TOO = ".zip,.npz,.csv,.tsv,.txt,.parquet,.gz";

export class Bring {
  /** @type {Brought | null} */
  #brought = null;

  /** @param {Api} api */
  constructor(api) {
    this.sending = new Sending(api);
    this.name = nameInput("bring-name");
    this.said = h("p.problem", { role: "alert" });
    this.what = h("p", { role: "status" });
    this.submit = h("button.strong", { type: "submit", disabled: true }, "Import");
    this.zone = h(
      "div.drop",
      h("p.drop-hint", "Drop a folder, a zip, an npz or a CSV file here"),
      h(
        "p.actions",
        this.#input("Choose a folder", { webkitdirectory: true }),
        this.#input("Choose a file", { multiple: true }),
      ),
      this.what,
    );
    this.element = this.#form();
  }

  #form() {
    const form = h(
      "form.sheet.bring",
      { "aria-labelledby": "bring-title", novalidate: true },
      h("h2", { id: "bring-title" }, "Bring pictures or a table"),
      h(
        "p.fine",
        "A folder for each class, named as the class, with its pictures in it: cats/1.jpg, dogs/1.jpg. " +
          "Folders train, validation and test around them are honoured. A table is a CSV or parquet file, or " +
          "train.csv and test.csv together.",
      ),
      this.zone,
      field("bring-name", "Name", this.name, "A name that is there already gets a new version."),
      this.said,
      h("p.actions", this.submit),
      this.sending.element,
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    return form;
  }

  /**
   * @param {string} label
   * @param {Record<string, unknown>} attributes
   */
  #input(label, attributes) {
    const kinds = attributes.webkitdirectory ? null : TABLES_TOO;
    const input = h("input", { type: "file", accept: kinds, ...attributes });
    input.onchange = () => {
      this.take(chosen(input.files));
      input.value = "";
    };
    return h("label.file", input, h("span", label));
  }

  /** @param {DragEvent} event */
  async drop(event) {
    event.preventDefault();
    this.said.textContent = "";
    try {
      this.take(await dropped(event.dataTransfer));
    } catch {
      this.said.textContent = "The browser cannot read what was dropped. Choose it with the button instead.";
    }
  }

  /** @param {Brought | null} brought */
  take(brought) {
    if (!brought) return;
    this.#brought = brought;
    const { archive, entries, name } = brought;
    const size = archive?.size ?? entries.reduce((sum, { blob }) => sum + blob.size, 0);
    const what = archive ? archive.name : `${name}: ${plural(entries.length, "file")}`;
    this.what.textContent = `${what}, ${bytes(size)}`;
    this.name.value ||= nameOf(name);
    mark(this.name, "");
    this.said.textContent = "";
    this.submit.disabled = false;
  }

  async #send() {
    this.said.textContent = "";
    if (!this.#brought || !allValid([this.name])) return;
    this.submit.disabled = true;
    try {
      const made = await this.sending.send(this.name.value, this.#brought.archive ?? this.#brought.entries);
      if (made) this.#forget(made.reference);
    } catch (error) {
      this.said.textContent = markWrong([this.name], error);
    } finally {
      this.submit.disabled = !this.#brought;
    }
  }

  /** @param {string} reference of what has come of it */
  #forget(reference) {
    this.#brought = null;
    this.what.textContent = this.name.value = "";
    location.hash = pageOfDataset(reference);
  }
}

/** @param {string} id */
export const nameInput = (id) =>
  h("input", {
    id,
    name: "name",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    pattern: "[a-z0-9][a-z0-9\\-]{0,63}",
  });
