// The columns of a table: what each is, how it lies in the classes, and the options by which it is read.

import { h } from "./dom.js";
import { number, share } from "./options.js";
import { dataPath, pageOfData } from "./paths.js";
import { allValid, field, markWrong } from "./setting.js";
import { count, sentences } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Control } from "./setting.js" */
/** @typedef {{ name: string, before: string, role: HTMLSelectElement }} RoleRow */

const ROLES = ["numeric", "categorical", "boolean", "date", "leave-out"];
/** @type {Record<string, string>} */
const LEFT_OUT = { text: "free text", id: "like row numbers", constant: "constant", duplicate: "a copy" };
const SEPARATORS = [",", ";", "\t", "|"];

export class ColumnsForm {
  /**
   * @param {Api} api
   * @param {Wire.DatasetBody} set
   * @param {Wire.TableProfile | Wire.TableDraft} profile
   * @param {() => unknown} again shows the data set anew
   */
  constructor(api, set, profile, again) {
    this.api = api;
    this.set = set;
    this.again = again;
    this.draft = profile.kind === "table-draft";
    this.profile = profile;
    const { options } = profile;
    const names = profile.columns.map(({ name }) => name);
    const proposed = profile.kind === "table-draft" ? profile.proposals : [];
    this.target = choose("target", [["", "choose one"], ...names.map(same)]);
    this.target.required = true;
    this.target.value =
      profile.columns.find(({ role }) => role === "target")?.name ?? proposed[0]?.column ?? "";
    this.group = choose("group", [["", "nothing"], ...names.map(same)]);
    this.group.value = options.group ?? "";
    this.time = choose("time", [["", "no"], ...names.map(same)]);
    this.time.value = options.time ?? "";
    const given = profile.kind === "table" ? profile.given_splits : [];
    this.test = share("test_share", options.test_share, given.includes("test"));
    this.validation = share("validation_share", options.validation_share, given.includes("validation"));
    this.seed = number("seed", { min: 0, max: 2 ** 32 - 1, required: true, value: options.seed });
    this.separator = choose("separator", [["", "by the file"], ...SEPARATORS.map(shownSeparator)]);
    this.separator.value = options.separator ?? "";
    this.header = choose("header", [
      ["", "by the file"],
      ["true", "names the columns"],
      ["false", "is a row"],
    ]);
    this.header.value = options.header === null ? "" : String(options.header);
    this.merge = tick("merge_similar", options.merge_similar);
    this.numbers = tick("numeric_target", options.numeric_target === "classes");
    this.literal = tick("quoting", !options.quoting);
    /** @type {RoleRow[]} */
    this.roles = [];
    this.said = h("p.problem", { role: "alert" });
    this.button = h("button.strong", { type: "submit" }, this.draft ? "Use this target" : "Make a new version");
    this.element = this.#form(proposed);
  }

  /** @param {Wire.Proposal[]} proposed */
  #form(proposed) {
    const why = proposed.length
      ? sentences(...proposed.map(({ column, why }) => `${column}: ${why}`))
      : "Its values are the classes.";
    const form = h(
      "form.sheet",
      { "aria-labelledby": "columns-title", novalidate: true },
      h("h2", { id: "columns-title" }, this.draft ? "Which column is the class?" : "Columns"),
      field("option-target", "Target: what the model tells", this.target, why),
      this.#legend(),
      this.#table(),
      h("details", h("summary", "Splits, labels, how the file is read"), this.#more()),
      this.said,
      h("p.actions", this.button),
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    return form;
  }

  #more() {
    const labelled = (/** @type {HTMLInputElement} */ control, /** @type {string} */ text) =>
      h("label.check", control, h("span", text));
    return h(
      "div.stack",
      h(
        "div.fields",
        field(
          "option-test_share",
          "For the test, %",
          this.test,
          "Of all rows, where the file has no test rows.",
        ),
        field("option-validation_share", "For validation, %", this.validation, "Of the others."),
        field("option-seed", "Random seed", this.seed, "Another one draws other splits."),
        field("option-group", "What belongs together", this.group, "Equal values stay in one split."),
        field("option-time", "In order of time", this.time, "The newest rows are the test."),
        field("option-separator", "Between values", this.separator, "Of a CSV file."),
        field("option-header", "The first line", this.header, "Of a CSV file."),
      ),
      labelled(this.merge, "Labels that differ only in blanks, case or a final dot are one class"),
      labelled(this.numbers, "The target's numbers are classes, however many"),
      labelled(this.literal, "Quotation marks are ordinary characters"),
    );
  }

