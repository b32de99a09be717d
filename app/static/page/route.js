// Which view the address asks for.

/** @typedef {"try" | "data" | "train" | "runs" | "models" | "live"} ViewName */

/** @type {Record<ViewName, string>} */
export const TITLES = {
  try: "Try",
  data: "Data",
  train: "Train",
  runs: "Runs",
  models: "Models",
  live: "Live",
};

/**
 * "#/models/minist?a=1" -> view models, words ["minist"], query a=1.
 * @returns {{ view: ViewName, words: string[], query: URLSearchParams }}
 */
export function route() {
  const [path = "", query] = location.hash.slice(2).split("?");
  const [name = "", ...words] = path.split("/").filter(Boolean).map(decoded);
  const view = Object.hasOwn(TITLES, name) ? /** @type {ViewName} */ (name) : "try";
  return { view, words, query: new URLSearchParams(query) };
}

/** @param {string} word of the address */
function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word; // what somebody typed
  }
}
