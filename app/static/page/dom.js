// Elements, and the few things that every view is made of.

import { told, words } from "./words.js";

/**
 * @typedef {Record<string, unknown>} Attributes
 * @typedef {Node | string | number | false | null | undefined} Child
 */
/**
 * @template {string} T
 * @typedef {T extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[T] : HTMLElement} ElementNamed
 */
/**
 * @template {string} S
 * @typedef {S extends `${infer T}.${string}` ? ElementNamed<T> : ElementNamed<S>} ElementOf
 */

/**
 * h("p.note", { hidden: true, onclick: f, "aria-label": "x" }, "text", child, ...)
 * @template {string} S
 * @param {S} selector
 * @param {...(Attributes | Child | Child[])} rest
 * @returns {ElementOf<S>}
 */
export function h(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag ?? selector);
  if (classes.length) element.className = classes.join(" ");
  const attributes = isPlain(rest[0]) ? rest.shift() : {};
  for (const [name, value] of Object.entries(/** @type {Attributes} */ (attributes))) set(element, name, value);
  element.append(...there(/** @type {(Child | Child[])[]} */ (rest)));
  return /** @type {ElementOf<S>} */ (element);
}

/** @param {unknown} thing */
const isPlain = (thing) => thing?.constructor === Object;

/**
 * @param {HTMLElement} element
 * @param {string} name
 * @param {unknown} value
 */
function set(element, name, value) {
  if (value === undefined || value === null || value === false) return;
  if (name.startsWith("--")) element.style.setProperty(name, String(value));
  else if (name.startsWith("on") || name === "value") Object.assign(element, { [name]: value });
  else element.setAttribute(name, value === true ? "" : String(value));
}

/**
 * Children without those that are null or false.
 * @param {(Child | Child[])[]} children
 */
function there(children) {
  const found = /** @type {Child[]} */ (children.flat());
  return found
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : String(child)));
}

/**
 * Puts these in place of what is in the element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export const fill = (element, ...children) => element.replaceChildren(...there(children));

/**
 * The element with that id, which must be of that kind.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function $(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof (kind ?? HTMLElement))) throw new Error(`#${id} is missing`);
  return /** @type {T} */ (element);
}

/**
 * A note in place of content: still loading, nothing yet, or a problem with a way out.
 * @param {"loading" | "empty" | "error"} kind
 * @param {string} title
 * @param {string} [text]
 * @param {...HTMLElement} actions
 */
export function note(kind, title, text = "", ...actions) {
  return h(
    "div",
    { class: `note ${kind}`, role: kind === "error" ? "alert" : null },
    h("p.note-title", title),
    text && h("p", text),
    actions.length > 0 && h("p.actions", actions),
  );
}

/** @param {string} what */
export const loading = (what) => note("loading", `${what} …`);

/**
 * What went wrong, with a button that tries again.
 * @param {unknown} error
 * @param {() => unknown} [again]
 */
export function trouble(error, again) {
  const { title, text } = words(error);
  const buttons = again ? [h("button", { type: "button", onclick: again }, "Try again")] : [];
  return note("error", title, text, ...buttons);
}

/**
 * A button whose action waits for the service: it cannot be pressed twice, and says what went wrong.
 * @param {string} label
 * @param {() => Promise<unknown>} action
 * @param {{ kind?: string, say?: (text: string) => void, sure?: boolean }} [options]
 *   `sure`: a second press is needed
 */
export function act(label, action, { kind = "", say, sure = false } = {}) {
  const button = h("button", { type: "button", class: kind || null }, label);
  button.onclick = async () => {
    if (sure && button.dataset.sure !== "yes") {
      askAgain(button, label);
      return;
    }
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      say?.(told(error));
    } finally {
      button.disabled = false;
    }
  };
  return button;
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} label
 */
function askAgain(button, label) {
  button.dataset.sure = "yes";
  button.textContent = "Sure?";
  setTimeout(() => {
    button.dataset.sure = "";
    button.textContent = label;
  }, 4000);
}
