// What went wrong, for people: the service's own sentences are for programs that call its API.

import { Away, Problem } from "./api.js";
import { duration, sentences } from "./text.js";

/** @type {Record<string, [title: string, text: string]>} by the end of the problem's type; without a text the service's own */
const WORDS = {
  unauthorized: [
    "A valid key is needed",
    "This key is not known here; ask the operator of the service for one.",
  ],
  forbidden: ["This key may not do that", ""],
  "too-many-requests": ["Too many requests", "The service limits how often one address may ask."],
  overloaded: ["The service is busy", "Too many requests are waiting."],
  "not-ready": ["The service is not ready", "It is starting or stopping."],
  "deadline-exceeded": ["No answer in time", "The service is slow now. Try again."],
  "storage-trouble": ["Storage trouble", "The service cannot read or write its files now. Try again."],
  "nothing-found": ["Nothing found", "Show one thing, dark on light or light on dark."],
  "data-sets-are-full": ["No room for more data sets", "Delete some of them first."],
  "feedback-is-full": ["No more corrections are kept", "Export and delete some of them first."],
  "feedback-is-off": ["Corrections are switched off", "This service keeps none."],
  "unknown-prediction": ["Too late to correct", "An answer can be corrected for an hour. Draw it again."],
};
// An endpoint, a setting of the deployment, an option of a command: nothing that can be done on the page.
const FOR_PROGRAMS =
  /\b(GET|POST|PUT|PATCH|DELETE) \/|\/docs\b|\bMINIST_\w+|(^|[\s'`(])--\w|['`]minist \w|\?\w+=\w|\bRetry-After\b/;
const CLAUSES = /(?<=[.:;]) +|(?<=,) +(?=(?:and|or) )/; // where one ends, another may be left out

/** What the page itself cannot do; the message is for people. */
export class Told extends Error {}

/**
 * @param {unknown} error
 * @returns {{ title: string, text: string }}
 */
export function words(error) {
  if (error instanceof Away) return { title: error.message, text: "Try again when it is back." };
  if (error instanceof Told) return { title: error.message, text: "" };
  if (!(error instanceof Problem)) return { title: "Something went wrong", text: sentences(String(error)) };
  const [title, text] = WORDS[error.type.replace("urn:minist:", "")] ?? [error.message, own(error)];
  const again = error.retryAfter === null ? null : `Try again in ${duration(error.retryAfter)}`;
  return { title, text: sentences(text || own(error), again) };
}

/**
 * The same in one line.
 * @param {unknown} error
 */
export function told(error) {
  const { title, text } = words(error);
  return [sentences(title), text].filter(Boolean).join(" ");
}

/** @param {Problem} problem */
function own({ detail, hint }) {
  return sentences(plain(detail), plain(hint));
}

/**
 * What the service says of a run, a data set or a version, without what is for programs and operators.
 * @param {string | null | undefined} text
 */
export const plain = (text) =>
  (text ?? "")
    .replace(/ \([^()]*\b(?:Errno|Error)\b[^()]*\)/g, "") // the log has it
    .split(CLAUSES)
    .filter((clause) => !FOR_PROGRAMS.test(clause))
    .join(" ")
    .replace(/[:;,]$/, "");

/** @type {[RegExp, string][]} what the service's validation says, and what the page says instead */
const WRONG = [
  [/greater than or equal to (\S+)/, "At least $1"],
  [/less than or equal to (\S+)/, "At most $1"],
  [/greater than (\S+)/, "More than $1"],
  [/less than (\S+)/, "Less than $1"],
  [/valid integer|fractional part/, "A whole number"],
  [/valid number|finite number/, "A number"],
  [/match pattern/, "Small letters, digits and hyphens; a letter or digit first"],
  [/at least 1 (?:character|item)|[Ff]ield required/, "It cannot be empty"],
  [/should have (at (?:most|least) \d+ \w+)/, "$1"],
  [/Extra inputs/, "This is not known here"],
  [/Input should be a valid (.*)/, "This should be a $1"],
  [/Input should be (.*)/, "One of $1"],
  [/Value error, (.*)/, "$1"],
];

/**
 * What is wrong with a field.
 * @param {string} problem as the service says it
 */
export function wrong(problem) {
  for (const [pattern, text] of WRONG) {
    const found = pattern.exec(problem);
    if (found) return sentences(plain(text.replace("$1", found[1] ?? "")));
  }
  return sentences(plain(problem));
}
