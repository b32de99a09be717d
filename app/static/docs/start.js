// Swagger UI with the page's key (of this tab), in the colours of the system; Execute says what is missing.

const KEY = "minist-key"; // as app/static/page/api.js has it
const SCHEME = "HTTPBearer";

/** A key that is given here is the tab's, and the page's; one that was given there is used here. */
const remember = {
  statePlugins: {
    auth: {
      wrapActions: {
        persistAuthorizationIfNeeded:
          (_, { authSelectors }) =>
          () => {
            const [given] = Object.values(authSelectors.authorized().toJS());
            if (given?.value) sessionStorage.setItem(KEY, given.value);
            else sessionStorage.removeItem(KEY);
          },
      },
    },
  },
};

/** Swagger UI sends nothing where a required part of the body is missing, and does not say so. */
const complain = {
  statePlugins: {
    oas3: {
      wrapActions: {
        clearRequestBodyValidateError: (original) => (where) => {
          blockOf(where)?.querySelector(".missing")?.remove();
          return original(where);
        },
        setRequestBodyValidateError: (original) => (found) => {
          blockOf(found)?.querySelector(".execute-wrapper")?.after(complaint(found));
          return original(found);
        },
      },
    },
  },
};

function blockOf({ path, method }) {
  const quoted = CSS.escape(path);
  return document.querySelector(`.opblock-${method}:has([data-path="${quoted}"])`);
}

function complaint(found) {
  const names = found.validationErrors.missingRequiredKeys;
  const files = blockOf(found)?.querySelector(".opblock-section-request-body input[type=file]");
  const element = document.createElement("p");
  element.className = "missing";
  element.role = "alert";
  const what = names.length ? names.join(", ") : "the body";
  element.textContent = files
    ? "Nothing was sent: choose a file first."
    : `Nothing was sent: fill in ${what} first.`;
  return element;
}

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [remember, complain],
  onComplete: () => {
    const key = sessionStorage.getItem(KEY);
    if (key) window.ui.preauthorizeApiKey(SCHEME, key);
  },
});

const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", colour);
colour();
