// What a network's outputs say of classes.

/** `[[class, probability], ...]` of logits, the most probable first. Classes without names (null) are numbers from 0 on. */
export function ranked(classes, logits) {
  const highest = Math.max(...logits);
  const shares = Array.from(logits, (value) => Math.exp(value - highest));
  const total = shares.reduce((a, b) => a + b, 0);
  return shares.map((share, at) => [String(classes?.[at] ?? at), share / total]).sort(([, a], [, b]) => b - a);
}
