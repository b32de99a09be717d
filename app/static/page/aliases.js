// Names for versions: made, renamed, pointed elsewhere, deleted; and the end of a model.

import { act, h } from "./dom.js";
import { modelPath, pageOf } from "./paths.js";
import { allValid, field, markWrong } from "./setting.js";
import { told } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Doing } from "./versions.js" */

const PRODUCTION = "production";
const PATTERN = "[a-z][a-z0-9\\-]{0,63}";

/**
 * @param {Doing} doing
 * @param {string} name of the model
 * @param {Wire.VersionBody[]} versions
 */
export function aliasesOf(doing, name, versions) {
  const rows = versions.flatMap(({ version, aliases }) => aliases.map((alias) => ({ alias, version })));
  rows.sort((a, b) => Number(b.alias === PRODUCTION) - Number(a.alias === PRODUCTION));
  return h(
    "section.aliases",
    { "aria-labelledby": "aliases-title" },
    h("h2", { id: "aliases-title" }, "Names of versions"),
    h("p.fine", `${name} alone means production. Any other name is asked as ${name}@name.`),
    h(
      "ul.names",
      { role: "list" },
      rows.map((row) => h("li", aliasRow(doing, name, versions, row))),
    ),
    newAlias(doing, name, versions),
  );
}

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {Wire.VersionBody[]} versions
 * @param {{ alias: string, version: number }} row
 */
function aliasRow(doing, name, versions, { alias, version }) {
  const asked = `${name}@${alias}`;
  const facts = [
    h("b", alias),
    h("a", { href: pageOf(name, version) }, `Version ${version}`),
    h("a", { href: `#/try?model=${asked}`, "aria-label": `Try ${asked}` }, "Try it"),
  ];
  if (alias === PRODUCTION) return h("p.line", facts);
  const remove = async () => {
    await doing.api.change("DELETE", modelPath(name, `/aliases/${encodeURIComponent(alias)}`));
    await doing.anew();
  };
  return h(
    "div.line",
    facts,
    h(
      "details",
      h("summary", { "aria-label": `Change ${alias}` }, "Change"),
      aliasForm(doing, name, versions, { alias, version }),
    ),
    act("Delete", remove, { say: doing.say, kind: "quiet", sure: true }),
  );
}

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {Wire.VersionBody[]} versions
 */
const newAlias = (doing, name, versions) =>
  h("details", h("summary", "New name"), aliasForm(doing, name, versions, null));

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {Wire.VersionBody[]} versions
 * @param {{ alias: string, version: number } | null} before
 */
function aliasForm({ api, anew }, name, versions, before) {
  const id = `alias-${before?.alias ?? ""}`;
  const alias = h("input", {
    id,
    name: "alias",
    required: true,
    pattern: PATTERN,
    autocomplete: "off",
    spellcheck: "false",
    value: before?.alias ?? "",
  });
  const options = versions.map(({ version }) => h("option", { value: version }, `version ${version}`));
  const version = h("select", { id: `${id}-version`, name: "version" }, options);
  version.value = String(before?.version ?? versions[0]?.version);
  const said = h("p.problem", { role: "alert" });
  const send = async () => {
    if (!allValid([alias])) return;
    if (alias.value === PRODUCTION) {
      said.textContent = "What serves is chosen by the button of the version.";
      return;
    }
    try {
      const body = { version: Number(version.value), why: "from the page" };
      await api.change("PUT", modelPath(name, `/aliases/${encodeURIComponent(alias.value)}`), body);
      if (before && before.alias !== alias.value)
        await api.change("DELETE", modelPath(name, `/aliases/${encodeURIComponent(before.alias)}`));
      await anew();
    } catch (error) {
      said.textContent = markWrong([alias, version], error);
    }
  };
  const onsubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    send();
  };
  return h(
    "form.fields",
    { onsubmit, novalidate: true, "aria-label": before ? `Change ${before.alias}` : "New name" },
    field(id, "Name", alias, "Small letters, digits and hyphens."),
    field(`${id}-version`, "Means", version, ""),
    h("p.actions", h("button", { type: "submit" }, before ? "Change it" : "Make it")),
    said,
  );
}

/**
 * The end of a model: its name has to be typed.
 * @param {Doing} doing
 * @param {string} name
 * @param {number} versions
 */
export function endOf({ api }, name, versions) {
  const typed = h("input", { id: "end-name", autocomplete: "off", spellcheck: "false" });
  const said = h("p.problem", { role: "alert" });
  const button = h("button", { type: "submit", disabled: true }, `Delete ${name}`);
  typed.oninput = () => {
    button.disabled = typed.value.trim() !== name;
  };
  const remove = async () => {
    button.disabled = true;
    try {
      await api.change("DELETE", modelPath(name));
      location.hash = "#/models";
    } catch (error) {
      said.textContent = told(error);
      button.disabled = false;
    }
  };
  const onsubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (!button.disabled) remove();
  };
  const all = versions === 1 ? "its version" : `its ${versions} versions`;
  return h(
    "details.end",
    h("summary", `Delete ${name}`),
    h(
      "form.bring",
      { onsubmit, "aria-label": `Delete ${name}` },
      field(
        "end-name",
        "Its name, to be sure",
        typed,
        `${name} goes with ${all}, their names and files, for good.`,
      ),
      h("p.actions", button),
      said,
    ),
  );
}
