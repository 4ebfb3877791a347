// The address of a comparison: it names the chosen experiments, so it can be kept and sent.

/** The most experiments in one chart: more curves cannot be told apart. */
export const MOST = 8;

export const compareLink = (ids) => `#/compare/${ids.map(encodeURIComponent).join(",")}`;
export const chosenIn = (text) => [...new Set(text.split(",").map(decodeURIComponent))].filter(Boolean);
