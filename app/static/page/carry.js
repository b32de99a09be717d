// A picture or a row on its way from another view to Try.

import { h } from "./dom.js";

/** @typedef {{ image: string | null, row: Record<string, unknown> | null, name: string }} Carried */

/** @type {Carried | null} */
let carried = null;

/**
 * A link to Try that takes this along.
 * @param {string} ref of the model
 * @param {Carried} what `image` is a data URL
 */
export function openInTry(ref, what) {
  const take = () => {
    carried = what;
  };
  const label = `Open ${what.name} in Try`;
  return h("a", { href: `#/try?model=${ref}`, onclick: take, "aria-label": label }, "Open in Try");
}

/** What was taken along, once. */
export function unpack() {
  const what = carried;
  carried = null;
  return what;
}

/**
 * The page's policy lets nothing be fetched from a data URL.
 * @param {string} url "data:image/png;base64,..."
 */
export function blobOf(url) {
  const [head = "", text = ""] = url.split(",");
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: /^data:([^;]+)/.exec(head)?.[1] ?? "image/png" });
}
