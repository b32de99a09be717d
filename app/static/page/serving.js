// Which version serves. One that is worse, or that tells other things apart, serves only after its difference was shown.

import { verdict } from "./compare.js";
import { fill, h, loading } from "./dom.js";
import { withoutTestSet } from "./mistakes.js";
import { modelPath } from "./paths.js";
import { percent, plural } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @typedef {{ version: number, card: Wire.Card }} Carded a version with its card */

const NAMED = 5; // classes of a difference

/**
 * Serves a version, after a question where something speaks against it; whether it serves now.
 * @param {Api} api
 * @param {string} name of the model
 * @param {number} version
 * @param {() => Promise<unknown>} [send] how it is done, if not by pointing `production` at it
 */
export async function serve(api, name, version, send) {
  /** @type {Wire.VersionBody[]} */
  const versions = await api.get(modelPath(name, "/versions"));
  const now = versions.find(({ aliases }) => aliases.includes("production"));
  const next = versions.find((each) => each.version === version);
  if (now && next && !(await mayReplace(api, name, now, next))) return false;
  const point = () =>
    api.change("PUT", modelPath(name, "/aliases/production"), { version, why: "from the page" });
  await (send ?? point)();
  return true;
}

/**
 * Goes back to the version that served before the present one; whether that has happened.
 * @param {Api} api
 * @param {string} name of the model
 */
export async function rollBack(api, name) {
  const send = () => api.change("POST", modelPath(name, "/rollback"), { why: "from the page" });
  /** @type {Wire.AuditBody[]} */
  const audit = await api.get(modelPath(name, "/audit")).catch(() => []);
  const before = audit.find(({ alias, action }) => alias === "production" && action !== "keep")?.from_version;
  if (before) return serve(api, name, before, send);
  await send();
  return true;
}

/**
 * @param {Carded} now
 * @param {Carded} next
 */
function objections(now, next) {
  const kinds = [now, next].map(({ card }) => (card.input.kind === "table" ? "rows of a table" : "pictures"));
  const sets = [now, next].map(({ card }) => card.dataset?.name ?? "data that is not known");
  return [
    kinds[0] !== kinds[1] && `It takes ${kinds[1]}; version ${now.version} takes ${kinds[0]}.`,
    ...classes(now.card.classes, next.card.classes),
    sets[0] !== sets[1] && `It was trained on ${sets[1]}; version ${now.version} on ${sets[0]}.`,
    accuracy(now, next),
  ].filter((each) => typeof each === "string");
}

/**
 * @param {string[]} before
 * @param {string[]} after
 */
function classes(before, after) {
  const gone = before.filter((label) => !after.includes(label));
  const added = after.filter((label) => !before.includes(label));
  const order = !gone.length && !added.length && before.join("\n") !== after.join("\n");
  return [
    gone.length > 0 && `It does not know ${listed(gone)}.`,
    added.length > 0 && `New are ${listed(added)}.`,
    order && "Its classes stand in another order: programs that use their numbers get others.",
  ];
}

/** @param {string[]} labels */
function listed(labels) {
  const shown = labels.slice(0, NAMED).map((label) => `“${label}”`);
  const left = labels.length - shown.length;
  return `${plural(labels.length, "class", "classes")}: ${shown.join(", ")}${left ? ` and ${left} more` : ""}`;
}

/**
 * @param {Carded} now
 * @param {Carded} next
 */
function accuracy(now, next) {
  const [before, after] = [now, next].map(({ card }) => card.metrics.test?.accuracy);
  if (after === undefined) return "It has not been tested.";
  if (before === undefined || after >= before) return null;
  return `It has an accuracy of ${percent(after)} on the test set; version ${now.version} has ${percent(before)}.`;
}

/**
 * @param {Api} api
 * @param {string} name
 * @param {Wire.VersionBody} now
 * @param {Wire.VersionBody} next
 */
async function mayReplace(api, name, now, next) {
  const found = await objectionsTo(api, name, now, next);
  return !found.length || (await asked(api, name, now.version, next.version, found));
}

/**
 * What speaks against serving a version in the place of another, in sentences; none where nothing does.
 * @param {Api} api
 * @param {string} name
 * @param {Wire.VersionBody} now
 * @param {Wire.VersionBody} next
 */
export async function objectionsTo(api, name, now, next) {
  if (now.version === next.version) return [];
  const [before, after] = await Promise.all(
    [now, next].map(async ({ version }) => {
      /** @type {Wire.Card | null} */
      const card = await api.get(modelPath(`${name}@${version}`)).catch(() => null); // damaged
      return card && { version, card };
    }),
  );
  return before && after ? objections(before, after) : [];
}

/**
 * Shows what would change; the safe answer has the focus.
 * @param {Api} api
 * @param {string} name
 * @param {number} now
 * @param {number} next
 * @param {string[]} found what speaks against it
 * @returns {Promise<boolean>}
 */
function asked(api, name, now, next, found) {
  const examples = h("div.stack", { "aria-live": "polite" });
  const keep = h("button.strong", { value: "keep", autofocus: true }, `Keep version ${now}`);
  const dialog = h(
    "dialog.decision",
    { "aria-labelledby": "decision-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "decision-title" }, `Serve version ${next} of ${name}?`),
      h(
        "ul.notes",
        { role: "list" },
        found.map((text) => h("li", text)),
      ),
      examples,
      h("p.actions", keep, h("button", { value: "serve" }, `Serve version ${next} all the same`)),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  showExamples(api, name, now, next, examples);
  return new Promise((done) => {
    const close = () => {
      dialog.remove();
      done(dialog.returnValue === "serve");
    };
    dialog.addEventListener("close", close, { once: true });
  });
}

/**
 * The test images that the two answer differently.
 * @param {Api} api
 * @param {string} name
 * @param {number} now
 * @param {number} next
 * @param {HTMLElement} host
 */
async function showExamples(api, name, now, next, host) {
  const again = () => showExamples(api, name, now, next, host);
  fill(host, loading("Both are answering every test image"));
  try {
    const search = new URLSearchParams({ a: String(now), b: String(next) });
    fill(host, verdict(await api.get(modelPath(name, `/compare?${search}`))));
  } catch (error) {
    fill(host, withoutTestSet(error, again));
  }
}
