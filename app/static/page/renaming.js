// A model under another name, and a version as a model of its own.

import { h } from "./dom.js";
import { modelPath, pageOf } from "./paths.js";
import { allValid, field, markWrong } from "./setting.js";

/** @import { Doing } from "./versions.js" */

const PATTERN = "[a-z0-9][a-z0-9\\-]{0,63}";

/**
 * @param {Doing} doing
 * @param {string} name
 */
export function renameForm({ api }, name) {
  return nameForm(
    "rename",
    `Rename ${name}`,
    "Its versions keep their numbers. Who asks for the old name gets no answer.",
    async (to) => {
      await api.change("POST", modelPath(name, "/rename"), { to, why: "from the page" });
      return pageOf(to);
    },
  );
}

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {number} version
 */
export function copyForm({ api }, name, version) {
  const about = "A new name makes a model of it; else it becomes the newest version of that model.";
  return nameForm("copy", `Copy version ${version} to another model`, about, async (to) => {
    const path = modelPath(name, `/versions/${version}/copy`);
    const made = await api.change("POST", path, { to, why: "from the page" });
    return pageOf(to, made.version);
  });
}

/**
 * @param {string} id
 * @param {string} title
 * @param {string} about
 * @param {(to: string) => Promise<string>} send answers with the page to turn to
 */
function nameForm(id, title, about, send) {
  const to = h("input", {
    id: `${id}-to`,
    name: "to",
    required: true,
    pattern: PATTERN,
    autocomplete: "off",
    spellcheck: "false",
  });
  const said = h("p.problem", { role: "alert" });
  const button = h("button", { type: "submit" }, title);
  const onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (!allValid([to])) return;
    button.disabled = true;
    try {
      location.hash = await send(to.value);
    } catch (error) {
      said.textContent = markWrong([to], error);
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "details",
    h("summary", title),
    h(
      "form.bring",
      { onsubmit, novalidate: true, "aria-label": title },
      field(`${id}-to`, "New name", to, about),
      h("p.actions", button),
      said,
    ),
  );
}
