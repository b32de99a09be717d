// What a model tells apart, by data set: what can be drawn, with a sample of each class, or pictures of one's own.

/**
 * @typedef {object} Subject
 * @property {string} name
 * @property {string} title
 * @property {boolean} drawn whether people draw it; else they bring a picture of it
 * @property {[label: string, file: string][]} samples
 */

const GARMENTS = [
  "T-shirt",
  "trouser",
  "pullover",
  "dress",
  "coat",
  "sandal",
  "shirt",
  "sneaker",
  "bag",
  "ankle boot",
];

/** @type {Record<string, Subject>} */
const SUBJECTS = {
  mnist: {
    name: "Digits",
    title: "Draw a digit",
    drawn: true,
    samples: [..."0123456789"].map((digit) => [digit, `digit-${digit}`]),
  },
  "fashion-mnist": {
    name: "Fashion",
    title: "Draw a garment",
    drawn: true,
    samples: GARMENTS.map((label) => [label, label === "T-shirt" ? "t-shirt-top" : label.replace(" ", "-")]),
  },
};

/**
 * @param {string} dataset
 * @returns {Subject}
 */
export const subjectNamed = (dataset) =>
  SUBJECTS[dataset] ?? { name: dataset, title: "Choose a picture", drawn: false, samples: [] };

/**
 * Models of all versions of a data set have one subject.
 * @param {string | null} dataset NAME or NAME@VERSION, as the card of a model says
 */
export const subjectOf = (dataset) => dataset?.split("@")[0] ?? "other";
