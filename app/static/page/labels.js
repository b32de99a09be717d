// What people write on a run: a name, notes, tags.

import { h } from "./dom.js";
import { field, mark, markWrong } from "./setting.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const MOST = { name: 100, notes: 4000, tags: 16, tag: 32 }; // as the service has it

/**
 * A form that changes them.
 * @param {Api} api
 * @param {Wire.JobBody} job
 * @param {(job: Wire.JobBody) => void} done
 * @param {string} id of the form, with which those of its controls begin
 */
export function labelsForm(api, job, done, id) {
  const name = h("input", { id: `${id}-name`, name: "name", autocomplete: "off", maxlength: MOST.name });
  const notes = h("textarea", { id: `${id}-notes`, name: "notes", rows: 4, maxlength: MOST.notes });
  const tags = h("input", { id: `${id}-tags`, name: "tags", autocomplete: "off", spellcheck: "false" });
  name.value = job.name ?? "";
  notes.value = job.notes ?? "";
  tags.value = job.tags.join(" ");
  const said = h("p.problem", { role: "alert" });
  const button = h("button", { type: "submit" }, "Save");
  const onsubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    said.textContent = "";
    const found = tags.value.split(/[\s,#]+/).filter(Boolean);
    const wrong =
      found.length > MOST.tags
        ? `At most ${MOST.tags} tags.`
        : found.some(({ length }) => length > MOST.tag) && `At most ${MOST.tag} letters in each.`;
    mark(tags, wrong || "");
    if (wrong) {
      tags.focus();
      return;
    }
    button.disabled = true;
    try {
      const body = { name: name.value, notes: notes.value, tags: found };
      done(await api.change("PATCH", `train/${encodeURIComponent(job.id)}`, body));
    } catch (error) {
      said.textContent = markWrong([name, notes, tags], error);
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "form.bring.labels",
    { id, onsubmit, novalidate: true, "aria-label": `Name, notes and tags of ${job.model}` },
    field(name.id, "Name", name, "Of this run; the model keeps its own."),
    field(notes.id, "Notes", notes, "What was tried, and what came of it."),
    field(tags.id, "Tags", tags, "Words, with a blank between."),
    said,
    h("p.actions", button),
  );
}

/**
 * Name, tags and notes as they are shown; null without any.
 * @param {Wire.JobBody} job
 */
export function labels({ name, notes, tags }) {
  if (!name && !notes && !tags.length) return null;
  return h(
    "div.labels",
    name && h("b", name),
    tags.map((tag) => h("span.tag", `#${tag}`)),
    notes && h("p.fine", notes),
  );
}
