// Classes shot with the camera: pictures into folders of one's own.

import { nameInput } from "./bring.js";
import { Camera } from "./camera.js";
import { h } from "./dom.js";
import { pageOfData } from "./paths.js";
import { Sending } from "./sending.js";
import { allValid, field, markWrong } from "./setting.js";
import { plural } from "./text.js";
import { told } from "./words.js";

/** @import { Api } from "./api.js" */
/** @typedef {{ blob: Blob, url: string, element: HTMLElement }} Shot */

const EVERY = 200; // ms between two pictures while the button is held
const MOST = 500; // pictures of a class
const FEWEST = 10; // of a class, below which its figures say little

class ShotClass {
  /** @type {Shot[]} */
  shots = [];
  #timer = 0;
  #taken = 0; // all that were, of which some may be gone

  /**
   * @param {number} number
   * @param {() => Promise<Blob>} take
   * @param {() => void} changed
   */
  constructor(number, take, changed) {
    this.take = take;
    this.changed = changed;
    this.name = h("input", {
      type: "text",
      maxlength: 60,
      "aria-label": `Name of class ${number}`,
      value: `class ${number}`,
    });
    this.number = h("span.fine", { role: "status" });
    this.button = h("button", { type: "button", disabled: true }, "Take pictures");
    this.strip = h("ul.shots", { role: "list" });
    this.element = h("li.shot-class", this.name, h("p.actions", this.button, this.number), this.strip);
    this.#listen();
    this.#show();
  }

  /** @param {boolean} on whether the camera is */
  enable(on) {
    this.button.disabled = !on;
    if (!on) this.#release();
  }

  forget() {
    for (const { url } of this.shots) URL.revokeObjectURL(url);
    this.shots = [];
    this.strip.replaceChildren();
    this.#show();
  }

  /** A press takes one picture; as long as it lasts, one after the other. */
  #listen() {
    const { button } = this;
    const isPress = (/** @type {KeyboardEvent} */ { key }) => key === " " || key === "Enter";
    button.addEventListener("pointerdown", (event) => {
      if (event.button === 0) this.#hold();
    });
    button.addEventListener("keydown", (event) => {
      if (!isPress(event)) return;
      event.preventDefault();
      if (!event.repeat) this.#hold();
    });
    for (const end of ["pointerup", "pointerleave", "pointercancel", "keyup", "blur"]) {
      button.addEventListener(end, () => this.#release());
    }
    button.addEventListener("click", (event) => {
      if (event.detail === 0) this.#shoot(); // neither pointer nor key: a screen reader or voice control
    });
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
  }

  #hold() {
    this.#release();
    this.#shoot();
    this.#timer = setInterval(() => this.#shoot(), EVERY);
  }

  #release() {
    clearInterval(this.#timer);
    this.#timer = 0;
  }

  async #shoot() {
    if (this.button.disabled || this.shots.length >= MOST) return;
    const blob = await this.take();
    const url = URL.createObjectURL(blob);
    this.#taken += 1;
    const label = `Remove picture ${this.#taken}`;
    const element = h(
      "li",
      h(
        "button",
        { type: "button", "aria-label": label, title: label, onclick: () => this.#remove(shot) },
        h("img", { src: url, alt: "", width: 64, height: 64 }),
      ),
    );
    const shot = { blob, url, element };
    this.shots.push(shot);
    this.strip.prepend(element);
    this.#show();
  }

  /** @param {Shot} shot */
  #remove(shot) {
    URL.revokeObjectURL(shot.url);
    this.shots = this.shots.filter((each) => each !== shot);
    const next = shot.element.nextElementSibling ?? shot.element.previousElementSibling;
    shot.element.remove();
    (next?.querySelector("button") ?? this.button).focus();
    this.#show();
  }

  #show() {
    const number = this.shots.length;
    this.number.textContent = number >= MOST ? `${number} are enough` : plural(number, "picture");
    this.changed();
  }
}

export class Shoot {
  /** @type {ShotClass[]} */
  #classes = [];

