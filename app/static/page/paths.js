// Where models are: in the API, and on the page.

/**
 * @param {string} name
 * @param {string} rest
 */
export const modelPath = (name, rest = "") => `models/${encodeURIComponent(name)}${rest}`;

/**
 * @param {string} name
 * @param {number} [version]
 */
export const pageOf = (name, version) => `#/models/${encodeURIComponent(name)}${version ? `/${version}` : ""}`;

/**
 * A data set on the page.
 * @param {string} name
 * @param {number | null} [version]
 */
export const pageOfData = (name, version) =>
  `#/data/${encodeURIComponent(name)}${version ? `/${version}` : ""}`;

/**
 * A data set in the API.
 * @param {string} reference NAME or NAME@VERSION
 * @param {string} rest
 */
export const dataPath = (reference, rest = "") => `datasets/${encodeURIComponent(reference)}${rest}`;

/**
 * A data set on the page, by how the card of a model names it.
 * @param {string} reference NAME or NAME@VERSION
 */
export function pageOfDataset(reference) {
  const [name = "", version] = reference.split("@");
  return pageOfData(name, Number(version) || null);
}
