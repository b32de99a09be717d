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
