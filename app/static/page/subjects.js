// What can be drawn, by data set, with a sample of each class.

/**
 * @typedef {object} Subject
 * @property {string} name
 * @property {string} title
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
    samples: [..."0123456789"].map((digit) => [digit, `digit-${digit}`]),
  },
  "fashion-mnist": {
    name: "Fashion",
    title: "Draw a garment",
    samples: GARMENTS.map((label) => [label, label === "T-shirt" ? "t-shirt-top" : label.replace(" ", "-")]),
  },
};

/**
 * @param {string} dataset
 * @returns {Subject}
 */
export const subjectNamed = (dataset) =>
  SUBJECTS[dataset] ?? { name: dataset, title: "Choose a picture", samples: [] };
