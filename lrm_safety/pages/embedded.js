// Where the sample browser of a static page finds its samples: in the page itself.
"use strict";
const source = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  function hasLabel(side, wanted) {
    const hasNoVerdict = Boolean(side.error) || !side.verdicts.length || Boolean(side.verdicts[0].invalid);
    if (wanted === "invalid") return hasNoVerdict;
    if (wanted === "truncated") return side.finish === "length" || side.think_state === "truncated";
    return !hasNoVerdict && "=" + side.verdicts[0].label === wanted;
  }

  function* textsOf(sample, names) {
    yield sample.key;
    for (const message of sample.request) yield message.content;
    for (const name of names) {
      const side = sample.sides[name];
      if (!side) continue;
      yield side.answer;
      yield side.thinking;
      yield side.prefill;
      for (const message of side.sent) yield message.content;
    }
  }

  function matches(sample, names, wanted, pattern) {
    if (wanted.benchmark && sample.benchmark !== wanted.benchmark) return false;
    if (wanted.attack && sample.attack !== wanted.attack) return false;
    const flips = wanted.flip === "changed" ? ["worse", "better"] : [wanted.flip];
    if (wanted.flip && !flips.includes(sample.flip)) return false;
    if (wanted.label && !names.some((name) => sample.sides[name] && hasLabel(sample.sides[name], wanted.label))) return false;
    if (!pattern) return true;
    for (const text of textsOf(sample, names)) if (pattern.test(text)) return true;
    return false;
  }

  async function find(wanted, start, count) {
    const pattern = wanted.text ? new RegExp(wanted.text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i") : null;
    const names = wanted.model ? [wanted.model] : data.sides;
    const found = data.samples.filter((sample) => matches(sample, names, wanted, pattern));
    return { samples: found.slice(start, start + count), total: found.length, every: data.samples.length, note: "" };
  }

  return { sides: data.sides, find };
})();
