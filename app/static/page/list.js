// A table that scrolls sideways where it is wider than the window.

import { h } from "./dom.js";

/** @import { Child } from "./dom.js" */

/**
 * @param {string} name
 * @param {string[]} head
 * @param {Child[][]} rows
 */
export function listTable(name, head, rows) {
  return h(
    "div.wide",
    { tabindex: "0", role: "region", "aria-label": `${name}, a table` },
    h(
      "table.list",
      h(
        "thead",
        h(
          "tr",
          head.map((text) => h("th", { scope: "col" }, text)),
        ),
      ),
      h(
        "tbody",
        rows.map((cells) =>
          h(
            "tr",
            cells.map((cell) => h("td", cell)),
          ),
        ),
      ),
    ),
  );
}
