// Which test images a version gets wrong.

import { Problem } from "./api.js";
import { openInTry } from "./carry.js";
import { fill, h, loading, note, trouble } from "./dom.js";
import { modelPath } from "./paths.js";
import { cells, count, percent, plural } from "./text.js";
import { words } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Api } from "./api.js" */

const FIRST = 12; // pictures that are shown at once

/**
 * Confusion matrix of a version; a cell opens its mistakes.
 * @param {Api} api
 * @param {string} name
 * @param {number} version
 */
export function mistakesOf(api, name, version) {
  const body = h("div", loading("Answering every test image"));
  const load = async () => {
    try {
      /** @type {Wire.ConfusionBody} */
      const found = await api.get(modelPath(name, `/versions/${version}/confusion`));
      fill(body, confusion(api, name, version, found));
    } catch (error) {
      fill(body, withoutTestSet(error, load));
    }
  };
  load();
  const title = h("h2", { id: "mistakes-title" }, `Mistakes of version ${version}`);
  return h("section", { "aria-labelledby": "mistakes-title" }, title, body);
}

/**
 * @param {unknown} error
 * @param {() => Promise<void>} again
 */
export function withoutTestSet(error, again) {
  const status = error instanceof Problem ? error.status : 0;
  if (error instanceof Problem && error.type.endsWith(":conflict"))
    return note("empty", "There are no tests that both can answer", words(error).text);
  if (status === 409)
    return note("empty", "The test set is not here", "A training job on this data set downloads it.");
  if (status === 404) return note("empty", "Not shown here", "This service does not look at test images.");
  return trouble(error, again);
}

/**
 * @param {Api} api
 * @param {string} name
 * @param {number} version
 * @param {Wire.ConfusionBody} found
 */
function confusion(api, name, version, { classes, matrix, images, accuracy, dataset }) {
  const shown = h("div", { "aria-live": "polite" });
  const wrong = images - Math.round(accuracy * images);
  /** @type {(right: string, said: string) => Promise<void>} */
  const open = async (right, said) => {
    fill(shown, loading("Fetching"));
    try {
      const search = new URLSearchParams({ true: right, predicted: said, limit: "50" });
      fill(
        shown,
        mistakes(
          await api.get(modelPath(name, `/versions/${version}/mistakes?${search}`)),
          `${name}@${version}`,
          right,
          said,
        ),
      );
    } catch (error) {
      fill(
        shown,
        withoutTestSet(error, () => open(right, said)),
      );
    }
  };
  const openAll = async () => {
    fill(shown, loading("Fetching"));
    try {
      const found = await api.get(modelPath(name, `/versions/${version}/mistakes?limit=500`));
      fill(shown, all(found, `${name}@${version}`, wrong));
    } catch (error) {
      fill(shown, withoutTestSet(error, openAll));
    }
  };
  const table = confusionTable(name, classes, matrix, open);
  return [
    h(
      "p.line.all-mistakes",
      `${plural(wrong, "mistake")} in ${count(images)} tests on ${dataset}.`,
      wrong > 0 && h("button", { type: "button", onclick: openAll }, "Show all, surest first"),
    ),
    h(
      "div.confusion-side",
      h("div.wide", { tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, table),
      shown,
    ),
  ];
}

/**
 * @param {string} name
 * @param {string[]} classes
 * @param {number[][]} matrix rows: true classes
 * @param {(right: string, said: string) => Promise<void>} open
 */
function confusionTable(name, classes, matrix, open) {
  const most = Math.max(1, ...matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const cell = (/** @type {number} */ number, /** @type {number} */ i, /** @type {number} */ j) => {
    if (i === j) return h("td.right", number);
    if (!number) return h("td", h("span.none", "·"));
    return h("td", cellButton(table, String(classes[i]), String(classes[j]), number, most, open));
  };
  const table = h(
    "table.confusion",
    { "data-long": classes.some((label) => label.length > 3) },
    h("caption", `Rows: what it is. Columns: what ${name} says. Press a number to see the pictures.`),
  );
  const head = classes.map((label) => h("th", { scope: "col" }, h("span", label)));
  const rows = matrix.map((row, i) =>
    h(
      "tr",
      h("th", { scope: "row" }, classes[i]),
      row.map((number, j) => cell(number, i, j)),
    ),
  );
  table.append(h("thead", h("tr", h("td"), head)), h("tbody", rows));
  return table;
}

/**
 * @param {HTMLTableElement} table
 * @param {string} right
 * @param {string} said
 * @param {number} number of mistakes
 * @param {number} most in any cell
 * @param {(right: string, said: string) => Promise<void>} open
 */
function cellButton(table, right, said, number, most, open) {
  const label = `${right} taken for ${said}: ${number}`;
  const share = Math.sqrt(number / most);
  const button = h(
    "button",
    { type: "button", "aria-pressed": "false", "aria-label": label, "--share": share },
    number,
  );
  button.onclick = () => {
    for (const each of table.querySelectorAll("[aria-pressed=true]")) each.ariaPressed = "false";
    button.ariaPressed = "true";
    open(right, said);
  };
  return button;
}

/**
 * @param {Wire.MistakeBody[]} found
 * @param {string} ref of the version
 * @param {string} right
 * @param {string} said
 */
function mistakes(found, ref, right, said) {
  if (!found.length) return [note("empty", "No such mistake")];
  const which = found.length > 1 ? `the ${found.length} surest` : "the only one";
  return [
    h("p", h("b", right), " taken for ", h("b", said), `: ${which}`),
    gallery(
      "Mistakes",
      found.map((each) =>
        h(
          "li",
          inputOf(each),
          h("p", percent(each.probability, 1), h("span.fine", ` no. ${each.index}`)),
          h("p.fine", tried(ref, each)),
        ),
      ),
    ),
  ];
}

/**
 * @param {Wire.MistakeBody[]} found surest first
 * @param {string} ref of the version
 * @param {number} number of all
 */
function all(found, ref, number) {
  const some =
    found.length < number ? `the ${count(found.length)} surest of ${count(number)}` : "all, surest first";
  return [
    h("p", `Mistakes: ${some}`),
    gallery(
      "Mistakes",
      found.map((each) =>
        h(
          "li",
          inputOf(each),
          h("p", h("b", each.true), " taken for ", h("b.bad", each.predicted)),
          h("p.fine", `${percent(each.probability, 1)}, no. ${each.index}`),
          h("p.fine", tried(ref, each)),
        ),
      ),
    ),
  ];
}

/**
 * @param {string} ref
 * @param {Wire.MistakeBody} mistake
 */
const tried = (ref, { image, row, index }) => openInTry(ref, { image, row, name: `test ${index}` });

/** @param {Wire.MistakeBody} mistake */
const inputOf = ({ image, row, index }) => [
  row && h("p.fine", cells(row)),
  image && h("img.pixels", { src: image, alt: `Test image ${index}`, width: 28, height: 28, loading: "lazy" }),
];

/**
 * The first pictures; the others on demand.
 * @param {string} name
 * @param {HTMLElement[]} items
 */
export function gallery(name, items) {
  const list = h("ul.gallery", { role: "list", "aria-label": name }, items.slice(0, FIRST));
  const more = h("button", { type: "button" }, `Show all ${items.length}`);
  more.onclick = () => {
    list.append(...items.slice(FIRST));
    more.remove();
  };
  return h("div.stack", list, items.length > FIRST && h("p", more));
}