  /** @param {Api} api */
  constructor(api) {
    this.sending = new Sending(api);
    this.video = h("video", { playsinline: true, muted: true, "aria-label": "What the camera sees" });
    this.video.muted = true;
    this.camera = new Camera(this.video);
    this.said = h("p.problem", { role: "alert" });
    this.toggle = h("button", { type: "button", onclick: () => this.#toggle() }, "Start the camera");
    this.list = h("ul.shot-classes", { role: "list" });
    this.name = nameInput("shoot-name");
    this.enough = h("p.fine");
    this.submit = h("button.strong", { type: "submit", disabled: true }, "Make a data set");
    this.element = this.#form();
    this.#add();
    this.#add();
  }

  #form() {
    const form = h(
      "form",
      { "aria-label": "Classes by the camera", novalidate: true },
      h(
        "p.fine",
        "Name your classes, and press or hold the button of a class while you show it, from all sides. " +
          "The pictures stay in this tab until you make a data set of them.",
      ),
      h("div.live", this.video),
      h("p.actions", this.toggle),
      this.list,
      h("p.actions", h("button", { type: "button", onclick: () => this.#add().name.focus() }, "Another class")),
      field(
        "shoot-name",
        "Name of the data set",
        this.name,
        "A name that is there already gets a new version.",
      ),
      this.enough,
      this.said,
      h("p.actions", this.submit),
      this.sending.element,
    );
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#send();
    };
    return h(
      "section.sheet",
      { "aria-labelledby": "shoot-title" },
      h("h2", { id: "shoot-title" }, "Shoot pictures"),
      h("details", h("summary", "With the camera of this device"), form),
    );
  }

  /** The camera goes off with the view; the pictures stay. */
  stop() {
    if (this.camera.on) this.camera.stop();
    this.#show();
  }

  #add() {
    const made = new ShotClass(
      this.#classes.length + 1,
      () => this.camera.take(),
      () => this.#show(),
    );
    this.#classes.push(made);
    this.list.append(made.element);
    this.#show();
    return made;
  }

  async #toggle() {
    this.said.textContent = "";
    if (this.camera.on) {
      this.stop();
      return;
    }
    this.toggle.disabled = true;
    try {
      await this.camera.start();
    } catch (error) {
      this.said.textContent = told(error);
    } finally {
      this.toggle.disabled = false;
    }
    this.#show();
  }

  #show() {
    const { on } = this.camera;
    this.toggle.textContent = on ? "Stop the camera" : "Start the camera";
    this.video.hidden = !on;
    for (const each of this.#classes) each.enable(on);
    const filled = this.#classes.filter(({ shots }) => shots.length);
    const few = filled.some(({ shots }) => shots.length < FEWEST);
    this.submit.disabled = filled.length < 2;
    this.enough.textContent =
      filled.length < 2
        ? "Two classes with pictures are needed."
        : few
          ? `Better at least ${FEWEST} of each class.`
          : "";
  }

  async #send() {
    this.said.textContent = "";
    if (!allValid([this.name])) return;
    const filled = this.#classes.filter(({ shots }) => shots.length);
    if (filled.some(({ name }) => !folder(name.value))) {
      this.said.textContent = "Every class with pictures needs a name.";
      return;
    }
    const entries = filled.flatMap(({ name, shots }, of) =>
      shots.map(({ blob }, index) => ({ path: `${folder(name.value)}/${of + 1}-${index + 1}.jpg`, blob })),
    );
    this.submit.disabled = true;
    try {
      const made = await this.sending.send(this.name.value, entries);
      if (!made) return;
      for (const each of this.#classes) each.forget();
      this.name.value = "";
      location.hash = pageOfData(made.name, made.version);
    } catch (error) {
      this.said.textContent = markWrong([this.name], error);
    } finally {
      this.#show();
    }
  }
}

/**
 * A class as the name of a folder.
 * @param {string} name
 */
const folder = (name) =>
  name
    .replace(/[/\\:]+/g, "-")
    .replace(/^[.\s]+/, "")
    .trim();
