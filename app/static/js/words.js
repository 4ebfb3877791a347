// The page's own words in the browser's language. What the coordinator writes stays English.

const LANGUAGES = ["en", "pt"];
const wanted = navigator.languages.map((tag) => tag.split("-")[0].toLowerCase());

/** The first of the browser's languages that the page has. */
export const language = wanted.find((name) => LANGUAGES.includes(name)) ?? "en";
const dictionary = language === "pt" ? (await import("./words.pt.js")).default : {};
document.documentElement.lang = language;

/** Translates a text, and puts the values in for the `{names}` in it. */
export const t = (text, values = {}) =>
  (dictionary[text] ?? text).replaceAll(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
