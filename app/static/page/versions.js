// A version as a card, what its file says, and the history of a model.

import { act, h } from "./dom.js";
import { save } from "./files.js";
import { modelPath, pageOf } from "./paths.js";
import { serve } from "./serving.js";
import { capital, count, percent, plural, sentences, when } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */
/** @import { Child } from "./dom.js" */
/** @typedef {{ api: Api, say: (text: string) => void, anew: () => Promise<void> }} Doing how buttons act and report */

/**
 * @param {Wire.Card} card
 * @param {[string, Child][]} before
 * @param {[string, Child][]} after
 */
export function facts(card, before = [], after = []) {
  const { test } = card.metrics;
  const scores = test?.calibrated ?? test?.uncalibrated;
  const rows = [
    ...before,
    ["Parameters", count(card.parameters)],
    ["Calibration error", scores ? percent(scores.ece) : "–"],
    ...after,
  ];
  return h(
    "dl.facts",
    rows.map(([term, text]) => h("div", h("dt", term), h("dd", text))),
  );
}

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {Wire.VersionBody} version
 * @param {Wire.Card | null} card
 * @param {boolean} chosen
 */
export function versionCard(doing, name, version, card, chosen) {
  const { version: number, aliases, accuracy, job } = version;
  const link = h("a", { href: pageOf(name, number), "aria-current": chosen && "true" }, `Version ${number}`);
  return h(
    "li.sheet.version-card",
    { "data-version": number, "data-chosen": chosen },
    h(
      "header",
      h("h3", link),
      aliases.map((alias) => h("span.tag", { "data-alias": alias }, alias)),
    ),
    h("p.figure", percent(accuracy), accuracy === null && h("small", "not tested")),
    card && facts(card, [], origin(card, version)),
    card && notes(card),
    h(
      "p.files",
      "Download: ",
      FORMATS.map(([format, label]) => download(doing, name, number, format, label)),
    ),
    h("p.fine", job ? ["From ", h("a", { href: `#/train/${job}` }, "this run")] : "Shipped with the service"),
    h("p.actions", actions(doing, name, version)),
  );
}

/** @type {[format: string, label: string][]} */
const FORMATS = [
  ["pth", "pth"],
  ["safetensors", "safetensors"],
  ["onnx", "ONNX"],
  ["card", "card"],
];

/**
 * A file of a version: fetched with the key where one is needed, and then saved.
 * @param {Doing} doing
 * @param {string} name
 * @param {number} version
 * @param {string} format
 * @param {string} label
 */
function download({ api, say }, name, version, format, label) {
  const path = modelPath(`${name}@${version}`, `/export?format=${format}`);
  const ending = format === "card" ? "json" : format;
  const doing = () => save(api, path, `${name}-${version}.${ending}`);
  const button = act(label, doing, { say, kind: "quiet" });
  button.ariaLabel = `Download version ${version} as ${label}`;
  return button;
}

/**
 * What a run has decided, or what was told from weights that somebody brought.
 * @param {Wire.Card} card
 */
function notes({ notes: texts, training }) {
  if (!texts.length) return null;
  return h(
    "details",
    h("summary", training ? "What its run decided" : "What was inferred"),
    h(
      "ul.notes",
      { role: "list" },
      texts.map((text) => h("li", sentences(text))),
    ),
  );
}

/**
 * @param {Wire.Card} card
 * @param {Wire.VersionBody} version
 * @returns {[string, string][]}
 */
function origin({ training, architecture }, { created_at: created, job }) {
  const brought = job ? "brought as weights" : "–";
  return [
    ["Layers", architecture],
    ["Recipe", training ? `${training.recipe}, ${plural(training.epochs, "epoch")}` : brought],
    ["Made", when(created)],
  ];
}

/**
 * @param {Doing} doing
 * @param {string} name
 * @param {Wire.VersionBody} version
 */
function actions({ api, say, anew }, name, { version, aliases }) {
  const take = async () => {
    if (await serve(api, name, version)) await anew();
  };
  const remove = async () => {
    await api.change("DELETE", modelPath(name, `/versions/${version}`));
    await anew();
  };
  return [
    !aliases.includes("production") && act("Serve", take, { say }),
    !aliases.length && act("Delete", remove, { say, kind: "quiet", sure: true }),
    h(
      "a",
      {
        href: `#/try?model=${encodeURIComponent(name)}@${version}`,
        "aria-label": `Try it: version ${version}`,
      },
      "Try it",
    ),
  ];
}

/** @param {Wire.AuditBody[]} audit */
export function history(audit) {
  if (!audit.length) return null;
  return h(
    "section",
    { "aria-labelledby": "history-title" },
    h("h2", { id: "history-title" }, "History"),
    h("ol.history", { role: "list" }, audit.slice(0, 30).map(entry)),
  );
}

/** @param {Wire.AuditBody} row */
function entry(row) {
  const why = row.why.replace(/^job \w+:? /, "");
  return h(
    "li",
    h("time.fine", { datetime: row.at }, when(row.at)),
    h("span", capital(change(row)), h("span.fine", " by ", author(row.who), why && `: ${why}`)),
  );
}

/** @param {string} who */
const author = (who) => (who.startsWith("job ") ? h("a", { href: `#/train/${who.slice(4)}` }, "a run") : who);

/** @param {Wire.AuditBody} row */
function change({ action, alias, from_version: from, to_version: version }) {
  if (action === "publish") return `version ${version} made`;
  if (action === "rename") return `version ${version} came by another name`;
  if (action === "delete") return `version ${from} deleted`;
  if (action === "keep" && version === null) return `${alias} still names no version`;
  if (action === "keep") return `${alias} stayed at ${version}`;
  if (action === "rollback") return `${alias} rolled back to ${version}`;
  return `${alias} moved ${from ? `from ${from} ` : ""}to ${version}`;
}
