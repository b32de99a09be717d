// Which test images a version gets wrong.

import { get } from "./api.js";
import { count, fill, h, loading, note, percent, plural, trouble } from "./dom.js";

const FIRST = 12; // pictures that are shown at once

export const api = (name, rest = "") => `/models/${encodeURIComponent(name)}${rest}`;

/** Confusion matrix of a version; a cell opens its mistakes. */
export function mistakesOf(name, version) {
  const body = h("div", loading("Asking about every test image"));
  const load = async () => {
    try {
      fill(body, ...confusion(name, version, await get(api(name, `/versions/${version}/confusion`))));
    } catch (error) {
      fill(body, withoutTestSet(error, load));
    }
  };
  load();
  return h(
    "section",
    { "aria-labelledby": "mistakes-title" },
    h("h2", { id: "mistakes-title" }, `Mistakes of version ${version}`),
    body,
  );
}

export function withoutTestSet(error, again) {
  if (error.status === 409)
    return note(
      "empty",
      "The test set is not here",
      error.hint ? `${error.hint}.` : "Put it under MINIST_DATA_DIR to see mistakes.",
    );
  if (error.status === 404) return note("empty", "Not told here", "This service does not look at test images.");
  return trouble(error, again);
}

function confusion(name, version, { classes, matrix, images, accuracy, dataset }) {
  const shown = h("div", { "aria-live": "polite" });
  const wrong = images - Math.round(accuracy * images);
  const most = Math.max(1, ...matrix.flatMap((row, i) => row.filter((_, j) => i !== j)));
  const open = async (row, column, button) => {
    for (const each of table.querySelectorAll("[aria-pressed=true]"))
      each.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-pressed", "true");
    fill(shown, loading("Fetching"));
    try {
      const search = new URLSearchParams({ true: classes[row], predicted: classes[column], limit: 50 });
      fill(
        shown,
        ...mistakes(
          await get(api(name, `/versions/${version}/mistakes?${search}`)),
          classes[row],
          classes[column],
        ),
      );
    } catch (error) {
      fill(
        shown,
        withoutTestSet(error, () => open(row, column, button)),
      );
    }
  };
  const cell = (number, row, column) => {
    if (row === column) return h("td.right", String(number));
    if (!number) return h("td", h("span.none", "·"));
    const button = h(
      "button",
      {
        type: "button",
        "aria-pressed": "false",
        "aria-label": `${classes[row]} taken for ${classes[column]}: ${number}`,
        "--share": String(Math.sqrt(number / most)),
      },
      String(number),
    );
    button.onclick = () => open(row, column, button);
    return h("td", button);
  };
  const table = h(
    "table.confusion",
    { "data-long": classes.some((label) => label.length > 3) },
    h("caption", `Rows: what it is. Columns: what ${name} says. Press a number to see the pictures.`),
    h(
      "thead",
      h(
        "tr",
        h("td"),
        classes.map((label) => h("th", { scope: "col" }, h("span", label))),
      ),
    ),
    h(
      "tbody",
      matrix.map((row, i) =>
        h(
          "tr",
          h("th", { scope: "row" }, classes[i]),
          row.map((number, j) => cell(number, i, j)),
        ),
      ),
    ),
  );
  return [
    h("p", `${plural(wrong, "mistake")} in ${count(images)} images of ${dataset}.`),
    h(
      "div.confusion-side",
      h("div.wide", { tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, table),
      shown,
    ),
  ];
}

function mistakes(found, right, said) {
  if (!found.length) return [note("empty", "No such mistake")];
  return [
    h(
      "p",
      h("b", right),
      " taken for ",
      h("b", said),
      `: the ${found.length > 1 ? `${found.length} surest` : "only one"}`,
    ),
    gallery(
      "Mistakes",
      found.map((each) =>
        h(
          "li",
          h("img.pixels", {
            src: each.image,
            alt: `Test image ${each.index}`,
            width: 28,
            height: 28,
            loading: "lazy",
          }),
          h("p", percent(each.probability, 1), h("span.fine", ` no. ${each.index}`)),
        ),
      ),
    ),
  ];
}

/** The first pictures; the others on demand. */
export function gallery(name, items) {
  const list = h("ul.gallery", { role: "list", "aria-label": name }, items.slice(0, FIRST));
  const more = h(
    "button",
    {
      type: "button",
      onclick: () => {
        list.append(...items.slice(FIRST));
        more.remove();
      },
    },
    `Show all ${items.length}`,
  );
  return h("div.stack", list, items.length > FIRST && h("p", more));
}
