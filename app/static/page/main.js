// Which view is shown, the key, the banner.

import { Api } from "./api.js";
import { $ } from "./dom.js";
import { TITLES, route } from "./route.js";
import { duration } from "./text.js";
import { words } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Problem } from "./api.js" */
/** @import { ViewName } from "./route.js" */
/**
 * @typedef {object} View
 * @property {(words: string[], query: URLSearchParams) => Promise<void>} show
 * @property {() => void} [leave]
 */

/**
 * Fetched when they are shown: the first has a third of all modules.
 * @type {Record<ViewName, () => Promise<new (api: Api) => View>>}
 */
const VIEWS = {
  try: async () => (await import("./try.js")).TryView,
  data: async () => (await import("./data.js")).DatasetsView,
  train: async () => (await import("./train.js")).TrainView,
  runs: async () => (await import("./runs.js")).RunsView,
  models: async () => (await import("./models.js")).ModelsView,
  live: async () => (await import("./live.js")).LiveView,
};
const REST = 1500; // ms after the first view, when the others are fetched: they are there when the service is not

const GREETING = 3000; // ms for which the page says that the service is back

class Page {
  /** @type {ViewName | null} */
  #shown = null;
  /** @type {Partial<Record<ViewName, View>>} those that were shown before */
  #views = {};

  constructor() {
    this.api = new Api(askForKey);
    this.#watchService();
    this.#watchKey();
    addEventListener("hashchange", () => this.#route());
    this.#route().then(() => {
      this.#about();
      setTimeout(() => Promise.allSettled(Object.values(VIEWS).map((load) => load())), REST);
    });
  }

  async #route() {
    if (location.hash && !location.hash.startsWith("#/")) return; // the skip link
    const { view, words: rest, query } = route();
    const other = this.#shown !== null && this.#shown !== view;
    this.#turnTo(view);
    const shown = await this.#load(view);
    if (!shown) return;
    $(view).hidden = false;
    if (other) $(`${view}-title`).focus({ preventScroll: true });
    shown.show(rest, query);
  }

  /**
   * The view; null where another is shown by now, or it cannot be had: then the page still says to reload it.
   * @param {ViewName} name
   */
  async #load(name) {
    if (!this.#views[name]) {
      $("start").hidden = false;
      const View = await VIEWS[name]().catch(() => null);
      if (View) this.#views[name] ??= new View(this.api);
    }
    if (this.#shown !== name) return null;
    $("start").hidden = Boolean(this.#views[name]);
    return this.#views[name] ?? null;
  }

  /** @param {ViewName} view */
  #turnTo(view) {
    for (const each of Object.keys(TITLES)) $(each).hidden ||= each !== view;
    for (const link of document.querySelectorAll(".top nav a")) {
      const shown = view === "runs" ? "train" : view;
      link.ariaCurrent = link.getAttribute("href") === `#/${shown}` ? "page" : null;
    }
    document.title = `${TITLES[view]} · minist`;
    if (this.#shown && this.#shown !== view) {
      scrollTo(0, 0);
      this.#views[this.#shown]?.leave?.();
    }
    this.#shown = view;
  }

  async #about() {
    try {
      /** @type {Wire.Info} */
      const { version, torch, device } = await this.api.get("info");
      $("about").textContent = `minist ${version} · PyTorch ${torch.split("+")[0]} on ${device}`;
    } catch {
      // the banner says so
    }
  }

  #watchService() {
    const { api } = this;
    api.addEventListener("away", () =>
      banner("The service cannot be reached. Nothing here is lost; the page looks every second.", "away"),
    );
    api.addEventListener("back", () => {
      banner("The service is back.", "back", GREETING);
      if (!$("start").hidden) this.#route();
      this.#about();
    });
    api.addEventListener("wait", () => {
      const seconds = Math.ceil(api.waits / 1000);
      banner(`The service asks for a pause of ${duration(seconds)}; the page goes on then.`, "wait", api.waits);
    });
    api.addEventListener("slow", () => {
      $("working").hidden = !api.slow;
    });
  }

  #watchKey() {
    const show = () => {
      $("key").hidden = !this.api.key;
    };
    $("key").onclick = () => {
      this.api.key = null;
    };
    this.api.addEventListener("key", show);
    show();
  }
}

/**
 * Shows the dialog; resolves to the key, or null.
 * @param {Problem | null} problem with the key before
 * @returns {Promise<string | null>}
 */
function askForKey(problem) {
  const dialog = $("ask-key", HTMLDialogElement);
  const input = $("key-text", HTMLInputElement);
  const said = problem && words(problem);
  $("key-problem").textContent = said ? `${said.title}. ${said.text}` : "";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    const close = () => done(dialog.returnValue === "use" ? input.value.trim() || null : null);
    dialog.addEventListener("close", close, { once: true });
  });
}

/**
 * @param {string} text
 * @param {string} kind
 * @param {number} [milliseconds] after which it goes away
 */
function banner(text, kind, milliseconds) {
  const element = $("banner");
  element.textContent = text;
  element.className = kind;
  if (milliseconds === undefined) return;
  setTimeout(() => {
    if (element.textContent === text) element.textContent = "";
  }, milliseconds);
}

new Page();