  #legend() {
    const [first] = this.profile.columns.map(({ histogram }) => histogram).filter((each) => each !== null);
    if (!first) return null;
    const names = Object.keys(first.counts);
    if (first.others) names.push("other classes");
    return h(
      "p.legend.of-classes",
      names.map((name, i) => h("span", h("i", { "--hue": hue(i) }), name)),
    );
  }

  #table() {
    const drawn = !this.draft;
    const heads = ["Column", "Role", "Missing", "Different", "Such as"];
    if (drawn) heads.push("Tells of the target", "Rows by value and class");
    const table = h(
      "table.columns",
      h(
        "thead",
        h(
          "tr",
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h(
        "tbody",
        this.profile.columns.map((column) => this.#row(column, drawn)),
      ),
    );
    return h("div.wide", { tabindex: "0", role: "region", "aria-label": "Columns of the table" }, table);
  }

  /**
   * @param {Wire.ColumnFacts} column
   * @param {boolean} drawn
   */
  #row(column, drawn) {
    const { name, role, used, why, missing, distinct, examples, association, histogram } = column;
    const isTarget = role === "target";
    const before = isTarget ? "target" : used ? role : "leave-out";
    const select = choose("", ROLES.map(roleOption(column)));
    select.setAttribute("aria-label", `Role of ${name}`);
    select.value = before;
    if (!isTarget) this.roles.push({ name, before, role: select });
    return h(
      "tr",
      h("th", { scope: "row" }, name, why && h("small", sentences(why))),
      h("td", isTarget ? "target" : select),
      h("td.number", count(missing)),
      h("td.number", count(distinct)),
      h("td.examples", examples.slice(0, 3).join(", ")),
      drawn && h("td.number", association === null ? "–" : told(association)),
      drawn && h("td", histogram && bars(name, histogram)),
    );
  }

  /** @returns {Control[]} */
  get #controls() {
    return [
      this.target,
      this.test,
      this.validation,
      this.seed,
      this.group,
      this.time,
      this.separator,
      this.header,
    ];
  }

  /** @returns {Wire.TableOptions} */
  get options() {
    const { options } = this.profile;
    const roles = { ...options.roles };
    for (const { name, before, role } of this.roles) if (role.value !== before) roles[name] = role.value;
    delete roles[this.target.value];
    return {
      ...options,
      target: this.target.value,
      roles,
      group: this.group.value || null,
      time: this.time.value || null,
      test_share: Number(this.test.value) / 100,
      validation_share: Number(this.validation.value) / 100,
      seed: Number(this.seed.value),
      separator: this.separator.value || null,
      header: this.header.value === "" ? null : this.header.value === "true",
      merge_similar: this.merge.checked,
      numeric_target: this.numbers.checked ? "classes" : "ask",
      quoting: !this.literal.checked,
    };
  }

  async #send() {
    this.said.textContent = "";
    if (!allValid(this.#controls)) return;
    this.button.disabled = true;
    try {
      const body = { from: this.set.version, options: this.options };
      /** @type {Wire.DatasetBody} */
      const made = await this.api.change("POST", dataPath(this.set.name, "/versions"), body);
      if (made.version !== this.set.version) location.hash = pageOfData(made.name, made.version);
      else if (this.draft) await this.again();
      else this.said.textContent = "These are the options of this version.";
    } catch (error) {
      this.said.textContent = markWrong(this.#controls, error);
    } finally {
      this.button.disabled = false;
    }
  }
}

/** A table whose import has failed, read again with another target. */
export class TargetAgain {
  /**
   * @param {Api} api
   * @param {Wire.DatasetBody} set
   */
  constructor(api, set) {
    this.target = h("input", { id: "option-target", name: "target", required: true, maxlength: 200 });
    const said = h("p.problem", { role: "alert" });
    this.element = h(
      "form.sheet",
      { "aria-label": "Another target", novalidate: true },
      field("option-target", "Another target", this.target, "The name of the column with the class."),
      said,
      h("p.actions", h("button.strong", { type: "submit" }, "Import again")),
    );
    this.element.onsubmit = async (event) => {
      event.preventDefault();
      if (!allValid([this.target])) return;
      try {
        const options = { target: this.target.value };
        /** @type {Wire.DatasetBody} */
        const made = await api.change("POST", dataPath(set.name, "/versions"), { from: set.version, options });
        location.hash = pageOfData(made.name, made.version);
      } catch (error) {
        said.textContent = markWrong([this.target], error);
      }
    };
  }
}

/** @param {number} association 0..1 */
function told(association) {
  return h("span.told", h("i", { "aria-hidden": "true", "--share": association }), association.toFixed(2));
}

/**
 * A bar for each bin, of as many parts as there are classes.
 * @param {string} name
 * @param {Wire.Histogram} histogram
 */
function bars(name, { bins, counts, others }) {
  const parts = [...Object.values(counts), ...(others ? [others] : [])];
  const totals = bins.map((_, bin) => parts.reduce((sum, part) => sum + (part[bin] ?? 0), 0));
  const most = Math.max(1, ...totals);
  const said = bins.map((bin, i) => `${bin}: ${count(totals[i])}`).join("; ");
  return h(
    "div.histogram",
    { role: "img", "aria-label": `Rows by ${name}: ${said}` },
    bins.map((bin, i) =>
      h(
        "span",
        { title: `${bin}: ${count(totals[i])}` },
        parts.map((part, at) => h("i", { "--share": (part[i] ?? 0) / most, "--hue": hue(at) })),
      ),
    ),
  );
}

/** @param {number} at */
const hue = (at) => (210 + 137.5 * at) % 360;

/**
 * @param {Wire.ColumnFacts} column
 * @returns {(role: string) => [string, string]}
 */
const roleOption =
  ({ role, used }) =>
  (value) => {
    if (value !== "leave-out") return [value, value];
    const why = used ? undefined : LEFT_OUT[role];
    return [value, why ? `left out: ${why}` : "left out"];
  };

/**
 * @param {string} name
 * @param {[value: string, text: string][]} options
 */
function choose(name, options) {
  return h(
    "select",
    name ? { id: `option-${name}`, name } : {},
    options.map(([value, text]) => h("option", { value }, text)),
  );
}

/**
 * @param {string} name
 * @param {boolean} on
 */
function tick(name, on) {
  const control = h("input", { type: "checkbox", name });
  control.checked = on;
  return control;
}

/** @param {string} text */
const same = (text) => /** @type {[string, string]} */ ([text, text]);

/** @param {string} mark */
const shownSeparator = (mark) => /** @type {[string, string]} */ ([mark, mark === "\t" ? "tab" : mark]);
