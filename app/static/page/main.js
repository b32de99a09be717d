// Which view is shown, the key, the banner.

import { askForKeyWith, get, key, service, watch } from "./api.js";
import { $ } from "./dom.js";
import * as models from "./models.js";
import * as train from "./train.js";
import * as tryOut from "./try.js";

const VIEWS = { try: tryOut, train, models };
const TITLES = { try: "Try", train: "Train", models: "Models" };
let shown = null;

/** "#/models/minist?a=1" -> view models, words ["minist"], query a=1 */
function route() {
  if (location.hash && !location.hash.startsWith("#/")) return; // the skip link
  const [path, query] = location.hash.slice(2).split("?");
  const [name, ...words] = path.split("/").filter(Boolean).map(decodeURIComponent);
  const view = name in VIEWS ? name : "try";
  for (const each of Object.keys(VIEWS)) $(each).hidden = each !== view;
  for (const link of document.querySelectorAll("nav a")) {
    link.getAttribute("href") === `#/${view}`
      ? link.setAttribute("aria-current", "page")
      : link.removeAttribute("aria-current");
  }
  document.title = `${TITLES[view]} · minist`;
  if (shown && shown !== view) {
    scrollTo(0, 0);
    $(`${view}-title`).focus({ preventScroll: true });
    VIEWS[shown].leave?.();
  }
  shown = view;
  VIEWS[view].show(words, new URLSearchParams(query));
}

async function about() {
  try {
    const info = await get("/info");
    $("about").textContent = `minist ${info.version} · PyTorch ${info.torch.split("+")[0]} on ${info.device}`;
  } catch {
    // said by the banner
  }
}

/** Shows the dialog; resolves to the key, or null. */
function askForKey(problem) {
  const dialog = $("ask-key");
  $("key-problem").textContent = problem ? `${problem.title}: ${problem.detail}.` : "";
  $("key-text").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.addEventListener(
      "close",
      () => done(dialog.returnValue === "use" ? $("key-text").value.trim() || null : null),
      { once: true },
    );
  });
}

function banner(text, kind) {
  $("banner").textContent = text;
  $("banner").className = kind;
}

askForKeyWith(askForKey);
$("key").onclick = () => key.forget();
service.addEventListener("key", () => {
  $("key").hidden = !key.value;
});
$("key").hidden = !key.value;
service.addEventListener("away", () =>
  banner("The service is away. Nothing here is lost; it is asked again every second.", "away"),
);
service.addEventListener("back", () => {
  banner("The service is back.", "back");
  about();
  setTimeout(() => {
    if ($("banner").className === "back") banner("", "");
  }, 3000);
});
addEventListener("hashchange", route);
for (const view of Object.values(VIEWS)) view.start?.();
watch();
about();
route();
