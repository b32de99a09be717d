// Files of the service, also where reading needs a key: no link, picture or frame sends one.

import { h } from "./dom.js";

/** @import { Api } from "./api.js" */

/**
 * Whether the service gives a file only to who sends a key.
 * @param {Api} api
 * @param {string} path
 */
export async function needsKey(api, path) {
  if (!api.key) return false;
  const response = await fetch(path, { headers: { range: "bytes=0-0" }, cache: "no-store" });
  return response.status === 401;
}

/**
 * @param {Api} api
 * @param {string} path
 * @param {string} name of the file that is saved
 */
export async function save(api, path, name) {
  const href = await urlOf(api, path);
  h("a", { href, download: name }).click();
  URL.revokeObjectURL(href);
}

/**
 * A URL of the page's own, to be revoked.
 * @param {Api} api
 * @param {string} path
 */
export async function urlOf(api, path) {
  return URL.createObjectURL(await (await api.request(path)).blob());
}
