// Elements, and numbers as people read them.

/** h("p.note", { hidden: true, onclick: f, "aria-label": "x" }, "text", child, ...) */
export function h(selector, ...rest) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  const plain = rest[0]?.constructor === Object;
  for (const [name, value] of Object.entries(plain ? rest[0] : {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name.startsWith("on") || name === "value" || name === "textContent") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...there(rest.slice(plain ? 1 : 0)));
  return element;
}

const there = (children) =>
  children.flat().filter((child) => child !== null && child !== undefined && child !== false);

/** Puts these in place of what is in the element; what is null or false is left out. */
export const fill = (element, ...children) => element.replaceChildren(...there(children));

export const $ = (id) => document.getElementById(id);

/** A note in place of what is not there: still loading, nothing yet, or a problem with its way out. */
export function note(kind, title, text = "", ...actions) {
  return h(
    `div.note.${kind}`,
    { role: kind === "error" ? "alert" : null },
    h("p.note-title", title),
    text && h("p", text),
    actions.length > 0 && h("p.actions", actions),
  );
}

export const loading = (what) => note("loading", `${what} …`);

/** What went wrong, as the service said it, with a button that tries again. */
export function trouble(error, again) {
  const button = again && h("button", { type: "button", onclick: again }, "Try again");
  return note(
    "error",
    error.title ?? "Something went wrong",
    [error.detail ?? error.message, error.hint].filter(Boolean).join(". ") + ".",
    ...(button ? [button] : []),
  );
}

/** A button whose action waits for the service; it cannot be pressed twice, and what went wrong is told. */
export function act(label, action, { kind = "", say, sure = false } = {}) {
  const button = h(`button${kind && "." + kind}`, { type: "button" }, label);
  button.onclick = async () => {
    if (sure && button.dataset.sure !== "yes") {
      button.dataset.sure = "yes";
      button.textContent = "Sure?";
      setTimeout(() => {
        button.dataset.sure = "";
        button.textContent = label;
      }, 4000);
      return;
    }
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      say?.(error.detail ? `${error.title}: ${error.detail}. ${error.hint ?? ""}` : error.message);
    } finally {
      button.disabled = false;
    }
  };
  return button;
}

export const percent = (share, digits = 2) =>
  share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`;
export const count = (number) => (number ?? 0).toLocaleString("en-GB");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function bytes(number) {
  const unit = number < 1024 ? ["B", 1] : number < 1024 ** 2 ? ["KiB", 1024] : ["MiB", 1024 ** 2];
  return `${(number / unit[1]).toFixed(unit[1] === 1 ? 0 : 1)} ${unit[0]}`;
}

const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
export const when = (text) => (text ? DATE.format(new Date(text)) : "–");

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}
