// Which view is shown, the key, the banner.

import { Api } from "./api.js";
import { DatasetsView } from "./data.js";
import { $ } from "./dom.js";
import { LiveView } from "./live.js";
import { ModelsView } from "./models.js";
import { duration } from "./text.js";
import { RunsView } from "./runs.js";
import { TrainView } from "./train.js";
import { TryView } from "./try.js";
import { words } from "./words.js";

/** @import * as Wire from "./wire.d.ts" */
/** @import { Problem } from "./api.js" */
/**
 * @typedef {object} View
 * @property {(words: string[], query: URLSearchParams) => Promise<void>} show
 * @property {() => void} [leave]
 */
/** @typedef {"try" | "data" | "train" | "runs" | "models" | "live"} ViewName */

const TITLES = { try: "Try", data: "Data", train: "Train", runs: "Runs", models: "Models", live: "Live" };
const GREETING = 3000; // ms for which the page says that the service is back

class Page {
  /** @type {ViewName | null} */
  #shown = null;

  constructor() {
    this.api = new Api(askForKey);
    /** @type {Record<ViewName, View>} */
    this.views = {
      try: new TryView(this.api),
      data: new DatasetsView(this.api),
      train: new TrainView(this.api),
      runs: new RunsView(this.api),
      models: new ModelsView(this.api),
      live: new LiveView(this.api),
    };
    $("start").remove();
    this.#watchService();
    this.#watchKey();
    addEventListener("hashchange", () => this.#route());
    this.#about();
    this.#route();
  }

  /** "#/models/minist?a=1" -> view models, words ["minist"], query a=1 */
  #route() {
    if (location.hash && !location.hash.startsWith("#/")) return; // the skip link
    const [path = "", query] = location.hash.slice(2).split("?");
    const [name = "", ...rest] = path.split("/").filter(Boolean).map(decodeURIComponent);
    const view = name in TITLES ? /** @type {ViewName} */ (name) : "try";
    this.#turnTo(view);
    this.views[view].show(rest, new URLSearchParams(query));
  }

  /** @param {ViewName} view */
  #turnTo(view) {
    for (const each of Object.keys(TITLES)) $(each).hidden = each !== view;
    for (const link of document.querySelectorAll(".top nav a")) {
      const shown = view === "runs" ? "train" : view;
      link.ariaCurrent = link.getAttribute("href") === `#/${shown}` ? "page" : null;
    }
    document.title = `${TITLES[view]} · minist`;
    if (this.#shown && this.#shown !== view) {
      scrollTo(0, 0);
      $(`${view}-title`).focus({ preventScroll: true });
      this.views[this.#shown].leave?.();
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
