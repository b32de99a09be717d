// What an import found: classes and splits, warnings, files left out, duplicates, conflicts.

import { h } from "./dom.js";
import { capital, count, plural, sentences } from "./text.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Child } from "./dom.js" */

const SPLITS = ["train", "validation", "test"];
const OPEN = 12; // classes that are shown without being asked for

/**
 * @param {Wire.ImageProfile} profile
 * @returns {(HTMLElement | null)[]}
 */
export function found(profile) {
  return [warnings(profile.warnings), classes(profile), leftOut(profile)];
}

/** @param {Wire.Warned[]} warned */
export function warnings(warned) {
  if (!warned.length) return null;
  return h(
    "section.sheet.warnings",
    { "aria-labelledby": "warnings-title" },
    h("h2", { id: "warnings-title" }, "To look at"),
    h(
      "ul",
      { role: "list" },
      warned.map(({ what, hint }) => h("li", h("b", sentences(what)), ` ${sentences(forPeople(hint))}`)),
    ),
  );
}

/**
 * The service's hints name the fields of its answers.
 * @param {string} hint
 */
const forPeople = (hint) =>
  hint
    .replace(/look at `\w+`/, "see them below")
    .replace("merge them by `rename`", "give them one name below")
    .replace("merge them by `merge_similar`, or by `rename`", "merge them below")
    .replace(/(give a column a role|leave it out) by `roles`/, "$1 below")
    .replace(/see `bad_rows`/, "see them below")
    .replaceAll("`", "");

/** @param {Wire.ImageProfile} profile */
function classes(profile) {
  const { classes: names, counts, given_splits: given, images } = profile;
  const how = `Pictures came as ${sizes(profile.sizes)}; they are ${
    profile.resize === "pad" ? "padded, their shape is kept" : "stretched"
  } to ${profile.width} × ${profile.height}.`;
  return classSheet({ names, counts, given, all: images, what: "Pictures", how });
}

/**
 * Classes and splits, in numbers.
 * @param {{ names: string[], counts: Record<string, Record<string, number>>, given: string[], all: number,
 *   what: string, how: string }} found
 */
export function classSheet({ names, counts, given, all, what, how }) {
  const most = Math.max(...names.map((name) => sum(counts[name])));
  const table = h(
    "table.numbers-by-class",
    h(
      "thead",
      h(
        "tr",
        h("th", { scope: "col" }, "Class"),
        SPLITS.map((split) => h("th", { scope: "col" }, capital(split))),
      ),
    ),
    h(
      "tbody",
      names.map((name) => classRow(name, counts[name] ?? {}, most)),
      h(
        "tr.sum",
        h("th", { scope: "row" }, `All ${count(all)}`),
        SPLITS.map((split) =>
          h("td", count(names.reduce((total, name) => total + (counts[name]?.[split] ?? 0), 0))),
        ),
      ),
    ),
  );
  const title = `${what} by class`;
  const box = h("div.wide", { tabindex: "0", role: "region", "aria-label": title }, table);
  const drawn = SPLITS.filter((split) => !given.includes(split));
  return h(
    "section.sheet",
    { "aria-labelledby": "classes-title" },
    h("h2", { id: "classes-title" }, plural(names.length, "class", "classes")),
    h(
      "p.fine",
      given.length > 0 && `Given: ${given.join(", ")}. `,
      drawn.length > 0 && `Drawn here, equal ${what.toLowerCase()} on one side: ${drawn.join(", ")}. `,
      how,
    ),
    names.length > OPEN ? h("details", h("summary", title), box) : box,
  );
}

/**
 * @param {string} name
 * @param {Record<string, number>} bySplit
 * @param {number} most
 */
function classRow(name, bySplit, most) {
  const share = most ? sum(bySplit) / most : 0;
  const bar = h("i", { "aria-hidden": "true", "--share": share });
  return h(
    "tr",
    h("th", { scope: "row" }, name, bar),
    SPLITS.map((split) => h("td", count(bySplit[split]))),
  );
}

/** @param {Record<string, number> | undefined} numbers */
const sum = (numbers) => Object.values(numbers ?? {}).reduce((all, each) => all + each, 0);

/** @param {Record<string, number>} found */
function sizes(found) {
  const names = Object.keys(found);
  const some = names.slice(0, 3).map((size) => size.replace("x", " × "));
  return names.length > 3 ? `${some.join(", ")} and other sizes` : some.join(", ");
}

/** @param {Wire.ImageProfile} profile */
function leftOut({ bad_files: bad, bad_count: badCount, ignored, duplicates, near_duplicates: near, ...rest }) {
  const { conflicts, conflict_count: conflictCount } = rest;
  /** @type {(HTMLElement | null)[]} */
  const parts = [
    folded(
      badCount > 0 && plural(badCount, "file that could not be read", "files that could not be read"),
      bad.map(({ path, reason }) => [h("code", path), ` ${reason}`]),
      badCount,
    ),
    ...Object.entries(ignored).map(([reason, { count: number, paths }]) =>
      folded(
        `${plural(number, "file")} ignored: ${reason}`,
        paths.map((path) => [h("code", path)]),
        number,
      ),
    ),
    folded(
      conflictCount > 0 &&
        plural(conflictCount, "picture under several classes", "pictures under several classes"),
      conflicts.map((paths) => paths.flatMap((path, index) => [index > 0 && " = ", h("code", path)])),
      conflictCount,
    ),
  ].filter((part) => part !== null);
  const copies = [
    duplicates > 0 && `${plural(duplicates, "picture equals", "pictures equal")} an earlier one`,
    near > 0 && `${plural(near, "picture looks", "pictures look")} like an earlier one`,
  ].filter(Boolean);
  if (!parts.length && !copies.length) return null;
  return h(
    "section.sheet.left-out",
    { "aria-labelledby": "left-out-title" },
    h("h2", { id: "left-out-title" }, "Files and copies"),
    copies.length > 0 && h("p", sentences(copies.join("; "))),
    parts,
  );
}

/**
 * @param {string | false} title false: there is nothing
 * @param {Child[][]} rows
 * @param {number} all
 */
export function folded(title, rows, all) {
  if (!title) return null;
  const more = all - rows.length;
  return h(
    "details",
    h("summary", title),
    h(
      "ul.paths",
      { role: "list" },
      rows.map((row) => h("li", row)),
      more > 0 && h("li.fine", `and ${count(more)} more`),
    ),
  );
}
